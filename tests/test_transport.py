"""The seam: URLs that are fit to be shown, and the transport into an application."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from fastapi import FastAPI, Request
from starlette.responses import PlainTextResponse, RedirectResponse

from answers import NEVER
from typed_sse import (
    BaseEvent,
    ConnectionFailed,
    EventSourceResponse,
    NotAStream,
    StreamEnd,
    StreamFailed,
)
from typed_sse import transport as seam
from typed_sse.client import AsyncEventSource, ReconnectPolicy
from typed_sse.testing import ASGITransport
from typed_sse.transport import Lost, shown_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://ann:pw@host:8000/a/b?token=x#y", "https://host:8000/a/b"),
        ("http://host", "http://host"),
        ("http://a@b@host/", "http://host/"),
        ("http://ann:pw@[::1]:8000/x", "http://[::1]:8000/x"),
        ("http://ann:pw@[::1", "the URL"),
        ("http:ann:pw@host", "the URL"),
        ("", "the URL"),
    ],
)
def test_a_url_is_shown_without_what_may_be_secret(url: str, shown: str) -> None:
    assert shown_url(url) == shown


def test_a_loss_says_how_and_what() -> None:
    lost = Lost("cut", "the peer has reset the connection")
    assert str(lost) == "cut: the peer has reset the connection"
    assert not lost.futile


# --- into an application


class Tick(BaseEvent[int]): ...


app = FastAPI()
left: list[str] = []


@app.get("/ticks")
async def get_ticks(request: Request, count: int = 10**9, every_s: float = 60) -> Any:
    async def ticks() -> AsyncIterator[Tick]:
        first = int(request.headers.get("last-event-id", -1)) + 1
        try:
            for number in range(first, first + count):
                yield Tick(number, id=number)
                await asyncio.sleep(every_s)
        finally:
            left.append("ticks")

    return EventSourceResponse(ticks())


@app.get("/fails")
async def get_fails() -> EventSourceResponse:
    async def ticks() -> AsyncIterator[Tick]:
        yield Tick(1)
        raise LookupError("of the generator")

    return EventSourceResponse(ticks())


def source_of(
    app: Any, path: str = "/", *, policy: ReconnectPolicy | None = None, **options: Any
) -> AsyncEventSource[Tick]:
    options |= {} if policy is None else {"policy": policy}
    transport = options.pop("transport", None) or ASGITransport(app)
    return AsyncEventSource(f"http://test{path}", Tick, client=transport, **options)


async def test_events_of_an_application_are_read_as_they_are_sent_in_virtual_time() -> None:
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    left.clear()
    async with source_of(app, "/ticks") as source:
        assert [(await anext(source)).data for _ in range(61)] == list(range(61))
        assert loop.time() - began_s == pytest.approx(3600, abs=1)
        assert left == []
    assert left == ["ticks"]


async def test_a_client_comes_back_with_the_last_id() -> None:
    async with source_of(app, "/ticks?count=3&every_s=1") as source:
        assert [(await anext(source)).data for _ in range(10)] == list(range(10))


async def test_a_failure_that_the_application_tells_is_told_and_kept() -> None:
    transport = ASGITransport(app)
    async with source_of(app, "/fails", transport=transport) as source:
        assert (await anext(source)).data == 1
        with pytest.raises(StreamFailed):
            await anext(source)
    assert [repr(error) for error in transport.raised] == ["LookupError('of the generator')"]


async def test_an_endless_stream_that_never_rests_is_read_as_fast_as_it_is_asked_for() -> None:
    async def endless() -> AsyncIterator[Tick]:
        number = 0
        while True:
            yield Tick(number)
            number += 1

    async with source_of(EventSourceResponse(endless())) as source:
        assert [(await anext(source)).data for _ in range(1000)] == list(range(1000))


async def test_a_sealed_stream_ends_the_source() -> None:
    async def one() -> AsyncIterator[Tick]:
        yield Tick(1)

    app = EventSourceResponse(one(), end_event=True)
    transport = ASGITransport(app)
    source = AsyncEventSource("http://test/", Tick | StreamEnd, client=transport)
    assert [event.event_name async for event in source] == ["tick", "stream.end"]


class Noted:
    """An application that answers by a script of ASGI messages, and notes what it was given."""

    def __init__(self, *script: Mapping[str, Any] | Exception | float) -> None:
        self.scopes: list[Mapping[str, Any]] = []
        self.bodies: list[bytes] = []
        self.log: list[str] = []
        self._script = script

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        self.bodies.append((await receive())["body"])
        for step in self._script:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, Mapping):
                await send(step)
            else:
                await asyncio.sleep(step)
        self.log.append((await receive())["type"])


HEAD = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"Content-Type", b"text/event-stream"), (b"X-A", b"1"), (b"x-a", b"\xe9")],
}
MORE: dict[str, Any] = {
    "type": "http.response.body",
    "body": b"event: tick\ndata: 1\n\n",
    "more_body": True,
}
LAST = {"type": "http.response.body", "body": b"event: tick\ndata: 2\n\n"}
EMPTY = {"type": "http.response.body", "more_body": True}


async def test_the_request_arrives_as_it_was_made() -> None:
    app = Noted(HEAD, LAST)
    source = AsyncEventSource(
        "https://ann:pw@höst:8443/a%20b/é?x=1%262&y=é#part",
        Tick,
        client=ASGITransport(app),
        json={"a": "é"},
        headers={"X-User": "é"},
        last_event_id="5",
        policy=NEVER,
    )
    assert [event.data async for event in source] == [2]
    (scope,) = app.scopes
    assert (scope["type"], scope["method"], scope["scheme"]) == ("http", "POST", "https")
    assert (scope["path"], scope["raw_path"]) == ("/a b/é", b"/a%20b/%C3%A9")
    assert scope["query_string"] == b"x=1%262&y=%C3%A9"
    assert scope["server"] == ("höst", 8443)
    assert app.bodies == [b'{"a": "\xc3\xa9"}']
    assert dict(scope["headers"]) == {
        b"host": "höst:8443".encode(),
        b"content-length": b"11",
        b"accept": b"text/event-stream",
        b"cache-control": b"no-store",
        b"content-type": b"application/json",
        b"x-user": "é".encode(),
        b"last-event-id": b"5",
    }


@pytest.mark.parametrize(("url", "port"), [("http://test", 80), ("https://test", 443)])
async def test_what_a_url_leaves_out_is_filled_in(url: str, port: int) -> None:
    app = Noted(HEAD, LAST)
    source = AsyncEventSource(url, Tick, client=ASGITransport(app), policy=NEVER)
    assert [event.data async for event in source] == [2]
    (scope,) = app.scopes
    assert (scope["path"], scope["query_string"], scope["server"]) == ("/", b"", ("test", port))
    assert app.bodies == [b""]
    assert b"content-length" not in dict(scope["headers"])


async def test_headers_of_one_name_are_joined() -> None:
    request = seam.Request("GET", "http://test/", (), None)
    answer = await ASGITransport(Noted(HEAD, LAST)).send(request, answer_within_s=None)
    assert answer.headers == {"content-type": "text/event-stream", "x-a": "1, é"}
    assert [chunk async for chunk in answer.chunks(None)] == [LAST["body"]]
    await answer.aclose()
    await answer.aclose()


async def test_a_send_waits_until_the_client_has_taken_the_one_before() -> None:
    sent: list[int] = []
    as_much_as_is_read_ahead = {**MORE, "body": b":" * 65_536 + b"\n" + MORE["body"]}

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await send(HEAD)
        while len(sent) < 1000:
            await send(as_much_as_is_read_ahead)
            sent.append(1)

    async with source_of(endless) as source:
        for taken in (1, 2, 3):
            await anext(source)
            await asyncio.sleep(1)
            assert len(sent) == taken
    assert len(sent) == 1000


async def test_an_application_that_is_left_is_told_and_may_still_send() -> None:
    app = Noted(HEAD, MORE, MORE, MORE, LAST)
    async with source_of(app) as source:
        assert (await anext(source)).data == 1
    assert app.log == ["http.disconnect"]


@pytest.mark.parametrize(
    ("script", "reason", "detail", "cause"),
    [
        ((LookupError("a"),), "unanswered", "the application raised before", LookupError),
        ((HEAD, LookupError("a")), "cut", "the application raised before", LookupError),
        ((HEAD, MORE, LookupError("a")), "cut", "the application raised before", LookupError),
        ((HEAD, TimeoutError("a")), "cut", "the application raised before", TimeoutError),
        ((100.0, HEAD), "unanswered", "no answer came within 60 s", None),
        ((HEAD, MORE, 100.0), "idle", "nothing came for 50 s", None),
    ],
)
async def test_an_application_that_goes_wrong_is_a_lost_connection(
    script: tuple[Any, ...], reason: str, detail: str, cause: type | None
) -> None:
    app = Noted(*script)
    transport = ASGITransport(app)
    policy = ReconnectPolicy(max_attempts=1, idle_limit_s=50)
    with pytest.raises(ConnectionFailed) as caught:
        async for event in source_of(app, transport=transport, policy=policy):
            assert event.data == 1
    assert caught.value.reason == reason
    assert detail in str(caught.value)
    lost = caught.value.__cause__
    assert isinstance(lost, Lost)
    assert type(lost.__cause__) is (cause or type(None))
    assert [type(error) for error in transport.raised] == ([cause] if cause else [])
    assert app.log == ([] if cause else ["http.disconnect"])


@pytest.mark.parametrize(("head", "reason"), [((), "unanswered"), ((HEAD, EMPTY), "cut")])
async def test_an_application_that_returns_too_early_is_a_lost_connection(
    head: tuple[Mapping[str, Any], ...], reason: str
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in head:
            await send(message)

    with pytest.raises(ConnectionFailed, match="has returned before the end") as caught:
        await anext(source_of(app, policy=ReconnectPolicy(max_attempts=1)))
    assert caught.value.reason == reason


async def test_an_application_that_cancels_itself_is_a_lost_connection() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise asyncio.CancelledError

    with pytest.raises(ConnectionFailed, match="has returned before"):
        await anext(source_of(app, policy=ReconnectPolicy(max_attempts=1)))


@pytest.mark.parametrize("script", [(), (HEAD,), (HEAD, MORE)])
async def test_closing_a_source_at_any_point_leaves_no_task(script: tuple[Any, ...]) -> None:
    before = len(asyncio.all_tasks())
    app = Noted(*script, 1000.0)
    source = source_of(app)
    asking = asyncio.create_task(anext(source, None))
    await asyncio.sleep(1)
    await source.aclose()
    await asking
    assert len(asyncio.all_tasks()) == before
    assert app.log == ["http.disconnect"]


async def test_what_an_application_raises_after_it_was_left_is_kept_once() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(HEAD)
        await send(MORE)
        await receive()
        raise LookupError("late")

    transport = ASGITransport(app)
    answer = await transport.send(seam.Request("GET", "http://test/", (), None), answer_within_s=1)
    await answer.aclose()
    await answer.aclose()
    assert [repr(error) for error in transport.raised] == ["LookupError('late')"]


@pytest.mark.parametrize("answer", [RedirectResponse("/there"), PlainTextResponse("hello")])
async def test_an_answer_that_is_no_stream_is_told_redirects_too(answer: Any) -> None:
    with pytest.raises(NotAStream) as caught:
        await anext(source_of(answer))
    assert caught.value.status == answer.status_code
    assert caught.value.start == answer.body
