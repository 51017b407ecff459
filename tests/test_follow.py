import asyncio
import io
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from answers import STALL, AsyncReply, AsyncScript
from typed_sse import InvalidField, ServerSentEvent
from typed_sse.follow import body_of, follow, headers_of, id_in, policy_of, run
from typed_sse.reconnect import ReconnectPolicy
from typed_sse.recording import Recorder, read_recording
from typed_sse.session import ClientState, Options
from typed_sse.transport import Lost

URL = "http://test/stream"
THREE = (
    b"id: 1\nevent: a\ndata: one\n\nid: 2\nevent: b\ndata: two\n\nid: 3\nevent: a\ndata: three\n\n"
)
END = b"event: stream.end\ndata: {}\n\n"
FAILURE = b'event: stream.error\ndata: {"code":"c","message":"m"}\n\n'


class Seen:
    """A screen that writes down what it is shown."""

    def __init__(self, at_event: Callable[[ServerSentEvent], None] = lambda _: None) -> None:
        self.events: list[str | None] = []
        self.others: list[str | None] = []
        self.states: list[str] = []
        self.failures: list[str] = []
        self.ticks = 0
        self._at_event = at_event

    def event(self, event: ServerSentEvent) -> None:
        self._at_event(event)
        self.events.append(event.data)

    def left_out(self, event: ServerSentEvent) -> None:
        self.others.append(event.data)

    def state(self, state: ClientState) -> None:
        self.states.append(state.kind)

    def failure(self, message: str) -> None:
        self.failures.append(message)

    def tick(self) -> None:
        self.ticks += 1


COMES_BACK = policy_of(True, None, None)
STAYS_AWAY = policy_of(False, None, None)


@pytest.mark.parametrize(
    ("replies", "policy", "code", "said"),
    [
        ([AsyncReply(THREE + END)], COMES_BACK, 0, ""),
        ([AsyncReply(status=204)], COMES_BACK, 0, ""),
        ([AsyncReply(THREE), AsyncReply(END)], COMES_BACK, 0, ""),
        ([AsyncReply(THREE)], STAYS_AWAY, 0, ""),
        ([AsyncReply(THREE + FAILURE)], COMES_BACK, 1, ""),
        ([AsyncReply(status=404)], COMES_BACK, 3, "no event stream: it answers 404"),
        ([AsyncReply(content_type="text/html")], COMES_BACK, 3, "'text/html'"),
        ([AsyncReply(THREE, Lost("cut", "it broke"))], STAYS_AWAY, 4, "it broke"),
        ([Lost("unreachable", "nobody there")], STAYS_AWAY, 4, "nobody there"),
        ([Lost("unreachable", "no")] * 3, policy_of(True, 3, None), 4, "after 3 attempts"),
        ([AsyncReply(status=503)] * 2, policy_of(True, 2, None), 4, "it answers 503"),
        ([AsyncReply(THREE, STALL)], policy_of(False, None, 5), 4, "(idle)"),
    ],
)
async def test_the_end_of_a_stream_is_an_exit_code(
    replies: list[AsyncReply | Exception], policy: ReconnectPolicy, code: int, said: str
) -> None:
    seen = Seen()
    assert await follow(URL, seen, {"policy": policy}, client=AsyncScript(*replies)) == code
    assert said in "".join(seen.failures)
    assert (seen.failures == []) is (code < 2)


async def test_an_event_that_is_too_large_is_no_stream_that_can_be_read() -> None:
    seen, script = Seen(), AsyncScript(AsyncReply(THREE))
    assert await follow(URL, seen, {"max_event_bytes": 5}, client=script) == 3
    assert "an event is larger than max_event_bytes=5" in seen.failures[0]


async def test_reading_stops_after_as_many_events_as_were_asked_for() -> None:
    seen, reply = Seen(), AsyncReply(THREE, STALL)
    assert await follow(URL, seen, {}, count=2, client=AsyncScript(reply)) == 0
    assert seen.events == ["one", "two"]
    assert reply.closed == 1


async def test_an_event_after_which_nothing_follows_ends_it() -> None:
    seen = Seen()
    options = Options(terminal=["b"])
    assert await follow(URL, seen, options, client=AsyncScript(AsyncReply(THREE, STALL))) == 0
    assert seen.events == ["one", "two"]


