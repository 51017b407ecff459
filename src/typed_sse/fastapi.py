"""FastAPI: path operations that are typed generators, or return a stream.

A request has two phases. In the first, FastAPI does what it does for every path operation:
parameters, dependencies, the endpoint's own errors. Then it closes the dependencies, and only then
the stream starts, so that an open stream holds none. Knows FastAPI and the response, nothing of how
a stream is sent. Beside `dependencies`, the only file that knows FastAPI.
"""

import inspect
import re
from collections.abc import AsyncIterable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import update_wrapper
from types import NoneType
from typing import Annotated, Any, ClassVar, Literal, cast, get_args, get_origin

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request, params
from fastapi.datastructures import Default, DefaultPlaceholder
from fastapi.routing import APIRoute
from fastapi.utils import generate_unique_id
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Message, Receive, Scope, Send

from typed_sse.channels.subscription import Subscription
from typed_sse.control import StreamEnd, StreamGap
from typed_sse.declared import stream_data, table, wire_example
from typed_sse.dependencies import asks_to_stay, check_scope, dependencies_of
from typed_sse.errors import InvalidDeclaration, UndeclaredEvent
from typed_sse.events import BaseEvent, EventUnion
from typed_sse.openapi import OVER_KEYWORD, WIRE_KEYWORD
from typed_sse.response import EventSourceResponse
from typed_sse.signatures import (
    aliased,
    called,
    generates,
    members,
    name_of,
    signature_of,
)
from typed_sse.sources import Sendable
from typed_sse.streams import EventStream, of_union
from typed_sse.wire import ServerSentEvent

MAX_LAST_EVENT_ID_BYTES = 4096
"""The longest `Last-Event-ID` that is taken."""

# Control characters, and halves of characters that no UTF-8 has.
_NO_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

_UNTYPED: frozenset[object] = frozenset({ServerSentEvent, str, dict, Mapping})
# Of a response that nobody has described.
_FASTAPI_SAYS = "Successful Response"
_PHASE = "typed_sse.first_phase"
_INJECTED = "typed_sse_response"
_STREAMS = "__streams__"

Respond = Callable[[AsyncIterable[Sendable]], EventSourceResponse]


async def _last_event_id(  # async: FastAPI would run it in a thread
    header: Annotated[
        str | None,
        Header(
            alias="Last-Event-ID",
            description="The id of the last event that was read; sent by a client that reconnects.",
        ),
    ] = None,
    query: Annotated[
        str | None,
        Query(
            alias="last_event_id",
            description="The same for a first connection, where a browser cannot set a header.",
        ),
    ] = None,
) -> str | None:
    # A reconnecting EventSource repeats the query, but its header is newer.
    if header:
        try:
            # Header values come as Latin-1; EventSource sends UTF-8.
            given = header.encode("latin-1").decode()
        except UnicodeError:
            raise HTTPException(400, "Last-Event-ID is not UTF-8; send it as it came.") from None
    else:
        given = query or ""
    # What is refused is not repeated: it may be long, and of any kind.
    if _NO_TEXT.search(given):
        raise HTTPException(400, "Last-Event-ID has control characters; send it as it came.")
    if len(given.encode()) > MAX_LAST_EVENT_ID_BYTES:
        raise HTTPException(
            400, f"Last-Event-ID is longer than {MAX_LAST_EVENT_ID_BYTES} bytes; start anew."
        )
    return given or None


LastEventId = Annotated[str | None, Depends(_last_event_id)]
"""The id that the reader has seen last, as a parameter of an endpoint; `None` at a first connection
that asks for nothing.

It is the header `Last-Event-ID` of a client that reconnects, or `last_event_id` in the query, for a
first connection that continues an earlier one; the header wins. Longer than 4096 bytes, not UTF-8,
or with control characters, it is answered with 400, and not repeated there. Whether the id means
anything is for the endpoint to say: it is whatever a client has sent.
"""


