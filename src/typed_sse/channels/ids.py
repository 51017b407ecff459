"""Ids: what the ids of a subscription say, so that whoever comes back with one can be continued.

Of one channel, each event's own cursor; of several, the vector of all. Knows cursors and frames.
"""

from typed_sse.channels.cursor import Cursor, vector
from typed_sse.channels.ring import framed

# With more channels than this, an id for each event would be most of what is sent.
_MOST_IN_EACH = 8
_CHECKPOINT_S = 1.0


class Ids:
    """Where a reader of several channels is, and when it has been told.

    Attributes:
        at: the cursor of the last event taken of each channel; a channel is missing as long as
            its place has no name, and then no id is given: the channel would be taken for new.
        unsaid: the reader has had events since the last id.
    """

    __slots__ = ("_said_s", "at", "unsaid")

    def __init__(self) -> None:
        self.at: dict[str, Cursor] = {}
        self.unsaid = False
        self._said_s = 0.0

    def frame(self, channel: str, cursor: Cursor, body: bytes, channels: int) -> bytes:
        """Return the frame of an event of one of so many channels, which the reader has next."""
        self.at[channel] = cursor
        if channels <= _MOST_IN_EACH and len(self.at) == channels:
            return framed(vector(self.at), body)
        self.unsaid = True
        return body

    def checkpoint(self, channels: int, now_s: float) -> bytes:
        """Return a frame that only says where the reader is; none while that has no name."""
        if len(self.at) < channels:
            return b""
        self.unsaid = False
        self._said_s = now_s
        return framed(vector(self.at), b"")

    def checkpoint_if_due(self, channels: int, now_s: float) -> bytes:
        """Return one if there is something to say, and a second has gone by."""
        due = self.unsaid and now_s - self._said_s >= _CHECKPOINT_S
        return self.checkpoint(channels, now_s) if due else b""

    @property
    def wait_s(self) -> float | None:
        """How long whoever waits may do so before it is time to say where the reader is."""
        return _CHECKPOINT_S if self.unsaid else None
