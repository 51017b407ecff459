import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import NoReturn

import pytest
from fastapi import FastAPI

from typed_sse.channels import Hub
from typed_sse.channels.memory import MemoryEngine
from typed_sse.control import StreamGap
from typed_sse.demo.app import ModelError, app, make_app
from typed_sse.demo.room import Message, Room, Said, Served
from typed_sse.errors import EngineUnavailable, OutcomeUnknown
from typed_sse.events import EventUnion
from typed_sse.testing import OpenStream, open_stream

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


# --- the room

ROOM_EVENTS = EventUnion(Served | Said | StreamGap)
READER = "0123456789abcdef" * 2
SENDER = "fedcba9876543210"


@asynccontextmanager
async def running(app: FastAPI) -> AsyncGenerator[FastAPI]:
    async with app.router.lifespan_context(app):
        yield app


def reader(app: FastAPI, after: str = "earliest") -> OpenStream[Served | Said | StreamGap]:
    headers = {"last-event-id": after}
    return open_stream(app, f"/room?reader={READER}", events=ROOM_EVENTS, headers=headers)


def message(number: int, text: str = "hi", name: str = "Ada", sender: str = SENDER) -> Message:
    return Message(sender=sender, number=number, name=name, text=text)


async def post(app: FastAPI, path: str, json: object) -> int:
    client = open_stream(app, path, method="POST", json=json)
    await client.ended()
    return client.status


async def say(app: FastAPI, *messages: Message) -> None:
    for each in messages:
        assert await post(app, "/room/messages", each.model_dump()) == 200


def said(events: Sequence[Served | Said | StreamGap]) -> list[Message]:
    return [event.data for event in events if isinstance(event, Said)]


async def test_what_one_says_every_reader_gets_with_the_same_ids() -> None:
    async with running(make_app("memory://")) as app, reader(app) as one, reader(app) as other:
        await one.events(1)
        await other.events(1)
        await say(app, message(1, "hello"), message(2, "there"))
        assert said(await one.events(3)) == [message(1, "hello"), message(2, "there")]
        assert await one.events(3) == await other.events(3)


async def test_the_first_event_says_which_process_serves_and_has_no_id() -> None:
    async with running(make_app("memory://")) as app, reader(app) as one:
        [served] = await one.events(1)
        assert isinstance(served, Served)
        assert served.data.pid == os.getpid()
        assert one.body.startswith(b"event: served\ndata:")


async def test_a_reader_that_comes_back_gets_what_it_has_missed_once() -> None:
    async with running(make_app("memory://")) as app:
        async with reader(app) as before:
            await before.events(1)
            await say(app, message(1))
            last = (await before.events(2))[-1]
        await say(app, *map(message, range(2, 22)))
        async with reader(app, after=last.id or "") as after:
            await after.events(21)
            await say(app, message(22))
            assert said(await after.events(22)) == list(map(message, range(2, 23)))


async def test_a_reader_that_is_cut_before_the_first_message_misses_nothing() -> None:
    async with running(make_app("memory://")) as app:
        async with reader(app, after="latest") as before:
            await before.events(1)
            await asyncio.sleep(1)  # of virtual time: everything that is due has been sent
        place = before.body.rpartition(b"id: ")[2].split(b"\n")[0].decode()
        await say(app, message(1))
        async with reader(app, after=place) as after:
            assert said(await after.events(2)) == [message(1)]


async def test_a_reader_of_another_room_is_told_of_the_gap_and_gets_what_there_is() -> None:
    async with running(make_app("memory://")) as app:
        await say(app, message(1), message(2))
        async with reader(app, after="1.2.3") as one:
            _, gap, *messages = await one.events(4)
            assert isinstance(gap, StreamGap)
            assert gap.data.reason == "reset"
            assert said(messages) == [message(1), message(2)]


async def test_a_message_that_is_sent_twice_is_in_the_room_once() -> None:
    async with running(make_app("memory://")) as app, reader(app) as one:
        await say(app, message(1), message(1), message(2))
        assert said(await one.events(3)) == [message(1), message(2)]


@pytest.mark.parametrize(
    "changed",
    [
        {"name": ""},
        {"name": " \t"},
        {"name": "x" * 41},
        {"text": ""},
        {"text": " "},
        {"text": "x" * 501},
        {"number": 0},
        {"number": 2**53},
        {"sender": ""},
        {"sender": SENDER.upper()},
        {"sender": SENDER + "0"},
    ],
)
async def test_a_message_beyond_the_bounds_is_a_422_and_nobody_gets_it(
    changed: dict[str, object],
) -> None:
    async with running(make_app("memory://")) as app, reader(app) as one:
        beyond = {**message(1).model_dump(), **changed}
        assert await post(app, "/room/messages", beyond) == 422
        await say(app, message(1, "x" * 500, "y" * 40))
        assert said(await one.events(2)) == [message(1, "x" * 500, "y" * 40)]


@pytest.mark.parametrize("query", ["", "?reader=", "?reader=me", f"?reader={READER}0"])
async def test_a_reader_without_a_name_of_its_own_is_a_422(query: str) -> None:
    async with running(make_app("memory://")) as app:
        client = open_stream(app, f"/room{query}")
        await client.ended()
        assert client.status == 422


async def test_cutting_a_reader_that_is_not_there_cuts_nobody() -> None:
    async with running(make_app("memory://")) as app, reader(app) as one:
        await one.events(1)
        assert await post(app, "/room/cut", {"reader": READER[::-1]}) == 204
        await say(app, message(1))
        assert said(await one.events(2)) == [message(1)]


@pytest.mark.parametrize("error", [EngineUnavailable, OutcomeUnknown])
async def test_a_message_that_may_not_have_arrived_is_a_503_that_asks_for_it_again(
    error: type[EngineUnavailable | OutcomeUnknown],
) -> None:
    class Broken(MemoryEngine):
        async def append(self, *args: object, **options: object) -> NoReturn:
            raise error("memory://", "it is broken")

    hub = Hub(Broken())
    app = FastAPI(lifespan=hub.lifespan)
    app.include_router(Room(hub).router())
    async with running(app):
        json = message(1).model_dump()
        client = open_stream(app, "/room/messages", method="POST", json=json)
        await client.ended()
        assert client.status == 503
        assert client.headers["retry-after"] == "1"


async def test_head_of_the_room_has_no_body() -> None:
    async with running(make_app("memory://")) as app:
        client = open_stream(app, f"/room?reader={READER}", method="HEAD")
        await client.ended()
        assert client.status == 200
        assert client.body == b""
