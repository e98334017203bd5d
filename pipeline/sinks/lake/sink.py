"""The lake as a sink: a batch becomes objects in S3."""

import argparse
from collections.abc import Mapping
from functools import partial
from typing import Any

from pipeline import aws
from pipeline.landing.block import Block
from pipeline.landing.buffer import Limits
from pipeline.landing.lane import Lane, Written
from pipeline.landing.plan import Format, Layout, Plan, longest_key
from pipeline.landing.positions import Committed, Partition
from pipeline.settings import ServiceError, Settings
from pipeline.sinks.lake import verify
from pipeline.sinks.lake.objects import objects_of, written
from pipeline.sinks.lake.writer import ObjectWriter
from pipeline.sinks.sink import ForEach, OpenSender, Sink

_KEY_BYTES = 1024


class Lake(Sink):
    """Delivery: exactly once. The group commits each batch's plan before its upload and its end after it; a consumer
    that finds a plan repeats it to the byte.
    """

    name = "s3"
    purpose = "objects in S3"
    limits = Limits(flush_seconds=60, flush_records=100_000)  # objects should be few
    required = ("s3_bucket",)

    @classmethod
    def add_options(cls, group: Any) -> list[argparse.Action]:
        return [
            group.add_argument("--format", choices=["json", "csv", "parquet"], help="of the objects (default json)"),
            group.add_argument("--compression", choices=["gzip", "none", "zstd"], help="default gzip; Parquet: zstd"),
            group.add_argument(
                "--partition-by", choices=["day", "hour", "month"], help="folders (default day; ticks: hour)"
            ),
            group.add_argument(
                "--partition-time",
                choices=["arrival", "event"],
                help="folders by the time of arrival in Kafka (default) or by the record's own time",
            ),
        ]

    @classmethod
    def check_replay(cls, settings: Settings, topics: list[str]) -> None:
        with aws.naming("S3_BUCKET", settings.s3_bucket):
            landed = verify.list_objects(settings, topics)
        if landed:
            names = ", ".join(sorted({partition.topic for partition in landed}))
            raise ServiceError(
                f"S3_PREFIX: it already holds objects of {names}; --from-beginning needs a prefix of its own"
            )

    def __init__(self, settings: Settings, options: Mapping[str, Any], open_sender: OpenSender) -> None:  # noqa: ARG002 - dead letters are objects
        self._settings, self._options = settings, options
        # A command that is to end must not wait for ever.
        wait_seconds = settings.s3_wait_seconds if options["until_caught_up"] else None
        self._writer = ObjectWriter(settings, threads=options["uploads"], wait_seconds=wait_seconds)
        self._writer.check(settings.s3_bucket, settings.s3_root)

    def begin(self, partition: Partition, committed: Committed) -> Lane:
        layout = self._layout(partition.topic)
        if (size := longest_key(partition, layout)) > _KEY_BYTES:
            raise ServiceError(
                f"S3_PREFIX: with it and the topic {partition.topic} an object's key has {size} bytes, and S3 takes "
                f"{_KEY_BYTES}"
            )
        return Lane.begin(partition, layout, committed)

    def write(self, plan: Plan, blocks: list[Block], for_each: ForEach) -> Written:
        objects = objects_of(plan, blocks)
        for_each(partial(self._writer.put, plan), objects)
        return written(objects)

    def stop(self) -> None:
        self._writer.stop()

    def _layout(self, topic: str) -> Layout:
        """Known topics land in their table; any other lands under its own name as unchecked JSON."""
        table = self._settings.topics.get(topic, topic)
        form: Format = (self._options["format"] or "json") if topic in self._settings.topics else "json"
        return Layout(
            bucket=self._settings.s3_bucket,
            root=self._settings.s3_root,
            table=table,
            format=form,
            compression=self._options["compression"] or ("zstd" if form == "parquet" else "gzip"),
            partition_by=self._options["partition_by"] or ("hour" if table == "ticks" else "day"),
            partition_time=self._options["partition_time"] or "arrival",
        )
