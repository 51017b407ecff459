import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI, Header
from pydantic import BaseModel
from starlette.responses import PlainTextResponse

from typed_sse import (
    BaseEvent,
    BrokenError,
    EventSourceResponse,
    EventUnion,
    ServerSentEvent,
    UnknownEvent,
    UsageError,
)
from typed_sse.connection import Message
from typed_sse.testing import VirtualTimeLoop, open_stream, run_in_virtual_time, running


class Tick(BaseEvent[int]): ...


class Tock(BaseEvent[int]): ...


class Question(BaseModel):
    words: list[str]


app = FastAPI()


@app.get("/ticks")
async def get_ticks(count: int = 10**9) -> EventSourceResponse:
    async def ticks() -> AsyncIterator[Tick]:
        for number in range(count):
            yield Tick(number, id=number)
            await asyncio.sleep(60)

    return EventSourceResponse(ticks())


@app.post("/words/{name}")
async def post_words(name: str, question: Question, x_user: str = Header()) -> EventSourceResponse:
    async def words() -> AsyncIterator[str]:
        for word in [name, x_user, *question.words]:
            yield word

    return EventSourceResponse(words())


async def test_typed_events_of_an_endless_stream_are_read_one_at_a_time() -> None:
    before = asyncio.get_running_loop().time()
    async with open_stream(app, "/ticks", events=EventUnion(Tick)) as stream:
        seen = [(await anext(stream)).data for _ in range(3)]
        assert stream.status == 200
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert seen == [0, 1, 2]
    assert asyncio.get_running_loop().time() - before == pytest.approx(120, abs=0.1)
    assert stream.task.done()
    assert not stream.terminated


async def test_without_a_union_events_come_as_they_were_sent() -> None:
    async with open_stream(app, "/ticks") as stream:
        assert await anext(stream) == ServerSentEvent("0", event="tick", id="0")


async def test_iterating_ends_where_the_body_does() -> None:
    stream = open_stream(app, "/ticks?count=3", events=EventUnion(Tick))
    assert [event.data async for event in stream] == [0, 1, 2]
    assert stream.terminated
    assert [event.data for event in await stream.events(2)] == [0, 1]


async def test_an_event_that_does_not_come_is_an_error_and_not_a_hang() -> None:
    stream = open_stream(app, "/ticks?count=3")
    with pytest.raises(BrokenError, match="ended after 3 events; 4 were expected"):
        await stream.events(4)


async def test_an_event_that_the_union_does_not_name_is_an_error() -> None:
    async with open_stream(app, "/ticks", events=EventUnion(Tock)) as stream:
        with pytest.raises(UnknownEvent, match="tick"):
            await anext(stream)


async def test_method_path_headers_and_body_reach_the_application() -> None:
    stream = open_stream(
        app,
        "/words/J%C3%BCrgen",
        method="POST",
        headers={"X-User": "ann"},
        json={"words": ["é", "x"]},
    )
    assert [event.data async for event in stream] == ["Jürgen", "ann", "é", "x"]


async def test_an_answer_that_is_no_stream_has_its_status_and_body() -> None:
    stream = open_stream(app, "/ticks?count=many")
    await stream.ended()
    assert stream.status == 422
    assert b"int_parsing" in stream.body