async def test_names_choose_what_is_shown_and_counted() -> None:
    seen, script = Seen(), AsyncScript(AsyncReply(b"data: zero\n\n" + THREE + END))
    assert await follow(URL, seen, {}, names=["a", "message"], count=3, client=script) == 0
    assert seen.events == ["zero", "one", "three"]
    assert seen.others == ["two"]


async def test_a_failure_that_is_not_shown_is_one_all_the_same() -> None:
    seen, script = Seen(), AsyncScript(AsyncReply(THREE + FAILURE))
    assert await follow(URL, seen, {}, names=["a"], client=script) == 1
    assert seen.others == ["two", '{"code":"c","message":"m"}']


async def test_who_does_not_read_any_more_ends_it_well() -> None:
    def leave(event: ServerSentEvent) -> None:
        if event.data == "two":
            raise BrokenPipeError

    seen, reply = Seen(leave), AsyncReply(THREE, STALL)
    assert await follow(URL, seen, {}, client=AsyncScript(reply)) == 0
    assert seen.events == ["one"]
    assert reply.closed == 1


async def test_the_screen_is_told_that_time_passes_and_what_the_client_is_about() -> None:
    seen = Seen()
    script = AsyncScript(AsyncReply(THREE, 10), AsyncReply(END))
    assert await follow(URL, seen, {}, client=script) == 0
    assert seen.states == ["connecting", "open", "waiting", "connecting", "open", "closed"]
    assert seen.ticks >= 40


async def test_a_file_has_the_id_of_the_last_event_that_was_shown(tmp_path: Path) -> None:
    file = tmp_path / "since"
    kept: list[str | None] = []

    def look(_: ServerSentEvent) -> None:
        kept.append(id_in(file))

    script = AsyncScript(AsyncReply(THREE + b"data: without\n\n" + END))
    assert await follow(URL, Seen(look), {}, since=file, client=script) == 0
    assert kept == [None, "1", "2", "3", "3"]
    assert id_in(file) == "3"
    assert os.listdir(tmp_path) == ["since"]


async def test_an_id_that_comes_without_an_event_is_kept_too(tmp_path: Path) -> None:
    file = tmp_path / "since"
    script = AsyncScript(AsyncReply(b"id: 7\n\n", STALL))
    following = asyncio.create_task(follow(URL, Seen(), {}, since=file, client=script))
    await asyncio.sleep(0.3)
    assert id_in(file) == "7"
    following.cancel()
    await asyncio.wait({following})


async def test_an_id_that_could_not_be_sent_back_is_not_kept(tmp_path: Path) -> None:
    file = tmp_path / "since"
    script = AsyncScript(AsyncReply(THREE + b"id: \x1b\ndata: x\n\n" + END))
    await follow(URL, Seen(), {}, since=file, client=script)
    assert id_in(file) == "3"


async def test_events_that_are_not_shown_are_dealt_with_too(tmp_path: Path) -> None:
    file = tmp_path / "since"
    script = AsyncScript(AsyncReply(THREE + END))
    await follow(URL, Seen(), {}, names=["none"], since=file, client=script)
    assert id_in(file) == "3"


async def test_an_event_that_nobody_has_read_is_not_kept_as_read(tmp_path: Path) -> None:
    file = tmp_path / "since"

    def leave(event: ServerSentEvent) -> None:
        if event.data == "two":
            raise BrokenPipeError

    await follow(URL, Seen(leave), {}, since=file, client=AsyncScript(AsyncReply(THREE, STALL)))
    assert id_in(file) == "1"


async def test_a_place_that_takes_no_file_is_an_error(tmp_path: Path) -> None:
    reply = AsyncReply(THREE, STALL)
    with pytest.raises(OSError, match="No such file"):
        await follow(URL, Seen(), {}, since=tmp_path / "no" / "since", client=AsyncScript(reply))
    assert reply.closed == 1


