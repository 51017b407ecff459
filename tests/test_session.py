"""What a client refuses at once, what it keeps of an end, and what it says."""

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any, cast

import pytest
from pydantic import BaseModel, Field

from typed_sse import BaseEvent, ConnectionFailed, InvalidField, ServerSentEvent, StreamEnd
from typed_sse.client import AsyncEventSource, EventSource
from typed_sse.errors import MalformedPayload
from typed_sse.reconnect import Connect, ReconnectPolicy, Stop, Wait
from typed_sse.session import SKIP, ClientState, Options, Session, session_of, waiting
from typed_sse.transport import Lost


class Words(BaseModel):
    words: list[str] = Field(max_length=2)


class Said(BaseEvent[Words]): ...


class Done(BaseEvent[None], terminal=True): ...


URL = "http://test/sse"


def session(events: object = None, *, url: str = URL, **options: Any) -> Session[object]:
    decode: Callable[[ServerSentEvent], object] | None = options.pop("decode", None)
    unknown = options.pop("unknown", "raise")
    return session_of(url, events, decode, unknown, cast("Options", options))


# --- what is refused at once


@pytest.mark.parametrize("cls", [AsyncEventSource, EventSource])
@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("url", {"url": "/sse"}),
        ("url", {"url": "ftp://host/sse"}),
        ("url", {"url": "http:///sse"}),
        ("url", {"url": "http://[::1"}),
        ("decode", {"events": Said, "decode": str}),
        ("unknown", {"events": Said, "unknown": "ignore"}),
        ("malformed", {"malformed": "yield"}),
        ("terminal", {"terminal": "done"}),
        ("content", {"json": 1, "content": b"x"}),
        ("json", {"json": {1, 2}}),
        ("json", {"json": float("nan")}),
        ("json", {"json": "\ud800"}),
        ("last_event_id", {"last_event_id": "a\x01b"}),
        ("last_event_id", {"last_event_id": "x" * 8193}),
        ("id", {"last_event_id": "a\nb"}),
        ("max_event_bytes", {"max_event_bytes": 0}),
    ],
)
def test_an_option_that_cannot_be_used_is_refused_before_anything_is_sent(
    cls: Callable[..., object], field: str, options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidField) as caught:
        cls(**{"url": URL, **options})
    assert caught.value.field == field


@pytest.mark.parametrize(
    "url",
    [
        "ftp://ann:secret@host/?token=secret",
        "ann:secret@host",
        "http:ann:secret@host/",
        "http://ann:secret@[::1",
        "http://ann:secret@h\u2100/",
    ],
)
def test_what_is_secret_in_a_url_that_is_refused_is_not_in_the_error(url: str) -> None:
    with pytest.raises(InvalidField) as caught:
        session(url=url)
    assert "secret" not in repr(vars(caught.value)) + str(caught.value)
    assert caught.value.__cause__ is None


def test_an_option_that_there_is_not_is_refused() -> None:
    with pytest.raises(TypeError, match="retries"):
        session(retries=3)


# --- what is handed on, and where the stream is


def test_the_last_id_is_that_of_the_event_that_was_handed_on() -> None:
    client = session(last_event_id="4")
    client.reconnector.received(2, "6", None)
    assert client.last_event_id == "4"
    client.take(ServerSentEvent("x", id="5"))
    assert (client.last_event_id, client.reconnector.last_event_id) == ("5", "6")
    client.take(ServerSentEvent("x"))
    assert client.last_event_id == ""


def test_a_decoder_goes_on_behind_the_last_id() -> None:
    client = session(last_event_id="4", max_event_bytes=10)
    assert client.decoder().feed(b"data: x\n\n") == [ServerSentEvent("x", id="4")]


def test_what_does_not_fit_is_told_by_its_place_and_never_by_its_value() -> None:
    def decode(message: ServerSentEvent) -> Words:
        return Words.model_validate_json(message.data or "")

    client = session(decode=decode)
    with pytest.raises(MalformedPayload) as caught:
        client.take(ServerSentEvent('{"words": ["secret", 5]}'))
    assert caught.value.reason == "words.1: Input should be a valid string"
    assert "secret" not in str(caught.value)
    with pytest.raises(MalformedPayload, match="the whole value: Input should be"):
        client.take(ServerSentEvent("[]"))


