import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from typed_sse.limits import StreamLimit
from typed_sse.prometheus import StreamCollector, metrics_app
from typed_sse.registry import EndCause, Registry, process_registry
from typed_sse.response import EventSourceResponse
from typed_sse.testing import ASGIApp, open_stream


async def texts(count: int) -> AsyncIterator[str]:
    for _ in range(count):
        yield "a"
        await asyncio.sleep(1)


def shop(registry: Registry) -> FastAPI:
    """Stream the news of an order under a route with a parameter."""
    app = FastAPI()

    @app.get("/orders/{order}")
    async def news(order: str) -> EventSourceResponse:
        return EventSourceResponse(texts(60), registry=registry)

    return app


def scraped_by(collectors: CollectorRegistry) -> dict[str, float]:
    """Scrape as a server of metrics does: `{'name{label="value"}': value}`."""
    return samples(generate_latest(collectors).decode())


def samples(exposition: str) -> dict[str, float]:
    return {
        sample.name
        + "".join(f'{{{label}="{text}"}}' for label, text in sample.labels.items()): sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    }


def collecting(registry: Registry) -> CollectorRegistry:
    collectors = CollectorRegistry()
    collectors.register(StreamCollector(registry))
    return collectors


async def answer(app: ASGIApp, path: str) -> tuple[int, str, bytes]:
    request = open_stream(app, path)
    await request.ended()
    return request.status, request.headers.get("content-type", ""), request.body


def test_before_the_first_stream_every_counter_and_every_cause_is_there_at_zero() -> None:
    assert scraped_by(collecting(Registry())) == {
        "typed_sse_streams_opened_total": 0,
        "typed_sse_streams_refused_total": 0,
        **{f'typed_sse_streams_ended_total{{cause="{cause}"}}': 0 for cause in EndCause},
        "typed_sse_events_sent_total": 0,
        "typed_sse_body_bytes_sent_total": 0,
        "typed_sse_events_dropped_total": 0,
    }


def test_each_metric_tells_its_type_and_what_it_means() -> None:
    for family in StreamCollector(Registry()).collect():
        assert family.type == ("gauge" if family.name == "typed_sse_open_streams" else "counter")
        assert family.documentation.endswith(".")


async def test_open_streams_are_labelled_by_the_template_and_not_by_what_a_client_asked() -> None:
    own = Registry()
    app, collectors = shop(own), collecting(own)
    async with open_stream(app, "/orders/1") as one, open_stream(app, "/orders/2") as two:
        await one.events(1)
        await two.events(1)
        figures = scraped_by(collectors)
    assert {name: value for name, value in figures.items() if "open_streams" in name} == {
        'typed_sse_open_streams{route="/orders/{order}"}': 2
    }


async def test_a_route_that_was_scraped_open_stays_at_zero_when_its_streams_have_ended() -> None:
    own = Registry()
    collectors = collecting(own)
    async with open_stream(shop(own), "/orders/1") as stream:
        await stream.events(1)
        assert scraped_by(collectors)['typed_sse_open_streams{route="/orders/{order}"}'] == 1
    assert scraped_by(collectors)['typed_sse_open_streams{route="/orders/{order}"}'] == 0


async def test_counters_count_open_ended_and_refused_streams_and_what_they_have_sent() -> None:
    own, limit = Registry(), StreamLimit(total=1)
    collectors = collecting(own)
    async with open_stream(EventSourceResponse(texts(9), registry=own, limit=limit)) as stream:
        await stream.events(3)
        for _ in range(2):
            await open_stream(EventSourceResponse(texts(9), registry=own, limit=limit)).ended()
        figures = scraped_by(collectors)
        assert figures["typed_sse_streams_opened_total"] == 1
        assert figures["typed_sse_streams_refused_total"] == 2
        assert figures["typed_sse_events_sent_total"] == 3
        assert figures["typed_sse_body_bytes_sent_total"] == 3 * len("data: a\n\n")
        assert figures['typed_sse_streams_ended_total{cause="client_left"}'] == 0
    figures = scraped_by(collectors)
    assert figures['typed_sse_streams_ended_total{cause="client_left"}'] == 1
    assert figures['typed_sse_open_streams{route=""}'] == 0
    assert figures["typed_sse_events_sent_total"] == 3


async def test_an_event_that_could_not_be_sent_any_more_is_counted_as_dropped() -> None:
    own = Registry()
    stream = open_stream(EventSourceResponse(texts(9), registry=own))
    await stream.events(1)
    stream.refuse(OSError("the client is gone"))
    await stream.ended()
    assert scraped_by(collecting(own))["typed_sse_events_dropped_total"] == 1


async def test_the_metrics_can_be_scraped_in_a_thread_that_has_no_event_loop() -> None:
    own = Registry()
    collectors = collecting(own)
    async with open_stream(EventSourceResponse(texts(1), registry=own, ping=0)) as stream:
        await stream.events(1)
        figures = await asyncio.to_thread(scraped_by, collectors)
    assert figures["typed_sse_events_sent_total"] == 1


async def test_the_mounted_app_serves_the_figures_and_nothing_of_the_global_registry() -> None:
    own = Registry()
    app = shop(own)
    app.mount("/metrics", metrics_app(own))
    async with open_stream(app, "/orders/1") as stream:
        await stream.events(2)
        status, media_type, body = await answer(app, "/metrics/")
    assert status == 200
    assert media_type.startswith("text/plain; version=")
    assert samples(body.decode()).items() >= {"typed_sse_events_sent_total": 2}.items()
    assert all(name.startswith("typed_sse_") for name in samples(body.decode()))


async def test_a_scrape_that_asks_for_a_metric_by_its_name_gets_it() -> None:
    _, _, body = await answer(metrics_app(Registry()), "/?name[]=typed_sse_streams_opened_total")
    # Older releases of prometheus_client serve the others too.
    assert samples(body.decode())["typed_sse_streams_opened_total"] == 0


def test_the_app_leaves_the_global_registry_alone_where_a_collector_may_be_registered() -> None:
    own = Registry()
    metrics_app(own)
    assert not [name for name in scraped_by(REGISTRY) if name.startswith("typed_sse_")]
    own.refuse()
    collector = StreamCollector(own)
    REGISTRY.register(collector)
    try:
        assert scraped_by(REGISTRY)["typed_sse_streams_refused_total"] == 1
    finally:
        REGISTRY.unregister(collector)


def test_without_a_registry_the_figures_are_those_of_the_process() -> None:
    before = scraped_by(collecting(process_registry))["typed_sse_streams_refused_total"]
    process_registry.refuse()
    collectors = CollectorRegistry()
    collectors.register(StreamCollector())
    assert scraped_by(collectors)["typed_sse_streams_refused_total"] == before + 1