async def test_what_the_application_raises_comes_out_of_every_way_to_wait() -> None:
    async def raising(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("broken")

    with pytest.raises(LookupError, match="broken"):
        await open_stream(raising).events(1)
    with pytest.raises(LookupError, match="broken"):
        await open_stream(raising).started()
    with pytest.raises(LookupError, match="broken"):
        await open_stream(raising).ended()
    with pytest.raises(LookupError, match="broken"):
        await anext(open_stream(raising))


async def test_a_status_is_not_there_before_the_response_has_started() -> None:
    stream = open_stream(app, "/ticks?count=1")
    with pytest.raises(UsageError, match=r"wait for started\(\)"):
        _ = stream.status
    assert not stream.terminated
    await stream.started()
    assert stream.status == 200
    await stream.ended()


async def test_a_paused_client_takes_nothing_until_it_resumes() -> None:
    stream = open_stream(app, "/ticks?count=3")
    await stream.events(1)
    stream.pause()
    await asyncio.sleep(40)
    assert stream.body.count(b"data:") == 1
    stream.resume()
    assert len(await stream.events(3)) == 3
    await stream.ended()


async def test_sends_that_overlap_are_seen() -> None:
    async def careless(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(1)
        body = {"type": "http.response.body", "body": b"data: x\n\n"}
        await asyncio.gather(send({**body, "more_body": True}), send({**body, "more_body": False}))

    stream = open_stream(careless)
    await stream.started()
    assert stream.sends_at_once == 1
    stream.pause()
    await asyncio.sleep(2)
    stream.resume()
    await stream.ended()
    assert stream.sends_at_once == 2
    assert stream.chunks == [b"data: x\n\n"] * 2


async def test_a_response_that_is_no_event_stream_can_be_looked_at_too() -> None:
    stream = open_stream(PlainTextResponse("hello", headers={"X-One": "é"}))
    await stream.ended()
    assert (stream.body, stream.headers["x-one"]) == (b"hello", "é")


# --- the lifespan


class Lifespan:
    def __init__(self, *, fails_at: str | None = None, silent: bool = False) -> None:
        self.log: list[str] = []
        self._fails_at = fails_at
        self._silent = silent

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        for phase in ("startup", "shutdown"):
            message: Message = await receive()
            self.log.append(message["type"])
            if self._silent:
                return
            if self._fails_at == phase:
                await send({"type": f"lifespan.{phase}.failed", "message": "no disk"})
                return
            await send({"type": f"lifespan.{phase}.complete"})


async def test_the_lifespan_runs_around_the_block() -> None:
    app = Lifespan()
    async with running(app):
        assert app.log == ["lifespan.startup"]
    assert app.log == ["lifespan.startup", "lifespan.shutdown"]


@pytest.mark.parametrize("phase", ["startup", "shutdown"])
async def test_a_lifespan_that_fails_is_an_error_with_its_message(phase: str) -> None:
    with pytest.raises(BrokenError, match=f"failed at {phase}: no disk"):
        async with running(Lifespan(fails_at=phase)):
            pass


async def test_a_lifespan_that_gives_no_answer_is_an_error() -> None:
    with pytest.raises(BrokenError, match="at startup without an answer"):
        async with running(Lifespan(silent=True)):
            pass


async def test_what_a_lifespan_raises_comes_out() -> None:
    async def raising(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("no lifespan")

    with pytest.raises(LookupError, match="no lifespan"):
        async with running(raising):
            pass


async def test_an_error_in_the_block_ends_the_lifespan() -> None:
    app = Lifespan()
    with pytest.raises(KeyError):
        async with running(app):
            raise KeyError
    assert app.log == ["lifespan.startup"]


# --- virtual time


def test_an_hour_of_sleep_takes_no_time_and_moves_the_clock_by_an_hour() -> None:
    async def hour() -> float:
        before = asyncio.get_running_loop().time()
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time() - before

    assert run_in_virtual_time(hour()) == pytest.approx(3600)


def test_timers_fire_in_order_and_time_stands_still_while_anything_is_ready() -> None:
    async def main() -> list[tuple[float, str]]:
        loop = asyncio.get_running_loop()
        seen: list[tuple[float, str]] = []

        async def at(delay_s: float, name: str) -> None:
            await asyncio.sleep(delay_s)
            for _ in range(1000):
                await asyncio.sleep(0)
            seen.append((round(loop.time(), 6), name))

        await asyncio.gather(at(2, "two"), at(1, "one"), at(0, "none"))
        return seen

    assert run_in_virtual_time(main()) == [(0, "none"), (1, "one"), (2, "two")]


def test_work_in_a_thread_wakes_the_loop_while_no_timer_is_set() -> None:
    async def main() -> str:
        return await asyncio.get_running_loop().run_in_executor(None, str.upper, "done")

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(main()) == "DONE"
