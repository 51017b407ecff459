import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from typing import Any

import pytest

from typed_sse.stepping import Resumed, StandIn

_variable: ContextVar[str] = ContextVar("variable", default="unset")


class Stage:
    """Calls `begin` outside of any task, as the hub's flush does."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.stand_in = StandIn(self.loop)

    async def begin(
        self,
        work: Callable[[Any], Awaitable[None]],
        value: object = None,
        context: Context | None = None,
    ) -> Any:
        answer: asyncio.Future[Any] = self.loop.create_future()

        def call() -> None:
            try:
                answer.set_result(self.stand_in.begin(context or copy_context(), work, value))
            except BaseException as error:
                answer.set_exception(error)

        self.loop.call_soon(call)
        return await answer


async def test_work_that_does_not_wait_has_ended_and_left_no_task_but_the_one_standing_by() -> None:
    stage = Stage()
    ran: list[object] = []

    async def work(value: int) -> None:
        ran.append((value, asyncio.current_task() is not None))

    before = len(asyncio.all_tasks())
    for value in range(5):
        assert await stage.begin(work, value) is None
    assert ran == [(value, True) for value in range(5)]
    assert len(asyncio.all_tasks()) == before + 1
    stage.stand_in.close()


async def test_work_that_waits_goes_on_in_the_task_that_it_was_begun_in() -> None:
    stage = Stage()
    tasks: list[object] = []

    async def work(_: None) -> None:
        for _turn in range(3):
            tasks.append(asyncio.current_task())
            await asyncio.sleep(1)

    task = await stage.begin(work)
    await task
    assert tasks == [task] * 3
    stage.stand_in.close()


async def test_several_that_wait_have_a_task_each() -> None:
    stage = Stage()
    order: list[object] = []

    async def work(value: int) -> None:
        await asyncio.sleep(3 - value)
        order.append((value, asyncio.current_task()))

    tasks = [await stage.begin(work, value) for value in range(3)]
    await asyncio.gather(*tasks)
    assert order == [(value, tasks[value]) for value in (2, 1, 0)]
    stage.stand_in.close()


async def test_an_error_before_the_first_wait_is_raised_and_the_next_work_is_not_hurt() -> None:
    stage = Stage()

    async def fails(_: None) -> None:
        raise KeyError

    async def waits(_: None) -> None:
        await asyncio.sleep(1)

    with pytest.raises(KeyError):
        await stage.begin(fails)
    await (await stage.begin(waits))
    stage.stand_in.close()


async def test_an_error_after_a_wait_is_the_tasks() -> None:
    stage = Stage()

    async def fails(_: None) -> None:
        await asyncio.sleep(1)
        raise KeyError

    task = await stage.begin(fails)
    with pytest.raises(KeyError):
        await task
    stage.stand_in.close()


async def test_the_work_runs_in_the_given_context_before_and_after_it_waits() -> None:
    stage = Stage()
    seen: list[object] = []
    context = copy_context()
    context.run(_variable.set, "given")

    async def work(_: None) -> None:
        seen.append(_variable.get())
        token = _variable.set("inner")
        await asyncio.sleep(1)
        seen.append(_variable.get())
        _variable.reset(token)
        seen.append(_variable.get())

    await (await stage.begin(work, None, context))
    assert seen == ["given", "inner", "given"]
    assert _variable.get() == "unset"
    stage.stand_in.close()


@pytest.mark.parametrize("limit_s", [0, 0.0001, 1])
async def test_a_timeout_of_the_works_own_ends_its_wait_even_in_the_turn_it_began(
    limit_s: float,
) -> None:
    stage = Stage()
    log: list[object] = []

    async def work(_: None) -> None:
        try:
            async with asyncio.timeout(limit_s):
                await asyncio.sleep(10)
        except TimeoutError:
            log.append("timed out")
        await asyncio.sleep(1)
        log.append("went on")

    await (await stage.begin(work))
    assert log == ["timed out", "went on"]
    stage.stand_in.close()


async def test_a_cancellation_in_the_turn_it_began_reaches_what_the_work_waits_for() -> None:
    stage = Stage()
    log: list[object] = []
    inner = asyncio.ensure_future(asyncio.sleep(10))

    async def work(_: None) -> None:
        task = asyncio.current_task()
        assert task is not None
        stage.loop.call_soon(task.cancel)
        try:
            await inner
        except asyncio.CancelledError:
            log.append("cancelled")
            raise

    task = await stage.begin(work)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == ["cancelled"]
    assert inner.cancelled()
    stage.stand_in.close()


async def test_a_cancellation_in_the_turn_it_began_reaches_work_that_waits_for_a_turn() -> None:
    stage = Stage()
    log: list[object] = []

    async def work(_: None) -> None:
        task = asyncio.current_task()
        assert task is not None
        stage.loop.call_soon(task.cancel)
        try:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            log.append("cancelled")
            raise

    task = await stage.begin(work)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == ["cancelled"]
    stage.stand_in.close()


async def test_a_task_that_was_cancelled_while_it_stood_by_is_replaced() -> None:
    stage = Stage()
    ran: list[object] = []

    async def work(value: int) -> None:
        if value:
            await asyncio.sleep(value)
        ran.append(value)

    before = asyncio.all_tasks()
    assert await stage.begin(work, 0) is None
    for task in asyncio.all_tasks() - before:
        task.cancel()  # as a server does that shuts down
    await (await stage.begin(work, 1))
    await asyncio.sleep(0)
    assert await stage.begin(work, 0) is None
    assert ran == [0, 1, 0]
    stage.stand_in.close()


async def test_begun_within_a_task_it_is_another_tasks_and_the_caller_stays_who_it_is() -> None:
    stage = Stage()
    tasks: list[object] = []

    async def work(_: None) -> None:
        tasks.append(asyncio.current_task())
        await asyncio.sleep(1)
        tasks.append(asyncio.current_task())

    me = asyncio.current_task()
    task = stage.stand_in.begin_within(copy_context(), work, None)
    assert asyncio.current_task() is me
    assert task is not None
    await task
    assert tasks == [task, task]

    async def fails(_: None) -> None:
        raise KeyError

    with pytest.raises(KeyError):
        stage.stand_in.begin_within(copy_context(), fails, None)
    assert asyncio.current_task() is me
    stage.stand_in.close()


def test_a_loop_that_is_closed_afterwards_has_nothing_to_complain_of() -> None:
    async def main() -> None:
        stage = Stage()

        async def work(_: None) -> None:
            return

        await stage.begin(work)
        stage.stand_in.close()
        stage.stand_in.close()
        await stage.begin(work)

    asyncio.run(main())


async def test_resumed_goes_on_with_what_the_coroutine_waits_for() -> None:
    future = asyncio.get_running_loop().create_future()
    got: list[object] = []

    async def work() -> None:
        got.append(await future)

    step = work()
    waits_for = step.send(None)
    task = asyncio.ensure_future(_awaited(Resumed(step, waits_for)))
    await asyncio.sleep(0)
    future.set_result(7)
    await task
    assert got == [7]


async def test_an_interrupted_resumed_is_thrown_the_error_where_it_waits_for_a_turn() -> None:
    async def work() -> None:
        with suppress(KeyError):
            await asyncio.sleep(0)
        await asyncio.sleep(1)

    step = work()
    resumed = Resumed(step, step.send(None))
    resumed.interrupt(KeyError())
    await resumed


async def _awaited(resumed: Resumed) -> None:
    await resumed
