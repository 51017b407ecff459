"""Type-safe Server-Sent Events for FastAPI and Starlette, from the Pydantic model to the wire.

The public names, sorted. Importing this does nothing but define them. What needs an extra, or only
tests, is imported from its module: `typed_sse.channels`, `typed_sse.client`, `typed_sse.fastapi`,
`typed_sse.testing`, `typed_sse.prometheus`, `typed_sse.opentelemetry`.
"""

from typed_sse.control import EndInfo, ErrorInfo, GapInfo, StreamEnd, StreamError, StreamGap
from typed_sse.drain import Drain
from typed_sse.errors import (
    AccessDenied,
    BrokenError,
    ChannelSealed,
    ClosedError,
    Conflict,
    ConnectionFailed,
    EngineUnavailable,
    EventTooLarge,
    InvalidDeclaration,
    InvalidField,
    InvalidPayload,
    Lagged,
    MalformedPayload,
    NotAStream,
    OutcomeUnknown,
    PayloadTooLarge,
    PeerError,
    SendTimeout,
    StreamFailed,
    TypedSSEError,
    UndeclaredEvent,
    UnknownEvent,
    UsageError,
)
from typed_sse.events import BaseEvent, EventUnion
from typed_sse.limits import StreamLimit
from typed_sse.registry import (
    EndCause,
    Registry,
    StreamObserver,
    StreamRecord,
    StreamStatistics,
    Totals,
    process_registry,
)
from typed_sse.response import EventSourceResponse
from typed_sse.streams import EventStream, event_source, merge
from typed_sse.wire import Decoder, ServerSentEvent

__all__ = [
    "AccessDenied",
    "BaseEvent",
    "BrokenError",
    "ChannelSealed",
    "ClosedError",
    "Conflict",
    "ConnectionFailed",
    "Decoder",
    "Drain",
    "EndCause",
    "EndInfo",
    "EngineUnavailable",
    "ErrorInfo",
    "EventSourceResponse",
    "EventStream",
    "EventTooLarge",
    "EventUnion",
    "GapInfo",
    "InvalidDeclaration",
    "InvalidField",
    "InvalidPayload",
    "Lagged",
    "MalformedPayload",
    "NotAStream",
    "OutcomeUnknown",
    "PayloadTooLarge",
    "PeerError",
    "Registry",
    "SendTimeout",
    "ServerSentEvent",
    "StreamEnd",
    "StreamError",
    "StreamFailed",
    "StreamGap",
    "StreamLimit",
    "StreamObserver",
    "StreamRecord",
    "StreamStatistics",
    "Totals",
    "TypedSSEError",
    "UndeclaredEvent",
    "UnknownEvent",
    "UsageError",
    "event_source",
    "merge",
    "process_registry",
]
