import importlib
import json
import sys
from pathlib import Path

import pytest
from starlette.types import ASGIApp

from typed_sse.testing import open_stream

EXAMPLES = Path(__file__).parent.parent / "examples"

ECHO = b'id: %d\nevent: echo\ndata: {"message":"hello"}\n\n'
REVERSE_ECHO = b'id: %d\nevent: reverse_echo\ndata: {"message":"olleh"}\n\n'


@pytest.fixture(autouse=True)
def _examples_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])


def app_of(example: str) -> ASGIApp:
    app: ASGIApp = importlib.import_module(example).app
    return app


async def first_bytes(app: ASGIApp, path: str, events: int) -> bytes:
    client = open_stream(app, path)
    await client.events(events)
    client.leave()
    await client.ended()
    return client.body


@pytest.mark.parametrize(
    ("example", "path", "frames"),
    [
        ("sse", "/sse", [ECHO % 0, ECHO % 1, ECHO % 2]),
        ("sse2", "/sse2", [ECHO % 0, ECHO % 1, ECHO % 2]),
        ("sse3", "/sse3", [ECHO % 0, REVERSE_ECHO % 0, ECHO % 1, REVERSE_ECHO % 1]),
        ("sse3_aiostream", "/sse3", [ECHO % 0, REVERSE_ECHO % 0, ECHO % 1, REVERSE_ECHO % 1]),
    ],
)
async def test_an_example_prints_what_its_step_promises(
    example: str, path: str, frames: list[bytes]
) -> None:
    body = await first_bytes(app_of(example), f"{path}?message=hello", len(frames))
    assert body == b"".join(frames)


async def test_aiostreams_merge_and_ours_give_the_same_events() -> None:
    ours, theirs = [
        await first_bytes(app_of(example), "/sse3?message=hello", 20)
        for example in ("sse3", "sse3_aiostream")
    ]
    assert ours == theirs


@pytest.mark.parametrize(
    ("example", "path"), [("sse", "/sse"), ("sse2", "/sse2"), ("sse3", "/sse3")]
)
async def test_a_missing_message_is_a_422_and_no_stream(example: str, path: str) -> None:
    client = open_stream(app_of(example), path)
    await client.ended()
    assert client.start["status"] == 422
    assert client.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("last_event_id", "names"),
    [
        (None, ["count", "count", "count", "liftoff"]),
        ("3", ["count", "count", "liftoff"]),
        ("1", ["liftoff"]),
        ("99", ["count", "count", "count", "liftoff"]),
    ],
)
async def test_a_countdown_goes_on_where_the_reader_was(
    last_event_id: str | None, names: list[str]
) -> None:
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    stream = open_stream(app_of("router"), "/countdown?start=3", headers=headers)
    assert [event.event async for event in stream] == names
    assert stream.body.endswith(b'id: 0\nevent: liftoff\ndata: "Up it goes."\n\n')


@pytest.mark.parametrize(("last_event_id", "status"), [("0", 204), ("x", 400), ("٣", 400)])
async def test_a_countdown_that_is_over_or_was_never_begun_is_no_stream(
    last_event_id: str, status: int
) -> None:
    headers = {"Last-Event-ID": last_event_id}
    stream = open_stream(app_of("router"), "/countdown?start=3", headers=headers)
    await stream.ended()
    assert stream.status == status


async def test_a_chat_is_streamed_as_data_without_names_and_ids_up_to_the_mark() -> None:
    chat = open_stream(
        app_of("chat_completions"),
        "/v1/chat/completions",
        method="POST",
        headers={"Authorization": "Bearer sk-demo"},
        json={
            "model": "parrot",
            "messages": [{"role": "user", "content": "Hello you!"}],
            "stream": True,
        },
    )
    *chunks, mark = [event async for event in chat]
    deltas = [json.loads(chunk.data or "")["choices"][0]["delta"] for chunk in chunks]
    assert deltas == [{"role": "assistant", "content": "Hello "}, {"content": "you!"}, {}]
    assert {(event.event, event.id) for event in [*chunks, mark]} == {(None, None)}
    assert mark.data == "[DONE]"


def test_every_example_is_run_here() -> None:
    assert {file.stem for file in EXAMPLES.glob("*.py")} == {
        "sse",
        "sse2",
        "sse3",
        "sse3_aiostream",
        "router",
        "chat_completions",
    }
