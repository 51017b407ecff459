"""Control events: what a stream says of itself, under the reserved prefix `stream.`.

They carry no `id`, so a reader that comes back still asks for what follows the last real event.
Knows typed events, nothing of when one is sent.
"""

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

    Sent where the response asks for it (`end_event=True`). A stream that ends because the server
    shuts down or its lifetime is over is not complete, and does not send it.
    """
