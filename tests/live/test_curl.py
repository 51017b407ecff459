"""Reads the demo's streams with the real curl, byte for byte."""

import json
import subprocess
from collections.abc import Iterator

import pytest

from typed_sse.wire import Decoder

pytestmark = pytest.mark.live

CURL = ["curl", "--silent", "--show-error", "--no-buffer", "--noproxy", "*", "--max-time", "30"]


@pytest.fixture(scope="module", autouse=True)
def chat(demo: str) -> Iterator[subprocess.Popen[bytes]]:
    """A curl that reads a whole answer: ten seconds, and so beside the other tests."""
    prompt = ["--header", "Content-Type: application/json", "--data-raw", '{"prompt":"hi"}']
    with subprocess.Popen([*CURL, *prompt, f"{demo}/chat"], stdout=subprocess.PIPE) as curl:
        yield curl
        curl.terminate()


def first_frames(count: int, url: str) -> bytes:
    """Return what has come when `count` frames have, and hang up."""
    received = b""
    with subprocess.Popen([*CURL, url], stdout=subprocess.PIPE) as curl:
        assert curl.stdout is not None
        while received.count(b"\n\n") < count and (line := curl.stdout.readline()):
            received += line
        curl.terminate()
    return received


def frame(id: int, event: str, message: str) -> bytes:
    return f'id: {id}\nevent: {event}\ndata: {{"message":"{message}"}}\n\n'.encode()


@pytest.mark.parametrize("path", ["/sse", "/sse2"])
def test_curl_sees_an_echo_a_second_with_ids_from_0(demo: str, path: str) -> None:
    received = first_frames(3, f"{demo}{path}?message=hello")

    assert received == b"".join(frame(n, "echo", "hello") for n in range(3))


def test_curl_sees_the_merged_streams_take_turns_each_with_its_own_ids(demo: str) -> None:
    received = first_frames(6, f"{demo}/sse3?message=hello")

    assert received == b"".join(
        frame(n, "echo", "hello") + frame(n, "reverse_echo", "olleh") for n in range(3)
    )


def test_a_stream_opens_with_the_headers_that_keep_proxies_from_holding_it_back(demo: str) -> None:
    answer = subprocess.run(
        [*CURL, "--include", f"{demo}/job?steps=1"], capture_output=True, check=True
    )

    head, _, _ = answer.stdout.partition(b"\r\n\r\n")
    status, *lines = head.decode("ascii").lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert status.split()[1] == "200"
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-cache, no-transform"
    assert headers["x-accel-buffering"] == "no"
    assert "connection" not in headers


@pytest.mark.parametrize("path", ["/sse", "/sse2", "/sse3"])
@pytest.mark.parametrize("query", ["", "?message="])
def test_without_a_message_there_is_a_422_in_json_and_no_stream(
    demo: str, path: str, query: str
) -> None:
    answer = subprocess.run(
        [*CURL, "--write-out", "\n%{http_code} %{content_type}", f"{demo}{path}{query}"],
        capture_output=True,
        check=True,
    )

    body, _, summary = answer.stdout.rpartition(b"\n")
    assert summary == b"422 application/json"
    assert json.loads(body)["detail"][0]["loc"] == ["query", "message"]


def test_the_chat_streams_tokens_and_ends_with_done(chat: subprocess.Popen[bytes]) -> None:
    answer, _ = chat.communicate()

    assert chat.returncode == 0
    *tokens, done = Decoder().feed(answer)
    assert {token.event for token in tokens} == {"token"}
    text = "".join(json.loads(token.data or "")["text"] for token in tokens)
    assert text.startswith("You asked: “hi”. A stream of events")
    assert done.event == "done"
    assert json.loads(done.data or "") == {"tokens": len(tokens)}
