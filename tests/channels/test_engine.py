import math
from dataclasses import replace

import pytest

from typed_sse.channels.cursor import Cursor
from typed_sse.channels.engine import (
    MAX_BATCH,
    MAX_KEY_BYTES,
    Caps,
    Durability,
    GapReason,
    Record,
    Retain,
    Tail,
    check_append,
    fitting,
    gap_behind,
)
from typed_sse.errors import InvalidField, PayloadTooLarge

CAPS = Caps(
    Durability.PROCESS, shared=False, lossy_feed=False, max_body_bytes=10, max_batch_bytes=25
)


def record(pos: int, *, tag: int = 0, prev: int | None = None, body: bytes = b"") -> Record:
    cursor = Cursor(1, pos, tag or 100 + pos)
    return Record("a", cursor, pos - 1 if prev is None else prev, body, seals=False)


# --- Retain


@pytest.mark.parametrize("events", [1, 2, 1000, 1_000_000])
def test_so_many_events_can_be_kept(events: int) -> None:
    assert Retain(events).events == events


@pytest.mark.parametrize("events", [0, -1, 1_000_001, True, False, math.nan, math.inf])
def test_so_many_events_cannot(events: int) -> None:
    with pytest.raises(InvalidField, match=r"^events="):
        Retain(events)


@pytest.mark.parametrize("age_s", [1, 1.0, 3600, 1e9])
def test_events_can_be_kept_so_long(age_s: float) -> None:
    assert Retain(age_s=age_s).age_s == age_s


@pytest.mark.parametrize("age_s", [0, 0.999, -1, 1.1e9, math.nan, math.inf])
def test_events_cannot_be_kept_so_long(age_s: float) -> None:
    with pytest.raises(InvalidField, match=r"^age_s="):
        Retain(age_s=age_s)


def test_by_default_a_thousand_events_are_kept_for_a_day() -> None:
    assert Retain() == Retain(1000, 24 * 3600)


# --- check_append


def test_what_fits_is_appended_as_it_is() -> None:
    bodies = [b"x" * 10, b"y" * 10, b"z" * 5]
    assert check_append(CAPS, bodies, "k", seal=True) is bodies


def test_a_seal_alone_is_an_empty_record_and_nothing_at_all_is_refused() -> None:
    assert check_append(CAPS, [], None, seal=True) == (b"",)
    with pytest.raises(InvalidField, match=r"^events="):
        check_append(CAPS, [], None, seal=False)


@pytest.mark.parametrize(
    ("bodies", "what", "size", "limit"),
    [
        ([b"x" * 11], "bytes in an event", 11, 10),
        ([b"", b"x" * 11, b""], "bytes in an event", 11, 10),
        ([b"x" * 9] * 3, "bytes in a batch", 27, 25),
        ([b""] * (MAX_BATCH + 1), "events in a batch", MAX_BATCH + 1, MAX_BATCH),
    ],
)
def test_what_is_too_large_says_how_large_it_may_be(
    bodies: list[bytes], what: str, size: int, limit: int
) -> None:
    with pytest.raises(PayloadTooLarge) as refused:
        check_append(CAPS, bodies, None, seal=False)
    error = refused.value
    assert (error.what, error.size, error.limit) == (what, size, limit)


def test_as_many_records_as_can_be_are_taken() -> None:
    assert len(check_append(CAPS, [b""] * MAX_BATCH, None, seal=False)) == MAX_BATCH


@pytest.mark.parametrize("key", ["k", "k" * MAX_KEY_BYTES, "ä" * (MAX_KEY_BYTES // 2), " ", "\0"])
def test_a_key_of_this_length_is_taken(key: str) -> None:
    assert check_append(CAPS, [b"x"], key, seal=False) == [b"x"]


@pytest.mark.parametrize("key", ["", "k" * (MAX_KEY_BYTES + 1), "ä" * (MAX_KEY_BYTES // 2 + 1)])
def test_a_key_of_this_length_is_refused(key: str) -> None:
    with pytest.raises(InvalidField, match=r"^key="):
        check_append(CAPS, [b"x"], key, seal=False)


# --- fitting


@pytest.mark.parametrize(
    ("max_bytes", "count"), [(0, 1), (1, 1), (3, 1), (4, 2), (5, 2), (6, 3), (7, 4), (100, 4)]
)
def test_as_many_records_as_fit_are_returned_and_one_at_least(max_bytes: int, count: int) -> None:
    records = [record(n, body=bytes(size)) for n, size in enumerate((3, 1, 2, 1))]
    assert fitting(records, max_bytes) == records[:count]


def test_of_no_records_none_fit() -> None:
    assert fitting([], 10) == []


def test_empty_records_need_no_room() -> None:
    records = [record(n) for n in range(5)]
    assert fitting(records, 0) == records


# --- gap_behind: a channel that began behind position 10, with records 11, 14 and 15

TAIL = Tail(Cursor(1, 15, 115), sealed=False, base=10)
FIRST = record(11, prev=10)
SECOND = record(14, prev=11)
LAST = record(15, prev=14)
BIRTH = Cursor(1, 10, 0)


def test_the_last_record_is_valid_whether_it_is_kept_or_not() -> None:
    assert gap_behind(TAIL.cursor, TAIL, LAST, None) is None
    assert gap_behind(TAIL.cursor, TAIL, None, None) is None


def test_a_record_is_valid_while_it_is_kept() -> None:
    assert gap_behind(SECOND.cursor, TAIL, SECOND, LAST) is None
    assert gap_behind(SECOND.cursor, TAIL, None, LAST) is GapReason.EVICTED


def test_a_birth_is_valid_while_nothing_was_evicted() -> None:
    assert gap_behind(BIRTH, TAIL, None, FIRST) is None
    assert gap_behind(BIRTH, TAIL, None, SECOND) is GapReason.EVICTED
    assert gap_behind(BIRTH, TAIL, None, None) is GapReason.EVICTED


def test_a_birth_of_an_empty_channel_is_its_tail() -> None:
    assert gap_behind(BIRTH, Tail(BIRTH, sealed=False, base=10), None, None) is None


@pytest.mark.parametrize(
    "after",
    [
        TAIL.cursor._replace(epoch=2),
        SECOND.cursor._replace(epoch=2),
        BIRTH._replace(epoch=2),
        TAIL.cursor._replace(tag=1),
        TAIL.cursor._replace(tag=0),
        Cursor(1, 16, 116),
        Cursor(1, 2**64 - 1, 1),
        Cursor(1, 9, 0),
        Cursor(1, 0, 1),
    ],
)
def test_what_was_never_there_is_a_reset_whatever_is_kept(after: Cursor) -> None:
    for named, following in ((None, None), (SECOND, LAST), (LAST, None), (None, FIRST)):
        assert gap_behind(after, TAIL, named, following) is GapReason.RESET


@pytest.mark.parametrize("after", [SECOND.cursor._replace(tag=1), Cursor(1, 12, 114)])
def test_a_cursor_that_the_record_before_it_does_not_have_is_a_reset(after: Cursor) -> None:
    named = SECOND if after.pos == 14 else FIRST
    assert gap_behind(after, TAIL, named, LAST) is GapReason.RESET


def test_caps_say_a_mebibyte_by_default() -> None:
    caps = Caps(Durability.HOST, shared=True, lossy_feed=True)
    assert (caps.max_body_bytes, caps.max_batch_bytes) == (2**20, 2**23)
    assert replace(caps, shared=False).shared is False
