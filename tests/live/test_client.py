"""Our clients as a program uses them, before the demo on a real server."""

import asyncio
import itertools
from typing import Any

import httpx2
import pytest
from pydantic import BaseModel

from live.channel_readers import until
from typed_sse import BaseEvent, ServerSentEvent
from typed_sse.client import AsyncEventSource, ClientState, EventSource
from typed_sse.demo.app import Done, Echo, Finished, Progress, Prompt, ReverseEcho, Token
from typed_sse.demo.room import Said, Served
from typed_sse.errors import InvalidField, NotAStream, StreamFailed, UnknownEvent

pytestmark = pytest.mark.live

TABS = itertools.count(1)


def a_tab() -> str:
    return f"{next(TABS):032x}"


async def say(demo: str, sender: str, *texts: str, first: int = 1) -> None:
    async with httpx2.AsyncClient(base_url=demo) as client:
        for number, text in enumerate(texts, first):
            message = {"sender": sender, "number": number, "name": "Ada", "text": text}
            (await client.post("/room/messages", json=message)).raise_for_status()


async def test_a_typed_stream_is_read_as_its_class(demo: str) -> None:
    async with AsyncEventSource(f"{demo}/sse2", Echo, params={"message": "héllo & co"}) as source:
        event = await anext(source)
    assert type(event) is Echo
    assert event.data.message == "héllo & co"


def test_a_merged_stream_gives_both_classes(demo: str) -> None:
    url = f"{demo}/sse3"
    said = dict[type[BaseEvent[Any]], str]()
    with EventSource(url, Echo | ReverseEcho, params={"message": "abc"}) as source:
        for event in source:
            said[type(event)] = event.data.message
            if len(said) == 2:
                break
    assert said == {Echo: "abc", ReverseEcho: "cba"}


def test_an_event_outside_the_union_is_an_error_after_which_one_goes_on(demo: str) -> None:
    got = set[str]()
    with EventSource(f"{demo}/sse3", Echo, params={"message": "abc"}) as source:
        while got != {"abc", "reverse_echo"}:
            try:
                got.add(next(source).data.message)
            except UnknownEvent as error:
                got.add(error.event_name)


async def test_a_job_ends_the_iteration_with_its_result(demo: str) -> None:
    states: list[ClientState] = []
    async with AsyncEventSource(
        f"{demo}/job", Progress | Finished, params={"steps": 2}, on_state=states.append
    ) as source:
        events = [event async for event in source]
    assert [type(event) for event in events] == [Progress, Progress, Finished]
    assert isinstance(events[-1], Finished)
    assert events[-1].data.files == 6
    assert [(state.kind, state.reason) for state in states] == [
        ("connecting", None),
        ("open", None),
        ("closed", "terminal"),
    ]


def test_a_chat_is_asked_by_post_with_a_model(demo: str) -> None:
    said = ""
    with EventSource(f"{demo}/chat", Token | Done, json=Prompt(prompt="Why?")) as source:
        for event in source:
            assert isinstance(event, Token)
            said += event.data.text
            if len(said) > len("You asked: “Why?”. "):
                break
    assert said.startswith("You asked: “Why?”. ")


async def test_a_chat_that_fails_raises_behind_what_was_said(demo: str) -> None:
    tokens: list[Token | Done] = []
    with pytest.raises(StreamFailed) as told:
        async with AsyncEventSource(
            f"{demo}/chat", Token | Done, json={"prompt": "please fail"}
        ) as source:
            async for event in source:
                tokens.append(event)
    assert (told.value.code, told.value.message) == ("model_failed", "The model lost its thread.")
    assert len(tokens) > 5


async def test_the_room_is_resumed_behind_the_last_id_in_another_source(demo: str) -> None:
    room, sender = f"{demo}/room", "00000000000000a1"
    async with AsyncEventSource(room, Served | Said, params={"reader": a_tab()}) as source:
        assert isinstance(await anext(source), Served)
        await say(demo, sender, "first", "second", "third")
        while not (isinstance(event := await anext(source), Said) and event.data.text == "second"):
            assert isinstance(event, Served | Said)
        kept = source.last_event_id
    await say(demo, sender, "fourth", first=4)

    texts: list[str] = []
    async with AsyncEventSource(
        room, Said, unknown="skip", last_event_id=kept, params={"reader": a_tab()}
    ) as source:
        async for event in source:
            texts.append(event.data.text)
            if texts[-1] == "fourth":
                break

    assert texts == ["third", "fourth"]


async def test_a_source_that_is_cut_off_comes_back_to_the_room_and_misses_nothing(
    demo: str,
) -> None:
    tab, sender, texts = a_tab(), "00000000000000a2", list[str]()
    kinds: list[str] = []

    async def read() -> None:
        async with AsyncEventSource(
            f"{demo}/room",
            Served | Said,
            params={"reader": tab},
            on_state=lambda state: kinds.append(state.kind),
        ) as source:
            async for event in source:
                if isinstance(event, Said) and event.data.sender == sender:
                    texts.append(event.data.text)
                    if texts[-1] == "last":
                        return

    reader = asyncio.create_task(read())
    await until("it is open", lambda: "open" in kinds)
    await say(demo, sender, "before")
    await until("it has come", lambda: texts)
    async with httpx2.AsyncClient(base_url=demo) as client:
        (await client.post("/room/cut", json={"reader": tab})).raise_for_status()
    await until("it is cut off", lambda: "waiting" in kinds)
    await say(demo, sender, "meanwhile", "last", first=2)
    await reader

    assert texts == ["before", "meanwhile", "last"]
    assert kinds == ["connecting", "open", "waiting", "connecting", "open", "closed"]


async def test_a_hundred_sources_share_one_client_and_leave_it_open(demo: str) -> None:
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(limits=limits) as client:

        async def first(number: int) -> str:
            async with AsyncEventSource(
                f"{demo}/sse2", Echo, client=client, params={"message": str(number)}
            ) as source:
                return (await anext(source)).data.message

        said = await asyncio.gather(*map(first, range(100)))
        again = await client.get(f"{demo}/openapi.json")

    assert said == [str(number) for number in range(100)]
    assert again.status_code == 200


def test_what_comes_is_read_untyped_without_a_union(demo: str) -> None:
    with EventSource(f"{demo}/sse", params={"message": "x"}) as source:
        event = next(source)
    assert isinstance(event, ServerSentEvent)
    assert (event.event, event.id, event.data) == ("echo", "0", '{"message":"x"}')


def test_a_function_makes_the_value_where_there_is_no_union(demo: str) -> None:
    class Told(BaseModel):
        message: str

    def decode(event: ServerSentEvent) -> Told:
        return Told.model_validate_json(event.data or "")

    with EventSource(f"{demo}/sse", decode=decode, params={"message": "x"}) as source:
        assert next(source) == Told(message="x")


def test_a_path_that_is_not_there_is_said_with_its_status(demo: str) -> None:
    with EventSource(f"{demo}/nowhere", Echo) as source, pytest.raises(NotAStream) as told:
        next(source)
    assert (told.value.status, told.value.url) == (404, f"{demo}/nowhere")


def test_a_url_that_is_none_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(InvalidField, match="give an absolute one"):
        EventSource("/sse2", Echo)
