"""Where a followed stream is shown: events on standard output, what is said of it on the other.

Keeps a line at the bottom of the terminal that tells the state, out of the way of what is written.
Knows two files, and what the terminal client shows; is given what knows colours and widths.
"""

import os
import time
from collections.abc import Callable
from datetime import datetime
from enum import Enum
from typing import BinaryIO, TextIO

from typed_sse.session import ClientState
from typed_sse.tail import (
    Pieces,
    Tally,
    is_control,
    json_line,
    name_of,
    raw_text,
    shown,
    state_line,
)
from typed_sse.wire import ServerSentEvent

_CLEAR_LINE = "\r\x1b[2K"
# The status line is drawn no oftener, however many events come.
_REDRAWN_S = 0.02
_LONGEST_REMARK = 400


class Form(Enum):
    """How events are written."""

    HUMAN = "human"
    JSON = "json"
    RAW = "raw"


class Terminal:
    """Shows a stream; the screen of `follow`.

    Args:
        form: how events are written.
        output: takes the events; each is flushed.
        errors: takes the status line.
        say: says something in a line of its own, in a style.
        render: makes of pieces with styles the text for the output.
        width: tells how wide the terminal is that the output is; `None` where it is none.
        status_width: tells how wide the terminal is that `errors` is; `None` for no status line.
        clock: gives seconds.

    Invariant: `_drawn` says whether the status line is on the screen.
    """

    def __init__(
        self,
        form: Form,
        output: BinaryIO,
        errors: TextIO,
        *,
        say: Callable[[str, str], None],
        render: Callable[[Pieces], str],
        width: Callable[[], int] | None,
        status_width: Callable[[], int] | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._form = form
        self._output = output
        self._errors = errors
        self._say = say
        self._render = render
        self._width = width
        self._status_width = status_width
        self._clock = clock
        self._tally = Tally(clock())
        self._drawn = False
        self._drawn_s = clock()

    def event(self, event: ServerSentEvent) -> None:
        """Write an event.

        Raises:
            BrokenPipeError: nobody reads any more.
        """
        self._tally.event(event, self._clock())
        self._clear()
        try:
            self._output.write(self._written(event))
            self._output.flush()
        except BaseException:
            self._let_go()
            raise
        if self._clock() - self._drawn_s >= _REDRAWN_S:
            self.tick()

    def left_out(self, event: ServerSentEvent) -> None:
        """Say what a stream tells of itself, although it is not among what is asked for."""
        self._tally.event(event, self._clock())
        if is_control(name_of(event)):
            said = " ".join((event.data or "").split())
            self._tell(f"{name_of(event)}: {said[:_LONGEST_REMARK]}", "yellow")

    def state(self, state: ClientState) -> None:
        """Say that the connection is lost, and when it is made again."""
        self._tally.state(state, self._clock())
        if line := state_line(state):
            self._tell(line, "yellow")
        elif state.kind != "closed":
            self.tick()

    def failure(self, message: str) -> None:
        """Say why it is over."""
        self._tell(message, "red")

    def tick(self) -> None:
        """Draw the status line."""
        if self._status_width is not None:
            now_s = self._clock()
            line = self._tally.line(now_s, max(self._status_width() - 1, 0))
            self._errors.write(f"{_CLEAR_LINE}\x1b[2m{line}\x1b[0m")
            self._errors.flush()
            self._drawn, self._drawn_s = True, now_s

    def close(self) -> None:
        """Leave the screen without a status line."""
        self._clear()
        self._status_width = None

    @property
    def descriptor(self) -> int | None:
        """The number of the file that the output is, if it is one."""
        try:
            return self._output.fileno()
        except OSError:
            return None

    def _written(self, event: ServerSentEvent) -> bytes:
        width = None if self._width is None else self._width()
        match self._form:
            case Form.JSON:
                text = f"{json_line(event)}\n"
            case Form.RAW:
                if width is None:
                    return event.encode()
                text = raw_text(event)
            case Form.HUMAN:
                at = datetime.now().strftime("%H:%M:%S.%f")[:12]
                text = self._render(shown(event, at, width))
        return text.encode()

    def _let_go(self) -> None:
        # What is left in the buffer would be written once more when Python ends, and fail or wait
        # again: nobody reads it, there is no room, or a signal has ended the wait.
        if self.descriptor is not None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.descriptor)
            os.close(nowhere)

    def _tell(self, line: str, style: str) -> None:
        self._clear()
        self._say(line, style)

    def _clear(self) -> None:
        if self._drawn:
            self._errors.write(_CLEAR_LINE)
            self._errors.flush()
            self._drawn = False
