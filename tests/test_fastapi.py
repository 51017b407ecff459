import asyncio
import functools
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import Annotated, Any

import pytest
from fastapi import (
    APIRouter,
    BackgroundTasks,
    Body,
    Cookie,
    Depends,
    FastAPI,
    Header,
    HTTPException,
    Query,
    Request,
    Response,
    Security,
    UploadFile,
)
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.routing import Mount

import postponed
from closing import Closing
from typed_sse import (
    BaseEvent,
    EventSourceResponse,
    EventStream,
    EventUnion,
    InvalidDeclaration,
    InvalidField,
    Registry,
    ServerSentEvent,
    UndeclaredEvent,
    event_source,
)
from typed_sse.channels import Channel, Hub, Subscription
from typed_sse.fastapi import EventRouter, LastEventId
from typed_sse.testing import OpenStream, open_stream


class Word(BaseModel):
    text: str


class Said(BaseEvent[Word]): ...


class Count(BaseEvent[int]): ...


@event_source
async def counts(number: int) -> AsyncIterator[Count]:
    for count in range(number):
        yield Count(count)
        await asyncio.sleep(1)


def served(router: APIRouter) -> FastAPI:
    app = FastAPI()
    app.include_router(router)
    return app


async def data_of(stream: OpenStream[ServerSentEvent]) -> list[str | None]:
    return [event.data async for event in stream]


# --- what an operation gives


async def test_a_typed_generator_is_a_path_operation() -> None:
    router = EventRouter()

    @router.get("/said")
    async def said(text: str) -> AsyncIterator[Said | Count]:
        yield Said(Word(text=text))
        yield Count(len(text))

    stream = open_stream(served(router), "/said?text=hello", events=EventUnion(Said | Count))
    assert [event.data async for event in stream] == [Word(text="hello"), 5]
    assert stream.status == 200
    assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert stream.body.startswith(b"id: 0\nevent: said\n")


async def test_an_operation_may_return_a_stream() -> None:
    router = EventRouter()

    @router.get("/counts")
    async def get_counts(number: int) -> EventStream[Count]:
        return counts(number)

    assert await data_of(open_stream(served(router), "/counts?number=3")) == ["0", "1", "2"]


async def test_a_plain_generator_that_is_returned_is_checked_and_numbered() -> None:
    async def plain() -> AsyncIterator[Any]:
        yield Count(1)
        yield Said(Word(text="no"))

    router = EventRouter()

    @router.get("/")
    async def get_counts() -> AsyncIterator[Count]:
        return plain()

    stream = open_stream(served(router))
    with pytest.raises(UndeclaredEvent, match="Said"):
        await stream.ended()
    assert stream.body.startswith(b"id: 0\nevent: count\ndata: 1\n\nevent: stream.error\n")


async def test_a_returned_stream_of_other_events_than_declared_is_an_error_before_it_starts() -> (
    None
):
    router = EventRouter()

    @router.get("/")
    async def get_said() -> EventStream[Said]:
        return counts(3)  # type: ignore[return-value]  # pyright: ignore[reportReturnType]

    stream = open_stream(served(router))
    with pytest.raises(UndeclaredEvent, match="Count"):
        await stream.ended()
    assert stream.status == 500


async def test_a_sync_generator_runs_in_a_thread_of_its_own() -> None:
    router = EventRouter(
        respond=functools.partial(EventSourceResponse, ping=0, send_timeout=None, start_within=None)
    )

    @router.get("/")
    def names() -> Iterator[Said]:
        for _ in range(2):
            yield Said(Word(text=threading.current_thread().name))

    events = open_stream(served(router), events=EventUnion(Said))
    assert {event.data.text async for event in events} == {"typed-sse generator"}


@pytest.mark.live
async def test_a_sync_function_that_returns_a_stream_runs_in_the_pool() -> None:
    threads: list[str] = []
    router = EventRouter()

    @router.get("/")
    def get_counts() -> EventStream[Count]:
        threads.append(threading.current_thread().name)
        return counts(1)

    assert await data_of(open_stream(served(router))) == ["0"]
    assert threads[0].startswith("AnyIO worker thread")


async def test_a_function_made_by_event_source_is_a_path_operation() -> None:
    router = EventRouter()
    router.get("/counts")(counts)
    assert await data_of(open_stream(served(router), "/counts?number=2")) == ["0", "1"]


async def test_a_callable_object_may_return_a_stream() -> None:
    class Counter:
        async def __call__(self, number: int) -> EventStream[Count]:
            return counts(number)

    router = EventRouter()
    router.get("/")(Counter())
    assert await data_of(open_stream(served(router), "/?number=2")) == ["0", "1"]


