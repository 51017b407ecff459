import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from starlette.types import Receive, Scope, Send

from typed_sse.drain import Drain
from typed_sse.opentelemetry import trace_streams
from typed_sse.registry import EndCause, Registry, process_registry
from typed_sse.response import EventSourceResponse
from typed_sse.testing import open_stream


async def texts(count: int) -> AsyncIterator[str]:
    for _ in range(count):
        yield "a"
        await asyncio.sleep(1)


async def failing(error: Exception) -> AsyncIterator[str]:
    yield "a"
    raise error


@dataclass
class Traced:
    """A registry whose streams are traced, and the spans that have ended."""

    registry: Registry = field(default_factory=Registry)
    provider: TracerProvider = field(default_factory=lambda: TracerProvider(shutdown_on_exit=False))
    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)

    def __post_init__(self) -> None:
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        trace_streams(registry=self.registry, tracer_provider=self.provider)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())


def attributes(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


async def test_a_span_tells_the_route_the_request_and_what_was_sent() -> None:
    traced = Traced()
    app = FastAPI()

    @app.post("/orders/{order}")
    async def news(order: str) -> EventSourceResponse:
        return EventSourceResponse(texts(2), registry=traced.registry)

    await open_stream(app, "/orders/7?full=1", method="POST").ended()
    (span,) = traced.spans
    assert (span.name, span.kind, span.parent) == ("SSE /orders/{order}", SpanKind.INTERNAL, None)
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == "typed_sse"
    assert attributes(span) == {
        "http.route": "/orders/{order}",
        "http.request.method": "POST",
        "url.path": "/orders/7",
        "typed_sse.events_sent": 2,
        "typed_sse.body_bytes_sent": 2 * len("data: a\n\n"),
        "typed_sse.events_dropped": 0,
        "typed_sse.end_cause": "complete",
    }


async def test_what_a_client_makes_up_is_bounded_and_an_unknown_route_is_left_out() -> None:
    traced = Traced()
    response = EventSourceResponse(texts(1), registry=traced.registry)
    await open_stream(response, "/" + "x" * 999, method="MADE-UP").ended()
    (span,) = traced.spans
    assert span.name == "SSE"
    assert "http.route" not in attributes(span)
    assert attributes(span)["http.request.method"] == "_OTHER"
    assert attributes(span)["url.path"] == "/" + "x" * 199


async def test_each_span_is_a_child_of_the_span_of_its_own_request() -> None:
    traced = Traced()
    tracer = traced.provider.get_tracer("server")

    async def server(scope: Scope, receive: Receive, send: Send) -> None:
        with tracer.start_as_current_span(scope["path"], kind=SpanKind.SERVER):
            await asyncio.sleep(1)  # so that the requests are served at the same time
            await EventSourceResponse(texts(2), registry=traced.registry)(scope, receive, send)

    await asyncio.gather(*(open_stream(server, path).ended() for path in ("/a", "/b")))
    servers = {span.name: span for span in traced.spans if span.kind is SpanKind.SERVER}
    streams = [span for span in traced.spans if span.kind is SpanKind.INTERNAL]
    assert len(streams) == len(servers) == 2
    for span in streams:
        assert span.parent == servers[str(attributes(span)["url.path"])].context


@pytest.mark.parametrize("cause", EndCause)
async def test_only_failures_and_send_timeouts_are_errors(cause: EndCause) -> None:
    traced = Traced()
    content = failing(LookupError("no row")) if cause is EndCause.FAILED else texts(60)
    if cause is EndCause.COMPLETE:
        content = texts(1)
    lifetime = 10 if cause is EndCause.LIFETIME else None
    response = EventSourceResponse(content, registry=traced.registry, max_lifetime=lifetime)
    async with Drain(signals=()) as drain:
        client = open_stream(response)
        await client.events(1)
        if cause is EndCause.CLIENT_LEFT:
            client.leave()
        elif cause is EndCause.SEND_TIMEOUT:
            client.pause()
        elif cause is EndCause.DRAINED:
            drain.begin()
        elif cause is EndCause.CANCELLED:
            client.task.cancel()
        await asyncio.wait({client.task})
        await asyncio.gather(client.task, return_exceptions=True)
    (span,) = traced.spans
    assert attributes(span)["typed_sse.end_cause"] == cause.value
    error = {EndCause.FAILED: "LookupError", EndCause.SEND_TIMEOUT: "SendTimeout"}.get(cause)
    assert span.status.status_code is (StatusCode.ERROR if error else StatusCode.UNSET)
    assert span.status.description == attributes(span).get("error.type") == error
    assert len(span.events) == (1 if error else 0)


async def test_a_failure_is_recorded_with_its_message_and_where_it_was_raised() -> None:
    traced = Traced()
    stream = open_stream(
        EventSourceResponse(failing(LookupError("no row")), registry=traced.registry)
    )
    with pytest.raises(LookupError):
        await stream.ended()
    (span,) = traced.spans
    (event,) = span.events
    recorded = dict(event.attributes or {})
    assert (event.name, recorded["exception.type"]) == ("exception", "LookupError")
    assert recorded["exception.message"] == "no row"
    assert "in failing" in str(recorded["exception.stacktrace"])


async def test_a_span_lasts_until_the_source_is_closed_and_ends_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[str] = []

    class Telling(SpanProcessor):
        def on_start(self, span: Span, parent_context: Context | None = None) -> None:
            told.append("started")

        def on_end(self, span: ReadableSpan) -> None:
            told.append("ended")

    async def slow_to_close() -> AsyncIterator[str]:
        try:
            yield "a"
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(5)
            told.append("closed")

    traced = Traced()
    traced.provider.add_span_processor(Telling())
    response = EventSourceResponse(slow_to_close(), registry=traced.registry)
    async with open_stream(response) as stream:
        await stream.events(1)
        assert told == ["started"]
    assert told == ["started", "closed", "ended"]
    assert caplog.records == []  # the SDK warns of a second end


async def test_a_stream_that_has_ended_is_not_kept() -> None:
    traced = Traced()
    (observer,) = traced.registry._observers
    async with open_stream(EventSourceResponse(texts(9), registry=traced.registry)) as stream:
        await stream.events(1)
        assert len(vars(observer)["_open"]) == 1
    assert vars(observer)["_open"] == {}


async def test_a_stream_that_was_open_before_goes_without_a_span(
    caplog: pytest.LogCaptureFixture,
) -> None:
    own = Registry()
    async with open_stream(EventSourceResponse(texts(9), registry=own)) as stream:
        await stream.events(1)
        traced = Traced(own)
    assert own.totals().ended[EndCause.CLIENT_LEFT] == 1
    assert traced.spans == []
    assert caplog.records == []


async def test_a_tracer_that_fails_costs_the_span_and_not_the_stream(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Failing(SpanProcessor):
        def on_start(self, span: Span, parent_context: Context | None = None) -> None:
            raise RuntimeError("no more room")

    traced = Traced()
    traced.provider.add_span_processor(Failing())
    client = open_stream(EventSourceResponse(texts(3), registry=traced.registry))
    await client.ended()
    assert client.terminated
    assert client.body == b"data: a\n\n" * 3
    assert traced.spans == []
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == [
        "an observer of streams failed"
    ]


async def test_a_span_ends_even_if_its_exception_cannot_be_recorded() -> None:
    class Unspeakable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    traced = Traced()
    stream = open_stream(EventSourceResponse(failing(Unspeakable()), registry=traced.registry))
    with pytest.raises(Unspeakable):
        await stream.ended()
    (span,) = traced.spans
    assert span.status.status_code is StatusCode.ERROR
    assert span.events == ()


async def test_by_default_the_process_is_traced_by_the_global_provider_once_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process_registry, "_observers", [])
    late = Traced()
    trace_streams()
    await open_stream(EventSourceResponse(texts(1)), "/before").ended()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", late.provider)
    await open_stream(EventSourceResponse(texts(1)), "/after").ended()
    assert [attributes(span)["url.path"] for span in late.spans] == ["/after"]
