"""Raw objects as the consumer puts them, for tests of what comes after it; and the lake's tables over them."""

import os
import uuid
from datetime import UTC, date, datetime
from typing import Any

from blocks_of import block

from etl.curation import Curation, RunOutcome
from local.stack import Stack
from pipeline import aws, records
from pipeline.landing.plan import Layout, Plan
from pipeline.records import Bar, Record
from pipeline.settings import Settings, load_settings
from pipeline.sinks.lake.objects import objects_of
from pipeline.sinks.lake.writer import ObjectWriter
from pipeline.tables.athena_engine import AthenaEngine
from pipeline.tables.changes import Change
from pipeline.tables.etl_inputs import etl_tables
from pipeline.tables.lake_listing import LakeListing
from pipeline.tables.provision import Provision

TODAY = datetime.now(UTC).date()
# The embedded AWS takes any; boto3 in this process finds none otherwise.
os.environ.update({"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"})


def settings_of(stack: Stack, bucket: str) -> Settings:
    """Settings of a lake of its own in the embedded stack, for fixtures that live longer than one test."""
    own = uuid.uuid4().hex[:8]
    names = {
        "S3_BUCKET": bucket,
        "S3_PREFIX": f"lake_{own}",
        "GLUE_DATABASE": f"lake_{own}",
        "ATHENA_WORKGROUP": f"lake_{own}",
    }
    return load_settings(environ=stack.environment() | names, config_file="/dev/null")


def bar(symbol: str, day: str, close: float, *, ingested_at: str = "2026-01-01 00:00:00.000", **changes: Any) -> Bar:
    fields = {"interval": "1d", "open": close, "high": close + 1, "low": close - 1, "volume": 100.0, "source": "test"}
    return Bar(
        **(
            fields
            | {"symbol": symbol, "time": f"{day} 00:00:00.000", "close": close, "ingested_at": ingested_at}
            | changes
        )
    )


def land(
    settings: Settings,
    table: str,
    landed: list[Record | bytes],
    *,
    day: date = TODAY,
    start: int = 0,
    generation: str = "",
    **layout: Any,
) -> list[str]:
    """Put the objects of one batch that arrived in Kafka at noon of `day`; their keys. Bytes stand for a record as it
    is.
    """
    noon_ms = int(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp() * 1000)
    topic = {name: topic for topic, name in settings.topics.items()}[table]
    folders = {"partition_by": "hour"} if table == "ticks" else {}
    plan = Plan(
        topic,
        0,
        start,
        start + len(landed),
        Layout(bucket=settings.s3_bucket, root=settings.s3_root, table=table, **(folders | layout)),
        generation,
    )
    values = [item if isinstance(item, bytes) else records.encode(item) for item in landed]
    objects = objects_of(plan, [block(values, start, noon_ms)])
    writer = ObjectWriter(settings, threads=1)
    for an_object in objects:
        writer.put(plan, an_object)
    return [an_object.key for an_object in objects]


def set_up(settings: Settings, *, with_roles: bool = False, today: date = TODAY) -> list[Change]:
    """What `python glue_setup.py` does; the changes that it made."""
    made = []
    for change in Provision(settings, today=today, with_roles=with_roles).changes():
        for call in change.calls:
            call.run()
        if change.action in ("create", "update"):
            made.append(change)
    return made


def curate(
    settings: Settings, record: str = "bars", *, now: datetime, run: str, engine: Any = None, only_days: Any = None
) -> RunOutcome:
    """What `python glue_setup.py etl` does for one table."""
    listing = LakeListing(settings)
    landing = listing.landing(record, listing.first_day_declared(record))
    clients = {name: aws.client(settings, name) for name in ("s3", "glue", "athena")}
    curation = Curation(engine or AthenaEngine(settings), **clients, run=run, now=now)
    return curation.curate(etl_tables(settings, {record: landing})[record], only_days)


def table_of(settings: Settings, name: str) -> dict[str, Any]:
    return aws.client(settings, "glue").get_table(DatabaseName=settings.glue_database, Name=name)["Table"]


def parameters_of(settings: Settings, record: str) -> dict[str, str]:
    return table_of(settings, f"curated_{record}")["Parameters"]