async def test_a_bound_method_and_a_callable_object_are_path_operations() -> None:
    class Counter:
        def __init__(self, start: int) -> None:
            self.start = start

        async def __call__(self, number: int) -> AsyncIterator[Count]:
            yield Count(self.start + number)

        async def method(self, number: int) -> AsyncIterator[Count]:
            yield Count(self.start - number)

    router = EventRouter()
    router.get("/method")(Counter(10).method)
    router.get("/object")(Counter(10))
    router.get("/partial")(functools.partial(Counter(10).method, number=4))
    app = served(router)
    assert await data_of(open_stream(app, "/method?number=3")) == ["7"]
    assert await data_of(open_stream(app, "/object?number=3")) == ["13"]
    assert await data_of(open_stream(app, "/partial")) == ["6"]


async def test_untyped_events_stream_where_the_annotation_says_so() -> None:
    router = EventRouter()

    @router.get("/")
    async def untyped() -> AsyncIterator[ServerSentEvent | dict[str, Any] | str]:
        yield ServerSentEvent("a", event="x")
        yield {"data": "b", "id": 7}
        yield "c"

    stream = open_stream(served(router))
    assert await data_of(stream) == ["a", "b", "c"]
    assert b"event: x\n" in stream.body


async def test_without_an_annotation_any_typed_event_may_be_yielded() -> None:
    router = EventRouter()

    @router.get("/")
    async def anything():  # type: ignore[no-untyped-def]
        yield Count(1)
        yield Said(Word(text="x"))

    assert await data_of(open_stream(served(router))) == ["1", '{"text":"x"}']


async def test_a_response_of_the_operations_own_is_sent_as_it_is() -> None:
    router = EventRouter()

    @router.get("/{kind}")
    async def get(kind: str) -> EventStream[Count] | EventSourceResponse | Response | None:
        if kind == "none":
            return None
        if kind == "text":
            return Response("no stream", 202)
        if kind == "own":
            return EventSourceResponse(counts(1), headers={"x-own": "yes"})
        return counts(2)

    app = served(router)
    text, none, own, stream = (
        open_stream(app, f"/{kind}") for kind in ("text", "none", "own", "stream")
    )
    await asyncio.gather(*(one.ended() for one in (text, none, own, stream)))
    assert (text.status, text.body) == (202, b"no stream")
    assert (none.status, none.body) == (204, b"")
    assert (own.status, own.headers["x-own"]) == (200, "yes")
    assert stream.body.count(b"data") == 2


async def test_operations_that_do_not_stream_are_fastapis_own() -> None:
    router = EventRouter()

    @router.get("/words")
    async def words() -> list[Word]:
        return [Word(text="a")]

    @router.get("/more")
    def more():  # type: ignore[no-untyped-def]
        return {"b": 1}

    app = served(router)
    for path, body in (("/words", b'[{"text":"a"}]'), ("/more", b'{"b":1}')):
        stream = open_stream(app, path)
        await stream.ended()
        assert (stream.status, stream.body) == (200, body)
        head = open_stream(app, path, method="HEAD")
        await head.ended()
        assert head.status == 405


# --- methods and parameters


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_any_method_streams(method: str) -> None:
    router = EventRouter()

    @router.api_route("/", methods=[method])
    async def one() -> AsyncIterator[Count]:
        yield Count(1)

    app = served(router)
    assert await data_of(open_stream(app, method=method)) == ["1"]
    other = open_stream(app, method="GET" if method != "GET" else "POST")
    await other.ended()
    assert other.status == 405


async def test_every_kind_of_parameter_arrives() -> None:
    router = EventRouter()
    key = APIKeyHeader(name="x-key")

    async def doubled(number: int) -> int:
        return number * 2

    @router.post("/p/{item}")
    async def one(
        request: Request,
        item: int,
        number: Annotated[int, Query(ge=0)],
        word: Word,
        extra: Annotated[str, Body()],
        secret: Annotated[str, Security(key)],
        twice: Annotated[int, Depends(doubled)],
        x_user: Annotated[str, Header()],
        session: Annotated[str, Cookie()] = "none",
    ) -> AsyncIterator[Said]:
        parts = [item, number, word.text, extra, secret, twice, x_user, session]
        yield Said(Word(text=" ".join([request.method, *map(str, parts)])))

    app = served(router)
    stream = open_stream(
        app,
        "/p/1?number=2",
        method="POST",
        headers={"x-key": "k", "x-user": "ann", "cookie": "session=s"},
        json={"word": {"text": "w"}, "extra": "e"},
    )
    assert await data_of(stream) == ['{"text":"POST 1 2 w e k 4 ann s"}']


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [("/p?number=x", {"x-key": "k"}, 422), ("/p?number=1", {}, 401), ("/q", {}, 404)],
)
async def test_what_is_wrong_before_the_stream_has_a_status_of_its_own(
    path: str, headers: dict[str, str], status: int
) -> None:
    router = EventRouter()
    key = APIKeyHeader(name="x-key", auto_error=False)

    def user(key: Annotated[str | None, Security(key)]) -> str:
        if key is None:
            raise HTTPException(401, "who are you?")
        return key

    @router.get("/p", dependencies=[Depends(user)])
    async def one(number: int) -> AsyncIterator[Count]:
        yield Count(number)

    stream = open_stream(served(router), path, headers=headers)
    await stream.ended()
    assert stream.status == status
    assert stream.headers["content-type"] == "application/json"


