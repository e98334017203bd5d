"""Watching the consumer: a log line every ten seconds, Prometheus metrics, a progress bar."""

import logging
import time
from typing import Any, Self

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from pipeline import terminal
from pipeline.landing.lane import Lane
from pipeline.landing.plan import Plan
from pipeline.landing.positions import Partition
from pipeline.sinks.lake.writer import Landed
from pipeline.streams.kafka.member import Member

log = logging.getLogger(__name__)

LOG_EVERY_SECONDS = 10


class Watch:
    """Counts what the loop tells it. The metrics are served on loopback only; a scraper elsewhere needs a tunnel or a
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
        self._server = (
            start_http_server(metrics_port, addr="127.0.0.1", registry=self._registry) if metrics_port else None
        )
        self._bar = None
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

    def expect(self, ends: dict[Partition, int] | None) -> None:
        """Show a progress bar when there is an end to come to."""
        if ends is not None:
            self._bar = terminal.progress("records")

    def begun(self, expected: int) -> None:
        """A partition with this many records to come was given; grows the bar."""
        if self._bar is not None:
            self._bar.total = (self._bar.total or 0) + max(expected, 0)
            self._bar.refresh()

    def landed(self, plan: Plan, landed: Landed) -> None:
        """A batch is in the lake and its end is committed."""
        self.records += landed.records
        self.bad += landed.bad
        self.objects += landed.objects
        self.bytes += landed.bytes
        self._last_commit = time.monotonic()
        for counter, value in (
            (self._records, landed.records),
            (self._bad, landed.bad),
            (self._objects, landed.objects),
            (self._bytes, landed.bytes),
        ):
            counter.labels(plan.topic).inc(value)
        if self._bar is not None:
            self._bar.update(landed.records + landed.bad)
        log.debug(
            "batch landed",
            extra={
                "topic": plan.topic,
                "partition": plan.partition,
                "start": plan.start,
                "end": plan.end,
                "objects": landed.objects,
            },
        )

    def tick(self, member: Member, lanes: dict[Partition, Lane], now: float) -> None:
        """Once a loop: the line that is due, if one is."""
        if now - self._last_line < LOG_EVERY_SECONDS:
            return
        lags = {partition: member.lag(partition) for partition in lanes}
        for partition, lag in lags.items():
            self._lag.labels(partition.topic, partition.partition).set(lag or 0)
        self._since_commit.set(now - self._last_commit)
        per_second = (self.records - self._records_at_last_line) / (now - self._last_line)
        self._last_line, self._records_at_last_line = now, self.records
        if self._bar is None or self._bar.disable:
            lag_text = " ".join(
                f"{p.topic}-{p.partition}:{'?' if lag is None else lag}" for p, lag in sorted(lags.items())
            )
            log.info(
                "landing",
                extra={
                    "records_per_second": round(per_second),
                    **self._totals(),
                    "seconds_since_commit": round(now - self._last_commit),
                    "lag": lag_text,
                },
            )

    def finish(self) -> None:
        """The last line: what this run came to."""
        log.info("done", extra={"seconds": round(time.monotonic() - self._started, 1), **self._totals()})

    def _totals(self) -> dict[str, Any]:
        return {"records": self.records, "objects": self.objects, "bytes": self.bytes, "bad_records": self.bad}
