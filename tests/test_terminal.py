import io
import os
import re
import stat
from typing import BinaryIO

import pytest
from typing_extensions import Buffer

from typed_sse import ServerSentEvent
from typed_sse.session import ClientState
from typed_sse.tail import Pieces
from typed_sse.terminal import Form, Terminal

CLEAR = "\r\x1b[2K"
EVENT = ServerSentEvent('{"a":"\x9b"}', event="tick", id=1)


class Screen:
    """A terminal whose two files, and whose clock, are looked at."""

    def __init__(self, form: Form = Form.JSON, width: int | None = 40, status: int | None = 40):
        self.output = io.BytesIO()
        self.errors = io.StringIO()
        self.now_s = 0.0

        def say(line: str, style: str) -> None:
            self.errors.write(f"<{style}>{line}\n")

        def render(pieces: Pieces) -> str:
            return "|".join(text for text, _ in pieces)

        self.terminal = Terminal(
            form,
            self.output,
            self.errors,
            say=say,
            render=render,
            width=None if width is None else lambda: width,
            status_width=None if status is None else lambda: status,
            clock=lambda: self.now_s,
        )


@pytest.mark.parametrize(
    ("form", "width", "written"),
    [
        (Form.JSON, 40, '{"event": "tick", "id": "1", "data": {"a": "\\u009b"}}\n'),
        (Form.JSON, None, '{"event": "tick", "id": "1", "data": {"a": "\\u009b"}}\n'),
        (Form.RAW, 40, 'id: 1\nevent: tick\ndata: {"a":"\\x9b"}\n\n'),
        (Form.RAW, None, 'id: 1\nevent: tick\ndata: {"a":"\x9b"}\n\n'),
    ],
)
def test_an_event_is_written_in_the_form(form: Form, width: int | None, written: str) -> None:
    screen = Screen(form, width)
    screen.terminal.event(EVENT)
    assert screen.output.getvalue().decode() == written


def test_an_event_for_people_has_the_time_of_day() -> None:
    screen = Screen(Form.HUMAN)
    screen.terminal.event(EVENT)
    line = screen.output.getvalue().decode()
    assert re.fullmatch(r'\d\d:\d\d:\d\d\.\d{3}\|  \|tick\|  #\|1\|  \{"a": "\\x9b"\}\|\n', line)


def test_the_status_line_is_out_of_the_way_of_what_is_written() -> None:
    screen = Screen()
    screen.terminal.tick()
    assert screen.errors.getvalue() == f"{CLEAR}\x1b[2mconnecting · 0 events\x1b[0m"
    screen.terminal.event(EVENT)
    assert screen.errors.getvalue().endswith(f"\x1b[0m{CLEAR}")
    screen.terminal.tick()
    screen.terminal.failure("it is over")
    assert screen.errors.getvalue().endswith(f"\x1b[0m{CLEAR}<red>it is over\n")
    screen.terminal.close()
    assert screen.errors.getvalue().endswith("<red>it is over\n")


def test_the_status_line_is_drawn_after_an_event_but_not_after_each_of_a_crowd() -> None:
    screen = Screen()
    for number in range(100):
        screen.now_s = number / 1000
        screen.terminal.event(EVENT)
    assert 3 <= screen.errors.getvalue().count("\x1b[2m") <= 5


def test_a_screen_is_left_without_a_status_line_and_stays_so() -> None:
    screen = Screen()
    screen.terminal.tick()
    screen.terminal.close()
    screen.terminal.tick()
    assert screen.errors.getvalue().endswith(CLEAR)


def test_where_standard_error_is_no_terminal_there_is_no_status_line() -> None:
    screen = Screen(status=None)
    screen.terminal.tick()
    screen.terminal.state(ClientState("open"))
    screen.terminal.event(EVENT)
    screen.terminal.close()
    assert screen.errors.getvalue() == ""


def test_a_wait_is_a_line_that_stays() -> None:
    screen = Screen(status=None)
    screen.terminal.state(ClientState("waiting", "cut", 1.5, 1))
    assert screen.errors.getvalue() == "<yellow>reconnecting in 1.5 s: cut\n"


def test_a_gap_that_is_not_shown_is_said() -> None:
    screen = Screen(status=None)
    screen.terminal.left_out(ServerSentEvent("x", event="other"))
    screen.terminal.left_out(ServerSentEvent('{"channel":"c"}', event="stream.gap"))
    assert screen.errors.getvalue() == '<yellow>stream.gap: {"channel":"c"}\n'
    assert screen.output.getvalue() == b""


def test_what_is_said_beside_the_events_is_one_line_with_a_bound() -> None:
    screen = Screen(status=None)
    screen.terminal.left_out(ServerSentEvent("a\nforged line" + "x" * 10_000, event="stream.gap"))
    assert screen.errors.getvalue().startswith("<yellow>stream.gap: a forged linexxx")
    assert screen.errors.getvalue().count("\n") == 1
    assert len(screen.errors.getvalue()) < 500


def json_terminal(output: BinaryIO) -> Terminal:
    return Terminal(
        Form.JSON,
        output,
        io.StringIO(),
        say=lambda _line, _style: None,
        render=lambda _: "",
        width=None,
        status_width=None,
    )


def test_a_pipe_that_nobody_reads_is_let_go_of() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as output:
        terminal = json_terminal(output)
        assert terminal.descriptor == writing
        with pytest.raises(BrokenPipeError):
            terminal.event(EVENT)
        output.flush()  # as Python does at its end


class Stuck(io.FileIO):
    """A pipe that nobody reads, and a write to it that a signal ends."""

    def write(self, data: Buffer, /) -> int:
        if stat.S_ISFIFO(os.fstat(self.fileno()).st_mode):
            raise KeyboardInterrupt
        return super().write(data) or 0


def test_a_write_that_a_signal_has_ended_is_not_taken_up_again() -> None:
    reading, writing = os.pipe()
    with io.BufferedWriter(Stuck(writing, "wb")) as output:
        with pytest.raises(KeyboardInterrupt):
            json_terminal(output).event(EVENT)
        output.flush()  # as Python does at its end
    os.close(reading)


def test_an_output_that_is_no_file_has_no_number() -> None:
    assert Screen().terminal.descriptor is None
