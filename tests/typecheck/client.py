"""What a type checker knows of the events of a URL."""

from typing import TypeAlias, assert_type

import httpx2
from pydantic import BaseModel

from typed_sse import BaseEvent, EventUnion, ServerSentEvent
from typed_sse.client import AsyncEventSource, ClientState, EventSource, ReconnectPolicy
from typed_sse.testing import ASGIApp, ASGITransport
from typed_sse.transport import AsyncTransport, Transport


class Token(BaseEvent[str]): ...


class Count(BaseEvent[int]): ...


class Done(BaseEvent[None], terminal=True): ...


class Body(BaseModel):
    text: str


Alias: TypeAlias = Token | Count

URL = "https://example.org/stream"


def number_of(message: ServerSentEvent) -> int:
    return int(message.data or "")


async def the_events_are_inferred_from_the_argument() -> None:
    async with AsyncEventSource(URL, Token) as one:
        assert_type(one, AsyncEventSource[Token])
        async for event in one:
            assert_type(event, Token)
    async for union in AsyncEventSource(URL, Token | Done):
        assert_type(union, Token | Done)
    assert_type(await anext(AsyncEventSource(URL, Alias)), Token | Count)
    assert_type(await anext(AsyncEventSource(URL, EventUnion(Token | Count))), Token | Count)
    assert_type(
        await anext(AsyncEventSource(URL, Token | Count, unknown="yield")),
        Token | Count | ServerSentEvent,
    )
    assert_type(await anext(AsyncEventSource(URL, Token, unknown="skip")), Token)
    assert_type(await anext(AsyncEventSource(URL, decode=number_of)), int)
    assert_type(await anext(AsyncEventSource(URL)), ServerSentEvent)
    async for message in AsyncEventSource(URL, Token).messages():
        assert_type(message, ServerSentEvent)


def in_threads_too() -> None:
    with EventSource(URL, Token) as one:
        assert_type(one, EventSource[Token])
        for event in one:
            assert_type(event, Token)
    for union in EventSource(URL, Token | Done):
        assert_type(union, Token | Done)
    assert_type(next(EventSource(URL, Alias)), Token | Count)
    assert_type(next(EventSource(URL, EventUnion(Token | Count))), Token | Count)
    assert_type(
        next(EventSource(URL, Token | Count, unknown="yield")), Token | Count | ServerSentEvent
    )
    assert_type(next(EventSource(URL, Token, unknown="skip")), Token)
    assert_type(next(EventSource(URL, decode=number_of)), int)
    assert_type(next(EventSource(URL)), ServerSentEvent)
    for message in EventSource(URL, Token).messages():
        assert_type(message, ServerSentEvent)


def a_match_over_the_events_narrows(event: Token | Done) -> str:
    match event:
        case Token(text):
            return text
        case Done():
            return ""


async def every_option_has_its_type(state: ClientState) -> None:
    async def headers() -> dict[str, str]:
        return {}

    AsyncEventSource(
        URL,
        Token,
        method="POST",
        headers=headers,
        params={"q": "x", "n": 1, "deep": True},
        json=Body(text="x"),
        last_event_id="5",
        malformed="skip",
        terminal={"bye"},
        sentinel="[DONE]",
        policy=ReconnectPolicy(max_attempts=3),
        max_event_bytes=1024,
        on_state=print,
    )
    EventSource(URL, Token, headers=lambda: {"x": "y"}, content=b"x")
    assert_type(state.delay_s, float | None)


def clients_and_transports_of_its_own_kind(
    app: ASGIApp, carried: AsyncTransport, blocking: Transport
) -> None:
    AsyncEventSource(URL, Token, client=httpx2.AsyncClient())
    AsyncEventSource(URL, Token, client=ASGITransport(app))
    AsyncEventSource(URL, Token, client=carried)
    EventSource(URL, Token, client=httpx2.Client())
    EventSource(URL, Token, client=blocking)


def wrong_uses_are_errors(app: ASGIApp) -> None:
    AsyncEventSource(URL, int)  # type: ignore[type-var]  # pyright: ignore[reportCallIssue, reportArgumentType]
    EventSource(URL, int)  # type: ignore[type-var]  # pyright: ignore[reportCallIssue, reportArgumentType]
    AsyncEventSource(URL, Token, decode=number_of)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    EventSource(URL, Token, decode=number_of)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    AsyncEventSource(URL, Token, unknown="ignore")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    EventSource(URL, Token, unknown="ignore")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    AsyncEventSource(URL, Token, client=httpx2.Client())  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    EventSource(URL, Token, client=httpx2.AsyncClient())  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    EventSource(URL, Token, client=ASGITransport(app))  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    AsyncEventSource(URL, Token, retries=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    EventSource(URL, Token, retries=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    AsyncEventSource(URL, Token, headers={"x": 1})  # type: ignore[dict-item]  # pyright: ignore[reportCallIssue, reportArgumentType]
    EventSource(URL, Token, malformed="yield")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    AsyncEventSource(URL, unknown="yield")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    for _ in AsyncEventSource(URL, Token):  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues, reportUnknownVariableType]
        ...


async def a_blocking_source_is_not_awaited() -> None:
    async for _ in EventSource(URL, Token):  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues, reportUnknownVariableType]
        ...
