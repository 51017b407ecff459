"""Prometheus: the figures of a registry as metrics, read when they are scraped and only then.

Needs the extra `typed-sse[prometheus]`; the only file that imports `prometheus_client`. Counts
nothing itself: what it does not find in the registry, it does not know.
"""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import TypeAlias, cast

from prometheus_client import (
    CollectorRegistry,
    make_asgi_app,  # pyright: ignore[reportUnknownVariableType]
)
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from typed_sse.registry import Registry, process_registry

_Message: TypeAlias = MutableMapping[str, object]

MetricsApp: TypeAlias = Callable[
    [_Message, Callable[[], Awaitable[_Message]], Callable[[_Message], Awaitable[None]]],
    Awaitable[None],
]
"""An ASGI application, in the types of the standard library."""


class StreamCollector(Collector):
    """Export the figures of a registry, as a collector for a `CollectorRegistry` of yours.

    | metric | type | labels |
    | --- | --- | --- |
    | `typed_sse_open_streams` | gauge | `route` |
    | `typed_sse_streams_opened_total` | counter | |
    | `typed_sse_streams_refused_total` | counter | |
    | `typed_sse_streams_ended_total` | counter | `cause` |
    | `typed_sse_events_sent_total` | counter | |
    | `typed_sse_body_bytes_sent_total` | counter | |
    | `typed_sse_events_dropped_total` | counter | |

    Each `cause` is there from the first scrape on, at 0. A `route` is there from the first scrape
    that finds it open, and then stays, at 0 while nothing is open: a series that came and went
    would leave holes in sums. It is the template (`/orders/{id}`), or "" where none is known; the
    path that a client has asked for is no label.

    Args:
        registry: whose figures: those of `process_registry` by default.

    Limits: one process. Several workers have each their own figures, and a scrape of a port that
        they share finds any one of them, so that counters seem to fall. Scrape each worker at an
        address of its own. The multiprocess mode of `prometheus_client` does not see collectors.
    """

    def __init__(self, registry: Registry = process_registry) -> None:
        self._registry = registry
        self._routes: frozenset[str] = frozenset()

    def collect(self) -> Iterable[Metric]:
        """Return the metrics as they are now; any thread may call it."""
        totals = self._registry.totals()
        open_by_route = self._registry.open_by_route()
        self._routes = self._routes.union(open_by_route)
        streams = GaugeMetricFamily(
            "typed_sse_open_streams", "Event streams that are open.", labels=["route"]
        )
        for route in sorted(self._routes):
            streams.add_metric([route], open_by_route.get(route, 0))
        ended = CounterMetricFamily(
            "typed_sse_streams_ended", "Event streams that have ended.", labels=["cause"]
        )
        for cause, count in totals.ended.items():
            ended.add_metric([cause.value], count)
        counters = (
            ("streams_opened", "Event streams that were opened.", totals.opened),
            ("streams_refused", "Event streams that a limit has refused.", totals.refused),
            ("events_sent", "Events that were sent.", totals.events),
            ("body_bytes_sent", "Bytes of bodies that were sent.", totals.bytes),
            ("events_dropped", "Events that could not be sent any more.", totals.dropped),
        )
        return [
            streams,
            ended,
            *(
                CounterMetricFamily(f"typed_sse_{name}", help_text, value=value)
                for name, help_text, value in counters
            ),
        ]


def metrics_app(registry: Registry = process_registry) -> MetricsApp:
    """Make an ASGI application that answers scrapes.

    Mount it: `app.mount("/metrics", metrics_app())`. It has a `CollectorRegistry` of its own and
    serves nothing else. To serve these metrics beside others, register a `StreamCollector` where
    those are: `REGISTRY.register(StreamCollector())`.

    Args:
        registry: whose figures: those of `process_registry` by default.

    Limits: those of `StreamCollector`. It asks nobody who they are.
    """
    collectors = CollectorRegistry(auto_describe=True)  # knows names, for `?name[]=`
    collectors.register(StreamCollector(registry))
    return cast("MetricsApp", make_asgi_app(collectors))
