"""A stream that is followed by a command: shown, recorded, its place kept; and how that ends.

Connects through `AsyncEventSource`, and tells a screen. Knows exit codes, signals and the pipe that
the command writes to; knows no terminal, and nothing of how an event looks.
"""

import asyncio
import json
import os
import re
import select
import signal
import stat
import threading
from collections.abc import Callable, Collection, Coroutine, Generator, Iterable
from contextlib import aclosing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO, Protocol

from typed_sse.client import AsyncEventSource
from typed_sse.errors import ConnectionFailed, InvalidField, NotAStream, PeerError
from typed_sse.files import write_whole
from typed_sse.reconnect import MAX_ID_BYTES, ReconnectPolicy, is_sendable
from typed_sse.recording import Recorder
from typed_sse.session import ClientState, Options
from typed_sse.transport import AsyncTransport
from typed_sse.wire import ServerSentEvent

COMPLETE, FAILED, UNUSABLE, NO_STREAM, LOST = range(5)
"""Exit codes: the stream is complete, or was read as far as was asked; it has failed on the server;
the command cannot be carried out; the URL is no event stream, or none that can be read; the
connection was lost, and was not to be had again. A signal's is 128 and its number."""

MAX_BODY_BYTES = 16 * 1024 * 1024

_TICK_S = 0.25
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")


class Screen(Protocol):
    """Where a stream is shown."""

    def event(self, event: ServerSentEvent) -> None:
        """Show an event; `BrokenPipeError` says that nobody reads any more."""
        ...

    def left_out(self, event: ServerSentEvent) -> None:
        """Take an event that is not to be shown."""
        ...

    def state(self, state: ClientState) -> None:
        """Show what the client is about."""
        ...

    def failure(self, message: str) -> None:
        """Say why it is over."""
        ...

    def tick(self) -> None:
        """Show that time passes; called four times a second."""
        ...


async def follow(
    url: str,
    screen: Screen,
    options: Options,
    *,
    names: Collection[str] = (),
    count: int | None = None,
    since: Path | None = None,
    recorder: Recorder | None = None,
    client: AsyncTransport | None = None,
) -> int:
    """Follow a stream to its end, and return the exit code.

    Args:
        url: absolute.
        screen: is given each event, then the recorder, then the file.
        options: the client's; `on_state` is ours.
        names: the events that are shown; all, where it is empty.
        count: how many are shown at the most.
        since: a file that has the id of the last event that was dealt with, after each, and a
            quarter of a second after one that comes without an event.
        recorder: is given all events, shown or not.
        client: sends the requests, in place of httpx2.

    Raises:
        InvalidField: an option cannot be used.
        OSError: a file cannot be written.

    Cancellation: never between an event that was shown and its id that is kept.
    """
    policy = options.get("policy", ReconnectPolicy())

    def heard(state: ClientState) -> None:
        if recorder is not None and state.kind == "waiting":
            recorder.lost(state.reason or "lost")
        screen.state(state)

    given: Options = {**options, "on_state": heard}
    source = AsyncEventSource(url, client=client, **given)
    place = _Place(since, source.last_event_id)
    ticking = asyncio.create_task(_ticking(screen, lambda: place.keep(source.last_event_id)))
    shown, code = 0, COMPLETE
    try:
        async with source, aclosing(source.messages()) as messages:
            async for event in messages:
                name = event.event or "message"
                if not names or name in names:
                    screen.event(event)
                    shown += 1
                else:
                    screen.left_out(event)
                if recorder is not None:
                    recorder.event(event)
                place.keep(source.last_event_id)
                if name == "stream.error":
                    code = FAILED
                elif shown == count:
                    break
    except BrokenPipeError:
        return COMPLETE
    except (ConnectionFailed, PeerError) as error:
        screen.failure(str(error))
        put_off = isinstance(error, NotAStream) and error.status in policy.retry_statuses
        return LOST if put_off or isinstance(error, ConnectionFailed) else NO_STREAM
    finally:
        ticking.cancel()
        await asyncio.wait({ticking})
    return code


class _Place:
    """The file that has the last id, written when there is another."""

    def __init__(self, since: Path | None, last_id: str) -> None:
        self._since = since
        self._kept = last_id

    def keep(self, last_id: str) -> None:
        # One that cannot be sent back is of no use; behind the one before, nothing is missed.
        if self._since is not None and last_id != self._kept and is_sendable(last_id):
            self._kept = last_id
            write_whole(f"{last_id}\n".encode(), self._since)


