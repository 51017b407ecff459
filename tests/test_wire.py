import enum
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from cases import CASES, Case, Seen
from typed_sse import wire
from typed_sse.errors import EventTooLarge, InvalidField
from typed_sse.wire import Decoder, ServerSentEvent, unended

Reading = tuple[Seen, int | None, str]
"""The events that a reader has seen, the last retry, and the last event id."""


def decoded(chunks: Iterable[bytes], *, last_event_id: str = "") -> Reading:
    decoder = Decoder(last_event_id=last_event_id)
    events: list[ServerSentEvent] = []
    for chunk in chunks:
        events += decoder.feed(chunk)
        kept = decoder._tail
        assert not kept.startswith(b"\n"), "invariant 1"
        assert len(kept) > 100 or not re.search(rb"\r|\n\n", kept), "invariants 1 and 2"
    seen = [(event.event or "message", event.data or "", event.id or "") for event in events]
    return seen, decoder.retry_ms, decoder.last_event_id


def passes(case: Case, chunks: Iterable[bytes]) -> bool:
    events, retry, last_event_id = decoded(chunks, last_event_id=case.initial_last_event_id)
    return (
        events == case.events
        and last_event_id == case.final_last_event_id
        and (case.retry_ambiguous or retry == case.retry)
    )


def cut(body: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


def by_the_book(body: bytes) -> Reading:
    """Read a whole body as the standard's text says it, step by step and at no speed."""
    text = body.decode("utf-8", "replace").removeprefix("\ufeff")
    *lines, _ = re.split("\r\n|\r|\n", text)
    seen: Seen = []
    data, event, id_buffer, last_event_id = "", "", "", ""
    retry: int | None = None
    for line in lines:
        if not line:
            last_event_id = id_buffer
            if data:
                seen.append((event or "message", data.removesuffix("\n"), last_event_id))
            data, event = "", ""
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "data":
                data += value + "\n"
            case "event":
                event = value
            case "id" if "\0" not in value:
                id_buffer = value
            case "retry" if re.fullmatch("[0-9]{1,15}", value):
                retry = int(value)
            case _:
                pass
    return seen, retry, last_event_id


# --- the decoder, on every conformance case


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_case_fed_whole_or_in_its_own_chunks_gives_its_events(case: Case) -> None:
    assert passes(case, [case.body])
    assert passes(case, case.chunks)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_case_fed_in_small_chunks_gives_its_events(case: Case) -> None:
    for size in (1, 2, 3) if len(case.body) < 50_000 else (1, 4093):
        assert passes(case, cut(case.body, size)), size


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_case_cut_in_two_gives_its_events(case: Case) -> None:
    places = set(range(len(case.body) + 1))
    if len(case.body) > 2048:
        ends = [at for at, byte in enumerate(case.body) if byte in b"\r\n"]
        near = {end + by for end in ends[:3] + ends[-3:] for by in (-1, 0, 1, 2)}
        places &= near | {1, 65535, 65536, 65537, len(case.body) // 2}
    for at in places:
        assert passes(case, (case.body[:at], case.body[at:])), at


@pytest.mark.parametrize("trailing", [b" data: x", b": x\n", b": x\n data: x"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_trailing_bytes_that_finish_no_event_change_nothing(case: Case, trailing: bytes) -> None:
    assert passes(case, [case.body, trailing])
    assert passes(case, [case.body + trailing])


# --- the decoder, beyond the cases


@given(st.binary(max_size=300), st.integers(min_value=1, max_value=300))
def test_arbitrary_bytes_are_read_by_the_book_however_they_are_cut(body: bytes, size: int) -> None:
    assert decoded(cut(body, size)) == decoded([body]) == by_the_book(body)


SHORT = [
    *(b"\r", b"\n", b"\r\n", b"data", b":", b" ", b"x", b"\xef\xbb\xbf", b"\xc3", b"\0"),
    *(b"id: 7", b"id:8", b"event: e", b"event:f", b"retry: 9", b"retry", b"data: y", b"data:z"),
]
# From 4 KiB on lines and chunks go other ways.
LONG = [b"data: " + b"l" * 5000, b"data:" + b"m" * 5000, "data: ö".encode() * 900, b": " * 2500]


@given(st.lists(st.sampled_from(SHORT)), st.integers(min_value=1, max_value=9))
def test_short_lines_are_read_by_the_book_however_they_are_cut(
    fragments: list[bytes], size: int
) -> None:
    body = b"".join(fragments)
    assert decoded(cut(body, size)) == decoded([body]) == by_the_book(body)


@given(
    st.lists(st.sampled_from([*SHORT, b"\n", b"\n\n", b"\r\n\r\n", *LONG])),
    st.sampled_from([97, 4095, 4096, 6001, 12_345]),
)
def test_long_lines_are_read_by_the_book_however_they_are_cut(
    fragments: list[bytes], size: int
) -> None:
    body = b"".join(fragments)
    assert decoded(cut(body, size)) == decoded([body]) == by_the_book(body)


@pytest.mark.parametrize(
    "before", [b"", b"data: a\n\n", b"event: e\n", b"data: a\n", b"data\n\n\ndata\ndata:b\n"]
)
@pytest.mark.parametrize(
    "end", [b"\n\n", b"\n: x\n\n", b"\ndata: z\n\n", b"\n\ndata: z\n\n", b"\n"]
)
def test_a_long_line_between_short_ones_is_read_by_the_book(before: bytes, end: bytes) -> None:
    for line in LONG:
        for body in (before + line + end, (before + line + end).replace(b"\n", b"\r\n")):
            for size in (4097, len(body)):
                assert decoded(cut(body, size)) == by_the_book(body)


@pytest.mark.parametrize("before", [b"", b"data: a\n\n", b"\n"])
def test_many_short_lines_in_a_long_chunk_are_read_by_the_book(before: bytes) -> None:
    for lines in (b"data: b\n" * 1000, b"data: b\n\n" + b": c\n" * 2000):
        body = before + lines
        assert decoded([body]) == by_the_book(body)
        assert decoded([body, b"\n"]) == by_the_book(body + b"\n")


def test_a_name_that_comes_again_is_read_again_and_holds_for_one_event() -> None:
    named = b"event: a\ndata: 1\n\nevent: a\ndata: 2\n\n"
    body = named + b"data: 3\n\nevent:a\ndata: 4\n\nevent\ndata: 5\n\n"
    events, _, _ = by_the_book(body * 2)
    assert [name for name, _, _ in events] == ["a", "a", "message", "a", "message"] * 2
    for size in (1, 20, 1000):
        assert decoded(cut(body * 2, size))[0] == events


def test_a_long_name_is_read_and_not_kept() -> None:
    decoder = Decoder()
    name = "n" * 5000
    events = decoder.feed(f"event: {name}\ndata: a\n\n".encode() * 2)
    assert [event.event for event in events] == [name, name]
    assert not decoder._name_line


def test_the_id_of_a_received_event_is_none_until_one_was_seen_and_then_sticks() -> None:
    events = Decoder().feed(b"data: a\n\nid: 1\ndata: b\n\ndata: c\n\nid\ndata: d\n\n")
    assert [event.id for event in events] == [None, "1", "1", ""]


def test_a_decoder_that_resumes_gives_the_id_it_resumed_from() -> None:
    decoder = Decoder(last_event_id="41")
    [event] = decoder.feed(b"data: a\n\n")
    assert (event.id, decoder.last_event_id) == ("41", "41")


def test_a_retry_counts_as_soon_as_its_line_has_ended() -> None:
    decoder = Decoder()
    seen: list[int | None] = []
    for chunk in (b"data: a\nretry: 1", b"0\n", b"retry: x\n", b"retry: 20\n\n"):
        decoder.feed(chunk)
        seen.append(decoder.retry_ms)
    assert seen == [None, 10, 10, 20]


def test_asking_for_the_retry_after_each_chunk_looks_at_each_line_once() -> None:
    decoder = Decoder()
    for _ in range(100):
        decoder.feed(b"data: x\n")
        assert decoder.retry_ms is None
        assert decoder._scanned == len(decoder._tail)
    decoder.feed(b"retry: 5\n")
    assert decoder.retry_ms == 5
    decoder.feed(b"\nretry: 6\n")
    assert decoder.retry_ms == 6


def test_a_received_event_carries_the_retry_of_its_own_block_only() -> None:
    events = Decoder().feed(b"retry: 10\ndata: a\n\ndata: b\n\n")
    assert [event.retry for event in events] == [10, None]


@pytest.mark.parametrize(
    "retry", ["-1", "+5", "1_000", " 10 ", "٣", "1e3", "", "1" * 16, "9" * 5000]
)
def test_a_retry_that_is_not_plain_ascii_digits_is_skipped(retry: str) -> None:
    decoder = Decoder()
    decoder.feed(f"retry: {retry}\n\n".encode())
    assert decoder.retry_ms is None


def test_an_empty_chunk_between_cr_and_lf_changes_nothing() -> None:
    decoder = Decoder()
    chunks = (b"data: a\r", b"", b"\ndata: b\r\n\r\n")
    [event] = [event for chunk in chunks for event in decoder.feed(chunk)]
    assert event.data == "a\nb"


# --- the decoder's limit


def test_an_event_of_exactly_the_limit_passes_and_one_byte_more_does_not() -> None:
    body = b"data: 1234\r\n\r\n"
    for size in range(1, len(body) + 1):
        assert len(list(feed_all(Decoder(max_event_bytes=10), cut(body, size)))) == 1
        with pytest.raises(EventTooLarge, match="max_event_bytes=9"):
            list(feed_all(Decoder(max_event_bytes=9), [*cut(body, size), b""]))


def feed_all(decoder: Decoder, chunks: Iterable[bytes]) -> Iterator[ServerSentEvent]:
    for chunk in chunks:
        yield from decoder.feed(chunk)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_events_before_one_that_is_too_large_are_delivered_however_the_bytes_are_cut(
    size: int,
) -> None:
    body = b"data: a\n\ndata: b\n\ndata: " + b"x" * 50 + b"\n\ndata: c\n\n"
    seen: list[str | None] = []
    decoder = Decoder(max_event_bytes=20)
    with pytest.raises(EventTooLarge) as error:
        for chunk in [*cut(body, size), b""]:
            seen += [event.data for event in decoder.feed(chunk)]
    assert seen == ["a", "b"]
    assert error.value.limit_bytes == 20
    with pytest.raises(EventTooLarge):
        decoder.feed(b"data: d\n\n")


def test_an_endless_line_is_refused_at_the_limit_and_not_kept() -> None:
    decoder = Decoder(max_event_bytes=1000)
    with pytest.raises(EventTooLarge):
        list(feed_all(decoder, [b"x" * 100] * 100))
    assert not decoder._tail


def test_a_limit_below_the_byte_order_mark_does_not_refuse_the_mark() -> None:
    assert decoded_with_limit_1([b"\xef", b"\xbb", b"\xbf", b"\n\n"]) == []
    assert decoded_with_limit_1([b"\xef\xbb\xbf\n\n"]) == []


def decoded_with_limit_1(chunks: list[bytes]) -> list[ServerSentEvent]:
    return list(feed_all(Decoder(max_event_bytes=1), chunks))


def test_blank_lines_do_not_count_for_the_limit() -> None:
    assert decoded_with_limit_1([b"\n" * 1000, b"\r\n" * 1000]) == []


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_byte_is_refused(limit: int) -> None:
    with pytest.raises(InvalidField, match="max_event_bytes"):
        Decoder(max_event_bytes=limit)


class CountingBytearray(bytearray):
    """Counts the bytes that searches look at, so that linear time can be asserted, not timed."""

    searched = 0

    def rfind(self, *args: Any) -> int:
        _, start, *_ = *args, 0
        type(self).searched += len(self) - start
        return super().rfind(*args)


class CountingBytes(bytes):
    """Counts searches from the end."""

    searches = 0

    def rfind(self, *args: Any) -> int:
        type(self).searches += 1
        return super().rfind(*args)


def test_a_chunk_of_short_lines_is_not_searched_line_by_line() -> None:
    decoder = Decoder()
    decoder.feed(b": no byte order mark\n")
    CountingBytes.searches = 0
    decoder.feed(CountingBytes(b"data: x\n" * 8192))
    assert 1 < CountingBytes.searches < 20


@pytest.mark.parametrize("chunk_bytes", [1, 100, 65536])
def test_one_line_of_8_mib_costs_a_constant_number_of_looks_at_each_byte(chunk_bytes: int) -> None:
    megabytes = 8 if chunk_bytes > 1 else 1
    body = b"data: " + b"x" * (megabytes << 20) + b"\n\n"
    CountingBytearray.searched = 0
    decoder = Decoder()
    decoder._tail = CountingBytearray()
    [event] = [event for chunk in cut(body, chunk_bytes) for event in decoder.feed(chunk)]
    assert event.data is not None
    assert len(event.data) == megabytes << 20
    assert CountingBytearray.searched <= 2 * len(body)


# --- the encoder


def test_the_fields_come_in_the_documented_order_each_on_its_line() -> None:
    event = ServerSentEvent("x", event="echo", id="7", retry=3000, comment="hi")
    assert event.encode() == b": hi\nid: 7\nevent: echo\nretry: 3000\ndata: x\n\n"


def test_an_id_may_be_an_int() -> None:
    event = ServerSentEvent("x", id=0)
    assert event.id == "0"
    assert event.encode() == b"id: 0\ndata: x\n\n"


def test_only_line_ends_of_the_standard_split_data_and_comments() -> None:
    text = "a\r\nb\rc\nd\u2028e\u0085f\x0bg\x1ch"
    rest = "d\u2028e\u0085f\x0bg\x1ch".encode()
    assert ServerSentEvent(text).encode() == b"data: a\ndata: b\ndata: c\ndata: %b\n\n" % rest
    assert ServerSentEvent(comment=text).encode() == b": a\n: b\n: c\n: %b\n\n" % rest


@pytest.mark.parametrize(
    ("event", "frame"),
    [
        (ServerSentEvent(""), b"data: \n\n"),
        (ServerSentEvent("\n"), b"data: \ndata: \n\n"),
        (ServerSentEvent(" x"), b"data:  x\n\n"),
        (ServerSentEvent(id="7"), b"id: 7\n\n"),
        (ServerSentEvent(id=""), b"id: \n\n"),
        (ServerSentEvent(comment=""), b": \n\n"),
        (ServerSentEvent("é\u2028😀"), "data: é\u2028😀\n\n".encode()),
    ],
)
def test_edges_of_the_encoder(event: ServerSentEvent, frame: bytes) -> None:
    assert event.encode() == frame


class Payload(BaseModel):
    at: datetime
    note: str = Field(serialization_alias="theNote")


class Shade(enum.Enum):
    DARK = "dark"


@dataclass
class Point:
    x: int
    y: object


class Colour(enum.StrEnum):
    RED = "red"


WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SOME_ID = UUID("12345678-1234-5678-1234-567812345678")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"message": "hé\nllo", "n": [1, None, True]}, '{"message":"hé\\nllo","n":[1,null,true]}'),
        (3, "3"),
        (False, "false"),
        ([], "[]"),
        (
            {"at": WHEN, "day": date(2026, 1, 2)},
            '{"at":"2026-01-02T03:04:05+00:00","day":"2026-01-02"}',
        ),
        ([time(3, 4)], '["03:04:00"]'),
        ([Decimal("1.50"), PurePosixPath("/a")], '["1.50","/a"]'),
        ([{1}, frozenset({"a"})], '[[1],["a"]]'),
        ([Shade.DARK, Point(1, Point(2, None))], '["dark",{"x":1,"y":{"x":2,"y":null}}]'),
        ([SOME_ID, Colour.RED], f'["{SOME_ID}","red"]'),
        (Payload(at=WHEN, note="n"), '{"at":"2026-01-02T03:04:05Z","theNote":"n"}'),
        (
            {"nested": [Payload(at=WHEN, note="n")]},
            '{"nested":[{"at":"2026-01-02T03:04:05Z","theNote":"n"}]}',
        ),
        ("already text", "already text"),
    ],
)
def test_data_that_is_no_string_is_one_line_of_json(data: object, text: str) -> None:
    event = ServerSentEvent(data)
    assert event.data == text
    assert event.encode() == b"data: %b\n\n" % text.encode()


