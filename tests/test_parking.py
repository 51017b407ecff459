import asyncio
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Sequence
from contextvars import Context, ContextVar, copy_context
from itertools import pairwise
from typing import Any

import anyio
import pytest
from starlette.background import BackgroundTask
from starlette.types import Message

from channels.stream import Note, hub_on, last_id, names, notes
from typed_sse.channels import Channel, Hub, live
from typed_sse.channels.reading import Reading
from typed_sse.channels.ring import Ring
from typed_sse.drain import Drain
from typed_sse.errors import SendTimeout
from typed_sse.registry import EndCause, Registry
from typed_sse.response import EventSourceResponse
from typed_sse.stepping import Resumed
from typed_sse.testing import open_stream

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def room(hub: Hub) -> Channel[Note]:
    return Channel("room", Note, hub=hub)


async def settled() -> None:
    """Let everything happen that happens now."""
    for _ in range(30):
        await asyncio.sleep(0)


async def parked(registry: Registry, count: int = 1) -> None:
    await asyncio.sleep(0.1)
    await settled()
    assert len(registry.open_streams()) == count


class App:
    """A response whose `send` goes through what a test says."""

    def __init__(self, response: EventSourceResponse, wrap: Callable[[Send], Send]) -> None:
        self.response = response
        self.wrap = wrap

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        await self.response(scope, receive, self.wrap(send))


# --- what a parked reader costs


async def test_a_parked_reader_has_no_task_of_its_own() -> None:
    async with hub_on() as hub:
        registry = Registry()
        before = len(asyncio.all_tasks())
        clients = [
            open_stream(EventSourceResponse(room(hub).subscribe(), registry=registry))
            for _ in range(50)
        ]
        await parked(registry, 50)
        # One task a request is the server's; none is ours.
        assert len(asyncio.all_tasks()) == before + len(clients)
        await room(hub).publish(Note(1))
        await asyncio.gather(*(client.events(1) for client in clients))
        # The one that stands by for all.
        assert len(asyncio.all_tasks()) <= before + len(clients) + 1
        for client in clients:
            client.leave()
            await client.ended()


async def test_events_published_back_to_back_are_one_write() -> None:
    async with hub_on() as hub:
        client = open_stream(EventSourceResponse(room(hub).subscribe(), registry=Registry()))
        await asyncio.sleep(1)
        sends = len(client.sent)
        for number in range(10):
            await room(hub).publish(Note(number))
        await client.events(10)
        assert len(client.sent) == sends + 1
        assert notes(client.body) == list(range(10))
        client.leave()
        await client.ended()


async def test_many_readers_are_handed_what_is_new_in_several_turns() -> None:
    async with hub_on() as hub:
        count = live._READERS_A_TURN + 88
        registry = Registry()
        clients = [
            open_stream(EventSourceResponse(room(hub).subscribe(), registry=registry))
            for _ in range(count)
        ]
        await parked(registry, count)
        turns: list[int] = []
        hand_over = live.LiveChannel._hand_over

        def counted(self: live.LiveChannel, ring: Ring, places: Iterable[live.Place]) -> None:
            some = list(places)
            turns.append(len(some))
            hand_over(self, ring, iter(some))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(live.LiveChannel, "_hand_over", counted)
            await room(hub).publish(Note(1))
            await asyncio.gather(*(client.events(1) for client in clients))
        assert turns == [live._READERS_A_TURN, 88]
        for client in clients:
            client.leave()
            await client.ended()


async def test_what_is_published_between_two_turns_of_a_round_reaches_everybody_once() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live, "_READERS_A_TURN", 2)
        async with hub_on() as hub:
            registry = Registry()
            clients = [
                open_stream(EventSourceResponse(room(hub).subscribe(), registry=registry))
                for _ in range(7)
            ]
            await parked(registry, 7)
            for number in range(6):
                await room(hub).publish(Note(number))
                await asyncio.sleep(0)
            await asyncio.gather(*(client.events(6) for client in clients))
            for client in clients:
                assert notes(client.body) == list(range(6))
                client.leave()
                await client.ended()


# --- sends of every kind


def plain(send: Send) -> Send:
    return send


def always_waits(send: Send) -> Send:
    async def waits(message: Message) -> None:
        await asyncio.sleep(0)
        await send(message)
        await asyncio.sleep(0.01)

    return waits


def sometimes_waits(send: Send) -> Send:
    count = 0

    async def waits(message: Message) -> None:
        nonlocal count
        count += 1
        if count % 3 == 0:
            await asyncio.sleep(0.2)
        await send(message)

    return waits