async def test_an_http_exception_before_the_first_event_is_an_ordinary_answer() -> None:
    router = EventRouter()

    @router.get("/{name}")
    async def one(name: str) -> AsyncIterator[Count]:
        await asyncio.sleep(0.2)
        if name == "nobody":
            raise HTTPException(404, f"no {name}", headers={"x-why": "absent"})
        yield Count(1)

    stream = open_stream(served(router), "/nobody")
    await stream.ended()
    assert (stream.status, stream.headers["x-why"]) == (404, "absent")
    assert stream.body == b'{"detail":"no nobody"}'


async def test_an_applications_exception_handler_answers_before_the_first_event() -> None:
    router = EventRouter()

    @router.get("/")
    async def one() -> AsyncIterator[Count]:
        if threading.active_count():
            raise LookupError("nothing here")
        yield Count(1)

    app = served(router)

    @app.exception_handler(LookupError)
    def handle(request: Request, error: LookupError) -> Response:
        return Response(f"handled: {error.args[0]}", 418)

    stream = open_stream(app)
    await stream.ended()
    assert (stream.status, stream.body) == (418, b"handled: nothing here")


async def test_head_is_answered_where_get_is_and_the_generator_does_not_run() -> None:
    router = EventRouter()
    ran: list[str] = []

    @router.get("/get", dependencies=[Depends(lambda: ran.append("dependency"))])
    async def get() -> AsyncIterator[Count]:
        ran.append("generator")
        yield Count(1)

    @router.post("/post")
    async def post() -> AsyncIterator[Count]:
        yield Count(1)

    app = served(router)
    head, wrong = (open_stream(app, path, method="HEAD") for path in ("/get", "/post"))
    await asyncio.gather(head.ended(), wrong.ended())
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-type"].startswith("text/event-stream")
    assert ran == ["dependency"]
    assert wrong.status == 405
    assert head.task.done()
    assert "head" not in app.openapi()["paths"]["/get"]


async def test_head_has_no_body_whatever_the_answer_is() -> None:
    async def session() -> AsyncGenerator[int, None]:
        yield 1

    seen_by_server: list[str] = []
    router = EventRouter()

    @router.get("/{name}")
    async def get(name: str) -> EventStream[Count] | Response:
        if name == "missing":
            raise HTTPException(404)
        return Response("a text")

    @router.get("/kept/{number}")
    async def kept(
        number: int, session: Annotated[int, Depends(session, scope="request")]
    ) -> AsyncIterator[Count]:
        seen_by_server.append("the generator")
        yield Count(number)

    app = served(router)

    async def server(scope: Any, receive: Any, send: Any) -> None:
        async def look(message: Any) -> None:
            seen_by_server.append(scope["method"])
            await send(message)

        await app(scope, receive, look)

    for path, status in (("/missing", 404), ("/text", 200), ("/kept/1", 200), ("/kept/x", 422)):
        head = open_stream(server, path, method="HEAD")
        await head.ended()
        assert (head.status, head.body, head.terminated) == (status, b"", True)
    assert set(seen_by_server) == {"HEAD"}


async def test_a_generator_can_read_the_body_of_its_request() -> None:
    router = EventRouter()

    @router.post("/")
    async def echo(request: Request) -> AsyncIterator[Said]:
        yield Said(Word(text=str(await request.json())))

    stream = open_stream(served(router), method="POST", json={"a": 1})
    assert await data_of(stream) == ['{"text":"{\'a\': 1}"}']


async def test_a_generator_that_is_given_a_form_has_its_files_open() -> None:
    router = EventRouter()

    @router.post("/")
    async def read(request: Request, file: UploadFile) -> AsyncIterator[Said]:
        yield Said(Word(text=(await file.read()).decode()))

    body = b"\r\n".join(
        [
            b"--x",
            b'Content-Disposition: form-data; name="file"; filename="f"',
            b"",
            b"hello",
            b"--x--",
        ]
    )
    app = served(router)

    async def with_form(scope: Any, receive: Any, send: Any) -> None:
        given = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive_form() -> Any:
            return next(given, None) or await receive()

        scope["headers"].append((b"content-type", b"multipart/form-data; boundary=x"))
        await app(scope, receive_form, send)

    stream = open_stream(with_form, method="POST")
    assert await data_of(stream) == ['{"text":"hello"}']


