"""`typed-sse tail` and `typed-sse replay` as programs: pipes, signals, kills, a pseudo-terminal."""

import json
import os
import pty
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any

import httpx2
import pytest

from live.conftest import served
from live.fault_proxy import CutAfter, fault_proxy

pytestmark = pytest.mark.live

LIMIT_S = 20
TAIL = [sys.executable, "-m", "typed_sse", "tail"]
REPLAY = "-m typed_sse replay {} --port PORT --speed 0"
HOSTILE = {
    "event": "hostile",
    "id": "\x1b[8m",
    "data": "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnihtyna",
}


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a recording that is served without waiting: 100 numbers, one hostile event."""
    folder = tmp_path_factory.mktemp("replayed")
    file = folder / "stream.jsonl"
    numbers = [
        {"at_s": n, "event": "number", "id": str(n), "retry": 10, "json": {"n": n}}
        for n in range(100)
    ]
    lines = [{"typed-sse": 1, "url": "http://test/"}, *numbers, {"at_s": 99, **HOSTILE}]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    with served(REPLAY.format(file), folder / "log") as (url, _):
        yield url


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*TAIL, *arguments], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )


@contextmanager
def started(*arguments: str) -> Generator["Tail"]:
    """Run `typed-sse tail` for as long as the block takes, at the most."""
    with subprocess.Popen([*TAIL, *arguments], stdout=PIPE, stderr=PIPE, text=True) as process:
        try:
            yield Tail(process)
        finally:
            process.kill()


class Tail:
    """A `typed-sse tail` that runs."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.process = process
        self._output, self._errors = process.stdout, process.stderr

    def event(self) -> dict[str, Any]:
        """Wait for the next line, and return what it says."""
        event: dict[str, Any] = json.loads(self._output.readline())
        return event

    def end(self) -> tuple[int, list[dict[str, Any]], str]:
        """Wait for the end: the exit code, the events that were left, and what was said."""
        events = [json.loads(line) for line in self._output]
        return self.process.wait(LIMIT_S), events, self._errors.read()


def until(condition: Callable[[], bool], tail: Tail) -> None:
    """Wait for something that a process does."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline
        # The pause between two looks is a wait for the process: it may have failed.
        with pytest.raises(subprocess.TimeoutExpired):
            tail.process.wait(0.02)


# Of the room nothing more comes: it is the pipe that is noticed.
@pytest.mark.parametrize(
    ("path", "names"),
    [("/sse?message=hi", ["echo", "echo"]), (f"/room?reader={secrets.token_hex(16)}", ["served"])],
    ids=["more comes", "nothing more comes"],
)
def test_a_pipe_ends_when_its_reader_has_enough(demo: str, path: str, names: list[str]) -> None:
    tail = f"{sys.executable} -m typed_sse tail '{demo}{path}' --json"
    done = subprocess.run(
        ["bash", "-c", f"set +o pipefail; {tail} | head -{len(names)}; echo ${{PIPESTATUS[*]}}"],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=True,
    )
    *lines, codes = done.stdout.splitlines()
    assert [json.loads(line)["event"] for line in lines] == names
    assert codes == "0 0"
    assert done.stderr == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_without_a_word(demo: str, tmp_path: Path, number: int) -> None:
    since = tmp_path / "since"
    with started(f"{demo}/sse?message=hi", "--json", "--since-file", str(since)) as tail:
        events = [tail.event()]
        until(since.exists, tail)
        tail.process.send_signal(number)
        code, rest, errors = tail.end()
    assert code == 128 + number
    assert errors == ""
    assert since.read_text() == f"{[*events, *rest][-1]['id']}\n"


def test_what_is_killed_goes_on_where_it_was_and_misses_nothing(
    own_demo: tuple[str, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    demo, _ = own_demo
    since = tmp_path / "since"
    sender = secrets.token_hex(8)
    room = f"{demo}/room?reader={secrets.token_hex(16)}"
    # Where there is no id yet, the room begins with the last 50 messages.
    options = ["--json", "--event=said", "--last-event-id=-50", f"--since-file={since}"]

    def say(number: int) -> str:
        message = {"sender": sender, "number": number, "name": "Ada", "text": f"message {number}"}
        answer = httpx2.post(f"{demo}/room/messages", json=message)
        return str(answer.raise_for_status().json()["id"])

    with started(room, *options) as tail:
        ids = [say(number) for number in (1, 2, 3)]
        heard = [tail.event() for _ in ids]
        until(lambda: since.read_text() == f"{ids[-1]}\n", tail)
        tail.process.kill()
        assert tail.end() == (-signal.SIGKILL, [], "")
    ids += [say(number) for number in (4, 5)]
    with started(room, *options, "--count", "3") as tail:
        heard += [tail.event() for _ in (4, 5)]
        ids.append(say(6))
        code, rest, errors = tail.end()

    assert (code, errors) == (0, "")
    assert [event["id"] for event in [*heard, *rest]] == ids
    assert [event["data"]["number"] for event in [*heard, *rest]] == [1, 2, 3, 4, 5, 6]


def test_a_recording_that_is_replayed_has_the_same_events(demo: str, tmp_path: Path) -> None:
    file = tmp_path / "job.jsonl"
    job = run(f"{demo}/job?steps=2", "--json", "--until", "finished", "--record", str(file))
    assert job.returncode == 0
    with served(REPLAY.format(file), tmp_path / "log") as (url, _):
        again = run(url, "--json")
    assert again.returncode == 0
    *events, end = again.stdout.splitlines()
    assert events == job.stdout.splitlines()
    assert [json.loads(line)["event"] for line in events] == ["progress"] * 2 + ["finished"]
    assert json.loads(end) == {"event": "stream.end", "id": "2", "data": {"events": 3}}


def test_a_connection_that_is_cut_is_made_again_and_nothing_is_shown_twice(replayed: str) -> None:
    with fault_proxy(replayed) as proxy:
        proxy.script([CutAfter(1000), CutAfter(2000)])
        done = run(proxy.url, "--json", "--event", "number")
    assert done.returncode == 0
    assert [json.loads(line)["data"]["n"] for line in done.stdout.splitlines()] == [*range(100)]
    assert re.fullmatch(
        r"(reconnecting in 0\.0 s: cut\n){2}stream\.end: \{\"events\":\d+\}\n", done.stderr
    )


def test_a_terminal_gets_colours_and_a_status_and_nothing_that_it_obeys(replayed: str) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80"}
    process = subprocess.Popen(
        [*TAIL, replayed, "--last-event-id", "97"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={name: value for name, value in environment.items() if name != "NO_COLOR"},
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            written += os.read(ours, 65536)
        except OSError:  # how a terminal says that nobody has its other end
            break
    os.close(ours)
    assert process.wait(LIMIT_S) == 0
    text = written.decode()
    assert re.search(r"\x1b\[1;38;5;\d+mnumber\x1b\[0m", text)
    assert '{"n": 98}' in text
    assert "connected · " in text
    assert "\\x1b]0;owned\\x07\\x1b[2J\\x9b31m\\u202egnihtyna" in text
    assert "#\x1b[0m\x1b[2m\\x1b[8m" in text
    ours_alone = re.sub(r"\x1b\[[0-9;]*m|\r\x1b\[2K|\r\n", "", text)
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202e]", ours_alone)