class EventRouter(APIRouter):
    """An `APIRouter` whose path operations stream, where they are generators or return a stream.

        router = EventRouter()

        @router.get("/answer")
        async def answer(prompt: str) -> AsyncIterator[Token | Done]:
            yield Token(...)

        app.include_router(router)

    It takes every HTTP method and every kind of parameter and dependency that FastAPI has, in
    async and in sync functions. What an operation gives decides:

    - a generator function streams what it yields. Its annotation is the declaration, as for
      `event_source`;
    - a function whose annotation says that it returns a stream (`EventStream[...]`,
      `AsyncIterator[...]`, `Iterator[...]`, `Subscription[...]`, `EventSourceResponse`, or a union
      with one of these) streams what it returns. It may return another `Response` instead, which is
      sent as it is, or `None`, which is answered with 204: an `EventSource` does not come back
      then;
    - every other operation is FastAPI's own.

    Dependencies are closed before the stream starts. One that is to live as long as the stream says
    so: `Depends(get_session, scope="request")`. Then all of the request's dependencies do, except
    those with `scope="function"`. Where a generator takes the value of a dependency with `yield`,
    or of one that rests on such a one, the scope has to be said, so that it is not given by
    accident what was closed before it runs. (What replaces a dependency in
    `dependency_overrides` is not looked at.)

    Headers, cookies and a status code that are set on an injected `Response` before the stream
    starts are sent, except with an `EventSourceResponse` of your own. HEAD is answered where GET
    is. A `Request` that a generator takes has its body read. Nobody need ask it whether the client
    is there: a generator is closed when the client leaves.

    Args:
        prefix, tags, dependencies, responses, deprecated, include_in_schema,
            generate_unique_id_function: as for `APIRouter`.
        respond: makes the response for a stream: `EventSourceResponse` by default, or
            `functools.partial(EventSourceResponse, ping=30)` to set what its streams have in
            common.

    Raises:
        InvalidDeclaration: at declaration of an operation whose annotations cannot be resolved or
            whose events cannot form a stream, that has an option no stream can have, or where the
            scope of a dependency is not said.
        InvalidField: `respond` sets something that no response takes.

    A stream fails with `UndeclaredEvent` at what the annotation does not name.
    """

    def __init__(
        self,
        *,
        prefix: str = "",
        tags: list[str | Enum] | None = None,
        dependencies: Sequence[params.Depends] | None = None,
        responses: dict[int | str, dict[str, Any]] | None = None,
        deprecated: bool | None = None,
        include_in_schema: bool = True,
        generate_unique_id_function: Callable[[APIRoute], str] | None = None,
        respond: Respond = EventSourceResponse,
    ) -> None:
        respond(of_union((), None))  # what it sets is checked here, not at the first request
        super().__init__(
            prefix=prefix,
            tags=tags,
            dependencies=dependencies,
            responses=responses,
            deprecated=deprecated,
            include_in_schema=include_in_schema,
            # Not given, it is FastAPI's placeholder, which the application's own replaces.
            generate_unique_id_function=(
                generate_unique_id_function or Default(generate_unique_id)
            ),
            route_class=type("EventRoute", (_EventRoute,), {"respond": staticmethod(respond)}),
        )


@dataclass(slots=True)
class _FirstPhase:
    """One request while FastAPI handles it; the scope carries it to the response.

    Attributes:
        scope, receive, send: what the server has given.
        held: the stream that waits until FastAPI is done.
        answered: something has been sent.
    """

    scope: Scope
    receive: Receive
    send: Send
    held: "_Held | None" = None
    answered: bool = False

    async def send_first(self, message: Message) -> None:
        self.answered = True
        # FastAPI takes a HEAD for a GET, and would send a body.
        if self.scope["method"] == "HEAD" and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await self.send(message)


