"""The lake as the second witness when folders were made in one way, and later in another."""

from typing import Any

import pytest

from pipeline.landing.plan import Layout, Plan
from pipeline.landing.positions import Partition, Standing
from pipeline.settings import Settings
from pipeline.sinks.lake.witness import Witness

GENERATION = "a" * 32
HOURS = [f"dt=2025-03-22/hour={hour:02}" for hour in range(12, 20)]


@pytest.mark.parametrize("newest", ["dt=2025-03-22", "dt=2025-03-01", "dt=2025-03-22/hour=19"])
@pytest.mark.usefixtures("credentials")
def test_folders_made_otherwise_before(newest: str, s3: Any, settings: Settings) -> None:
    """The newest batch is found in the day's or the month's folder though there are folders of many hours."""
    layout = Layout(bucket=settings.s3_bucket, root=settings.s3_root, table="ticks")
    for number, folder in enumerate([*HOURS, newest]):
        plan = Plan(settings.kafka_topic_ticks, 0, number * 10, number * 10 + 10, layout, GENERATION, 1)
        metadata = {"plan": plan.metadata(), "group": "g", "objects": "1", "records": "10"}
        s3.put_object(Bucket=settings.s3_bucket, Key=plan.object_key(folder), Metadata=metadata)
    found = Witness(settings).last_batches(
        Partition(settings.kafka_topic_ticks, 0), Standing(0, 1_000, None, GENERATION)
    )
    assert found[GENERATION[:8]].end == 90