@pytest.mark.parametrize(
    ("events", "options", "message", "reason"),
    [
        (Done, {}, ServerSentEvent("null", event="done"), "terminal"),
        (None, {"terminal": ["x"]}, ServerSentEvent("1", event="x"), "terminal"),
        (None, {"terminal": ["message"]}, ServerSentEvent("1"), "terminal"),
        (None, {"sentinel": "1"}, ServerSentEvent("1", event="x"), "terminal"),
        (None, {"sentinel": ""}, ServerSentEvent(""), "terminal"),
        (None, {"terminal": ["stream.end"]}, ServerSentEvent("", event="stream.end"), "stream.end"),
        (StreamEnd, {}, ServerSentEvent('{"events":0}', event="stream.end"), "stream.end"),
        (Said, {}, ServerSentEvent("", event="stream.end"), "stream.end"),
    ],
)
def test_the_last_event_is_known_by_its_name_or_its_data(
    events: object, options: dict[str, Any], message: ServerSentEvent, reason: str
) -> None:
    client = session(events, **options)
    client.take(message)
    assert client.stop == Stop(reason, error=False)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_a_control_event_is_none_of_the_last_ones_that_have_to_come() -> None:
    client = session(terminal=["stream.end"], policy=ReconnectPolicy(repeat="unsent"))
    assert client.reconnector.ended(0) == Stop("ended", error=False)


def test_an_end_that_is_skipped_is_no_value() -> None:
    assert session(Said).take(ServerSentEvent("", event="stream.end")) is SKIP
    assert session(sentinel="x").take(ServerSentEvent("x")) is SKIP


# --- errors, states, log


def test_an_error_has_the_loss_that_has_led_to_it_and_no_earlier_one() -> None:
    client = session()
    cut = Lost("cut", "reset by peer")
    assert isinstance(client.lose(cut, 0), Wait)
    error = client.error_of(Stop("cut", error=True))
    assert isinstance(error, ConnectionFailed)
    assert error.__cause__ is cut
    assert "reset by peer" in str(error)
    later = client.error_of(Stop("ended", error=True))
    assert later is not None
    assert later.__cause__ is None
    assert "reset by peer" not in str(later)


def test_an_error_tells_where_the_stream_could_go_on() -> None:
    client = session(last_event_id="7")
    client.lose(Lost("unreachable", "refused"), 0)
    error = client.error_of(Stop("unreachable", error=True))
    assert isinstance(error, ConnectionFailed)
    assert (error.last_event_id, error.failures, error.url) == ("7", 1, URL)


def test_a_good_end_is_no_error_and_told_once() -> None:
    states: list[ClientState] = []
    client = session(on_state=states.append)
    assert client.error_of(Stop("no-content", error=False)) is None
    client.closed()
    client.closed()
    assert states == [ClientState("closed", "no-content")]


def test_only_waits_are_logged_and_nothing_of_the_peers_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    client = session(url="http://ann:secret@test/sse?token=secret")
    client.now(ClientState("connecting"))
    client.lose(Lost("cut", "\x1b[2J"), 0)
    client.now(waiting(Wait(1.26, "cut", 1)))
    client.now(waiting(Wait(2.0, "cut", 2)))
    assert caplog.record_tuples == [
        ("typed_sse", logging.INFO, "http://test/sse: cut; connecting again in 1.3 s"),
        ("typed_sse", logging.WARNING, "http://test/sse: cut; connecting again in 2.0 s"),
    ]


def test_a_request_has_the_id_only_where_there_is_one() -> None:
    client = session()
    assert "last-event-id" not in dict(client.request(Connect("", 1), {}).headers)
    assert dict(client.request(Connect("5", 1), {}).headers)["last-event-id"] == "5"


async def test_a_source_can_be_made_where_no_loop_runs() -> None:
    source = await asyncio.to_thread(AsyncEventSource, URL)
    await source.aclose()
    assert source.last_event_id == ""


# --- what the program or the peer gives


@pytest.mark.parametrize("headers", [{"x-key": 7}, {"x-key": None}, {7: "x"}])
def test_a_header_that_is_no_text_is_refused_without_its_value(headers: dict[Any, Any]) -> None:
    with pytest.raises(InvalidField, match="give a str") as caught:
        session().request(Connect("", None), headers)
    assert caught.value.field == "headers"


def test_a_key_of_the_peers_is_escaped_and_cut_in_an_error() -> None:
    class Counts(BaseEvent[dict[str, int]]): ...

    data = json.dumps({"\x1b[2J" + "k" * 10_000: "no number"})
    with pytest.raises(MalformedPayload) as caught:
        session(Counts).take(ServerSentEvent(data, event="counts"))
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert "\x1b[2J" in caught.value.reason