def within_a_timeout(send: Send) -> Send:
    async def timed(message: Message) -> None:
        async with asyncio.timeout(5):
            await asyncio.sleep(0.01)
            await send(message)

    return timed


def within_a_timeout_of_nothing(send: Send) -> Send:
    async def timed(message: Message) -> None:
        try:
            async with asyncio.timeout(0):
                await asyncio.sleep(10)
        except TimeoutError:
            await send(message)

    return timed


def within_a_scope(send: Send) -> Send:
    async def scoped(message: Message) -> None:
        with anyio.CancelScope() as scope:
            await send(message)
            scope.cancel()
            await anyio.sleep(1)
        assert scope.cancelled_caught

    return scoped


def within_a_scope_that_moves_on(send: Send) -> Send:
    async def scoped(message: Message) -> None:
        with anyio.move_on_after(0.05):
            await anyio.sleep(1)
        await send(message)

    return scoped


def within_a_group(send: Send) -> Send:
    async def grouped(message: Message) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(_sent, send, message)

    return grouped


async def _sent(send: Send, message: Message) -> None:
    await send(message)


def within_a_lock(send: Send) -> Send:
    lock = anyio.Lock()

    async def locked(message: Message) -> None:
        async with lock:
            await anyio.sleep(0.01)
            await send(message)

    return locked


_variable: ContextVar[int] = ContextVar("variable", default=0)


def sets_a_variable(send: Send) -> Send:
    async def sets(message: Message) -> None:
        token = _variable.set(7)
        await send(message)
        assert _variable.get() == 7
        await asyncio.sleep(0.01)
        assert _variable.get() == 7
        _variable.reset(token)
        assert _variable.get() == 0

    return sets


def sets_a_variable_and_does_not_wait(send: Send) -> Send:
    async def sets(message: Message) -> None:
        token = _variable.set(7)
        await send(message)
        _variable.reset(token)

    return sets


def asks_for_its_task(send: Send) -> Send:
    async def asks(message: Message) -> None:
        before = asyncio.current_task()
        assert before is not None
        await send(message)
        await asyncio.sleep(0)
        assert asyncio.current_task() is before

    return asks


def returns_an_awaitable(send: Send) -> Send:
    class Awaiting:
        def __init__(self, message: Message) -> None:
            self.message = message

        def __await__(self) -> Generator[Any, None, None]:
            yield from asyncio.sleep(0).__await__()
            yield from send(self.message).__await__()

    return Awaiting


WRAPS: Sequence[Callable[[Send], Send]] = (
    plain,
    always_waits,
    sometimes_waits,
    within_a_timeout,
    within_a_timeout_of_nothing,
    within_a_scope,
    within_a_scope_that_moves_on,
    within_a_group,
    within_a_lock,
    sets_a_variable,
    sets_a_variable_and_does_not_wait,
    asks_for_its_task,
    returns_an_awaitable,
)


@pytest.mark.parametrize("wrap", WRAPS)
async def test_whatever_a_send_does_order_is_kept_and_one_send_is_on_at_a_time(
    wrap: Callable[[Send], Send],
) -> None:
    async with hub_on() as hub:
        registry = Registry()
        response = EventSourceResponse(room(hub).subscribe(), ping=2, registry=registry)
        client = open_stream(App(response, wrap))
        await asyncio.sleep(1)
        for number in range(40):
            await room(hub).publish(Note(number))
            await asyncio.sleep((0, 0.005, 0.3, 5)[number % 4])
        await client.events(40)
        await asyncio.sleep(5)
        assert notes(client.body) == list(range(40))
        assert client.body.count(b": ping") >= 10
        assert client.sends_at_once == 1
        (stream,) = registry.open_streams()
        assert (stream.events, stream.dropped, stream.bytes) == (40, 0, len(client.body))
        client.leave()
        await client.ended()
        assert registry.totals().ended[EndCause.CLIENT_LEFT] == 1


class Refusal(Exception): ...


def fails_from_the_nth_on(
    nth: int, error: Callable[[], BaseException], *, wait: bool
) -> Callable[[Send], Send]:
    def wrap(send: Send) -> Send:
        count = 0

        async def fails(message: Message) -> None:
            nonlocal count
            count += 1
            if wait:
                await asyncio.sleep(0.01)
            if count >= nth:
                raise error()
            await send(message)

        return fails

    return wrap


