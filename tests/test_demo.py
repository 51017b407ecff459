import pytest

from typed_sse.demo import app
from typed_sse.demo.app import ModelError
from typed_sse.testing import open_stream

ECHO = b'id: %d\nevent: echo\ndata: {"message":"hello"}\n\n'
REVERSE_ECHO = b'id: %d\nevent: reverse_echo\ndata: {"message":"olleh"}\n\n'


@pytest.mark.parametrize(
    ("path", "frames"),
    [
        ("/sse", [ECHO % 0, ECHO % 1, ECHO % 2]),
        ("/sse2", [ECHO % 0, ECHO % 1, ECHO % 2]),
        ("/sse3", [ECHO % 0, REVERSE_ECHO % 0, ECHO % 1, REVERSE_ECHO % 1]),
    ],
)
async def test_the_three_steps_print_one_event_a_second(path: str, frames: list[bytes]) -> None:
    client = open_stream(app, f"{path}?message=hello")
    await client.events(len(frames))
    client.leave()
    await client.ended()
    assert client.body == b"".join(frames)


@pytest.mark.parametrize(
    "path",
    ["/sse", "/sse2?message=", "/sse3?message=" + "x" * 1001, "/job?steps=0", "/job?steps=many"],
)
async def test_a_parameter_that_is_missing_or_wrong_is_a_422_and_no_stream(path: str) -> None:
    client = open_stream(app, path)
    await client.ended()
    assert client.start["status"] == 422
    assert client.headers["content-type"] == "application/json"


async def test_a_job_reports_each_step_and_ends_with_its_result() -> None:
    client = open_stream(app, "/job?steps=3")
    await client.ended()
    events = await client.events(4)
    assert [event.event for event in events] == ["progress", "progress", "progress", "finished"]
    assert events[-1].data == '{"files":9,"seconds":1.2}'
    assert client.terminated


async def test_a_chat_streams_its_answer_as_tokens_and_ends_with_the_usage() -> None:
    client = open_stream(app, "/chat", method="POST", json={"prompt": "why?"})
    await client.ended()
    assert client.terminated
    assert b'event: token\ndata: {"text":"You"}' in client.body
    assert "“why?”.".encode() in client.body
    assert client.body.rstrip().rpartition(b"event: ")[2].startswith(b'done\ndata: {"tokens":')


async def test_a_chat_without_a_prompt_is_a_422() -> None:
    client = open_stream(app, "/chat", method="POST", json={"prompt": ""})
    await client.ended()
    assert client.start["status"] == 422


async def test_a_chat_that_is_asked_to_fail_says_so_in_its_own_words() -> None:
    client = open_stream(app, "/chat", method="POST", json={"prompt": "please fail"})
    with pytest.raises(ModelError):
        await client.ended()
    assert client.status == 200
    assert client.body.count(b"event: token") == 11
    assert client.body.endswith(
        b"event: stream.error\n"
        b'data: {"code":"model_failed","message":"The model lost its thread."}\n\n'
    )
    assert client.terminated
