"""The guard of the hot paths can fail: of whatever is done once more, it says where and what."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial, update_wrapper

import pytest
from bench import counts
from bench.counting import KIB, Path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from typed_sse import Decoder, ServerSentEvent

Doctor = Callable[[ASGIApp], ASGIApp]


def at_each_send(extra: Callable[[Send, Message], Awaitable[None]]) -> Doctor:
    def doctor(app: ASGIApp) -> ASGIApp:
        async def doctored(scope: Scope, receive: Receive, send: Send) -> None:
            await app(scope, receive, partial(extra, send))

        return doctored

    update_wrapper(doctor, extra)
    return doctor


@at_each_send
async def a_call(send: Send, message: Message) -> None:
    await send(message)


@at_each_send
async def a_call_in_c(send: Send, message: Message) -> None:
    message.get("body")
    await send(message)


@at_each_send
async def a_send(send: Send, message: Message) -> None:
    await send(message)
    await send(message)


@at_each_send
async def a_task(send: Send, message: Message) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_task(a_coroutine(send, message))


@at_each_send
async def a_task_that_the_loop_does_not_make(send: Send, message: Message) -> None:
    await asyncio.Task(a_coroutine(send, message))


async def a_coroutine(send: Send, message: Message) -> None:
    await send(message)


@at_each_send
async def a_timer(send: Send, message: Message) -> None:
    async with asyncio.timeout(30):
        await send(message)


@at_each_send
async def a_wakeup(send: Send, message: Message) -> None:
    await asyncio.sleep(0)
    await send(message)


@at_each_send
async def a_future(send: Send, message: Message) -> None:
    asyncio.get_running_loop().create_future().cancel()
    await send(message)


@at_each_send
async def a_circle(send: Send, message: Message) -> None:
    circle: list[object] = []
    circle.append(circle)
    await send(message)


@at_each_send
async def a_copy(send: Send, message: Message) -> None:
    await send({**message, "body": bytes(bytearray(message.get("body", b"")))})


def a_buffer(app: ASGIApp) -> ASGIApp:
    async def doctored(scope: Scope, receive: Receive, send: Send) -> None:
        buffer = bytearray(KIB)
        await app(scope, receive, send)
        buffer.clear()

    return doctored


@pytest.fixture
def told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str, str, Path], str]:
    """Hold `path` to what the real one of that name does, and return what is then said of it."""

    def told(name: str, what: str, path: Path) -> str:
        figures, _ = counts.paths()[name].count()
        monkeypatch.setattr(counts, "BOUNDS", {name: {what: figures.get(what, 0) * 1.03}})
        well = counts.check({name: path})
        _, _, above = capsys.readouterr().out.partition("ABOVE THE BOUND")
        assert well == (not above)
        return above

    return told


@pytest.mark.parametrize(
    ("name", "extra", "what"),
    [
        ("trickle", a_call, "calls"),
        ("trickle", a_call_in_c, "C calls"),
        ("trickle", a_send, "sends"),
        ("trickle", a_task, "tasks"),
        ("trickle", a_task_that_the_loop_does_not_make, "tasks"),
        ("trickle", a_timer, "timers"),
        ("trickle", a_wakeup, "handles"),
        ("trickle", a_future, "futures"),
        ("trickle", a_circle, "garbage"),
        ("trickle, FastAPI", a_wakeup, "handles"),
        ("trickle, 64 KiB", a_copy, "KiB allocated"),
        ("burst", a_send, "sends"),
        ("burst", a_timer, "timers"),
        ("burst, FastAPI", a_task, "tasks"),
        ("burst, 4 KiB", a_copy, "KiB allocated"),
        ("open", a_task, "tasks"),
        ("open, FastAPI", a_timer, "timers"),
        ("idle", a_buffer, "KiB held"),
    ],
)
def test_what_is_done_once_more_is_told(
    name: str, extra: Doctor, what: str, told: Callable[[str, str, Path], str]
) -> None:
    assert told(name, what, counts.paths()[name]) == ""
    assert f" {what} for each" in told(name, what, counts.paths(extra)[name])


def test_a_decoder_that_copies_what_it_holds_at_each_chunk_is_told(
    told: Callable[[str, str, Path], str],
) -> None:
    class Copying(Decoder):
        held = b""

        def feed(self, chunk: bytes) -> list[ServerSentEvent]:
            self.held += chunk
            return super().feed(chunk)

    name, what = "decode, byte by byte", "KiB allocated"
    run = partial(counts.decoded_byte_by_byte, decoder=Copying)
    assert f" {what} for each chunk" in told(name, what, Path(run, "chunk", memory=True))


def test_a_bound_that_guards_nothing_is_told_and_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(counts, "BOUNDS", {"encode": {"calls": 100}})
    assert counts.main(["encode"]) == 0
    output = capsys.readouterr().out
    assert "lower it" in output
    assert "typed_sse.events.BaseEvent.encode" in output


def test_a_count_above_its_bound_fails_and_says_which_what_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(counts, "BOUNDS", {"encode": {"calls": 0.5}})
    assert counts.main(["encode"]) == 1
    _, _, above = capsys.readouterr().out.partition("ABOVE THE BOUND: undo it")
    assert "encode: " in above
    assert " calls for each event; the bound is 0.5." in above
    assert "python -m bench.counts 'encode'" in above