@pytest.mark.parametrize("wait", [False, True])
async def test_a_send_that_finds_the_client_gone_ends_the_stream(wait: bool) -> None:
    async with hub_on() as hub:
        registry = Registry()
        response = EventSourceResponse(room(hub).subscribe(), registry=registry)
        client = open_stream(App(response, fails_from_the_nth_on(4, OSError, wait=wait)))
        await asyncio.sleep(1)
        for number in range(5):
            await room(hub).publish(Note(number))
            await asyncio.sleep(1)
        await client.ended()
        assert registry.totals().ended[EndCause.CLIENT_LEFT] == 1
        assert notes(client.body) == [0]
        assert (registry.totals().events, registry.totals().dropped) == (1, 1)


@pytest.mark.parametrize("wait", [False, True])
async def test_a_send_that_raises_another_error_fails_the_stream_with_it(wait: bool) -> None:
    async with hub_on() as hub:
        registry = Registry()
        response = EventSourceResponse(room(hub).subscribe(), registry=registry)
        client = open_stream(App(response, fails_from_the_nth_on(4, Refusal, wait=wait)))
        await asyncio.sleep(1)
        for number in range(5):
            await room(hub).publish(Note(number))
            await asyncio.sleep(1)
        with pytest.raises(Refusal):
            await client.ended()
        assert registry.totals().ended[EndCause.FAILED] == 1
        assert notes(client.body) == [0]


@pytest.mark.parametrize("wait", [False, True])
async def test_nothing_follows_a_send_that_was_cancelled_by_itself(wait: bool) -> None:
    async with hub_on() as hub:
        registry = Registry()
        response = EventSourceResponse(room(hub).subscribe(), registry=registry)

        def once(send: Send) -> Send:
            count = 0

            async def fails(message: Message) -> None:
                nonlocal count
                count += 1
                if wait:
                    await asyncio.sleep(0.01)
                if count == 4:
                    raise asyncio.CancelledError
                await send(message)

            return fails

        client = open_stream(App(response, once))
        other = open_stream(EventSourceResponse(room(hub).subscribe(), registry=Registry()))
        await asyncio.sleep(1)
        for number in range(5):
            await room(hub).publish(Note(number))
            await asyncio.sleep(1)
        await client.ended()
        assert notes(client.body) == [0]
        assert registry.totals().ended[EndCause.CANCELLED] == 1
        assert notes(other.body) == [0, 1, 2, 3, 4]
        other.leave()
        await other.ended()


async def test_a_stand_in_that_somebody_has_cancelled_is_replaced() -> None:
    async with hub_on() as hub:
        response = EventSourceResponse(room(hub).subscribe(), registry=Registry())
        client = open_stream(App(response, sometimes_waits))
        before = asyncio.all_tasks()
        await asyncio.sleep(1)
        for number in range(9):
            await room(hub).publish(Note(number))
            await asyncio.sleep(1)
            for task in asyncio.all_tasks() - before:
                task.cancel()  # nothing is sent now: it is the one that stands by
        assert notes(client.body) == list(range(9))
        client.leave()
        await client.ended()


# --- ends, parked and not


def waits_for_good(send: Send) -> Send:
    """Take two messages, and the id; then nothing any more."""
    count = 0

    async def waits(message: Message) -> None:
        nonlocal count
        count += 1
        if count > 3:
            await asyncio.Event().wait()
        await send(message)

    return waits


async def test_a_parked_reader_that_takes_nothing_is_let_go_after_the_send_timeout() -> None:
    async with hub_on() as hub:
        registry = Registry()
        response = EventSourceResponse(
            room(hub).subscribe(), send_timeout=5, ping=0, registry=registry
        )
        client = open_stream(App(response, waits_for_good))
        await asyncio.sleep(1)
        for number in range(5):
            await room(hub).publish(Note(number))
        await asyncio.sleep(1)
        started = asyncio.get_running_loop().time()
        await room(hub).publish(Note(6))
        with pytest.raises(SendTimeout):
            await client.ended()
        assert asyncio.get_running_loop().time() - started < 6
        totals = registry.totals()
        assert totals.ended[EndCause.SEND_TIMEOUT] == 1
        assert not hub._subscriptions


@pytest.mark.parametrize("wrap", [plain, always_waits])
async def test_the_lifetime_ends_a_reader_parked_or_not(wrap: Callable[[Send], Send]) -> None:
    async with hub_on() as hub:
        registry = Registry()
        response = EventSourceResponse(room(hub).subscribe(), max_lifetime=60, registry=registry)
        client = open_stream(App(response, wrap))
        for number in range(5):
            await asyncio.sleep(1)
            await room(hub).publish(Note(number))
        await client.ended()
        assert registry.totals().ended[EndCause.LIFETIME] == 1
        assert client.terminated
        assert client.retry_ms is not None
        assert last_id(client.body) == await room(hub).tail()
        assert registry.totals().events == 5


