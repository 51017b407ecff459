"""The wheel: nothing before its time, one timer for all."""

import asyncio
import gc
import weakref
from typing import Any

import pytest

from typed_sse.testing import run_in_virtual_time
from typed_sse.wheel import SPOKES_A_SECOND, Wheel, wheel_of


class Note:
    """Writes down when it was called."""

    def __init__(self) -> None:
        self.called_at: list[float] = []

    def watch(self) -> None:
        self.called_at.append(asyncio.get_running_loop().time())


class Failing:
    def watch(self) -> None:
        raise LookupError("watched")


@pytest.fixture
def timers(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When each timer of the running loop is due that the wheel sets."""
    due: list[float] = []
    call_at = asyncio.BaseEventLoop.call_at

    def counted(loop: Any, when: float, *rest: Any, **context: Any) -> asyncio.TimerHandle:
        if rest[0].__qualname__.startswith("Wheel."):
            due.append(when)
        return call_at(loop, when, *rest, **context)

    monkeypatch.setattr(asyncio.BaseEventLoop, "call_at", counted)
    return due


@pytest.mark.parametrize("due_s", [0.0, 0.5, 1.0, 1.01, 2.999, 15.0])
async def test_each_is_called_once_not_before_its_time_and_hardly_later(due_s: float) -> None:
    note = Note()
    start = asyncio.get_running_loop().time()
    wheel_of(asyncio.get_running_loop()).add(note, start + due_s)
    await asyncio.sleep(60)
    [called_at] = note.called_at
    assert start + due_s <= called_at <= start + due_s + 1 / SPOKES_A_SECOND


async def test_a_thousand_have_one_timer(timers: list[float]) -> None:
    wheel = Wheel()
    notes = [Note() for _ in range(1000)]
    for note in notes:
        wheel.add(note, 5)
    assert timers == [5]
    await asyncio.sleep(10)
    assert all(note.called_at == [5] for note in notes)
    assert timers == [5]


async def test_what_is_due_earlier_comes_earlier_in_whatever_order_it_was_added(
    timers: list[float],
) -> None:
    wheel = Wheel()
    notes = {due_s: Note() for due_s in (3, 1, 2, 5)}
    for due_s, note in notes.items():
        wheel.add(note, due_s)
    await asyncio.sleep(10)
    assert {due_s: note.called_at for due_s, note in notes.items()} == {
        due_s: [due_s] for due_s in notes
    }
    assert timers == [3, 1, 2, 3, 5]


async def test_what_was_removed_is_not_called_and_may_be_removed_again() -> None:
    wheel = Wheel()
    removed, stays = Note(), Note()
    spoke = wheel.add(removed, 1)
    wheel.add(stays, 1)
    wheel.remove(removed, spoke)
    wheel.remove(removed, spoke)
    await asyncio.sleep(2)
    wheel.remove(removed, spoke)  # its time has passed
    assert removed.called_at == []
    assert stays.called_at == [1]


async def test_one_that_fails_does_not_stop_the_others() -> None:
    loop = asyncio.get_running_loop()
    failures: list[object] = []
    loop.set_exception_handler(lambda _, context: failures.append(context["exception"]))
    wheel = Wheel()
    notes = [Note(), Note()]
    for watched in (notes[0], Failing(), notes[1]):
        wheel.add(watched, 1)
    await asyncio.sleep(2)
    assert [note.called_at for note in notes] == [[1], [1]]
    assert [str(failure) for failure in failures] == ["watched"]


async def test_one_may_be_added_again_while_it_is_called() -> None:
    wheel = Wheel()

    class Ticking(Note):
        def watch(self) -> None:
            super().watch()
            if len(self.called_at) < 3:
                wheel.add(self, self.called_at[-1] + 1)

    ticking = Ticking()
    wheel.add(ticking, 1)
    await asyncio.sleep(10)
    assert ticking.called_at == [1, 2, 3]


def test_each_loop_has_its_own_wheel_and_is_not_held_by_it() -> None:
    async def mine() -> tuple[Wheel, "weakref.ref[asyncio.AbstractEventLoop]"]:
        loop = asyncio.get_running_loop()
        wheel = wheel_of(loop)
        note = Note()
        wheel.remove(note, wheel.add(note, 1))
        assert wheel_of(loop) is wheel
        return wheel, weakref.ref(loop)

    (first, first_loop), (second, second_loop) = [run_in_virtual_time(mine()) for _ in range(2)]
    gc.collect()
    assert first is not second
    assert (first_loop(), second_loop()) == (None, None)
