"""FastAPI: path operations that are typed generators, or return a stream.

A request has two phases. In the first, FastAPI does what it does for every path operation:
parameters, dependencies, the endpoint's own errors. Then it closes the dependencies, and only then
the stream starts, so that an open stream holds none. Knows FastAPI and the response, nothing of how
a stream is sent. The only file that knows FastAPI.
"""

import inspect
import re
from collections.abc import AsyncIterable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from functools import partial, update_wrapper
from types import UnionType
from typing import Annotated, Any, ClassVar, Union, cast, get_args, get_origin

from fastapi import APIRouter, Depends, Header, HTTPException, Query, params
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from typed_sse.errors import InvalidDeclaration, UndeclaredEvent
from typed_sse.events import BaseEvent, EventUnion, aliased
from typed_sse.response import EventSourceResponse
from typed_sse.sources import Sendable
from typed_sse.streams import EventStream, of_union
from typed_sse.wire import ServerSentEvent

MAX_LAST_EVENT_ID_BYTES = 4096
"""The longest `Last-Event-ID` that is taken."""

# Control characters, and halves of characters that no UTF-8 has.
_NO_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

_UNTYPED: frozenset[object] = frozenset({ServerSentEvent, str, dict, Mapping})
_HELD = "typed_sse.held"
_INJECTED = "typed_sse_response"
_STREAMS = "__streams__"

Respond = Callable[[AsyncIterable[Sendable]], EventSourceResponse]


def _last_event_id(
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
      `AsyncIterator[...]`, `Iterator[...]`, `EventSourceResponse`, or a union with one of these)
      streams what it returns. It may return another `Response` instead, which is sent as it is, or
      `None`, which is answered with 204: an `EventSource` does not come back then;
    - every other operation is FastAPI's own.

    Dependencies are closed before the stream starts. One that is to live as long as the stream says
    so: `Depends(get_session, scope="request")`. Then all of the operation's dependencies do,
    except those with `scope="function"`. A generator cannot be given a dependency that is closed
    already by accident: where it takes the value of a dependency with `yield`, the scope has to be
    said.

    Headers, cookies and a status code that are set on an injected `Response` are sent, except with
    an `EventSourceResponse` of your own. HEAD is answered where GET is.

    Args:
        prefix, tags, dependencies, responses, deprecated, include_in_schema: as for `APIRouter`.
        respond: makes the response for a stream: `EventSourceResponse` by default, or
            `functools.partial(EventSourceResponse, ping=30)` to set what its streams have in
            common.

    Raises:
        InvalidDeclaration: at declaration of an operation whose annotations cannot be resolved or
            whose events cannot form a stream, or where the scope of a dependency is not said.
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
            route_class=type("EventRoute", (_EventRoute,), {"respond": staticmethod(respond)}),
        )


class _Held(Response):
    """A stream that waits until FastAPI has closed the dependencies."""

    def __init__(self, stream: EventSourceResponse) -> None:
        super().__init__(status_code=stream.status_code)
        self.stream = stream

    async def __call__(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        scope[_HELD].append(self)


class _NoSchema(Response):
    """Has no media type, so that FastAPI does not say that the body is a string."""


class _EventRoute(APIRoute):
    """One path operation; adds the second phase to those that stream.

    FastAPI makes a route anew from its endpoint when its router is included in another one; an
    endpoint that streams already stays as it is.
    """

    respond: ClassVar[Respond]

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        self.streams = hasattr(endpoint, _STREAMS)
        if not self.streams:
            streaming = _streaming(endpoint, options, type(self).respond)
            self.streams = streaming is not None
            endpoint = streaming or endpoint
        if self.streams:
            status_code = options.get("status_code") or 200
            options["response_class"] = _NoSchema
            options["response_model"] = None
            options["responses"] = {
                status_code: {
                    "description": "A stream of events.",
                    "content": {EventSourceResponse.media_type: {}},
                },
                **(options.get("responses") or {}),
            }
        super().__init__(path, endpoint, **options)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if self.streams and scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": self._method_for_head()}
        return super().matches(scope)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self.streams:
            await super().handle(scope, receive, send)
            return
        held: list[_Held] = []
        method = scope["method"]
        scope[_HELD] = held
        if method == "HEAD":
            scope["method"] = self._method_for_head()
        try:
            await super().handle(scope, receive, send)
        finally:
            scope["method"] = method
            del scope[_HELD]
        for response in held:
            response.stream.background = response.stream.background or response.background
            await response.stream(scope, receive, send)

    def _method_for_head(self) -> str:
        return "GET" if "GET" in (self.methods or ()) else "HEAD"


def _streaming(
    function: Callable[..., Any], options: Mapping[str, Any], respond: Respond
) -> Callable[..., Any] | None:
    """Return the endpoint that answers with what `function` streams; `None` if it streams nothing.

    It has the function's signature, and is a plain function: of a generator, FastAPI would stream
    JSON lines.
    """
    signature = _signature(function)
    parameters = list(signature.parameters.values())
    generates = _generates(function)
    streamed = _streamed(signature.return_annotation)
    if generates:
        for parameter in parameters:
            _check_scope(function, parameter)
    elif streamed is None:
        return None
    typed = _typing(function, signature.return_annotation if generates else streamed)
    asked = [*map(_dependency, parameters), *(options.get("dependencies") or ())]
    keeps = any(_asks_to_stay(dependency, set()) for dependency in asked)
    status_code: int | None = options.get("status_code")

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
        return response if keeps else _Held(response)

    injected = next((p.name for p in parameters if _is_response(p.annotation)), None)

    def split(values: dict[str, Any]) -> Response:
        response: Response = values[injected] if injected else values.pop(_INJECTED)
        return response

    async def call(**values: Any) -> Response:
        response = split(values)
        result = function(**values)
        return answer(await result if inspect.isawaitable(result) else result, response)

    def call_in_thread(**values: Any) -> Response:
        response = split(values)
        return answer(function(**values), response)

    # A function that may block is for FastAPI's threads; to call a generator function does not.
    blocks = not generates and not inspect.iscoroutinefunction(inspect.unwrap(function))
    endpoint = call_in_thread if blocks else call
    update_wrapper(endpoint, function)
    if not injected:
        kind = inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter(_INJECTED, kind, annotation=Response))
        parameters.sort(key=lambda parameter: parameter.kind)
    endpoint.__dict__["__signature__"] = signature.replace(
        parameters=parameters, return_annotation=Response
    )
    endpoint.__dict__[_STREAMS] = True
    del endpoint.__dict__["__wrapped__"]
    return endpoint


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function, eval_str=True)
    except NameError as error:
        reason = f"its annotations cannot be resolved: {error}; define the name above"
        raise InvalidDeclaration((_name_of(function),), reason) from error


