"""The lake as a sink: a batch becomes objects in S3."""

import argparse
import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

from pipeline import aws
from pipeline.landing.block import Block
from pipeline.landing.buffer import Limits
from pipeline.landing.lane import Lane, Written
from pipeline.landing.plan import SHORT_GENERATION, Format, Layout, Plan, longest_key
from pipeline.landing.positions import Partition, Standing
from pipeline.landing.resume import begin_at
from pipeline.settings import ServiceError, Settings
from pipeline.sinks.lake import verify
from pipeline.sinks.lake.objects import objects_of, written
from pipeline.sinks.lake.witness import Witness
from pipeline.sinks.lake.writer import ObjectWriter
from pipeline.sinks.sink import ForEach, OpenSender, Permit, Sink

log = logging.getLogger(__name__)

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
    def check_replay(cls, settings: Settings, standings: Mapping[Partition, Standing]) -> None:
        """Objects of an earlier topic of the same name are in nobody's way: their names say of which topic they are."""
        with aws.naming("S3_BUCKET", settings.s3_bucket):
            found = verify.list_objects(settings, {partition.topic for partition in standings})
        now = {
            partition.topic: (standing.generation or "")[:SHORT_GENERATION] for partition, standing in standings.items()
        }
        again = sorted(
            {
                partition.topic
                for partition, objects in found.items()
                if any(name.generation in ("", now.get(partition.topic)) for name in objects.names)
            }
        )
        if again:
            raise ServiceError(
                f"S3_PREFIX: it already holds objects of {', '.join(again)}; --from-beginning needs a prefix of its own"
            )

    def __init__(self, settings: Settings, options: Mapping[str, Any], open_sender: OpenSender) -> None:  # noqa: ARG002 - dead letters are objects
        self._settings, self._options = settings, options
        # A command that is to end must not wait for ever.
        wait_seconds = settings.s3_wait_seconds if options["until_caught_up"] else None
        self._writer = ObjectWriter(settings, threads=options["uploads"], wait_seconds=wait_seconds)
        self._writer.check(settings.s3_bucket, settings.s3_root)
        self._witness = Witness(settings, is_by_event=options["partition_time"] == "event")

    def begin(self, partition: Partition, standing: Standing) -> Lane:
        layout = self._layout(partition.topic)
        if (size := longest_key(partition, layout)) > _KEY_BYTES:
            raise ServiceError(
                f"S3_PREFIX: with it and the topic {partition.topic} an object's key has {size} bytes, and S3 takes "
                f"{_KEY_BYTES}"
            )
        with aws.naming("S3_BUCKET", self._settings.s3_bucket):
            landed = self._witness.last_batches(partition, standing)
        committed = begin_at(partition, standing, landed, self._settings.kafka_group)
        self._witness.agree(partition)
        if standing.committed is None and landed:
            log.warning(
                "no commit of the group, going on behind what is in the lake",
                extra={"topic": partition.topic, "partition": partition.partition, "offset": committed.offset},
            )
        return Lane.begin(partition, layout, committed, standing.generation or "")

    def write(self, plan: Plan, blocks: list[Block], for_each: ForEach, permit: Permit) -> Written:
        objects = objects_of(plan, blocks) if blocks else []
        try:
            for_each(partial(self._writer.put, plan, count=len(objects), permit=permit), objects)
        except ServiceError as error:
            raise ServiceError(f"{error}. {_way_out(plan, self._settings)}") from error
        return written(objects)

    def failing_seconds(self) -> float:
        return self._writer.failing_seconds()

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


def _way_out(plan: Plan, settings: Settings) -> str:
    """What a user has to know of a plan that failed: whose bucket it names, and how to be rid of it."""
    place = f"s3://{plan.layout.bucket}/{plan.layout.root}"
    is_other = (plan.layout.bucket, plan.layout.root) != (settings.s3_bucket, settings.s3_root)
    whose = (
        f" for {place} of earlier settings, not for s3://{settings.s3_bucket}/{settings.s3_root}" if is_other else ""
    )
    return (
        f"The plan of offsets {plan.start} to {plan.end} of {plan.topic}-{plan.partition} is committed{whose}, and the "
        "next start repeats it; if it can never be carried out, `consumer.py land --abandon-plan` gives it up: objects "
        "of it that were put stay, and its records are landed anew, as the settings are then"
    )