@pytest.mark.parametrize("wrap", [plain, always_waits])
@pytest.mark.parametrize("grace", [0, 10])
async def test_a_drain_ends_a_reader_parked_or_not(
    wrap: Callable[[Send], Send], grace: float
) -> None:
    async with hub_on() as hub, Drain(signals=()) as drain:
        registry = Registry()
        response = EventSourceResponse(room(hub).subscribe(), drain_grace=grace, registry=registry)
        client = open_stream(App(response, wrap))
        for number in range(5):
            await asyncio.sleep(1)
            await room(hub).publish(Note(number))
        await asyncio.sleep(1)
        drain.begin()
        await asyncio.sleep(1)
        await room(hub).publish(Note(5))
        await client.ended()
        assert registry.totals().ended[EndCause.DRAINED] == 1
        assert client.terminated
        assert client.retry_ms is not None
        assert notes(client.body) == list(range(6 if grace else 5))


@pytest.mark.parametrize("wrap", [plain, always_waits])
async def test_a_reader_that_leaves_parked_or_not_leaves_the_channel(
    wrap: Callable[[Send], Send],
) -> None:
    async with hub_on() as hub:
        registry = Registry()
        response = EventSourceResponse(room(hub).subscribe(), registry=registry)
        client = open_stream(App(response, wrap))
        for number in range(5):
            await asyncio.sleep(1)
            await room(hub).publish(Note(number))
        await asyncio.sleep(1)
        client.leave()
        await client.ended()
        assert registry.totals().ended[EndCause.CLIENT_LEFT] == 1
        assert registry.totals().events == 5
        (followed,) = hub._channels.values()
        assert not followed.places
        assert not followed.parked
        assert not followed.waiting
        assert not hub._subscriptions


@pytest.mark.parametrize("wrap", [plain, always_waits])
async def test_a_request_that_is_cancelled_parked_or_not_leaves_the_channel(
    wrap: Callable[[Send], Send],
) -> None:
    async with hub_on() as hub:
        registry = Registry()
        response = EventSourceResponse(room(hub).subscribe(), registry=registry)
        client = open_stream(App(response, wrap))
        for number in range(5):
            await asyncio.sleep(1)
            await room(hub).publish(Note(number))
        await client.events(5)
        client.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await client.ended()
        assert registry.totals().ended[EndCause.CANCELLED] == 1
        (followed,) = hub._channels.values()
        assert not followed.places
        assert not hub._subscriptions


async def test_a_head_request_reads_nothing_and_leaves_nothing() -> None:
    async with hub_on() as hub:
        response = EventSourceResponse(room(hub).subscribe(), registry=Registry())
        client = open_stream(response, method="HEAD")
        await client.ended()
        assert client.status == 200
        assert client.body == b""
        assert not hub._channels


async def test_the_background_task_runs_after_a_parked_stream() -> None:
    async with hub_on() as hub:
        ran: list[int] = []
        response = EventSourceResponse(
            room(hub).subscribe(),
            background=BackgroundTask(ran.append, 1),
            registry=Registry(),
        )
        client = open_stream(response)
        await asyncio.sleep(1)
        await room(hub).publish(Note(1))
        await client.events(1)
        assert not ran
        client.leave()
        await client.ended()
        assert ran == [1]


async def test_a_data_sender_runs_beside_a_parked_stream_once_and_is_cancelled_with_it() -> None:
    async with hub_on() as hub:
        log: list[str] = []

        async def sender() -> None:
            log.append("begun")
            try:
                for number in range(3):
                    await asyncio.sleep(1)
                    await room(hub).publish(Note(number))
                await asyncio.Event().wait()
            finally:
                log.append("ended")

        response = EventSourceResponse(
            room(hub).subscribe(), data_sender_callable=sender, registry=Registry()
        )
        client = open_stream(response)
        await client.events(3)
        client.leave()
        await client.ended()
        assert log == ["begun", "ended"]


async def test_a_data_sender_that_fails_fails_a_parked_stream() -> None:
    async with hub_on() as hub:

        async def sender() -> None:
            await asyncio.sleep(3)
            raise Refusal

        registry = Registry()
        response = EventSourceResponse(
            room(hub).subscribe(), data_sender_callable=sender, registry=registry
        )
        client = open_stream(response)
        with pytest.raises(Refusal):
            await client.ended()
        assert names(client.body) == ["stream.error"]
        assert registry.totals().ended[EndCause.FAILED] == 1