# Not a StrEnum: the old way is the one that formats as the member's name.
class Kind(str, enum.Enum):  # noqa: UP042
    ECHO = "echo"


class Number(enum.IntEnum):
    SEVEN = 7


class Wait(int, enum.Enum):
    LONG = 9


def test_members_of_enums_are_written_by_value() -> None:
    event = ServerSentEvent(
        Kind.ECHO, event=Kind.ECHO, id=Number.SEVEN, retry=Wait.LONG, comment=Kind.ECHO
    )
    assert event.encode() == b": echo\nid: 7\nevent: echo\nretry: 9\ndata: echo\n\n"


class Loop:
    """Nothing that JSON knows."""


def endless() -> list[object]:
    around: list[object] = []
    around.append(around)
    return around


def deep() -> list[object]:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    return nested


@pytest.mark.parametrize(
    "data",
    [Loop(), b"bytes", float("nan"), {(1, 2): 3}, endless(), {"deep": Loop()}, deep()],
)
def test_data_that_json_cannot_hold_is_refused_with_a_way_out(data: object) -> None:
    with pytest.raises(InvalidField, match=r"^data=.*cannot be written as JSON.*typed event"):
        ServerSentEvent(data)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("event", value) for value in ("a\nb", "a\rb", "", "\ud800", 7)],
        *[("id", value) for value in ("a\nb", "a\rb", "a\0b", "\udfff", True, 1.5, b"1")],
        *[("retry", value) for value in (-1, True, 1.5, "3", 10**15)],
        *[("comment", value) for value in ("\ud800", 7)],
        ("data", "\ud800"),
    ],
)
def test_a_value_that_the_wire_cannot_hold_is_refused_by_name(field: str, value: object) -> None:
    fields = {"data": "x", field: value}
    with pytest.raises(InvalidField) as error:
        ServerSentEvent(**fields)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert (error.value.field, error.value.value) == (field, value)
    assert str(error.value).startswith(f"{field}=")


