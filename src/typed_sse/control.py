"""Control events: what a stream says of itself, under the reserved prefix `stream.`.

They carry no `id`, so a reader that comes back still asks for what follows the last real event.
Knows typed events, nothing of when one is sent.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from typed_sse.events import BaseEvent


class ErrorInfo(BaseModel):
    """Why a stream has failed, in words that are fit for its reader."""

    model_config = ConfigDict(
        use_attribute_docstrings=True,
        # Whoever reads it can count on both.
        json_schema_serialization_defaults_required=True,
    )

    code: str = "internal"
    """A word for programs: `internal`, or `http_<status>` for an `HTTPException`, or the server's
    own."""

    message: str = "The stream failed on the server."
    """A sentence for people."""


class StreamError(BaseEvent[ErrorInfo], event="stream.error", terminal=True):
    """The stream has failed and ends here; everything before it was delivered.

    By default it says nothing of the exception: that is for the server's log.
    """


class EndInfo(BaseModel):
    """What a complete stream has carried."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    events: int
    """How many events were sent on this connection, this one not counted."""


class StreamEnd(BaseEvent[EndInfo], event="stream.end", terminal=True):
    """The stream is complete; there is nothing to come back for.

    Sent where the response asks for it (`end_event=True`); at the end of a sealed channel; and
    behind a gap at which a channel closes. A stream that ends because the server shuts down or its
    lifetime is over is not complete, and does not send it.
    """


class GapInfo(BaseModel):
    """What a reader has missed and cannot be given."""

    model_config = ConfigDict(
        use_attribute_docstrings=True, json_schema_serialization_defaults_required=True
    )

    channel: str
    """The channel that events are missing of."""

    reason: Literal["evicted", "reset", "overflow"]
    """`evicted`: they are not kept any more. `reset`: the id is none of this channel's log, or the
    log was lost. `overflow`: the reader was too slow."""

    asked: str | None = None
    """The id that the reader was to continue from."""

    first: str | None = None
    """The id that it continues from instead: of the first event that follows, or of the last one
    that was skipped."""


class StreamGap(BaseEvent[GapInfo], event="stream.gap"):
    """Events are missing here, and cannot be had any more.

    What follows comes after them. A reader that holds state loads it anew.
    """