# --- headers, status, background


async def test_headers_cookies_and_status_of_an_injected_response_are_sent_once() -> None:
    router = EventRouter()

    def no_store(response: Response) -> None:
        response.headers["cache-control"] = "no-store"

    @router.get("/", status_code=203, dependencies=[Depends(no_store)])
    async def one(response: Response) -> AsyncIterator[Count]:
        response.headers.append("link", "</a>")
        response.headers.append("link", "</b>")
        yield Count(1)

    @router.get("/cookies")
    async def cookies(response: Response) -> EventStream[Count]:
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        response.headers.append("link", "</a>")
        response.headers.append("link", "</b>")
        response.status_code = 202
        return counts(1)

    app = served(router)
    first, second = open_stream(app), open_stream(app, "/cookies")
    await asyncio.gather(first.ended(), second.ended())
    assert first.status == 203
    values = [value for name, value in first.start["headers"] if name == b"cache-control"]
    assert values == [b"no-store"]
    assert not any(name == b"link" for name, _ in first.start["headers"])  # set too late
    assert second.status == 202
    given = [value for name, value in second.start["headers"] if name == b"set-cookie"]
    assert [value[:3] for value in given] == [b"a=1", b"b=2"]
    assert [value for name, value in second.start["headers"] if name == b"link"] == [
        b"</a>",
        b"</b>",
    ]


async def test_background_tasks_run_after_the_stream() -> None:
    log: list[str] = []
    router = EventRouter()

    @router.get("/")
    async def one(tasks: BackgroundTasks) -> AsyncIterator[Count]:
        tasks.add_task(log.append, "background")
        yield Count(1)

    @router.get("/returned")
    async def returned(tasks: BackgroundTasks) -> EventStream[Count]:
        tasks.add_task(log.append, "background")

        @event_source
        async def events() -> AsyncIterator[Count]:
            yield Count(1)
            log.append("stream over")

        return events()

    app = served(router)
    await open_stream(app, "/returned").ended()
    assert log == ["stream over", "background"]


# --- two phases


class Session:
    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.closed = False


@pytest.fixture
def log() -> list[str]:
    return []


Sessions = Callable[[], AsyncGenerator[Session, None]]


@pytest.fixture
def get_session(log: list[str]) -> Sessions:
    async def get_session() -> AsyncGenerator[Session, None]:
        session = Session(log)
        log.append("opened")
        try:
            yield session
        except LookupError:
            log.append("rolled back")
            raise
        finally:
            session.closed = True
            log.append("closed")

    return get_session


async def test_dependencies_are_closed_before_a_returned_stream_starts(
    log: list[str], get_session: Sessions
) -> None:
    async def get_user(session: Annotated[Session, Depends(get_session)]) -> str:
        return "ann"

    @event_source
    async def events() -> AsyncIterator[Count]:
        log.append("first")
        yield Count(1)

    router = EventRouter()

    @router.get("/")
    async def one(
        user: Annotated[str, Depends(get_user)], session: Annotated[Session, Depends(get_session)]
    ) -> EventStream[Count]:
        log.append(f"endpoint, session closed: {session.closed}")
        return events()

    await open_stream(served(router)).ended()
    assert log == ["opened", "endpoint, session closed: False", "closed", "first"]


async def test_dependencies_behind_a_generators_own_are_closed_before_it_starts(
    log: list[str], get_session: Sessions
) -> None:
    async def get_user(
        session: Annotated[Session, Depends(get_session, scope="function")],
    ) -> str:
        return "ann"

    router = EventRouter()

    @router.get("/")
    async def one(user: Annotated[str, Depends(get_user)]) -> AsyncIterator[Said]:
        log.append("first")
        yield Said(Word(text=user))

    assert await data_of(open_stream(served(router))) == ['{"text":"ann"}']
    assert log == ["opened", "closed", "first"]


@pytest.mark.parametrize("leaves", [True, False])
async def test_a_dependency_that_asks_for_it_lives_until_the_generator_is_closed(
    log: list[str], get_session: Sessions, leaves: bool
) -> None:
    router = EventRouter()

    @router.get("/")
    async def one(
        session: Annotated[Session, Depends(get_session, scope="request")],
    ) -> AsyncIterator[Count]:
        try:
            for number in range(3):
                yield Count(number)
                await asyncio.sleep(1)
        finally:
            await asyncio.sleep(1)
            log.append(f"finally, session closed: {session.closed}")

    stream = open_stream(served(router))
    await stream.events(2)
    if leaves:
        stream.leave()
    await stream.ended()
    assert log == ["opened", "finally, session closed: False", "closed"]


