"""What the benchmarks of the query side share: what dashboards ask for, and batches put as consumer.py puts them."""

from collections.abc import Iterable
from datetime import date

import numpy as np

from pipeline.landing.block import Block
from pipeline.landing.plan import Layout, Plan
from pipeline.landing.positions import Partition
from pipeline.settings import Settings
from pipeline.sinks.lake.objects import objects_of
from pipeline.sinks.lake.writer import ObjectWriter
from pipeline.tables.changes import Change

DASHBOARDS = ("monthly_performance", "closing_trend", "volume_by_ticker", "moving_averages", "volatility")
SYMBOLS = [f"S{number:03}" for number in range(500)]
WATCHED = tuple(SYMBOLS[::100])
LAST_DAY = date(2025, 12, 31)
BARS_AN_OBJECT = 100_000


def put_batch(
    settings: Settings, writer: ObjectWriter, values: list[bytes], start: int, *, arrived_ms: int, table: str = "bars"
) -> None:
    """Put records as the objects of one batch from offset `start` on, that came to Kafka at one moment."""
    topic, end = f"stock_{table}", start + len(values)
    block = Block.of(Partition(topic, 0), np.arange(start, end), np.full(len(values), arrived_ms), values, "stock")
    plan = Plan(topic, 0, start, end, Layout(bucket=settings.s3_bucket, root=settings.s3_root, table=table))
    for an_object in objects_of(plan, [block]):
        writer.put(plan, an_object)


def carry_out(changes: Iterable[Change]) -> None:
    """Make what glue_setup.py would make, or take it away."""
    for change in changes:
        for call in change.calls:
            call.run()