@pytest.mark.parametrize("field", ["id", "retry"])
def test_a_number_of_more_digits_than_python_writes_is_refused_by_name(field: str) -> None:
    fields: dict[str, Any] = {field: 10**5000}
    with pytest.raises(InvalidField, match=f"^{field}="):
        ServerSentEvent("x", **fields)


def test_an_event_without_any_field_is_refused() -> None:
    with pytest.raises(InvalidField, match="no field at all"):
        ServerSentEvent()


def test_a_huge_value_is_not_repeated_whole_in_the_error() -> None:
    with pytest.raises(InvalidField) as error:
        ServerSentEvent("x", event="\n" * 100_000)
    assert len(str(error.value)) < 400


def test_an_event_cannot_be_changed_after_it_was_checked() -> None:
    event = ServerSentEvent("x")
    with pytest.raises(AttributeError):
        event.data = "a\nid: forged"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


# --- both

NO_LINE_ENDS = st.characters(exclude_categories=["Cs"], exclude_characters="\r\n")
names = st.text(NO_LINE_ENDS, min_size=1)
ids = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"))
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"))


@given(
    data=texts,
    event=st.none() | names,
    id=st.none() | ids,
    retry=st.none() | st.integers(min_value=0, max_value=10**15 - 1),
    comment=st.none() | texts,
)
def test_decoding_an_encoded_event_gives_the_event(
    data: str, event: str | None, id: str | None, retry: int | None, comment: str | None
) -> None:
    sent = ServerSentEvent(data, event=event, id=id, retry=retry, comment=comment)
    [received] = Decoder().feed(sent.encode())
    assert received == ServerSentEvent(data, event=event, id=id, retry=retry)