async def test_a_dependency_that_lives_as_long_as_the_stream_sees_its_error(
    log: list[str], get_session: Sessions
) -> None:
    router = EventRouter()

    @router.get("/")
    async def one(
        session: Annotated[Session, Depends(get_session, scope="request")],
    ) -> AsyncIterator[Count]:
        yield Count(1)
        raise LookupError

    stream = open_stream(served(router))
    with pytest.raises(LookupError):
        await stream.ended()
    assert log == ["opened", "rolled back", "closed"]
    assert stream.terminated


async def test_a_dependency_of_a_dependency_may_ask_for_it_too(
    log: list[str], get_session: Sessions
) -> None:
    async def get_user(
        session: Session = Depends(get_session, scope="request"),  # noqa: B008
    ) -> Session:
        return session

    router = EventRouter()

    @router.get("/")
    async def one(session: Session = Depends(get_user)) -> AsyncIterator[Count]:  # noqa: B008
        log.append(f"session closed: {session.closed}")
        yield Count(1)

    await open_stream(served(router)).ended()
    assert log == ["opened", "session closed: False", "closed"]


async def test_beside_one_that_stays_a_dependency_with_the_function_scope_is_closed(
    log: list[str], get_session: Sessions
) -> None:
    async def other() -> AsyncGenerator[str, None]:
        yield "other"
        log.append("other closed")

    router = EventRouter()

    @router.get("/")
    async def one(
        session: Annotated[Session, Depends(get_session, scope="request")],
        name: Annotated[str, Depends(other, scope="function")],
    ) -> AsyncIterator[Count]:
        log.append("first")
        yield Count(1)

    await open_stream(served(router)).ended()
    assert log == ["opened", "other closed", "first", "closed"]


def test_a_generator_whose_dependency_does_not_say_how_long_it_lives_is_refused(
    get_session: Sessions,
) -> None:
    router = EventRouter()

    async def one(session: Annotated[Session, Depends(get_session)]) -> AsyncIterator[Count]:
        yield Count(1)

    def two(session: Session = Depends(get_session)) -> Iterator[Count]:  # noqa: B008
        yield Count(1)

    async def get_repository(session: Annotated[Session, Depends(get_session)]) -> Session:
        return session

    async def three(repo: Annotated[Session, Depends(get_repository)]) -> AsyncIterator[Count]:
        yield Count(1)

    for endpoint, name in ((one, "session"), (two, "session"), (three, r"repo\.session")):
        with pytest.raises(InvalidDeclaration, match=rf"'{name}' .*scope=\"request\".*function"):
            router.get("/")(endpoint)


async def test_the_last_of_several_marks_counts(log: list[str], get_session: Sessions) -> None:
    router = EventRouter()

    @router.get("/")
    async def one(
        session: Annotated[
            Annotated[Session, Depends(get_session)], Depends(get_session, scope="request")
        ],
    ) -> AsyncIterator[Count]:
        log.append(f"session closed: {session.closed}")
        yield Count(1)

    await open_stream(served(router)).ended()
    assert log == ["opened", "session closed: False", "closed"]


async def test_a_dependency_that_is_asked_for_twice_stays_if_one_of_the_two_asks_for_it(
    log: list[str], get_session: Sessions
) -> None:
    router = EventRouter()

    @router.get("/")
    async def one(
        a: Annotated[Session, Depends(get_session, scope="function")],
        b: Annotated[Session, Depends(get_session, scope="request", use_cache=False)],
    ) -> AsyncIterator[Count]:
        log.append(f"{a.closed} {b.closed}")
        yield Count(1)

    await open_stream(served(router)).ended()
    assert "True False" in log


@pytest.mark.parametrize("where", ["route", "router", "inclusion", "application"])
async def test_a_dependency_of_a_router_or_an_application_may_ask_to_live_as_long_as_the_stream(
    log: list[str], get_session: Sessions, where: str
) -> None:
    asked = [Depends(get_session, scope="request")]

    def given(place: str) -> list[Any]:
        return asked if place == where else []

    router = EventRouter(dependencies=given("router"))

    @router.get("/", dependencies=given("route"))
    async def one() -> AsyncIterator[Count]:
        log.append("running")
        yield Count(1)

    app = FastAPI(dependencies=given("application"))
    app.include_router(router, dependencies=given("inclusion"))
    await open_stream(app).ended()
    assert log == ["opened", "running", "closed"]


