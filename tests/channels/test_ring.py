from random import Random

import pytest

from typed_sse.channels.cursor import Cursor
from typed_sse.channels.engine import GapReason, Record, Tail
from typed_sse.channels.ring import Ring, body_of, framed
from typed_sse.sources import Unseen

EPOCH = 7


def cursor(pos: int) -> Cursor:
    return Cursor(EPOCH, pos, pos + 1000 if pos else 0)


def record(pos: int, prev: int, body: bytes = b"data: 1\n\n", *, seals: bool = False) -> Record:
    return Record("room", cursor(pos), prev, body, seals)


def empty_ring(max_frames: int = 4, max_bytes: int = 10_000) -> Ring:
    return Ring(Tail(cursor(0), sealed=False, base=0), max_frames, max_bytes)


def fill(ring: Ring, first: int, last: int) -> None:
    for pos in range(first, last + 1):
        add(ring, record(pos, pos - 1))


def add(ring: Ring, what: Record) -> None:
    ring.append(what, 0.0)


def test_an_empty_channel_is_located_at_its_birth_and_nowhere_else() -> None:
    ring = empty_ring()
    assert ring.locate(cursor(0)) == 0
    assert ring.locate(Cursor(EPOCH + 1, 0, 0)) is GapReason.RESET
    assert ring.locate(Cursor(EPOCH, 5, 9)) is GapReason.RESET
    assert ring.cursor_at(0) == cursor(0)


def test_every_cursor_in_the_ring_is_located_behind_its_frame() -> None:
    ring = empty_ring()
    fill(ring, 1, 8)
    for pos in range(9):
        assert ring.locate(cursor(pos)) == pos
        assert ring.cursor_at(pos) == cursor(pos)


@pytest.mark.parametrize(
    "wrong",
    [Cursor(EPOCH, 3, 1), Cursor(EPOCH, 8, 1), Cursor(EPOCH, 9, 1009), Cursor(EPOCH + 1, 3, 1003)],
)
def test_a_cursor_of_another_log_or_a_later_one_is_not_located(wrong: Cursor) -> None:
    ring = empty_ring()
    fill(ring, 1, 8)
    assert ring.locate(wrong) is GapReason.RESET


def test_positions_with_holes_between_are_located_only_where_there_is_an_event() -> None:
    ring = empty_ring()
    add(ring, record(10, 0))
    add(ring, record(20, 10))
    assert ring.locate(cursor(10)) == 1
    assert ring.locate(Cursor(EPOCH, 15, 3)) is GapReason.RESET


def test_a_trimmed_ring_knows_the_place_in_front_of_it_and_nothing_older() -> None:
    ring = empty_ring(max_frames=4)
    fill(ring, 1, 9)
    assert ring.is_full
    base = ring.excess()
    ring.trim(base)
    assert base == 5
    assert ring.base == 5
    assert ring.head == 9
    assert ring.locate(cursor(5)) == 5
    assert ring.cursor_at(5) == cursor(5)
    assert ring.locate(cursor(4)) is None
    assert ring.newest(4) == 5
    assert ring.newest(5) is None


def test_a_ring_is_bounded_in_bytes_and_keeps_one_frame_whatever_its_size() -> None:
    ring = empty_ring(max_frames=100, max_bytes=1000)
    big = b"data: " + b"x" * 5000 + b"\n\n"
    for pos in range(1, 6):
        add(ring, record(pos, pos - 1, big))
        if ring.is_full:
            ring.trim(ring.excess())
    assert ring.head - ring.base == 1
    assert ring.locate(cursor(4)) == 4


def test_a_ring_that_begins_in_the_middle_does_not_know_the_place_in_front_of_it() -> None:
    ring = Ring(Tail(cursor(50), sealed=False, base=0), 4, 1000)
    add(ring, record(50, 49))
    assert ring.cursor_at(0) is None
    assert ring.newest(1) == 0
    assert ring.newest(2) is None
    assert ring.locate(cursor(49)) is None


def test_a_ring_that_begins_with_the_first_event_knows_the_birth_in_front_of_it() -> None:
    ring = Ring(Tail(cursor(1), sealed=False, base=0), 4, 1000)
    add(ring, record(1, 0))
    assert ring.cursor_at(0) == cursor(0)
    assert ring.newest(2**53) == 0


def test_a_channel_whose_events_were_all_evicted_is_followed_from_its_tail() -> None:
    ring = Ring(Tail(cursor(50), sealed=False, base=0), 4, 1000)
    assert ring.locate(cursor(50)) == 0
    assert ring.newest(3) is None
    add(ring, record(51, 50))
    assert ring.cursor_at(0) == cursor(50)
    assert ring.locate(cursor(50)) == 0
    assert ring.locate(cursor(51)) == 1


def test_a_piece_has_the_most_frames_and_bytes_that_it_may_and_one_frame_at_least() -> None:
    ring = empty_ring(max_frames=50)
    fill(ring, 1, 20)
    assert ring.piece(3, 5, 10_000) == (b"".join(ring.frames(3, 8)), 8, 5)
    assert ring.piece(3, 5, 1) == (ring.frames(3, 4)[0], 4, 1)


def test_a_seal_without_a_body_is_not_counted_among_the_events_of_a_piece() -> None:
    ring = empty_ring()
    add(ring, record(1, 0))
    add(ring, record(2, 1, b"", seals=True))
    assert ring.piece(0, 5, 1000)[1:] == (2, 1)
    assert ring.piece(1, 5, 1000)[1:] == (2, 0)


def test_the_newest_leave_out_what_has_come_too_long_ago() -> None:
    ring = empty_ring()
    for pos in range(1, 5):
        ring.append(record(pos, pos - 1), float(pos))
    assert ring.newest(2**53, 3.0) == 2
    assert ring.newest(1, 3.0) == 3
    assert ring.newest(3, 9.0) == 4


def test_an_empty_body_moves_the_id_and_is_no_event() -> None:
    ring = empty_ring()
    add(ring, record(1, 0, b"", seals=True))
    (frame,) = ring.frames(0, 1)
    assert isinstance(frame, Unseen)
    assert frame == f"id: {cursor(1)}\n\n".encode()
    assert ring.tail.sealed


def test_what_was_framed_is_got_back() -> None:
    for body in (b"data: 1\n\n", b"event: a\ndata: b\n\n", b""):
        assert body_of(framed(cursor(3), body)) == body


def test_random_appends_and_trims_keep_places_where_they_are() -> None:
    for seed in range(200):
        random = Random(seed)
        ring = empty_ring(max_frames=random.randint(1, 6), max_bytes=random.choice((40, 400)))
        pos, places = 0, {cursor(0): 0}
        for index in range(1, 61):
            step = random.randint(1, 3)
            add(ring, record(pos + step, pos))
            pos += step
            places[cursor(pos)] = index
            if ring.is_full:
                ring.trim(ring.excess())
            for known, where in places.items():
                found = ring.locate(known)
                expected = where if where >= ring.base else None
                assert found == expected, f"seed={seed}"
                if where >= ring.base:
                    assert ring.cursor_at(where) == known, f"seed={seed}"