async def test_a_frame_with_an_id_alone_is_no_event() -> None:
    async with hub_on() as hub:
        registry = Registry()
        await room(hub).publish(Note(0))
        client = open_stream(EventSourceResponse(room(hub).subscribe(), registry=registry))
        await asyncio.sleep(1)
        assert client.body.startswith(b"id: ")
        (stream,) = registry.open_streams()
        assert stream.events == 0
        await room(hub).publish(Note(1))
        await room(hub).seal()
        await client.ended()
        assert registry.totals().events == 1 + 0
        assert b'"events":1' in client.body.replace(b" ", b"")


async def test_keepalives_go_out_while_parked_at_the_interval_since_the_last_send() -> None:
    async with hub_on() as hub:
        client = open_stream(
            EventSourceResponse(room(hub).subscribe(), ping=10, registry=Registry())
        )
        await asyncio.sleep(8)
        await room(hub).publish(Note(1))
        await asyncio.sleep(9)
        assert b": ping" not in client.body
        await asyncio.sleep(2)
        assert client.body.count(b": ping") == 1
        client.leave()
        await client.ended()


async def test_a_reader_that_is_slow_for_a_while_gets_everything_in_order() -> None:
    async with hub_on() as hub:
        registry = Registry()
        client = open_stream(EventSourceResponse(room(hub).subscribe(), registry=registry))
        await asyncio.sleep(1)
        client.pause()
        for number in range(3000):
            await room(hub).publish(Note(number))
        await asyncio.sleep(5)
        client.resume()
        await asyncio.sleep(1)
        body = client.body
        # 1000 are kept at least; what is missing was told.
        told = names(body).count("stream.gap")
        got = notes(body)
        assert got == sorted(set(got))
        assert got[-1] == 2999
        holes = sum(b - a != 1 for a, b in pairwise(got))
        assert holes <= told
        assert client.sends_at_once == 1
        client.leave()
        await client.ended()


async def test_an_eager_task_factory_changes_nothing() -> None:
    """Python 3.11 has none: a task that is stepped by hand for the first time stands for one."""
    loop = asyncio.get_running_loop()
    factory: Any = getattr(asyncio, "eager_task_factory", None) or _eagerly
    async with hub_on() as hub:
        loop.set_task_factory(factory)
        try:
            registry = Registry()
            response = EventSourceResponse(room(hub).subscribe(), registry=registry)
            client = open_stream(App(response, sometimes_waits))
            await asyncio.sleep(1)
            for number in range(10):
                await room(hub).publish(Note(number))
                await asyncio.sleep(0.1)
            await client.events(10)
            assert notes(client.body) == list(range(10))
            client.leave()
            await client.ended()
        finally:
            loop.set_task_factory(None)


def _eagerly(
    loop: asyncio.AbstractEventLoop,
    work: Coroutine[Any, Any, Any],
    context: Context | None = None,
) -> asyncio.Task[Any]:
    """Make a task whose work has made its first step already, in the task's own name."""
    handed: asyncio.Future[tuple[Resumed | None, object]] = loop.create_future()

    async def goes_on() -> object:
        resumed, value = await handed
        if resumed is not None:
            await resumed
        return value

    task = asyncio.Task(goes_on(), loop=loop, context=context)
    caller = asyncio.current_task(loop)
    if caller is not None:
        _leave_task(loop, caller)
    _enter_task(loop, task)
    try:
        # A copy: the context may be entered already, by whoever makes the task.
        own = copy_context() if context is None else context.copy()
        handed.set_result((Resumed(work, own.run(work.send, None), own), None))
    except StopIteration as stop:
        handed.set_result((None, stop.value))
    except BaseException as error:
        handed.set_exception(error)
    finally:
        _leave_task(loop, task)
        if caller is not None:
            _enter_task(loop, caller)
    return task


def says_nothing(_: Reading) -> None: ...


async def test_what_is_pushed_before_the_response_has_begun_waits_for_its_start() -> None:
    async with hub_on() as hub:
        # It has nothing to say at first, and no time at which it has to begin.
        response = EventSourceResponse(
            room(hub).subscribe(), registry=Registry(), start_within=None
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Reading, "_say_where", says_nothing)
            client = open_stream(response)
            await asyncio.sleep(1)
        assert not client.sent
        await room(hub).publish(Note(1))
        await room(hub).publish(Note(2))
        await asyncio.sleep(1)
        assert client.sent[0]["type"] == "http.response.start"
        assert notes(client.body) == [1, 2]
        client.leave()
        await client.ended()