async def test_a_dependency_that_fails_when_it_closes_answers_instead_of_the_stream() -> None:
    async def failing() -> AsyncGenerator[int, None]:
        yield 1
        raise HTTPException(409, "cannot be committed")

    source = Closing()
    texts = source.texts()
    await anext(texts)
    router = EventRouter()

    @router.get("/")
    async def one(number: Annotated[int, Depends(failing)]) -> AsyncIterator[str]:
        return texts

    stream = open_stream(served(router))
    await stream.ended()
    assert stream.status == 409
    assert [message["type"] for message in stream.sent].count("http.response.start") == 1
    assert source.log == ["closing", "closed"]


async def test_a_request_that_is_cancelled_while_dependencies_close_leaves_the_source_closed() -> (
    None
):
    async def slow() -> AsyncGenerator[int, None]:
        yield 1
        await asyncio.sleep(100)

    source = Closing()
    texts = source.texts()
    await anext(texts)
    router = EventRouter()

    @router.get("/")
    async def one(number: Annotated[int, Depends(slow)]) -> AsyncIterator[str]:
        return texts

    stream = open_stream(served(router))
    await asyncio.sleep(1)
    stream.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stream.ended()
    assert source.log == ["closing", "closed"]


async def test_a_class_may_be_a_dependency_of_a_generator() -> None:
    class Paging:
        def __init__(self, size: int = 10) -> None:
            self.size = size

    router = EventRouter()

    @router.get("/")
    async def one(paging: Annotated[Paging, Depends()]) -> AsyncIterator[Count]:
        yield Count(paging.size)

    @router.get("/default")
    async def two(paging: Paging = Depends()) -> AsyncIterator[Count]:  # noqa: B008
        yield Count(paging.size)

    app = served(router)
    assert await data_of(open_stream(app, "/?size=3")) == ["3"]
    assert await data_of(open_stream(app, "/default")) == ["10"]


async def test_a_dependency_can_be_overridden_in_a_test(
    log: list[str], get_session: Sessions
) -> None:
    router = EventRouter()

    @router.get("/")
    async def one(
        session: Annotated[Any, Depends(get_session, scope="function")],
    ) -> AsyncIterator[Said]:
        yield Said(Word(text=session))

    app = served(router)
    app.dependency_overrides[get_session] = lambda: "fake"
    assert await data_of(open_stream(app)) == ['{"text":"fake"}']
    assert log == []


# --- routers in routers, mounted applications


async def test_it_works_with_prefixes_in_nested_routers_and_in_a_mounted_application() -> None:
    inner, outer = EventRouter(prefix="/inner", tags=["streams"]), APIRouter(prefix="/outer")

    @inner.get("/{number}")
    async def one(number: int) -> AsyncIterator[Count]:
        yield Count(number)

    outer.include_router(inner)
    app = FastAPI()
    app.include_router(outer, prefix="/v1")
    app.include_router(inner)
    site = Starlette(routes=[Mount("/api", app=app)])
    for path in ("/api/v1/outer/inner/1", "/api/inner/1"):
        assert await data_of(open_stream(site, path)) == ["1"]
        head = open_stream(site, path, method="HEAD")
        await head.ended()
        assert head.status == 200
    assert app.openapi()["paths"]["/v1/outer/inner/{number}"]["get"]["tags"] == ["streams"]


async def test_an_endpoint_that_streams_already_stays_as_it_is_in_another_router() -> None:
    # Older releases of FastAPI make the routes of an included router anew from their endpoints.
    router, other = EventRouter(), EventRouter()

    @router.get("/")
    async def one() -> EventSourceResponse:
        return EventSourceResponse(counts(1))

    (route,) = router.routes
    assert isinstance(route, APIRoute)
    other.add_api_route("/again", route.endpoint)
    assert await data_of(open_stream(served(other), "/again")) == ["0"]


def test_the_ids_of_operations_are_the_routers_or_the_applications() -> None:
    def by_name(route: APIRoute) -> str:
        return f"my-{route.name}"

    def operation_id(app: FastAPI) -> str:
        return str(app.openapi()["paths"]["/"]["get"]["operationId"])

    async def one() -> AsyncIterator[Count]:
        yield Count(1)

    for router, app in (
        (EventRouter(generate_unique_id_function=by_name), FastAPI()),
        (EventRouter(), FastAPI(generate_unique_id_function=by_name)),
    ):
        router.get("/")(one)
        app.include_router(router)
        assert operation_id(app) == "my-one"


async def test_the_document_does_not_call_the_stream_a_string() -> None:
    router = EventRouter(responses={503: {"description": "Full."}})

    @router.get("/")
    async def one(last_event_id: LastEventId) -> AsyncIterator[Count]:
        """Count."""
        yield Count(1)

    operation = served(router).openapi()["paths"]["/"]["get"]
    stream = operation["responses"]["200"]["content"].pop("text/event-stream")
    assert stream["schema"] == {"$ref": "#/components/schemas/OneStreamData"}
    assert operation["responses"]["200"]["content"] == {}
    assert operation["responses"]["503"] == {"description": "Full."}
    assert operation["description"].startswith("Count.\n\n| event | data |")
    assert {(p["in"], p["name"]) for p in operation["parameters"]} == {
        ("header", "Last-Event-ID"),
        ("query", "last_event_id"),
    }