async def test_everything_that_comes_is_recorded_shown_or_not(tmp_path: Path) -> None:
    file = tmp_path / "stream.jsonl"
    script = AsyncScript(AsyncReply(b"retry: 500\n" + THREE, 2), AsyncReply(END))
    with Recorder(file, URL, clock=asyncio.get_running_loop().time) as recorder:
        await follow(URL, Seen(), {}, names=["a"], recorder=recorder, client=script)
    recording = read_recording(file)
    times = [(item.event.data, item.at_s) for item in recording.events]
    assert times[:3] == [("one", 0), ("two", 0), ("three", 0)]
    assert times[3][0] == "{}"
    assert 2.5 <= times[3][1] <= 2.75
    assert recording.losses == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_once_what_is_under_way_is_done(number: int) -> None:
    done: list[str] = []

    async def main() -> int:
        try:
            os.kill(os.getpid(), number)
            await asyncio.Event().wait()
        finally:
            done.append("cleaned up")
        return 0

    before = signal.getsignal(number)
    assert run(main(), None) == 128 + number
    assert done == ["cleaned up"]
    assert signal.getsignal(number) is before


def test_a_second_signal_does_not_wait() -> None:
    async def main() -> int:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # while a write is stuck, say
        raise AssertionError("it has waited")

    with pytest.raises(KeyboardInterrupt):
        run(main(), None)


def test_a_signal_that_is_ignored_stays_so() -> None:
    async def main() -> int:
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(0)
        return 7

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert run(main(), None) == 7
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_reader_that_leaves_ends_it_before_the_next_event() -> None:
    reading, writing = os.pipe()

    async def main() -> int:
        os.close(reading)
        await asyncio.Event().wait()
        return 1

    try:
        assert run(main(), writing) == 0
    finally:
        os.close(writing)


def test_a_pipe_with_something_in_it_has_a_reader_still(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    both = os.open(tmp_path / "pipe", os.O_RDWR)

    async def main() -> int:
        os.write(both, b"read by nobody yet")
        for _ in range(10):
            await asyncio.sleep(0)
        return 1

    try:
        assert run(main(), both) == 1
    finally:
        os.close(both)


def test_in_another_thread_it_does_without_signals() -> None:
    async def main() -> int:
        return 7

    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(lambda: run(main(), None)).result() == 7


def test_what_a_coroutine_raises_is_raised() -> None:
    async def main() -> int:
        raise LookupError

    with pytest.raises(LookupError):
        run(main(), None)


def test_headers_are_read_as_they_are_typed() -> None:
    lines = ["Authorization: Bearer a:b ", "X-One:1", "x-one:  2", "Empty:", "Name: Zoë"]
    assert headers_of(lines) == {
        "authorization": "Bearer a:b",
        "x-one": "1, 2",
        "empty": "",
        "name": "Zoë",
    }


@pytest.mark.parametrize("line", ["secret", ": secret", "a b: secret", "a: secret\r\nb: c", ""])
def test_what_is_no_header_is_refused_and_not_repeated(line: str) -> None:
    with pytest.raises(InvalidField, match="give 'Name: value'") as caught:
        headers_of([line])
    assert "secret" not in str(caught.value)


JSON, FORM = "application/json", "application/x-www-form-urlencoded"


def test_a_body_is_what_is_given_or_what_is_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"\xff\n")
    assert body_of('{"a": 1}', io.BytesIO) == (b'{"a": 1}', JSON)
    assert body_of("a=1&b=ä", io.BytesIO) == ("a=1&b=ä".encode(), FORM)
    assert body_of("@-", lambda: io.BytesIO(b"[1]\n")) == (b"[1]\n", JSON)
    assert body_of(f"@{tmp_path / 'body'}", io.BytesIO) == (b"\xff\n", FORM)
    assert body_of("[" * 100_000, io.BytesIO)[1] == FORM


def test_a_body_has_a_bound() -> None:
    with pytest.raises(InvalidField, match="give 16,777,216 bytes at the most"):
        body_of("@-", lambda: io.BytesIO(b"x" * (16 * 1024 * 1024 + 1)))


def test_an_id_is_read_as_it_was_kept(tmp_path: Path) -> None:
    file = tmp_path / "since"
    assert id_in(file) is None
    for text, last_id in (
        (" a é \n", " a é "),
        ("", ""),
        ("7", "7"),
        ("x" * 8192 + "\n", "x" * 8192),
    ):
        file.write_text(text, encoding="utf-8")
        assert id_in(file) == last_id


@pytest.mark.parametrize("content", ["a\nb\n", "\x1b", "x" * 8193, "x" * 100_000])
def test_a_file_that_has_no_id_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "since"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(InvalidField, match="the file has no id that can be sent"):
        id_in(file)
