"""`/health` and `/metrics`: for the machine this runs on."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from litestar import Controller, Request, Response, get
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from serve.errors import ForbiddenError, NothingVerifiedError
from serve.gateway import Gateway, GatewayPart
from serve.schemas import Freshness, Live

if TYPE_CHECKING:
    from serve.fast import FastLayer

METRICS_TYPE = "text/plain; version=0.0.4"
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


def loopback_only(
    connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler
) -> None:
    """Refuse who does not ask from this machine.

    A guard of the routes, not of paths: the router has more than one spelling of each.
    A proxy on this machine asks for somebody else, which its headers tell.

    Raises
    ------
    ForbiddenError
        If the peer is elsewhere, or the request was passed on.
    """
    client = connection.client
    host = client.host if client is not None else ""
    is_near = host.startswith("127.") or host in {"::1", "testclient"}
    if not is_near or any(name in connection.headers for name in _FORWARDED):
        raise ForbiddenError("this is answered to the gateway's own machine only")


class ProbeController(Controller):
    """Liveness, readiness, freshness and metrics, on loopback only."""

    include_in_schema = False
    guards = (loopback_only,)

    @get("/health/live", operation_id="readLive")
    async def read_live(self) -> Response[Live]:
        """Return 200 while the process answers."""
        return _uncached(Live("live"))

    @get("/health/ready", operation_id="readReady")
    async def read_ready(self, gateway: GatewayPart) -> Response[Live]:
        """Return 200 once a verified artefact is loaded, else 503."""
        if gateway.view is None:
            raise NothingVerifiedError("no artefact has been verified yet")
        return _uncached(Live("ready"))

    @get("/health/freshness", operation_id="readFreshness")
    async def read_freshness(self, gateway: GatewayPart) -> Response[Freshness]:
        """Return ages to alert on; readiness does not depend on them."""
        view, refresher = gateway.view, gateway.refresher
        age = time.monotonic() - gateway.holder.verified_mono
        return _uncached(
            Freshness(
                now=gateway.clock.now(),
                verified_at=refresher.verified_at,
                verified_age_s=None if view is None else round(age, 3),
                stale=view is None or view.is_stale,
                n_forecasts=0 if view is None else len(view.snapshot.forecasts),
                n_stale=0 if view is None else len(view.stale_keys),
                refused=refresher.refused,
            )
        )

    @get("/metrics", operation_id="readMetrics")
    async def read_metrics(self, request: Request[Any, Any, Any]) -> Response[bytes]:
        """Return the counters in Prometheus' text format."""
        registry: CollectorRegistry = request.app.state.registry
        return Response(generate_latest(registry), media_type=METRICS_TYPE)


def _uncached(content: Live | Freshness) -> Response[Any]:
    return Response(content, headers={"Cache-Control": "no-store"})


@dataclass(slots=True, eq=False)
class GatewayCollector(Collector):
    """Reads the gateway's own counters when Prometheus asks."""

    gateway: Gateway
    layer: "FastLayer"

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        yield from self._requests()
        yield from self._artefacts()
        cache = self.gateway.cache
        lookups = CounterMetricFamily(
            "answer_cache_lookups", "Look-ups in the answer cache.", labels=["result"]
        )
        lookups.add_metric(["hit"], cache.hits)
        lookups.add_metric(["miss"], cache.misses)
        yield lookups
        yield GaugeMetricFamily(
            "answer_cache_bytes", "Bytes kept in the answer cache.", cache.n_bytes
        )

    def _requests(self) -> Iterator[Metric]:
        answered = CounterMetricFamily(
            "http_requests",
            "Requests answered, by the layer that did.",
            labels=["route", "layer", "status"],
        )
        for (route, layer, status), n in list(self.layer.answered.items()):
            answered.add_metric([route, layer, str(status)], n)
        yield answered
        seconds = CounterMetricFamily(
            "http_router_seconds", "Time spent in the router.", labels=["route"]
        )
        for route, spent in list(self.layer.seconds.items()):
            seconds.add_metric([route], spent)
        yield seconds

    def _artefacts(self) -> Iterator[Metric]:
        refresher, view = self.gateway.refresher, self.gateway.view
        refused = CounterMetricFamily(
            "artefact_refused", "Refreshes refused.", labels=["reason"]
        )
        for reason, n in list(refresher.refused_total.items()):
            refused.add_metric([reason], n)
        yield refused
        yield CounterMetricFamily(
            "artefact_swaps", "Boards swapped in.", refresher.n_swaps
        )
        age = time.monotonic() - self.gateway.holder.verified_mono
        yield GaugeMetricFamily(
            "artefact_verified_age_seconds",
            "Since the last successful verification.",
            age if view is not None else float("nan"),
        )
        yield GaugeMetricFamily(
            "artefact_stale",
            "1 while anything served is stale.",
            float(view is None or view.is_stale),
        )
        version = GaugeMetricFamily(
            "artefact_version", "Version of each verified artefact.", labels=["kind"]
        )
        if view is not None:
            for kind, artefact in view.snapshot.artefacts.items():
                version.add_metric([kind], artefact.version)
        yield version
