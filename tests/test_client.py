"""What both clients make of a stream: every case of the wire, types, policies, ends."""

from collections.abc import Iterable

import pytest
from pydantic import BaseModel, ValidationError

from answers import (
    AT_ONCE,
    NEVER,
    STALL,
    URL,
    AsyncReply,
    AsyncScript,
    Reader,
    SyncReply,
    SyncScript,
)
from cases import CASES, Case
from typed_sse import (
    BaseEvent,
    ConnectionFailed,
    EventTooLarge,
    EventUnion,
    InvalidDeclaration,
    Lagged,
    MalformedPayload,
    ServerSentEvent,
    StreamEnd,
    StreamError,
    StreamFailed,
    StreamGap,
    UnknownEvent,
)
from typed_sse.client import AsyncEventSource, ClientState, EventSource, ReconnectPolicy
from typed_sse.reconnect import is_sendable
from typed_sse.transport import Lost


class Words(BaseModel):
    words: list[str]


class Token(BaseEvent[str]): ...


class Count(BaseEvent[int]): ...


class Said(BaseEvent[Words], event="message"): ...


class Done(BaseEvent[None], terminal=True): ...


@pytest.fixture(params=["async", "sync"])
def reader(request: pytest.FixtureRequest) -> Reader:
    return Reader(request.param)


# --- every conformance case, however it is cut