async def _ticking(screen: Screen, keep: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(_TICK_S)
        keep()
        screen.tick()


def run(main: Coroutine[Any, Any, int], output: int | None) -> int:
    """Run a coroutine to its exit code, or until a signal, or until nobody reads the output.

    SIGINT and SIGTERM cancel it; a second one does not wait, also where a write is stuck.

    Args:
        main: returns the exit code.
        output: the file that is written to, by number; a pipe's other end is watched, so that a
            reader that has left is noticed before the next event.

    Raises:
        KeyboardInterrupt: at a second signal, unless the first has come to its end by it.
    """

    async def until_stopped() -> int:
        loop = asyncio.get_running_loop()
        task = loop.create_task(main)
        codes: list[int] = []

        def stop(code: int) -> None:
            codes.append(code)
            loop.call_soon_threadsafe(task.cancel)

        def handle(number: int, _: FrameType | None) -> None:
            if codes:
                raise KeyboardInterrupt
            stop(128 + number)

        with _handling(handle), _watching(loop, output, lambda: stop(COMPLETE)):
            await asyncio.wait({task})
        return codes[0] if codes and task.cancelled() else task.result()

    return asyncio.run(until_stopped())


@contextmanager
def _handling(handle: Callable[[int, FrameType | None], None]) -> Generator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    # What is ignored stays so: a shell has put the command into the background.
    heard = [
        number
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]
    before = {number: signal.signal(number, handle) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _watching(
    loop: asyncio.AbstractEventLoop, output: int | None, left: Callable[[], None]
) -> Generator[None]:
    if output is None or not stat.S_ISFIFO(os.fstat(output).st_mode):
        yield
        return
    poll = select.poll()
    poll.register(output, 0)

    def look() -> None:
        loop.remove_reader(output)
        # A pipe that is open for reading here, too, can have something to read.
        if poll.poll(0):
            left()

    loop.add_reader(output, look)
    try:
        yield
    finally:
        loop.remove_reader(output)


def headers_of(lines: Iterable[str]) -> dict[str, str]:
    """Return headers that were given as `Name: value`; several of one name are joined.

    Raises:
        InvalidField: one is not of that form.
    """
    headers: dict[str, str] = {}
    for line in lines:
        found = _HEADER.fullmatch(line)
        if found is None:
            # Not the line: it may be a password that was given without its name.
            raise InvalidField("--header", "…", "give 'Name: value', on one line")
        name, value = found[1].lower(), found[2].rstrip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def body_of(given: str, standard_input: Callable[[], BinaryIO]) -> tuple[bytes, str]:
    """Return a request's body and its content type: JSON where it is JSON, else that of a form.

    Args:
        given: the body, or `@` and the name of a file, or `@-`.
        standard_input: gives what `@-` reads.

    Raises:
        InvalidField: it is larger than `MAX_BODY_BYTES`.
        OSError: the file cannot be read.
    """
    if given == "@-":
        body = standard_input().read(MAX_BODY_BYTES + 1)
    elif given.startswith("@"):
        with Path(given[1:]).open("rb") as file:
            body = file.read(MAX_BODY_BYTES + 1)
    else:
        body = given.encode("utf-8", "surrogateescape")
    if len(body) > MAX_BODY_BYTES:
        raise InvalidField("--data", given[:100], f"give {MAX_BODY_BYTES:,} bytes at the most")
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return body, "application/x-www-form-urlencoded"
    return body, "application/json"


def id_in(file: Path) -> str | None:
    """Return the id that `follow` has kept in a file, or `None` where there is no file.

    Raises:
        InvalidField: what is in it is no id.
        OSError: it cannot be read.
    """
    try:
        with file.open("rb") as kept:
            found = kept.read(MAX_ID_BYTES + 2)
    except FileNotFoundError:
        return None
    last_id = found.removesuffix(b"\n").decode("utf-8", "replace")
    if not is_sendable(last_id) or len(found) > MAX_ID_BYTES + 1:
        reason = "the file has no id that can be sent; name another, or remove it"
        raise InvalidField(str(file), last_id, reason)
    return last_id


def policy_of(reconnect: bool, attempts: int | None, idle_s: float | None) -> ReconnectPolicy:
    """Return the policy of a command: how many attempts in a row, and how much silence.

    Args:
        reconnect: where it is false, a body that ends properly is a good end, and a loss a bad one.
        attempts: without limit where it is `None`.
        idle_s: as the server announces where it is `None`.

    Raises:
        InvalidField: a number is out of bounds.
    """
    if reconnect:
        return ReconnectPolicy(max_attempts=attempts, idle_limit_s=idle_s)
    return ReconnectPolicy(max_attempts=1, repeat="unsent", idle_limit_s=idle_s)
