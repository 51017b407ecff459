"""Type-safe Server-Sent Events for FastAPI and Starlette, from the Pydantic model to the wire.

The public names, sorted. Importing this does nothing but define them.
"""

from typed_sse.drain import Drain
from typed_sse.errors import (
    BrokenError,
    EventTooLarge,
    InvalidDeclaration,
    InvalidField,
    InvalidPayload,
    MalformedPayload,
    PeerError,
    SendTimeout,
    TypedSSEError,
    UndeclaredEvent,
    UnknownEvent,
    UsageError,
)
from typed_sse.events import BaseEvent, EventUnion
from typed_sse.response import EventSourceResponse
from typed_sse.streams import EventStream, event_source, merge
from typed_sse.wire import Decoder, ServerSentEvent

__all__ = [
    "BaseEvent",
    "BrokenError",
    "Decoder",
    "Drain",
    "EventSourceResponse",
    "EventStream",
    "EventTooLarge",
    "EventUnion",
    "InvalidDeclaration",
    "InvalidField",
    "InvalidPayload",
    "MalformedPayload",
    "PeerError",
    "SendTimeout",
    "ServerSentEvent",
    "TypedSSEError",
    "UndeclaredEvent",
    "UnknownEvent",
    "UsageError",
    "event_source",
    "merge",
]