class _Held(Response):
    """A stream on its way through FastAPI.

    Where a dependency is to live as long as the stream, it is sent on the spot; otherwise it waits
    until FastAPI has closed the dependencies.
    """

    def __init__(self, stream: EventSourceResponse, dependencies: Sequence[params.Depends]) -> None:
        super().__init__(status_code=stream.status_code)
        self._stream = stream
        self._dependencies = dependencies

    async def __call__(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        phase: _FirstPhase = scope[_PHASE]
        asked = [*self._dependencies, *_dependencies_of_route(scope)]
        if any(map(asks_to_stay, asked)):
            phase.answered = True
            await self.answer(phase)
        else:
            phase.held = self

    async def answer(self, phase: _FirstPhase) -> None:
        self._stream.background = self._stream.background or self.background
        await self._stream(phase.scope, phase.receive, phase.send)

    async def aclose(self) -> None:
        await self._stream.aclose()


def _dependencies_of_route(scope: Scope) -> Sequence[params.Depends]:
    """Return the dependencies that were given to routers, to their inclusion or the application.

    FastAPI keeps what an inclusion adds beside the route; older releases make a new route of both.
    """
    included = scope.get("fastapi", {}).get("effective_route_context")
    return getattr(included or scope.get("route"), "dependencies", ())


class _NoSchema(Response):
    """Has no media type, so that FastAPI does not say that the body is a string.

    Nor does it say so of the answers of other status codes, whose models are JSON.
    """


class _EventRoute(APIRoute):
    """One path operation; adds the second phase to those that stream.

    FastAPI makes a route anew from its endpoint when its router is included in another one; an
    endpoint that streams already stays as it is.
    """

    respond: ClassVar[Respond]

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        self.streams = hasattr(endpoint, _STREAMS)
        if not self.streams:
            streaming = _streaming(endpoint, options.get("status_code"), type(self).respond)
            self.streams = streaming is not None
            if streaming is not None:
                _check_options(endpoint, options)
                _describe(endpoint, streaming.__dict__[_STREAMS], options)
                endpoint = streaming
        if self.streams:
            options["response_class"] = _NoSchema
        super().__init__(path, endpoint, **options)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return super().matches(self._as_get(scope))

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self.streams:
            await super().handle(scope, receive, send)
            return
        phase = _FirstPhase(scope, receive, send)
        # The server reads its own scope, and has to go on seeing a HEAD there.
        inner = self._as_get(scope)
        inner[_PHASE] = phase
        try:
            await super().handle(inner, receive, phase.send_first)
        except BaseException:
            if phase.held is not None:
                await phase.held.aclose()
            raise
        finally:
            del inner[_PHASE]
        if phase.held is None:
            return
        if phase.answered:  # by an exception of a dependency that was closing
            await phase.held.aclose()
        else:
            await phase.held.answer(phase)

    def _as_get(self, scope: Scope) -> Scope:
        head = self.streams and scope["type"] == "http" and scope["method"] == "HEAD"
        return {**scope, "method": "GET"} if head and "GET" in (self.methods or ()) else scope


@dataclass(frozen=True, slots=True)
class _Declaration:
    """What a stream's annotation declares.

    Attributes:
        events: its events and those that the response adds; `None` where they are not said.
        may_be_over: it may be answered with 204.
    """

    events: EventUnion[BaseEvent[object]] | None
    may_be_over: bool


class _StreamContent(dict[str, Any]):
    """The content of the response that is a stream.

    FastAPI knows the name of a model in a document, and puts it into the content of the response
    that has the model, as JSON where the route has no media type. Of this response it is a stream.
    """

    def setdefault(self, _key: str, default: Any = None) -> Any:
        return super().setdefault(EventSourceResponse.media_type, default)


def _describe(
    endpoint: Callable[..., Any], declared: _Declaration, options: dict[str, Any]
) -> None:
    """Add to a route's options what its document is to say of the stream."""
    options["response_model"] = None
    status_code = str(options.get("status_code") or 200)
    given: Mapping[int | str, dict[str, Any]] = options.get("responses") or {}
    responses = {str(code): response for code, response in given.items()}
    own = responses.pop(status_code, {})
    content: dict[str, Any] = own.get("content", {})
    media_type: dict[str, Any] = {OVER_KEYWORD: True} if declared.may_be_over else {}
    said_of_it = options.get("response_description")
    if said_of_it in (None, _FASTAPI_SAYS):
        said_of_it = "A stream of events."
    stream: dict[str, Any] = {"description": said_of_it, **own}
    if declared.events is not None and options.get("include_in_schema", True):
        name = getattr(endpoint, "__name__", type(endpoint).__name__)
        if "schema" not in content.get(EventSourceResponse.media_type, {}):
            stream["model"] = stream_data(name, endpoint.__module__, declared.events)
        wire = wire_example(declared.events)
        media_type[WIRE_KEYWORD] = wire
        said = options.get("description") or inspect.cleandoc(endpoint.__doc__ or "")
        said = said.partition("\f")[0].rstrip()
        shown = f"{table(declared.events)}\n\n```\n{wire.rstrip()}\n```"
        options["description"] = f"{said}\n\n{shown}".lstrip()
    media_type |= content.get(EventSourceResponse.media_type, {})
    stream["content"] = _StreamContent(content | {EventSourceResponse.media_type: media_type})
    options["responses"] = {status_code: stream, **responses}


def _check_options(endpoint: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Refuse what a stream cannot have, instead of leaving it out without a word."""
    status_code = options.get("status_code") or 200
    if status_code < 200 or status_code in (204, 205, 304):
        reason = f"status_code={status_code} has no body to stream; return None for a 204"
        raise InvalidDeclaration((name_of(endpoint),), reason)
    for option in ("response_class", "response_model"):
        # A placeholder is FastAPI's default.
        if not isinstance(options.get(option), DefaultPlaceholder | None):
            reason = f"it streams, so {option} is not for it; its annotation says what it sends"
            raise InvalidDeclaration((name_of(endpoint),), reason)
    responses: Mapping[int | str, dict[str, Any]] = options.get("responses") or {}
    if any("model" in responses.get(code, {}) for code in (status_code, str(status_code))):
        option = f"responses[{status_code}]['model']"
        reason = f"it streams, so {option} is not for it; its annotation says what it sends"
        raise InvalidDeclaration((name_of(endpoint),), reason)


def _streaming(
    function: Callable[..., Any], status_code: int | None, respond: Respond
) -> Callable[..., Any] | None:
    """Return the endpoint that answers with what `function` streams; `None` if it streams nothing.

    It has the function's signature, and is a plain function: of a generator, FastAPI would stream
    JSON lines.
    """
    signature = signature_of(function)
    parameters = list(signature.parameters.values())
    is_generator = generates(function)
    streamed = _streamed(signature.return_annotation)
    if not is_generator and streamed is None:
        return None
    _check_resolved(function, signature)
    dependencies = dict(dependencies_of(signature))
    if is_generator:
        for name, dependency in dependencies.items():
            check_scope(function, name, dependency)
    events = _events(function, signature.return_annotation if is_generator else streamed)
    typed = _typing(events)

    def answer(result: object, values: Response) -> Response:
        if result is None:
            return Response(status_code=204)
        if isinstance(result, Response):
            if not isinstance(result, EventSourceResponse):
                return result
            response = result
        else:
            response = respond(typed(cast("AsyncIterable[Any]", result)))
            response.status_code = values.status_code or status_code or response.status_code
            _carry_over(values, response)
        return _Held(response, [*dependencies.values()])

    injected = next((p.name for p in parameters if _is(p.annotation, Response)), None)
    request = next((p.name for p in parameters if _is(p.annotation, Request)), None)

    def split(values: dict[str, Any]) -> Response:
        response: Response = values[injected] if injected else values.pop(_INJECTED)
        return response

    async def call(**values: Any) -> Response:
        response = split(values)
        if is_generator and request:
            # The generator runs when the response waits for the client to leave, and would get
            # nothing of a body that has not been read by then.
            with suppress(RuntimeError):  # FastAPI has read it, as a form
                await values[request].body()
        result = function(**values)
        return answer(await result if inspect.isawaitable(result) else result, response)

    def call_in_thread(**values: Any) -> Response:
        response = split(values)
        return answer(function(**values), response)

    # A function that may block is for FastAPI's threads; to call a generator function does not.
    blocks = not is_generator and not inspect.iscoroutinefunction(called(function))
    endpoint = call_in_thread if blocks else call
    update_wrapper(endpoint, function)
    if not injected:
        kind = inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter(_INJECTED, kind, annotation=Response))
        parameters.sort(key=lambda parameter: parameter.kind)
    endpoint.__dict__["__signature__"] = signature.replace(
        parameters=parameters, return_annotation=Response
    )
    declared = events if isinstance(events, EventUnion) else None
    subscribes = _subscribes(streamed)
    if declared is not None:
        declared |= EventUnion(respond(of_union((), None)).control_events)
        resumes = any(mark.dependency is _last_event_id for mark in dependencies.values())
        if subscribes or (resumes and not is_generator):
            declared |= EventUnion[BaseEvent[object]](StreamGap | StreamEnd)
    may_be_over = subscribes or any(
        member is NoneType for member in members(signature.return_annotation)
    )
    endpoint.__dict__[_STREAMS] = _Declaration(declared, may_be_over)
    del endpoint.__dict__["__wrapped__"]
    return endpoint


def _check_resolved(function: Callable[..., Any], signature: inspect.Signature) -> None:
    annotations = [parameter.annotation for parameter in signature.parameters.values()]
    for annotation in (*annotations, signature.return_annotation):
        if isinstance(annotation, str):
            reason = f"its annotation {annotation!r} cannot be resolved; define its names above"
            raise InvalidDeclaration((name_of(function),), reason)


def _streamed(annotation: object) -> object | None:
    """Return the part of a return annotation that is a stream; `None` if there is none."""
    for member in members(annotation):
        kind = get_origin(member) or member
        # Not every Iterable: a list is an ordinary answer.
        if isinstance(kind, type) and issubclass(
            kind, AsyncIterable | Iterator | EventSourceResponse
        ):
            return member
    return None


def _subscribes(annotation: object) -> bool:
    kind = get_origin(annotation) or annotation
    return isinstance(kind, type) and issubclass(kind, Subscription)


def _events(
    function: Callable[..., Any], annotation: object
) -> EventUnion[BaseEvent[object]] | Literal["any", "untyped"]:
    """Return the union that an annotation declares; whether it is typed where it declares none."""
    annotation = aliased(annotation)
    if annotation is inspect.Signature.empty:
        return "any"
    if isinstance(annotation, type) and issubclass(annotation, EventSourceResponse):
        return "untyped"
    item = next(iter(get_args(annotation)), None)
    if item is None:
        reason = f"say what it streams, as AsyncIterator[Event]; {annotation} does not"
        raise InvalidDeclaration((name_of(function),), reason)
    if all((get_origin(member) or member) in _UNTYPED for member in members(item)):
        return "untyped"
    return EventUnion[BaseEvent[object]](item)


def _typing(
    events: EventUnion[BaseEvent[object]] | Literal["any", "untyped"],
) -> Callable[[AsyncIterable[Any]], AsyncIterable[Sendable]]:
    """Return what makes the declared stream of whatever the function gives."""
    if events == "any":
        return lambda content: of_union(content, None)
    if events == "untyped":
        return lambda content: content
    union = events

    def typed(content: AsyncIterable[Any]) -> AsyncIterable[Sendable]:
        if not isinstance(content, EventStream) or content.events is None:
            return of_union(content, union)
        if union | content.events != union:
            raise UndeclaredEvent(repr(content.events), union.classes)
        return content

    return typed


def _is(annotation: object, cls: type) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, cls)


def _carry_over(values: Response, response: Response) -> None:
    """Send the headers and cookies that were set on an injected response, instead of ours."""
    for name in set(values.headers.keys()) - {"set-cookie"}:
        del response.headers[name]
    for name, value in values.headers.items():
        response.headers.append(name, value)
