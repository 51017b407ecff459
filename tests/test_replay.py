import asyncio
from collections.abc import Sequence

import pytest

from typed_sse import InvalidField, ServerSentEvent, UsageError
from typed_sse.recording import RecordedEvent, Recording
from typed_sse.replay import Replay
from typed_sse.testing import open_stream, running


def recorded(events: Sequence[tuple[float, ServerSentEvent]]) -> Recording:
    items = tuple(RecordedEvent(at_s, event) for at_s, event in events)
    return Recording("http://test/", items, 0, items[-1].at_s if items else 0.0, 0, torn=False)


NUMBERS = recorded([(s, ServerSentEvent(str(s), event="number", id=s)) for s in (1, 2, 4, 8)])
END = ServerSentEvent('{"events":1}', event="stream.end", id="1")


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def times_of(app: Replay, count: int, headers: dict[str, str] | None = None) -> list[float]:
    times: list[float] = []
    async with open_stream(app, headers=headers) as stream:
        for _ in range(count):
            await anext(stream)
            times.append(now_s())
    return times


async def test_events_come_when_they_were_recorded_and_then_the_end() -> None:
    async with open_stream(Replay(NUMBERS), "/any/path") as stream:
        got = [(event.event, event.id, event.data, now_s()) async for event in stream]
    assert got == [
        ("number", "1", "1", 1),
        ("number", "2", "2", 2),
        ("number", "4", "4", 4),
        ("number", "8", "8", 8),
        ("stream.end", "8", '{"events":4}', 8),
    ]
    assert stream.terminated


@pytest.mark.parametrize(
    ("speed", "times"), [(2, [0.5, 1, 2, 4]), (0.5, [2, 4, 8, 16]), (0, [0, 0, 0, 0])]
)
async def test_a_speed_divides_the_time(speed: float, times: list[float]) -> None:
    assert await times_of(Replay(NUMBERS, speed=speed), 4) == times


@pytest.mark.parametrize(
    ("id", "first"), [("1", ("2", 1)), ("4", ("8", 4)), ("none of these", ("1", 1)), ("", ("1", 1))]
)
async def test_a_stream_resumes_behind_the_id_after_the_time_that_lay_between(
    id: str, first: tuple[str, float]
) -> None:
    async with open_stream(Replay(NUMBERS), headers={"Last-Event-ID": id}) as stream:
        assert ((await anext(stream)).data, now_s()) == first


async def test_who_has_the_last_event_is_told_that_nothing_follows() -> None:
    async with open_stream(Replay(NUMBERS), headers={"Last-Event-ID": "8"}) as stream:
        await stream.ended()
    assert (stream.status, stream.body, stream.terminated) == (204, b"", True)


async def test_a_stream_resumes_behind_the_first_event_that_has_the_id() -> None:
    events = [(float(n), ServerSentEvent(text, id="1")) for n, text in enumerate("abc")]
    async with open_stream(Replay(recorded(events)), headers={"Last-Event-ID": "1"}) as stream:
        assert [event.data for event in await stream.events(2)] == ["b", "c"]


@pytest.mark.parametrize("name", ["stream.end", "stream.error"])
async def test_an_end_that_was_recorded_is_the_only_one(name: str) -> None:
    events = [(0, ServerSentEvent("x", id=1)), (1, ServerSentEvent("{}", event=name, id=1))]
    async with open_stream(Replay(recorded(events))) as stream:
        assert [event.event async for event in stream] == [None, name]


async def test_events_without_ids_come_from_the_beginning_each_time() -> None:
    app = Replay(recorded([(0, ServerSentEvent("x")), (1, ServerSentEvent("y", id=""))]))
    async with open_stream(app, headers={"Last-Event-ID": "1"}) as stream:
        assert [(event.data, event.id) async for event in stream][:2] == [("x", None), ("y", "")]


async def test_every_field_comes_as_it_was_recorded() -> None:
    sent = ServerSentEvent("two\nlines\n", event="note", id="ä", retry=1234)
    async with open_stream(Replay(recorded([(0, sent)]))) as stream:
        assert await anext(stream) == sent


async def test_a_loop_begins_again_and_knows_the_ids_still() -> None:
    app = Replay(NUMBERS, loop=True)
    assert await times_of(app, 6) == [1, 2, 4, 8, 9, 10]
    began_s = now_s()
    times = await times_of(app, 2, {"Last-Event-ID": "8"})
    assert [time - began_s for time in times] == [1, 2]


async def test_a_loop_that_takes_no_time_lets_others_work() -> None:
    async with open_stream(Replay(NUMBERS, loop=True, speed=0)) as stream:
        await stream.events(1000)


async def test_an_empty_recording_is_a_stream_that_is_complete() -> None:
    async with open_stream(Replay(recorded([]))) as stream:
        assert [event.event async for event in stream] == ["stream.end"]


async def test_a_page_of_another_origin_may_read_it_only_where_that_is_allowed() -> None:
    for origin, allowed in ((None, None), ("*", "*"), ("http://localhost:5173",) * 2):
        app = Replay(NUMBERS, allow_origin=origin)
        for method, last_id in (("GET", ""), ("GET", "8"), ("OPTIONS", "")):
            headers = {"Last-Event-ID": last_id}
            async with open_stream(app, method=method, headers=headers) as stream:
                await stream.started()
            assert stream.headers.get("access-control-allow-origin") == allowed


async def test_a_page_may_ask_before_it_sends_headers_of_its_own() -> None:
    async with open_stream(Replay(NUMBERS, allow_origin="*"), method="OPTIONS") as stream:
        await stream.ended()
    assert stream.status == 204
    assert stream.headers["access-control-allow-headers"] == "*"


async def test_a_request_with_a_body_gets_the_stream_too() -> None:
    async with open_stream(Replay(NUMBERS), method="POST", json={"prompt": "x"}) as stream:
        assert (await anext(stream)).data == "1"


async def test_a_shutdown_ends_the_stream_so_that_its_reader_comes_back() -> None:
    app = Replay(NUMBERS)
    async with running(app):
        stream = open_stream(app)
        await stream.events(1)
    await stream.ended()
    assert stream.terminated
    assert stream.retry_ms is not None
    assert b"stream.end" not in stream.body


async def test_what_is_not_http_is_refused() -> None:
    stream = open_stream(Replay(NUMBERS), type="websocket")
    with pytest.raises(UsageError, match="served over HTTP, not over websocket"):
        await stream.ended()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"speed": -1}, "speed=-1: give 0, for no waiting, to 1e"),
        ({"speed": float("nan")}, "speed=nan: give 0"),
        ({"speed": 1e9}, "speed=1000000000.0: give 0"),
        ({"allow_origin": ""}, "allow_origin='': give an origin"),
        ({"allow_origin": "a\r\nb: c"}, "give an origin such as"),
        ({"allow_origin": "http://ä"}, "give an origin such as"),
    ],
)
def test_an_option_that_cannot_be_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidField) as caught:
        Replay(NUMBERS, **options)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert said in str(caught.value)


def test_there_is_nothing_to_loop_over_in_an_empty_recording() -> None:
    with pytest.raises(InvalidField, match="the recording has no events"):
        Replay(recorded([]), loop=True)