def _name_of(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", repr(function))


def _generates(function: Callable[..., Any]) -> bool:
    function = inspect.unwrap(function)
    if isinstance(function, partial):
        return _generates(cast("partial[object]", function).func)
    called: object = function if inspect.isroutine(function) else type(function).__call__
    return inspect.isasyncgenfunction(called) or inspect.isgeneratorfunction(called)


def _streamed(annotation: object) -> object | None:
    """Return the part of a return annotation that is a stream; `None` if there is none."""
    annotation = aliased(annotation)
    if get_origin(annotation) in (Union, UnionType):
        return next(filter(None, map(_streamed, get_args(annotation))), None)
    kind = get_origin(annotation) or annotation
    # Not every Iterable: a list is an ordinary answer.
    streams = isinstance(kind, type) and issubclass(
        kind, AsyncIterable | Iterator | EventSourceResponse
    )
    return annotation if streams else None


def _typing(
    function: Callable[..., Any], annotation: object
) -> Callable[[AsyncIterable[Any]], AsyncIterable[Sendable]]:
    """Return what makes the declared stream of whatever the function gives."""
    annotation = aliased(annotation)
    if annotation is inspect.Signature.empty:
        return lambda content: of_union(content, None)
    if isinstance(annotation, type) and issubclass(annotation, EventSourceResponse):
        return _as_it_is
    item = next(iter(get_args(annotation)), None)
    if item is None:
        reason = f"say what it streams, as AsyncIterator[Event]; {annotation} does not"
        raise InvalidDeclaration((_name_of(function),), reason)
    if all(member in _UNTYPED for member in _members(item)):
        return _as_it_is
    union = EventUnion[BaseEvent[object]](item)

    def typed(content: AsyncIterable[Any]) -> AsyncIterable[Sendable]:
        if not isinstance(content, EventStream) or content.events is None:
            return of_union(content, union)
        if union | content.events != union:
            raise UndeclaredEvent(repr(content.events), union.classes)
        return content

    return typed


def _as_it_is(content: AsyncIterable[Any]) -> AsyncIterable[Sendable]:
    return content


def _members(item: object) -> Iterator[object]:
    item = aliased(item)
    if get_origin(item) in (Union, UnionType):
        for member in get_args(item):
            yield from _members(member)
    else:
        yield get_origin(item) or item


def _dependency(parameter: inspect.Parameter) -> params.Depends | None:
    """Return the marker of a parameter that is a dependency."""
    metadata = get_args(parameter.annotation)[1:]
    is_annotated = get_origin(parameter.annotation) is Annotated
    marks = [parameter.default, *(metadata if is_annotated else ())]
    mark = next((mark for mark in marks if isinstance(mark, params.Depends)), None)
    if mark is not None and mark.dependency is None:
        cls = get_args(parameter.annotation)[0] if is_annotated else parameter.annotation
        return replace(mark, dependency=cls)
    return mark


def _asks_to_stay(dependency: params.Depends | None, seen: set[object]) -> bool:
    """Return whether a dependency, or one of its own, is to live as long as the stream."""
    if dependency is None or dependency.dependency is None or dependency.dependency in seen:
        return False
    seen.add(dependency.dependency)
    if dependency.scope == "request":
        return True
    parameters = _signature(dependency.dependency).parameters.values()
    return any(_asks_to_stay(_dependency(parameter), seen) for parameter in parameters)


def _check_scope(function: Callable[..., Any], parameter: inspect.Parameter) -> None:
    dependency = _dependency(parameter)
    if dependency is None or dependency.dependency is None or dependency.scope is not None:
        return
    if _generates(dependency.dependency):
        reason = (
            f"its parameter {parameter.name!r} is a dependency with `yield`; say whether it lives "
            'as long as the stream, Depends(…, scope="request"), or is closed before the stream '
            'starts, Depends(…, scope="function")'
        )
        raise InvalidDeclaration((_name_of(function),), reason)


def _is_response(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Response)


def _carry_over(values: Response, response: Response) -> None:
    """Send the headers and cookies that were set on an injected response."""
    for name, value in values.headers.items():
        if name == "set-cookie":
            response.headers.append(name, value)
        else:
            response.headers[name] = value