@given(st.recursive(st.none() | st.booleans() | st.integers() | texts, st.lists, max_leaves=8))
def test_json_data_comes_back_as_it_was(value: object) -> None:
    [received] = Decoder().feed(ServerSentEvent([value]).encode())
    assert received.data is not None
    assert json.loads(received.data) == [value]


@given(
    data=st.integers() | st.text(NO_LINE_ENDS),
    id=st.none() | ids | st.integers(0, 10**18),
    event=names,
)
def test_a_json_frame_is_what_the_event_encodes_to(
    data: object, id: str | int | None, event: str
) -> None:
    for retry in (None, 5):
        head = wire.json_head(event)
        wire_id = None if id is None else id if isinstance(id, int) else wire.checked_id(id)
        text = json.dumps(data)
        frame = wire.json_frame(head, text.encode(), wire_id, retry)
        [received] = Decoder().feed(frame)
        [by_encoder] = Decoder().feed(
            ServerSentEvent(text, event=event, id=id, retry=retry).encode()
        )
        assert received == by_encoder


def test_every_conformance_case_has_an_id_of_its_own() -> None:
    assert len({case.id for case in CASES}) == len(CASES)
    assert sum(case.id.startswith("wpt/") for case in CASES) == 48


@pytest.mark.parametrize(
    ("event", "is_cut"),
    [
        (ServerSentEvent(comment="ping"), True),
        (ServerSentEvent(comment="two\nlines", retry=7), True),
        (ServerSentEvent(retry=7), True),
        (ServerSentEvent(id=7), False),
        (ServerSentEvent(comment="x", event="x"), False),
        (ServerSentEvent("x", retry=7), False),
    ],
)
def test_only_what_counts_without_its_blank_line_goes_without(
    event: ServerSentEvent, is_cut: bool
) -> None:
    frame = event.encode()
    assert unended(frame) == (frame[:-1] if is_cut else frame)


def test_a_retry_without_a_blank_line_counts_at_once() -> None:
    decoder = Decoder()
    decoder.feed(unended(ServerSentEvent(comment="x", retry=7).encode()))
    assert decoder.retry_ms == 7
    assert decoder.feed(b"data: x\n\n") == [ServerSentEvent("x", retry=7)]
