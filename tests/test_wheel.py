"""The wheel: nothing before its time, one timer for all."""

import asyncio
import gc
import weakref
from contextvars import ContextVar, copy_context
from typing import Any

import pytest

from typed_sse.testing import run_in_virtual_time
from typed_sse.wheel import SPOKES_A_SECOND, Wheel, wheel_of


class Note:
    """Writes down when it was called."""

    def __init__(self) -> None:
        self.called_at: list[float] = []
        self.context = copy_context()

    def watch(self) -> None:
        self.called_at.append(asyncio.get_running_loop().time())


class Failing:
    context = copy_context()

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


async def test_each_is_called_in_its_own_context() -> None:
    name: ContextVar[str] = ContextVar("name")
    said: list[str] = []

    class Speaker(Note):
        def watch(self) -> None:
            said.append(name.get())

    wheel = Wheel()
    for who in ("alice", "bob"):
        name.set(who)
        wheel.add(Speaker(), 1)
    await asyncio.sleep(2)
    assert sorted(said) == ["alice", "bob"]


async def test_the_context_of_who_has_set_the_timer_is_not_kept() -> None:
    session: ContextVar[Note] = ContextVar("session")
    held = Note()
    seen = weakref.ref(held)
    context = copy_context()
    context.run(session.set, held)
    wheel, stays = Wheel(), Note()
    context.run(wheel.add, stays, 100)
    del context, held
    gc.collect()
    assert seen() is None
    await asyncio.sleep(101)
    assert stays.called_at == [100]


async def test_the_places_of_what_was_removed_do_not_pile_up() -> None:
    wheel, stays = Wheel(), Note()
    wheel.add(stays, 100_000)
    for due_s in range(1000, 3000):
        note = Note()
        wheel.remove(note, wheel.add(note, due_s))
    assert len(wheel._due) < 100
    await asyncio.sleep(100_001)
    assert stays.called_at == [100_000]


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
    async def mine() -> "tuple[weakref.ref[Wheel], weakref.ref[asyncio.AbstractEventLoop]]":
        loop = asyncio.get_running_loop()
        wheel = wheel_of(loop)
        wheel.add(Note(), 1)
        assert wheel_of(loop) is wheel
        return weakref.ref(wheel), weakref.ref(loop)

    (first, first_loop), (second, second_loop) = [run_in_virtual_time(mine()) for _ in range(2)]
    assert first is not second
    gc.collect()
    assert (first_loop(), second_loop()) == (None, None)


def test_a_wheel_with_nothing_to_do_has_no_timer_that_would_hold_the_loop() -> None:
    wheel = Wheel()

    async def come_and_go() -> "weakref.ref[asyncio.AbstractEventLoop]":
        notes = [Note(), Note()]
        spokes = [wheel.add(note, due_s) for due_s, note in enumerate(notes, 5)]
        for note, spoke in zip(notes, spokes, strict=True):
            wheel.remove(note, spoke)
        return weakref.ref(asyncio.get_running_loop())

    loop = run_in_virtual_time(come_and_go())
    gc.collect()
    assert loop() is None
