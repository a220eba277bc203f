"""The queue's own counters, as `/metrics` shows them."""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from serve.predict.jobs import WorkQueue


@dataclass(slots=True, eq=False)
class QueueCollector(Collector):
    """Reads a queue when Prometheus asks."""

    queue: WorkQueue

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        queue, tally = self.queue, self.queue.tally
        open_jobs = GaugeMetricFamily(
            "predict_queue", "Forecasts that wait or are out.", labels=["state"]
        )
        open_jobs.add_metric(["waiting"], queue.n_waiting)
        open_jobs.add_metric(["running"], queue.n_running)
        yield open_jobs
        jobs = CounterMetricFamily(
            "predict_jobs", "Forecasts asked for, by how it ended.", labels=["outcome"]
        )
        for outcome, n in list(tally.jobs.items()):
            jobs.add_metric([outcome], n)
        yield jobs
        lookups = CounterMetricFamily(
            "predict_lookups",
            "Requests: a kept answer, an open job, or a new one.",
            labels=["result"],
        )
        for result in ("hit", "joined", "miss"):
            lookups.add_metric([result], tally.lookups[result])
        yield lookups
        yield CounterMetricFamily(
            "predict_offered_again",
            "Jobs that a worker took and did not answer.",
            tally.n_offered_again,
        )
        yield SummaryMetricFamily(
            "predict_wait_seconds",
            "From the request until a worker takes it.",
            count_value=tally.n_waited,
            sum_value=tally.wait_s,
        )
        yield SummaryMetricFamily(
            "predict_service_seconds",
            "From the request to its forecast.",
            count_value=tally.n_served,
            sum_value=tally.service_s,
        )
        yield GaugeMetricFamily(
            "predict_worker_absent_seconds",
            "Since a worker last polled; NaN before the first.",
            queue.seconds_since_poll(),
        )
        yield GaugeMetricFamily(
            "predict_cache_bytes", "Bytes of answers kept, about.", queue.n_bytes
        )
