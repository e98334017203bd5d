"""Watching the consumer: a log line every ten seconds, Prometheus metrics, a progress bar."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Self

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from pipeline import terminal
from pipeline.landing.lane import Lane, Written
from pipeline.landing.plan import Plan
from pipeline.landing.positions import Partition
from pipeline.settings import ServiceError

log = logging.getLogger(__name__)

LOG_EVERY_SECONDS = 10


class Watch:
    """Counts what the loop tells it. Serves the metrics on loopback only; a scraper elsewhere needs a tunnel or a
    proxy.
    """

    def __init__(self, metrics_port: int | None) -> None:
        self._registry = CollectorRegistry()
        self._records = Counter("stock_landed_records", "Records landed in objects", ["topic"], registry=self._registry)
        self._bad = Counter("stock_bad_records", "Records landed as dead letters", ["topic"], registry=self._registry)
        self._objects = Counter("stock_objects", "Objects put", ["topic"], registry=self._registry)
        self._bytes = Counter("stock_object_bytes", "Bytes of the objects put", ["topic"], registry=self._registry)
        self._lag = Gauge(
            "stock_lag_records", "Records read by nobody yet", ["topic", "partition"], registry=self._registry
        )
        self._since_commit = Gauge(
            "stock_seconds_since_commit", "Seconds since a batch was completed", registry=self._registry
        )
        self._unlanded = Gauge(
            "stock_unlanded_records", "Records read and not landed yet", ["topic", "partition"], registry=self._registry
        )
        self._failing = Gauge(
            "stock_sink_failing_seconds", "Seconds since the sink takes nothing; 0: it does", registry=self._registry
        )
        self._server = _serve(metrics_port, self._registry) if metrics_port else None
        self._bar: Any = None  # tqdm's, once there is an end to come to
        self.records = self.bad = self.objects = self.bytes = 0
        self._started = self._last_line = self._last_commit = time.monotonic()
        self._records_at_last_line = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
        if self._server:
            server, thread = self._server
            server.shutdown()
            server.server_close()
            thread.join()

    def expect(self, ends: Mapping[Partition, int] | None) -> None:
        """Show a progress bar if there is an end to come to."""
        if ends is not None:
            self._bar = terminal.progress("records", has_lines=False)

    def begun(self, expected: int) -> None:
        """Note that a partition was given with this many records to come."""
        if self._bar is not None:
            self._bar.total = (self._bar.total or 0) + max(expected, 0)
            self._bar.refresh()

    def written(self, plan: Plan, batch: Written) -> None:
        """Note that a batch is in the sink and its end is committed."""
        self.records += batch.records
        self.bad += batch.bad
        self.objects += batch.objects
        self.bytes += batch.bytes
        self._last_commit = time.monotonic()
        for counter, value in (
            (self._records, batch.records),
            (self._bad, batch.bad),
            (self._objects, batch.objects),
            (self._bytes, batch.bytes),
        ):
            counter.labels(plan.topic).inc(value)
        if self._bar is not None:
            self._bar.update(batch.records + batch.bad)
        log.debug(
            "batch landed",
            extra={
                "topic": plan.topic,
                "partition": plan.partition,
                "start": plan.start,
                "end": plan.end,
                "objects": batch.objects,
            },
        )

    def tick(
        self,
        lanes: Mapping[Partition, Lane],
        lag: Callable[[Partition], int | None],
        now: float,
        *,
        failing_seconds: float = 0,
    ) -> None:
        """Log a line if one is due. To be called once a loop; `lag` is asked for each partition only then.
        `failing_seconds`: how long the sink has taken nothing.
        """
        if now - self._last_line < LOG_EVERY_SECONDS:
            return
        lags = {partition: lag(partition) for partition in lanes}
        unlanded = {partition: lane.records for partition, lane in lanes.items()}
        for partition, behind in lags.items():
            self._lag.labels(partition.topic, partition.partition).set(behind or 0)
            self._unlanded.labels(partition.topic, partition.partition).set(unlanded[partition])
        self._failing.set(failing_seconds)
        self._since_commit.set(now - self._last_commit)
        per_second = (self.records - self._records_at_last_line) / (now - self._last_line)
        self._last_line, self._records_at_last_line = now, self.records
        if self._bar is None or self._bar.disable or failing_seconds:
            lag_text = " ".join(
                f"{partition}:{'?' if behind is None else behind}" for partition, behind in sorted(lags.items())
            )
            log.log(
                logging.WARNING if failing_seconds else logging.INFO,
                "landing: nothing can be written now" if failing_seconds else "landing",
                extra={
                    "records_per_second": round(per_second),
                    **self._totals(),
                    "seconds_since_commit": round(now - self._last_commit),
                    "unlanded": sum(unlanded.values()),
                    **({"failing_seconds": round(failing_seconds)} if failing_seconds else {}),
                    "lag": lag_text,
                },
            )

    def finish(self, *, is_done: bool = True) -> None:
        """Log the last line: what this run came to."""
        log.info(
            "done" if is_done else "stopped",
            extra={"seconds": round(time.monotonic() - self._started, 1), **self._totals()},
        )

    def _totals(self) -> dict[str, Any]:
        return {"records": self.records, "objects": self.objects, "bytes": self.bytes, "bad_records": self.bad}


def _serve(port: int, registry: CollectorRegistry) -> tuple[Any, threading.Thread]:
    try:
        return start_http_server(port, addr="127.0.0.1", registry=registry)
    except OSError as error:
        raise ServiceError(f"--metrics-port {port}: cannot listen there ({error.strerror})") from error
