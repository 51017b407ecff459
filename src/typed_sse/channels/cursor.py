"""Cursors: the resume points that travel as `id`, of one channel or of several.

A cursor names one event: the epoch of the log, the event's position there, and its tag, which is
random. A log that was lost, or put back to an older copy, may give a position out again, but not
with the same tag. Knows text, nothing of engines.
"""

import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NoBase64
from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2s
from typing import NamedTuple

from typed_sse.errors import InvalidField

MAX_CHANNELS = 64
"""How many channels one cursor can be for."""

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_VALUE = {digit: value for value, digit in enumerate(_DIGITS)}
_WORD = 1 << 32
_LONG = 1 << 64
# The most digits that a position has.
_MOST_DIGITS = 11

# A vector's first byte, so that a later form can be told from this one.
_VERSION = b"\x01"
# Of one channel: which it is, epoch, tag, position.
_ENTRY = struct.Struct(">IIIQ")


class Cursor(NamedTuple):
    """A place in one channel: behind the event that it names.

    Attributes:
        epoch: which log it is; 32 random bits that the log got when it was begun.
        pos: the event's position, up to 2**64 - 1; positions grow, and leave some out.
        tag: 32 random bits of the event's own, never 0; with 0 the cursor names no event: it stands
            behind everything up to `pos`, where there was nothing to name.
    """

    epoch: int
    pos: int
    tag: int

    def __str__(self) -> str:
        """Write it as it travels: `epoch.pos.tag`, each in base 62; 10 to 25 characters."""
        return f"{_in_base_62(self.epoch)}.{_in_base_62(self.pos)}.{_in_base_62(self.tag)}"


def parsed(text: str) -> "Cursor | Mapping[int, Cursor] | None":
    """Read a cursor, or those of several channels by their `channel_key`, from what came back.

    `None` for what is neither: whatever a client sends is an answer, not an error.
    """
    if "." in text:
        epoch, _, rest = text.partition(".")
        pos, _, tag = rest.partition(".")
        values = _from_base_62(epoch), _from_base_62(pos), _from_base_62(tag)
        cursor = Cursor(*values)
        fits = 0 <= cursor.epoch < _WORD and 0 <= cursor.pos < _LONG and 0 <= cursor.tag < _WORD
        return cursor if fits else None
    if len(text) > _longest_vector():
        return None
    try:
        given = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (NoBase64, ValueError):
        return None
    entries = given[1:]
    if given[:1] != _VERSION or len(entries) % _ENTRY.size:
        return None
    return {key: Cursor(epoch, pos, tag) for key, epoch, tag, pos in _ENTRY.iter_unpack(entries)}


def vector(cursors: Mapping[str, Cursor]) -> str:
    """Write the cursors of several channels, by name, as one: 27 characters each and 2 more.

    Raises:
        InvalidField: there are more than 64.
    """
    if len(cursors) > MAX_CHANNELS:
        reason = f"a cursor can be for {MAX_CHANNELS} channels; subscribe to fewer at once"
        raise InvalidField("channels", len(cursors), reason)
    entries = b"".join(
        _ENTRY.pack(channel_key(channel), cursor.epoch, cursor.tag, cursor.pos)
        for channel, cursor in cursors.items()
    )
    return urlsafe_b64encode(_VERSION + entries).rstrip(b"=").decode()


@lru_cache(maxsize=4096)
def channel_key(channel: str) -> int:
    """Return what a channel is called in the cursor of several: 32 bits of a hash of its name.

    Where two channels of a set have the same, the tag tells that a cursor is of the other.
    """
    return int.from_bytes(blake2s(channel.encode(), digest_size=4).digest(), "big")


def _longest_vector() -> int:
    return -(-(len(_VERSION) + MAX_CHANNELS * _ENTRY.size) * 4 // 3)


@lru_cache(maxsize=256)
def _in_base_62(number: int) -> str:
    digits = ""
    while number >= 62:
        number, last = divmod(number, 62)
        digits = _DIGITS[last] + digits
    return _DIGITS[number] + digits


def _from_base_62(digits: str) -> int:
    """Return the number, or -1 where it is none."""
    number = 0
    if not 0 < len(digits) <= _MOST_DIGITS:
        return -1
    for digit in digits:
        value = _VALUE.get(digit)
        if value is None:
            return -1
        number = number * 62 + value
    return number
