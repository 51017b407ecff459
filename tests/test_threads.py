import asyncio
import contextvars
import gc
import threading
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import pytest

from typed_sse.threads import MAX_BATCH, read_in_thread

# Threads run in real time, and the virtual clock would jump ahead of them at every timer; so
# nothing here sets one, and every wait is for an event.


async def read_to_the_end(numbers: Iterator[int]) -> None:
    async with aclosing(read_in_thread(numbers)) as items:
        async for _ in items:
            pass


async def test_the_items_arrive_in_order_from_one_thread_that_is_not_the_loops() -> None:
    threads: set[tuple[str, bool]] = set()

    def numbers() -> Iterator[int]:
        for number in range(1000):
            threads.add((threading.current_thread().name, threading.current_thread().daemon))
            yield number

    assert [number async for number in read_in_thread(numbers())] == list(range(1000))
    assert threads == {("typed-sse generator", True)}


async def test_an_item_that_is_alone_is_handed_over_before_the_next_is_made() -> None:
    go_on = threading.Event()

    def numbers() -> Iterator[int]:
        yield 1
        assert go_on.wait(10)
        yield 2

    async with aclosing(read_in_thread(numbers())) as items:
        assert await anext(items) == 1
        go_on.set()
        assert await anext(items) == 2


async def test_the_thread_works_a_bounded_number_of_items_ahead() -> None:
    made = 0
    full = threading.Event()

    def numbers() -> Iterator[int]:
        nonlocal made
        while True:
            made += 1
            if made == MAX_BATCH:
                full.set()
            yield made

    async with aclosing(read_in_thread(numbers())) as items:
        taken = 0
        async for _ in items:
            taken += 1
            # One more than the two batches: the item that waits in the thread's hand.
            assert made <= taken + 2 * MAX_BATCH + 1
            if taken == 10 * MAX_BATCH:
                break


async def test_items_that_gather_while_the_reader_is_busy_arrive_in_one_hand_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    wakes = 0
    wake = loop.call_soon_threadsafe

    def counted(*args: Any) -> asyncio.Handle:
        nonlocal wakes
        wakes += 1
        return wake(*args)

    gathered = threading.Event()

    def numbers() -> Iterator[int]:
        yield from range(MAX_BATCH)
        gathered.set()

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    async with aclosing(read_in_thread(numbers())) as items:
        reading = asyncio.ensure_future(anext(items))
        await asyncio.sleep(0)
        # The loop stands still until the thread has made all of them.
        assert gathered.wait(10)
        assert await reading == 0
        assert [item async for item in items] == list(range(1, MAX_BATCH))
    assert wakes <= 2


def test_the_thread_is_never_more_than_64_items_ahead() -> None:
    assert 2 * MAX_BATCH == 64


async def test_an_error_comes_after_the_items_before_it() -> None:
    def numbers() -> Iterator[int]:
        yield 1
        raise LookupError("lost")

    seen: list[int] = []
    with pytest.raises(LookupError, match="lost"):
        async for number in read_in_thread(numbers()):
            seen.append(number)
    assert seen == [1]


async def test_closing_runs_the_generators_finally_in_its_own_thread_before_it_returns() -> None:
    closed_in: list[str] = []

    def numbers() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed_in.append(threading.current_thread().name)

    items = read_in_thread(numbers())
    await anext(items)
    await items.aclose()
    assert closed_in == ["typed-sse generator"]


async def test_closing_waits_for_the_step_that_is_under_way_and_drops_its_item() -> None:
    stepping, go_on = threading.Event(), threading.Event()
    steps: list[str] = []

    def numbers() -> Iterator[int]:
        try:
            yield 1
            stepping.set()
            assert go_on.wait(10)
            steps.append("second")
            yield 2
            steps.append("third")
        finally:
            steps.append("closed")

    items = read_in_thread(numbers())
    await anext(items)
    assert stepping.wait(10)
    closing = asyncio.create_task(items.aclose())
    await asyncio.sleep(0)
    assert not closing.done()
    go_on.set()
    await closing
    assert steps == ["second", "closed"]


async def test_what_the_finally_raises_comes_out_of_the_close() -> None:
    def numbers() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            raise LookupError("in the finally")

    items = read_in_thread(numbers())
    await anext(items)
    with pytest.raises(LookupError, match="in the finally"):
        await items.aclose()


async def test_a_reader_that_is_cancelled_while_it_waits_leaves_the_generator_closed() -> None:
    waiting, go_on = threading.Event(), threading.Event()
    closed = threading.Event()

    def numbers() -> Iterator[int]:
        try:
            waiting.set()
            assert go_on.wait(10)
            yield 1
        finally:
            closed.set()

    reader = asyncio.create_task(read_to_the_end(numbers()))
    while not waiting.is_set():
        await asyncio.sleep(0)
    reader.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert closed.is_set()


async def test_a_reader_that_is_cancelled_as_its_item_arrives_leaves_the_generator_closed() -> None:
    waiting, go_on, handed_over = threading.Event(), threading.Event(), threading.Event()
    closed = threading.Event()

    def numbers() -> Iterator[int]:
        try:
            waiting.set()
            assert go_on.wait(10)
            yield 1
            handed_over.set()
            yield 2
        finally:
            closed.set()

    reader = asyncio.create_task(read_to_the_end(numbers()))
    while not waiting.is_set():
        await asyncio.sleep(0)
    # The loop stands still from here to the cancel, so the item is on its way and not yet there.
    go_on.set()
    assert handed_over.wait(10)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert closed.is_set()


async def test_the_thread_sees_the_context_of_the_reader() -> None:
    user = contextvars.ContextVar("user", default="nobody")
    user.set("ada")

    def names() -> Iterator[str]:
        yield user.get()

    assert [name async for name in read_in_thread(names())] == ["ada"]


async def test_an_iterator_that_cannot_be_closed_is_read_as_well() -> None:
    assert [number async for number in read_in_thread([1, 2])] == [1, 2]
    assert [number async for number in read_in_thread(map(int, "34"))] == [3, 4]


async def test_an_iterable_whose_iterator_cannot_be_made_fails_in_the_reader() -> None:
    class Broken:
        def __iter__(self) -> Iterator[int]:
            raise LookupError("no iterator")

    with pytest.raises(LookupError, match="no iterator"):
        await anext(read_in_thread(Broken()))


async def test_a_generator_that_is_never_read_starts_no_thread() -> None:
    before = threading.active_count()
    await read_in_thread(iter([1])).aclose()
    assert threading.active_count() == before


def test_a_thread_that_waits_for_a_reader_whose_loop_is_closed_ends_by_itself() -> None:
    ended = threading.Event()

    def numbers() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            ended.set()

    loop = asyncio.new_event_loop()
    items = read_in_thread(numbers())
    assert loop.run_until_complete(anext(items)) == 1
    loop.close()
    assert ended.wait(10)
    del items
    gc.collect()


def test_a_thread_that_outlives_its_loop_ends_by_itself() -> None:
    go_on, ended = threading.Event(), threading.Event()

    def numbers() -> Iterator[int]:
        try:
            yield 1
            assert go_on.wait(10)
            yield 2
        finally:
            ended.set()

    loop = asyncio.new_event_loop()
    items = read_in_thread(numbers())
    assert loop.run_until_complete(anext(items)) == 1
    waiting = loop.create_task(anext(items))
    loop.run_until_complete(asyncio.sleep(0))
    waiting.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    go_on.set()
    assert ended.wait(10)
    del items, waiting
    gc.collect()
