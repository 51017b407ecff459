"""What both clients send, when they send it again, and when they do not."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import BaseModel, Field

from answers import (
    AT_ONCE,
    NEVER,
    URL,
    AsyncReply,
    AsyncScript,
    Reader,
)
from typed_sse import ConnectionFailed, InvalidField
from typed_sse.client import AsyncEventSource, ClientState, ReconnectPolicy
from typed_sse.transport import Lost


class Question(BaseModel):
    text: str = Field(alias="Text")
    score: float = 0


@pytest.fixture(params=["async", "sync"])
def reader(request: pytest.FixtureRequest) -> Reader:
    return Reader(request.param)


async def headers_sent(reader: Reader, **how: Any) -> Mapping[str, str]:
    reading = await reader.read(b"", policy=NEVER, **how)
    return dict(reading.script.requests[0].headers)


# --- the request


async def test_a_request_asks_for_a_stream_that_no_cache_has(reader: Reader) -> None:
    reading = await reader.read(b"", policy=NEVER)
    (request,) = reading.script.requests
    assert (request.method, request.url, request.body) == ("GET", URL, None)
    assert dict(request.headers) == {"accept": "text/event-stream", "cache-control": "no-store"}


async def test_the_programs_headers_win_whatever_their_case(reader: Reader) -> None:
    headers = await headers_sent(reader, headers={"ACCEPT": "*/*", "X-Key": "é"})
    assert headers == {"accept": "*/*", "cache-control": "no-store", "x-key": "é"}


async def test_a_last_id_of_the_stream_wins_over_one_among_the_headers(reader: Reader) -> None:
    given = {"Last-Event-ID": "mine"}
    assert (await headers_sent(reader, headers=given))["last-event-id"] == "mine"
    headers = await headers_sent(reader, headers=given, last_event_id="5")
    assert headers["last-event-id"] == "5"


async def test_parameters_join_the_query_of_the_url() -> None:
    script = AsyncScript(AsyncReply())
    params: dict[str, str | int | bool] = {"q": "a b&é", "deep": True, "n": 3}
    source = AsyncEventSource("http://test/sse?x=1#f", client=script, params=params, policy=NEVER)
    assert [event async for event in source] == []
    assert script.requests[0].url == "http://test/sse?x=1&q=a+b%26%C3%A9&deep=true&n=3#f"


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (Question(Text="é"), b'{"Text":"\xc3\xa9","score":0.0}'),
        ({"a": [1, None, "é"]}, b'{"a": [1, null, "\xc3\xa9"]}'),
        (False, b"false"),
    ],
)
async def test_a_json_body_is_posted_as_such(reader: Reader, body: object, sent: bytes) -> None:
    reading = await reader.read(b"", json=body, policy=NEVER)
    (request,) = reading.script.requests
    assert (request.method, request.body) == ("POST", sent)
    assert dict(request.headers)["content-type"] == "application/json"


async def test_bytes_are_posted_as_they_are_and_the_method_can_be_another(reader: Reader) -> None:
    reading = await reader.read(
        b"", content=b"\x00", method="put", headers={"content-type": "x/y"}, policy=NEVER
    )
    (request,) = reading.script.requests
    assert (request.method, request.body) == ("PUT", b"\x00")
    assert dict(request.headers)["content-type"] == "x/y"


async def test_a_function_makes_the_headers_of_each_attempt(reader: Reader) -> None:
    tokens = iter("ab")
    reading = await reader.read(
        b"id: 1\ndata: x\n\n",
        reader.reply(status=204),
        headers=lambda: {"Authorization": next(tokens)},
        policy=AT_ONCE,
    )
    assert reading.script.header("authorization") == ["a", "b"]
    assert reading.script.header("last-event-id") == [None, "1"]


async def test_a_coroutine_function_makes_the_headers_of_each_attempt() -> None:
    tokens = iter("ab")

    async def headers() -> dict[str, str]:
        await asyncio.sleep(1)
        return {"Authorization": next(tokens)}

    reading = await Reader("async").read(
        b"", AsyncReply(status=204), headers=headers, policy=AT_ONCE
    )
    assert reading.script.header("authorization") == ["a", "b"]


async def test_a_coroutine_function_is_refused_in_a_thread() -> None:
    async def headers() -> dict[str, str]:
        raise NotImplementedError

    (error,) = (await Reader("sync").read(headers=headers)).items
    assert isinstance(error, InvalidField)
    assert error.field == "headers"
    (error,) = (await Reader("sync").read(headers=lambda: asyncio.sleep(0))).items
    assert isinstance(error, InvalidField)


async def test_an_awaitable_that_is_no_coroutine_is_refused_in_a_thread_too() -> None:
    made = asyncio.get_running_loop().create_future()
    (error,) = (await Reader("sync").read(headers=lambda: made)).items
    assert isinstance(error, InvalidField)


@pytest.mark.parametrize("option", ["headers", "on_state"])
async def test_what_the_programs_functions_raise_reaches_who_iterates_and_ends_it(
    reader: Reader, option: str
) -> None:
    def raising(*_: object) -> Mapping[str, str]:
        raise LookupError(option)

    how: dict[str, Any] = {option: raising}
    reading = await reader.read(**how)
    assert {repr(item) for item in reading.items} == {f"LookupError('{option}')"}
    assert reading.script.requests == []


# --- what is sent again, and when


async def test_a_client_resumes_behind_the_last_id_and_ends_at_no_content(reader: Reader) -> None:
    states: list[ClientState] = []
    reading = await reader.read(
        b"id: 1\ndata: a\n\nid: 2\ndata: b\n\n",
        reader.reply(b"data: c\n\nid: 3\n\n", Lost("cut", "reset")),
        reader.reply(status=204),
        policy=AT_ONCE,
        last_event_id="0",
        on_state=states.append,
    )
    assert [event.data for event in reading.items] == ["a", "b", "c"]
    assert reading.script.header("last-event-id") == ["0", "2", "3"]
    assert reading.last_event_id == "3"
    assert [(state.kind, state.reason) for state in states] == [
        ("connecting", None),
        ("open", None),
        ("waiting", "ended"),
        ("connecting", None),
        ("open", None),
        ("waiting", "cut"),
        ("connecting", None),
        ("closed", "no-content"),
    ]


async def test_waits_grow_and_are_the_servers_where_it_has_said_so() -> None:
    script = AsyncScript(
        Lost("unreachable", "refused"),
        Lost("unanswered", "reset"),
        AsyncReply(status=503, headers={"retry-after": "60"}),
        AsyncReply(b"retry: 7000\ndata: x\n\n"),
        AsyncReply(b"data: y\n\n", Lost("cut", "reset")),
        AsyncReply(status=204),
    )
    states: list[ClientState] = []
    policy = ReconnectPolicy(jitter=0)
    source = AsyncEventSource(URL, client=script, policy=policy, on_state=states.append)
    assert [event.data async for event in source] == ["x", "y"]
    start_s = script.sent_at_s[0]
    gone = [round(at - start_s) for at in script.sent_at_s]
    assert gone == [0, 1, 3, 63, 70, 77]
    waits = [(s.delay_s, s.failures) for s in states if s.kind == "waiting"]
    assert waits == [(1, 1), (2, 2), (60, 3), (7, 1), (7, 1)]


async def test_silence_is_a_lost_connection_where_the_server_has_announced_a_limit() -> None:
    announced = {"stream-idle-limit": "45"}
    script = AsyncScript(
        AsyncReply(b"data: x\n\n", 44.0, b":\n\n", 46.0, headers=announced),
        AsyncReply(status=204),
    )
    source = AsyncEventSource(URL, client=script, policy=AT_ONCE)
    assert [event.data async for event in source] == ["x"]
    assert script.sent_at_s[1] - script.sent_at_s[0] == pytest.approx(44 + 45, abs=0.1)


async def test_a_limit_of_a_microsecond_is_answered_by_waits_that_grow() -> None:
    hostile = [AsyncReply(1.0, headers={"stream-idle-limit": "0.000001"}) for _ in range(20)]
    policy = ReconnectPolicy(max_attempts=20)
    script = AsyncScript(*hostile)
    with pytest.raises(ConnectionFailed, match=r"after 20 attempts \(idle\)"):
        await anext(AsyncEventSource(URL, client=script, policy=policy))
    assert script.sent_at_s[-1] - script.sent_at_s[0] > 300


async def test_a_flood_of_retry_0_lets_others_run_and_can_be_cancelled() -> None:
    endless = (AsyncReply(b"retry: 0\n:\n\n") for _ in iter(int, 1))
    script = AsyncScript()
    script._replies = endless
    async with AsyncEventSource(URL, client=script) as source:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await anext(source)
    assert 2 < len(script.requests) < 20


async def test_each_attempt_is_given_as_long_as_the_policy_says(reader: Reader) -> None:
    reading = await reader.read(b"", policy=ReconnectPolicy(repeat="unsent", answer_within_s=7))
    assert reading.script.answer_within_s == [7]


@pytest.mark.parametrize(
    "loss", [Lost("unanswered", "reset"), Lost("cut", "reset"), Lost("idle", "silence")]
)
async def test_a_post_that_may_have_been_worked_on_is_not_sent_again(
    reader: Reader, loss: Lost
) -> None:
    first = loss if loss.how == "unanswered" else reader.reply(b"id: 1\ndata: x\n\n", loss)
    reading = await reader.read(first, json=1)
    assert len(reading.script.requests) == 1
    error = reading.items[-1]
    assert isinstance(error, ConnectionFailed)
    assert (error.reason, error.failures, error.__cause__) == (loss.how, 1, loss)


async def test_a_post_that_was_not_begun_is_sent_again(reader: Reader) -> None:
    put_off = reader.reply(status=503)
    policy = AT_ONCE
    reading = await reader.read(Lost("unreachable", "x"), put_off, b"", json=1, policy=policy)
    assert len(reading.script.requests) == 3
    assert reading.items == []


async def test_a_post_is_resumed_where_the_program_allows_it(reader: Reader) -> None:
    policy = ReconnectPolicy(base_delay_s=0, repeat="resume")
    reading = await reader.read(
        reader.reply(b"id: 1\ndata: x\n\n", Lost("cut", "reset")),
        b"id\n\n",
        json=1,
        policy=policy,
    )
    assert [request.body for request in reading.script.requests] == [b"1", b"1"]


async def test_a_loss_that_no_attempt_can_mend_is_told_at_once(reader: Reader) -> None:
    lost = Lost("unreachable", "the certificate has expired", futile=True)
    (error,) = (await reader.read(lost)).items
    assert isinstance(error, ConnectionFailed)
    assert str(error).endswith("is lost (unreachable): the certificate has expired")


async def test_attempts_have_a_limit_where_the_policy_has_one(reader: Reader) -> None:
    policy = ReconnectPolicy(base_delay_s=0, max_attempts=3)
    losses = [Lost("unreachable", f"{number}") for number in range(3)]
    (error,) = (await reader.read(*losses, policy=policy)).items
    assert isinstance(error, ConnectionFailed)
    assert (error.failures, error.reason) == (3, "unreachable")
    assert "is lost after 3 attempts (unreachable): 2" in str(error)


@pytest.mark.parametrize("id", ["\x01", "\x1b[31m", "\x7f", "é" * 4097])
async def test_an_id_that_cannot_be_in_a_header_is_never_sent(reader: Reader, id: str) -> None:
    reading = await reader.read(f"id: {id}\ndata: x\n\n".encode(), policy=AT_ONCE)
    event, error = reading.items
    assert event.id == id
    assert isinstance(error, ConnectionFailed)
    assert error.reason == "unsendable-id"
    assert len(reading.script.requests) == 1
    assert id not in str(error)