def ways_to_cut(case: Case) -> Iterable[tuple[bytes, ...]]:
    body = case.body
    yield (body,)
    yield tuple(case.chunks)
    size = 1 if len(body) < 50_000 else 4093
    yield tuple(body[at : at + size] for at in range(0, len(body), size))
    places = set(range(len(body) + 1))
    if len(body) > 2048:
        places = {0, 1, 65535, 65536, 65537, len(body) // 2, len(body) - 1, len(body)}
    for at in sorted(places):
        yield body[:at], body[at:]


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_case_gives_its_events_however_it_is_cut(case: Case) -> None:
    for chunks in ways_to_cut(case):
        got = [
            message
            async for message in AsyncEventSource(
                URL,
                client=AsyncScript(AsyncReply(*chunks)),
                last_event_id=case.initial_last_event_id,
                policy=NEVER,
            ).messages()
        ]
        assert [(e.event or "message", e.data, e.id or "") for e in got] == case.events, chunks


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_case_gives_its_events_in_a_thread_however_it_is_cut(case: Case) -> None:
    for chunks in ways_to_cut(case):
        source = EventSource(
            URL,
            client=SyncScript(SyncReply(*chunks)),
            last_event_id=case.initial_last_event_id,
            policy=NEVER,
        )
        got = [(e.event or "message", e.data, e.id or "") for e in source.messages()]
        assert got == case.events, chunks


@pytest.mark.parametrize("case", [case for case in CASES if case.final_last_event_id], ids=str)
async def test_the_last_id_of_a_case_is_what_the_next_request_resumes_behind(
    reader: Reader, case: Case
) -> None:
    end = reader.reply(status=204)
    reading = await reader.read(
        reader.reply(*case.chunks), end, policy=AT_ONCE, last_event_id=case.initial_last_event_id
    )
    sent = reading.script.header("last-event-id")[1:]
    if is_sendable(case.final_last_event_id):
        assert sent == [case.final_last_event_id.strip(" \t") or None]
    else:
        assert sent == []
        assert reading.items[-1].reason == "unsendable-id"


# --- types


async def test_each_event_comes_as_its_class_with_id_and_retry(reader: Reader) -> None:
    body = b'event: token\ndata: "a"\nid: 1\nretry: 5\n\nevent: count\ndata: 2\n\n'
    reading = await reader.read(body, events=Token | Count, policy=NEVER)
    token, count = reading.items
    assert (token, token.id, token.retry) == (Token("a", id="1", retry=5), "1", 5)
    assert (count, count.id) == (Count(2, id="1"), "1")
    assert reading.last_event_id == "1"


@pytest.mark.parametrize("events", [Said, EventUnion(Said), Said | Token])
async def test_an_event_without_a_name_is_the_class_of_that_name(
    reader: Reader, events: object
) -> None:
    reading = await reader.read(b'data: {"words": ["a"]}\n\n', events=events, policy=NEVER)
    assert reading.items[0] == Said(Words(words=["a"]))


async def test_without_a_union_events_come_as_they_are_control_events_too(reader: Reader) -> None:
    body = b"event: stream.gap\ndata: x\n\ndata: y\n\nevent: stream.error\ndata: z\n\ndata: no\n\n"
    reading = await reader.read(body)
    assert [(event.event, event.data) for event in reading.items] == [
        ("stream.gap", "x"),
        (None, "y"),
        ("stream.error", "z"),
    ]


async def test_a_function_makes_of_each_event_what_it_likes(reader: Reader) -> None:
    def decode(message: ServerSentEvent) -> int:
        return int(message.data or "")

    body = b"data: 1\n\ndata: x\n\ndata: 3\n\n"
    one, error, three = (await reader.read(body, decode=decode, policy=NEVER)).items
    assert (one, three) == (1, 3)
    assert isinstance(error, MalformedPayload)
    assert isinstance(error.__cause__, ValueError)
    assert str(error) == "event 'message' carries data that does not fit: ValueError"
    skipping = await reader.read(body, decode=decode, policy=NEVER, malformed="skip")
    assert skipping.items[:2] == [1, 3]


async def test_what_a_function_raises_else_is_the_programs_own(reader: Reader) -> None:
    def decode(message: ServerSentEvent) -> int:
        if message.data == "a":
            raise LookupError("mine")
        return 1

    reading = await reader.read(b"data: a\n\ndata: b\n\n", decode=decode, policy=NEVER)
    assert isinstance(reading.items[0], LookupError)
    assert reading.items[1] == 1


@pytest.mark.parametrize("cls", [AsyncEventSource, EventSource])
def test_what_is_no_event_class_is_refused_at_once(cls: type) -> None:
    with pytest.raises(InvalidDeclaration, match="subclasses of BaseEvent"):
        cls(URL, int)


# --- what is not in the union, and what does not fit


BROKEN = b'event: other\ndata: 1\nid: 7\n\nevent: count\ndata: "x"\n\nevent: count\ndata: 3\n\n'


async def test_both_errors_carry_the_event_and_the_next_one_comes(reader: Reader) -> None:
    unknown, malformed, count = (await reader.read(BROKEN, events=Count, policy=NEVER)).items
    assert isinstance(unknown, UnknownEvent)
    assert (unknown.event_name, unknown.known) == ("other", ("count",))
    assert unknown.received == ServerSentEvent("1", event="other", id="7")
    assert isinstance(malformed, MalformedPayload)
    assert malformed.received == ServerSentEvent('"x"', event="count", id="7")
    assert isinstance(malformed.__cause__, ValidationError)
    assert count == Count(3, id="7")


async def test_both_can_be_skipped_and_their_ids_count(reader: Reader) -> None:
    body = BROKEN.removesuffix(b"event: count\ndata: 3\n\n")
    reading = await reader.read(body, events=Count, unknown="skip", malformed="skip", policy=NEVER)
    assert reading.items == []
    assert reading.last_event_id == "7"


@pytest.mark.parametrize(
    ("body", "last_event_id"),
    [
        (b"id: 1\n\n", "1"),
        (b"id: 1\n\ndata: x\n\nid: 2\n\n", "2"),
        (b"id: 1\ndata: x\n\nid: \n\n", ""),
    ],
)
async def test_an_id_counts_without_an_event_once_what_came_before_is_taken(
    reader: Reader, body: bytes, last_event_id: str
) -> None:
    reading = await reader.read(body, policy=NEVER)
    assert reading.last_event_id == last_event_id


async def test_an_unknown_event_can_be_yielded_as_it_came(reader: Reader) -> None:
    reading = await reader.read(
        BROKEN, events=Count, unknown="yield", malformed="skip", policy=NEVER
    )
    assert reading.items[:2] == [ServerSentEvent("1", event="other", id="7"), Count(3, id="7")]


async def test_ten_thousand_events_that_are_skipped_need_no_stack(reader: Reader) -> None:
    body = b"event: other\ndata: 1\n\n" * 10_000 + b"event: count\ndata: 3\n\n"
    reading = await reader.read(body, events=Count, unknown="skip", policy=NEVER)
    assert reading.items[0] == Count(3)


# --- what a stream says of itself


async def test_a_stream_that_says_its_end_is_not_asked_again(reader: Reader) -> None:
    states: list[ClientState] = []
    body = b'event: count\ndata: 1\n\nevent: stream.end\ndata: {"events":1}\n\ndata: no\n\n'
    reading = await reader.read(body, events=Count, on_state=states.append)
    assert reading.items == [Count(1)]
    assert states[-1] == ClientState("closed", "stream.end")


async def test_a_stream_that_says_it_has_failed_ends_with_that(reader: Reader) -> None:
    body = b'event: stream.error\ndata: {"code":"full","message":"no\\nroom"}\n\n' + BROKEN
    (error,) = (await reader.read(body, events=Count)).items
    assert isinstance(error, StreamFailed)
    assert (error.code, error.message) == ("full", "no\nroom")
    assert str(error) == r"the stream failed on the server: 'no\nroom' ('full')"


@pytest.mark.parametrize("data", [b"", b"x", b'{"code":1}'])
async def test_a_failure_that_cannot_be_read_is_one_all_the_same(
    reader: Reader, data: bytes
) -> None:
    (error,) = (await reader.read(b"event: stream.error\ndata: %b\n\n" % data, events=Count)).items
    assert isinstance(error, StreamFailed)
    assert error.code == "internal"


async def test_a_gap_is_told_and_what_follows_comes(reader: Reader) -> None:
    gap = b'event: stream.gap\ndata: {"channel":"c","reason":"evicted","asked":"1","first":"9"}\n\n'
    error, count = (
        await reader.read(gap + b"event: count\ndata: 1\n\n", events=Count, policy=NEVER)
    ).items
    assert isinstance(error, Lagged)
    assert (error.channel, error.reason, error.asked, error.first) == ("c", "evicted", "1", "9")
    assert count == Count(1)


async def test_a_gap_that_cannot_be_read_is_not_skipped_with_what_is_malformed(
    reader: Reader,
) -> None:
    body = b'event: stream.gap\ndata: {"channel":"c","reason":"new"}\n\n'
    reading = await reader.read(body, events=Count, policy=NEVER, malformed="skip", unknown="skip")
    error = reading.items[0]
    assert isinstance(error, MalformedPayload)
    assert error.event_name == "stream.gap"
    assert "reason: " in error.reason


async def test_control_events_in_the_union_are_yielded(reader: Reader) -> None:
    body = (
        b'event: stream.gap\ndata: {"channel":"c","reason":"reset"}\n\n'
        b'event: stream.error\ndata: {"code":"full"}\n\n'
    )
    gap, error = (await reader.read(body, events=Count | StreamGap | StreamError)).items
    assert isinstance(gap, StreamGap)
    assert isinstance(error, StreamError)
    assert error.data.code == "full"
    (end,) = (
        await reader.read(b'event: stream.end\ndata: {"events":0}\n\n', events=StreamEnd | Count)
    ).items
    assert isinstance(end, StreamEnd)


async def test_raw_messages_of_a_typed_source_are_all_events_and_end_at_the_last(
    reader: Reader,
) -> None:
    body = BROKEN + b"event: stream.gap\ndata: x\n\nevent: stream.end\ndata: y\n\n" + BROKEN
    reading = await reader.read(body, events=Count, raw=True)
    names = [event.event for event in reading.items]
    assert names == ["other", "count", "count", "stream.gap", "stream.end"]
    assert reading.last_event_id == "7"


# --- other ends


async def test_an_event_of_a_terminal_class_is_the_last(reader: Reader) -> None:
    body = b'event: token\ndata: "a"\n\nevent: done\ndata: null\n\nevent: token\ndata: "b"\n\n'
    reading = await reader.read(body, events=Token | Done)
    assert reading.items == [Token("a"), Done(None)]


@pytest.mark.parametrize("name", ["bye", "message"])
async def test_a_name_that_was_declared_terminal_ends_a_raw_stream(
    reader: Reader, name: str
) -> None:
    states: list[ClientState] = []
    body = b"event: x\ndata: 1\n\nevent: %b\ndata: 2\n\ndata: 3\n\n" % name.encode()
    reading = await reader.read(body, terminal={name}, on_state=states.append)
    assert [event.data for event in reading.items] == ["1", "2"]
    assert states[-1] == ClientState("closed", "terminal")


async def test_a_terminal_class_without_a_name_ends_at_an_event_without_one(
    reader: Reader,
) -> None:
    reading = await reader.read(b"data: 1\n\ndata: 2\n\n", terminal=["message"])
    assert [event.data for event in reading.items] == ["1"]


async def test_a_terminal_event_that_does_not_fit_ends_the_stream_all_the_same(
    reader: Reader,
) -> None:
    body = b"event: done\ndata: 1\n\n" + BROKEN
    (error,) = (await reader.read(body, events=Token | Done)).items
    assert isinstance(error, MalformedPayload)
    assert (await reader.read(body, events=Token | Done, malformed="skip")).items == []


async def test_a_body_that_ends_before_its_terminal_event_is_a_failure(reader: Reader) -> None:
    (error,) = (await reader.read(b"", events=Token | Done, policy=NEVER)).items
    assert isinstance(error, ConnectionFailed)
    assert error.reason == "ended"
    assert "it ended before its last event" in str(error)


@pytest.mark.parametrize("policy", [NEVER, ReconnectPolicy()])
async def test_a_post_that_ends_before_its_sentinel_is_a_failure(
    reader: Reader, policy: ReconnectPolicy
) -> None:
    reading = await reader.read(b"data: 1\n\n", json=1, sentinel="[DONE]", policy=policy)
    event, error = reading.items
    assert event.data == "1"
    assert isinstance(error, ConnectionFailed)
    assert "it ended before its last event" in str(error)


@pytest.mark.parametrize("raw", [False, True])
async def test_a_sentinel_ends_the_stream_and_only_raw_reading_sees_it(
    reader: Reader, raw: bool
) -> None:
    states: list[ClientState] = []
    body = b"data: 1\n\ndata: [DONE]\n\ndata: 2\n\n"
    reading = await reader.read(body, raw=raw, sentinel="[DONE]", on_state=states.append)
    assert [event.data for event in reading.items] == (["1", "[DONE]"] if raw else ["1"])
    assert states[-1] == ClientState("closed", "terminal")


async def test_no_content_ends_the_stream_without_an_error(reader: Reader) -> None:
    states: list[ClientState] = []
    reply = reader.reply(b"not read", status=204)
    reading = await reader.read(reply, events=Count, on_state=states.append)
    assert reading.items == []
    assert (reply.taken, reply.closed) == (0, 1)
    assert states[-1] == ClientState("closed", "no-content")


async def test_an_event_over_the_limit_comes_after_those_before_it_and_ends_the_stream(
    reader: Reader,
) -> None:
    reply = reader.reply(b"data: ok\n\ndata: " + b"x" * 200, b"y", STALL)
    event, error = (await reader.read(reply, max_event_bytes=100)).items
    assert event.data == "ok"
    assert isinstance(error, EventTooLarge)
    assert reply.closed == 1


async def test_bytes_that_are_no_utf_8_are_replaced(reader: Reader) -> None:
    reading = await reader.read(b"data: \xff\xc3\n\n", policy=NEVER)
    assert reading.items[0].data == "��"


async def test_an_event_that_was_cut_off_is_not_handed_on(reader: Reader) -> None:
    cut = reader.reply(b"data: 1\n\ndata: 2\n", Lost("cut", "gone"))
    reading = await reader.read(cut, reader.reply(status=204), policy=AT_ONCE)
    assert [event.data for event in reading.items] == ["1"]