def test_what_the_program_says_of_its_stream_goes_before_what_is_derived() -> None:
    own = {"schema": {"type": "string"}, "x-own": 1}
    json = {"schema": {"type": "array"}}
    responses: dict[int | str, dict[str, Any]] = {
        200: {
            "description": "Mine.",
            "content": {"text/event-stream": own, "application/json": json},
        }
    }
    router = EventRouter()

    @router.get("/", responses=responses)
    async def one() -> AsyncIterator[Count]:
        yield Count(1)

    response = served(router).openapi()["paths"]["/"]["get"]["responses"]["200"]
    assert response["description"] == "Mine."
    assert response["content"]["application/json"] == json
    assert response["content"]["text/event-stream"].items() >= own.items()


def test_what_the_application_says_of_the_response_is_in_the_document() -> None:
    router = EventRouter()

    @router.get("/", response_description="What comes in.")
    async def one() -> AsyncIterator[Count]:
        yield Count(1)

    operation = served(router).openapi()["paths"]["/"]["get"]
    assert operation["responses"]["200"]["description"] == "What comes in."


# --- declarations


def test_an_operation_whose_events_cannot_form_a_stream_is_refused() -> None:
    router = EventRouter()

    async def numbers() -> AsyncIterator[int]:
        yield 1

    async def bare() -> AsyncIterator:  # type: ignore[type-arg]  # pyright: ignore[reportMissingTypeArgument, reportUnknownParameterType]
        yield Count(1)

    with pytest.raises(InvalidDeclaration, match="int"):
        router.get("/")(numbers)
    with pytest.raises(InvalidDeclaration, match=r"AsyncIterator\[Event\]"):
        router.get("/")(bare)  # pyright: ignore[reportUnknownArgumentType]


@pytest.mark.parametrize(
    "options",
    [
        {"status_code": 204},
        {"status_code": 304},
        {"response_class": Response},
        {"response_model": Word},
        {"responses": {200: {"model": Word}}},
        {"responses": {"201": {"model": Word}}, "status_code": 201},
    ],
)
def test_an_option_that_a_stream_cannot_have_is_refused_by_name(options: dict[str, Any]) -> None:
    async def one() -> AsyncIterator[Count]:
        yield Count(1)

    with pytest.raises(InvalidDeclaration, match=next(iter(options))):
        EventRouter().get("/", **options)(one)


async def test_an_unknown_name_matters_only_where_something_streams() -> None:
    router = postponed.plain
    stream = open_stream(served(router), "/plain")
    await stream.ended()
    assert stream.body == b'"plain"'


async def test_postponed_annotations_are_resolved() -> None:
    app = served(postponed.router)
    assert await data_of(open_stream(app, "/generator?number=3")) == ["3"]
    assert await data_of(open_stream(app, "/source?number=3")) == ["3"]
    with pytest.raises(InvalidDeclaration, match="Unknown"):
        postponed.declare()


def test_what_the_responses_have_in_common_is_checked_when_the_router_is_made() -> None:
    with pytest.raises(InvalidField, match="drain_grace"):
        EventRouter(respond=functools.partial(EventSourceResponse, drain_grace=-1))


async def test_what_the_responses_have_in_common_applies() -> None:
    router = EventRouter(respond=functools.partial(EventSourceResponse, ping=2))

    @router.get("/")
    async def quiet() -> AsyncIterator[Count]:
        await asyncio.sleep(7)
        yield Count(1)

    stream = open_stream(served(router))
    await stream.ended()
    assert stream.body.count(b": ping") == 3


# --- the last event id


@pytest.fixture
def resuming() -> FastAPI:
    router = EventRouter()

    @router.get("/")
    async def one(last_event_id: LastEventId) -> AsyncIterator[Said]:
        yield Said(Word(text=repr(last_event_id)))

    return served(router)


