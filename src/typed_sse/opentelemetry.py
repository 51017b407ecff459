"""OpenTelemetry: a span for each stream, from the moment it opens until its source is closed.

Needs the extra `typed-sse[opentelemetry]`; the only file that imports `opentelemetry`, and of that
the API alone. Hears of streams from the registry and changes nothing about them.
"""

from http import HTTPMethod

from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, TracerProvider, get_tracer

from typed_sse.registry import EndCause, Registry, StreamRecord, process_registry


def trace_streams(
    *, registry: Registry = process_registry, tracer_provider: TracerProvider | None = None
) -> None:
    """Make a span for every stream that opens from now on; call it once.

    The span is named `SSE /orders/{id}` after its route, or `SSE` where none is known. Its kind is
    INTERNAL, its parent the span that is current in the request's task: the server's span, where
    the framework is instrumented. It does not become the current span, so what the source starts
    has the server's span for its parent too.

    | attribute | value |
    | --- | --- |
    | `http.route` | the path template; absent where none is known |
    | `http.request.method` | the method; `_OTHER` if it is none that HTTP knows |
    | `url.path` | the path that was asked for, at most 200 characters |
    | `typed_sse.events_sent` | events that were sent |
    | `typed_sse.body_bytes_sent` | bytes of the body that were sent, keep-alives included |
    | `typed_sse.events_dropped` | events that were yielded and could not be sent any more |
    | `typed_sse.end_cause` | an `EndCause`, such as `client_left` |
    | `error.type` | the class of the error, where the stream has failed or timed out |

    Where the cause is `failed` or `send_timeout`, the status is ERROR and the exception is
    recorded, its message and traceback included. A reader that leaves is no error: the status stays
    unset.

    Args:
        registry: whose streams: those of `process_registry` by default.
        tracer_provider: who makes the spans: by default the global provider, which may also be set
            later.

    Ordering: a span ends exactly once, in the task of its request, when the source is closed.

    Limits: SDKs export a span when it ends, so a stream of hours is seen after hours; for what is
        open now there is `Registry.open_streams`. What a tracer raises is logged, and the stream
        goes on without a span.

    Source: OpenTelemetry's semantic conventions for HTTP, for the names outside `typed_sse.`
    """
    registry.observe(_Spans(get_tracer("typed_sse", tracer_provider=tracer_provider)))


class _Spans:
    """The spans of the streams that are open.

    Invariants:
    1. `_open` has a span for each stream that was opened, was given one and has not ended.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._open: dict[StreamRecord, Span] = {}

    def opened(self, stream: StreamRecord) -> None:
        # Both are the client's: the method is bounded here, the path in the record.
        known = stream.method in HTTPMethod.__members__
        attributes = {
            "http.request.method": stream.method if known else "_OTHER",
            "url.path": stream.path,
        }
        if stream.route:
            attributes["http.route"] = stream.route
        self._open[stream] = self._tracer.start_span(
            f"SSE {stream.route}".rstrip(), kind=SpanKind.INTERNAL, attributes=attributes
        )

    def ended(self, stream: StreamRecord, cause: EndCause, error: BaseException | None) -> None:
        span = self._open.pop(stream, None)
        if span is None:  # it was open before us, or the tracer has failed
            return
        try:
            span.set_attributes(
                {
                    "typed_sse.events_sent": stream.events,
                    "typed_sse.body_bytes_sent": stream.bytes,
                    "typed_sse.events_dropped": stream.dropped,
                    "typed_sse.end_cause": cause.value,
                }
            )
            if error is not None:
                name = type(error).__qualname__
                span.set_attribute("error.type", name)
                span.set_status(StatusCode.ERROR, name)
                span.record_exception(error)
        finally:
            span.end()  # whatever an exception's own `__str__` may raise
