"""How channels lie in a stream of JetStream's: names as subjects, appends as messages.

An append is one message, with all its records, so that a batch is atomic. A position is made of the
message's number and the record's place in it. Pure; knows nothing of connections.
"""

import re
import secrets
import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2s, shake_128
from typing import Final, NamedTuple, NotRequired, TypedDict
from urllib.parse import quote, unquote

from typed_sse.channels.cursor import Cursor
from typed_sse.channels.engine import KEY_WINDOW_S, Record, Retain, Tail

PLACES = 1024
"""A position is the message's number times this, and the record's place in it from 1 on."""

MAX_AGE_S = 30 * 86_400
"""How old a message gets, whatever its channel's `Retain` says."""

_HEAD = struct.Struct(">BBIQQQIdH")
_ENTRY = struct.Struct(">II")
_VERSION = 1
# So many records more than twice what is to be kept there may be.
_SPARE = 100
_NANO = 1_000_000_000

# Of every stream of ours, as the server tells it.
_FIXED: Final[Mapping[str, object]] = {
    "retention": "limits",
    "storage": "file",
    "discard": "old",
    "allow_direct": True,
    "duplicate_window": int(KEY_WINDOW_S) * _NANO,
    "max_msgs": -1,
    "max_bytes": -1,
    "max_msgs_per_subject": -1,
    "max_msg_size": -1,
    "allow_rollup_hdrs": False,
}


class Message(NamedTuple):
    """One append.

    On the wire: version, whether it seals, epoch, base, prev, before, events, age_s and the number
    of records (48 bytes), then a tag and a length for each record, then the records. One without
    records begins a channel. Base and prev are 0 in the first one: it does not know its number.

    Attributes:
        seq: its number in the stream.
        time_s: when the server has stored it, in seconds of its clock; 0 where that is not known.
        before, total: how many records the channel had before it, and with it.
        retain: how much is to be kept, as of this append.
        records: its records.
        tail: the channel's end, as of this append.
    """

    seq: int
    time_s: float
    before: int
    total: int
    retain: Retain
    records: Sequence[Record]
    tail: Tail

    @property
    def first_kept(self) -> int:
        """The number of the channel's oldest record that is still read, the first one's being 0."""
        return max(0, self.total - 2 * self.retain.events - _SPARE)


def new_epoch() -> int:
    """Return what a channel begins under."""
    return secrets.randbelow(2**32 - 1) + 1


def encoded(
    last: Message | None,
    epoch: int,
    bodies: Sequence[bytes],
    retain: Retain,
    *,
    key: str | None = None,
    seals: bool = False,
) -> bytes:
    """Return the message that follows `last` in its channel."""
    base, prev, before = 0, 0, 0
    if last is not None:
        base, prev, before = last.tail.base, last.tail.cursor.pos, last.total
    kept = retain.events, retain.age_s
    head = _HEAD.pack(_VERSION, seals, epoch, base, prev, before, *kept, len(bodies))
    tags = _tags(len(bodies), epoch, key)
    table = b"".join(_ENTRY.pack(tag, len(body)) for tag, body in zip(tags, bodies, strict=True))
    return b"".join((head, table, *bodies))


def decoded(channel: str, seq: int, time_s: float, data: bytes) -> Message:
    """Read a message.

    Raises:
        ValueError: it is none of ours.
    """
    try:
        version, sealed, epoch, base, prev, before, events, age_s, count = _HEAD.unpack_from(data)
        if version != _VERSION:
            raise ValueError(version)
        retain = Retain(events, age_s)
        start = _HEAD.size + count * _ENTRY.size
        entries = list(_ENTRY.iter_unpack(data[_HEAD.size : start]))
    except struct.error as error:
        raise ValueError(len(data)) from error
    first = seq * PLACES
    prev = prev or first
    cursor = Cursor(epoch, first, 0)
    records: list[Record] = []
    for place, (tag, size) in enumerate(entries, 1):
        cursor = Cursor(epoch, first + place, tag)
        seals = bool(sealed) and place == count
        records.append(Record(channel, cursor, prev, data[start : start + size], seals))
        prev = cursor.pos
        start += size
    if start != len(data) or len(records) != count:
        raise ValueError(len(data))
    tail = Tail(cursor, bool(sealed), base or first)
    return Message(seq, time_s, before, before + count, retain, records, tail)


def message_id(channel: str, key: str) -> str:
    """Return what the server tells repeated messages by."""
    text = f"{len(channel)}:{channel}{key}".encode(errors="surrogatepass")
    return blake2s(text, digest_size=16).hexdigest()


@lru_cache(maxsize=8192)
def words(channel: str) -> str:
    """Write a channel's name as words of a subject; a word cannot be empty, or have dots."""
    parts = (quote(part, safe="").replace(".", "%2E") or "%" for part in channel.split("/"))
    return ".".join(parts)


@lru_cache(maxsize=8192)
def channel_of(words: str) -> str:
    """Read a channel's name from the words of a subject."""
    return "/".join("" if part == "%" else unquote(part) for part in words.split("."))


def new_config(stream: str, replicas: int) -> Mapping[str, object]:
    """Return what to make a stream of."""
    root = f"{stream}.{secrets.token_hex(4)}"
    made = {"name": stream, "num_replicas": replicas, "max_age": MAX_AGE_S * _NANO}
    return {**made, "subjects": [f"{root}.c.>"], **_fixed(root)}


def root_of(stream: str, config: Mapping[str, object]) -> str:
    """Return what the subjects of a stream begin with.

    Raises:
        ValueError: it is none of ours; says by what.
    """
    subjects = str(config.get("subjects"))
    found = re.fullmatch(rf"\['({re.escape(stream)}\.[0-9a-f]+)\.c\.>'\]", subjects)
    root = found[1] if found else ""
    differs = [] if root else [f"subjects is {subjects}"]
    for name, value in _fixed(root).items():
        if config.get(name) != value:
            differs.append(f"{name} is {config.get(name)!r}")
    if differs:
        raise ValueError(", ".join(differs))
    return root


def _fixed(root: str) -> Mapping[str, object]:
    return {**_FIXED, "republish": {"src": f"{root}.c.>", "dest": f"{root}.live.>"}}


def _tags(count: int, epoch: int, key: str | None) -> Sequence[int]:
    """Draw tags, or make them of a key: so they can be told when the records are gone."""
    seed = secrets.token_bytes(16) if key is None else key.encode(errors="surrogatepass")
    drawn = shake_128(epoch.to_bytes(4, "big") + seed).digest(4 * count)
    # 0 is no tag.
    return [tag or 1 for tag in struct.unpack(f">{count}I", drawn)]


class _Error(TypedDict):
    err_code: int
    description: str


class _Stored(TypedDict):
    seq: int
    time: str
    data: NotRequired[str]


class _State(TypedDict):
    num_subjects: NotRequired[int]
    bytes: int
    subjects: NotRequired[Mapping[str, int]]


class Answer(TypedDict):
    """What JetStream answers: as much of it as is used here, each where it was asked for."""

    error: NotRequired[_Error]
    seq: int
    duplicate: NotRequired[bool]
    config: Mapping[str, object]
    state: _State
    ts: str
    total: int
    limit: int
    message: NotRequired[_Stored]