@pytest.mark.parametrize(
    ("path", "headers", "seen"),
    [
        ("/", {}, None),
        ("/", {"Last-Event-ID": "7"}, "7"),
        ("/?last_event_id=7", {}, "7"),
        ("/?last_event_id=7", {"Last-Event-ID": "8"}, "8"),
        ("/?last_event_id=7", {"Last-Event-ID": ""}, "7"),
        ("/?last_event_id=", {}, None),
        ("/?last_event_id=%C3%A9", {}, "é"),
        ("/", {"Last-Event-ID": "é→🙂"}, "é→🙂"),
        ("/", {"Last-Event-ID": "x" * 4096}, "x" * 4096),
    ],
)
async def test_the_last_event_id_is_the_header_or_the_query(
    resuming: FastAPI, path: str, headers: dict[str, str], seen: str | None
) -> None:
    stream = open_stream(resuming, path, headers=headers, events=EventUnion(Said))
    assert [event.data.text async for event in stream] == [repr(seen)]


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("/", b"x" * 70_000, b"longer than 4096 bytes"),
        ("/?last_event_id=" + "x" * 70_000, b"", b"longer than 4096 bytes"),
        ("/", "é".encode() * 2049, b"longer than 4096 bytes"),
        ("/", b"\xff\xfe", b"not UTF-8"),
        ("/", b"a\x1b[31m", b"control characters"),
        ("/", b"a\x00b", b"control characters"),
        ("/", "a\x85b".encode(), b"control characters"),
        ("/?last_event_id=a%0Ab", b"", b"control characters"),
    ],
)
async def test_a_last_event_id_that_is_none_is_refused_and_not_repeated(
    resuming: FastAPI, path: str, value: bytes, reason: bytes
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["headers"].append((b"last-event-id", value))
        await resuming(scope, receive, send)

    stream = open_stream(app, path)
    await stream.ended()
    assert stream.status == 400
    assert reason in stream.body
    assert len(stream.body) < 200


async def test_the_last_event_id_is_for_ordinary_operations_too() -> None:
    app = FastAPI()

    @app.get("/")
    async def one(last_event_id: LastEventId) -> str | None:
        return last_event_id

    stream = open_stream(app, headers={"Last-Event-ID": "7"})
    await stream.ended()
    assert stream.body == b'"7"'


def test_a_generator_function_as_a_dependency_of_sync_operations_is_seen() -> None:
    def sync_session() -> Generator[int, None, None]:
        yield 1

    async def one(session: Annotated[int, Depends(sync_session)]) -> AsyncIterator[Count]:
        yield Count(session)

    with pytest.raises(InvalidDeclaration, match="'session'"):
        EventRouter().get("/")(one)


async def test_the_registry_knows_the_whole_template_of_a_route() -> None:
    own = Registry()
    router = EventRouter(
        prefix="/orders", respond=functools.partial(EventSourceResponse, registry=own)
    )

    @router.get("/{number}")
    async def one(number: int) -> AsyncIterator[Count]:
        while True:
            yield Count(number)
            await asyncio.sleep(1)

    app = FastAPI()
    app.include_router(router, prefix="/v1")
    async with open_stream(app, "/v1/orders/7") as stream:
        await stream.events(1)
        assert [(one.path, one.route) for one in own.open_streams()] == [
            ("/v1/orders/7", "/v1/orders/{number}")
        ]


# --- subscriptions


hub = Hub("memory://")
SAID: Channel[Said] = Channel("said", Said, hub=hub)


def answers_of(router: EventRouter) -> tuple[set[str], dict[str, Any]]:
    document = served(router).openapi()
    [answer] = [
        answer
        for answer in document["paths"]["/"]["get"]["responses"].values()
        if "text/event-stream" in answer.get("content", {})
    ]
    stream: dict[str, Any] = answer["content"]["text/event-stream"]
    name = stream["schema"]["$ref"].rpartition("/")[2]
    return set(document["components"]["schemas"][name]["x-sse-events"]["properties"]), stream


def test_a_subscription_may_have_gaps_an_end_and_be_over() -> None:
    router = EventRouter()

    @router.get("/")
    async def said() -> Subscription[Said]:
        return SAID.subscribe()

    events, stream = answers_of(router)
    assert events == {"said", "stream.error", "stream.gap", "stream.end"}
    assert stream["x-sse-may-be-over"] is True


def test_a_stream_that_resumes_may_have_gaps_and_one_that_does_not_may_not() -> None:
    router = EventRouter()

    @router.get("/")
    async def said(after: LastEventId) -> EventStream[Said]:
        return SAID.subscribe(after)

    events, stream = answers_of(router)
    assert events == {"said", "stream.error", "stream.gap", "stream.end"}
    assert "x-sse-may-be-over" not in stream

    router = EventRouter()

    @router.get("/")
    async def generated(after: LastEventId) -> AsyncIterator[Said]:
        yield Said(Word(text=after or ""))

    assert answers_of(router)[0] == {"said", "stream.error"}


async def test_a_subscription_is_streamed_from_a_route() -> None:
    router = EventRouter()

    @router.get("/")
    async def said(after: LastEventId) -> Subscription[Said]:
        return SAID.subscribe(after)

    async with hub:
        await SAID.publish(Said(Word(text="a")))
        async with open_stream(served(router), "/?last_event_id=-1") as stream:
            [event] = await stream.events(1)
            assert event.id == await SAID.tail()
