"""DynamoDB as a sink: a bar becomes an item.

consumer.py imports every sink for its options. What only a chosen one needs is imported when it is: 40 ms of a start
into the lake.
"""

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from pipeline.landing.block import Block
from pipeline.landing.buffer import Limits
from pipeline.landing.lane import Lane, Written
from pipeline.landing.plan import Plan
from pipeline.landing.positions import Partition, Standing
from pipeline.landing.resume import begin_at
from pipeline.settings import Settings, SettingsError
from pipeline.sinks.sink import ForEach, OpenSender, Permit, Sink

_WORD = "dynamodb"  # in the group's commits, in the default group, and in the folder of dead letters


class DynamoDB(Sink):
    """Delivery: at least once, and as if exactly once. The group commits a batch's end after all of it is written, so
    nothing is lost. A repetition writes the same item under the same key, and the condition on ingested_at refuses what
    is older than what is there: neither a replay, nor a rebalance, nor a consumer that was thought dead can put an
    earlier revision in the place of a later one. Two revisions of one key that were ingested in the same millisecond
    are taken in the order in which they are written.
    """

    name = "dynamodb"
    purpose = "items in DYNAMODB_TABLE"
    # An item costs the same alone, and a batch of items should be written within the time of a stop.
    limits = Limits(flush_seconds=0, flush_records=1_000)

    @classmethod
    def add_options(cls, group: Any) -> list[argparse.Action]:
        return [group.add_argument("--create-table", action="store_true", help="create the table if there is none")]

    @classmethod
    def settings_of(cls, settings: Settings, *, is_group_given: bool) -> Settings:
        """Another group than the lake's with the same settings: each of the two has to get every record."""
        return settings if is_group_given else replace(settings, kafka_group=f"{settings.kafka_group}_{_WORD}")

    @classmethod
    def topics_of(cls, settings: Settings) -> list[str]:
        return [settings.kafka_topic_bars]

    @classmethod
    def check(cls, settings: Settings, topics: Iterable[str], options: Mapping[str, Any]) -> None:
        if mistakes := [
            f"--topics: {topic} holds {kind}; the table takes bars"
            for topic in topics
            if (kind := settings.topics.get(topic, "bars")) != "bars"
        ]:
            raise SettingsError(mistakes)
        from pipeline.sinks.dynamodb.table import PriceTable  # noqa: PLC0415 - see the module's docstring

        table = PriceTable(settings)
        if options["create_table"]:
            table.create()
        else:
            table.check()

    def __init__(self, settings: Settings, options: Mapping[str, Any], open_sender: OpenSender) -> None:
        from pipeline.sinks.dynamodb.dead_letters import (  # noqa: PLC0415 - see the module's docstring
            DeadLetterObjects,
            DeadLetterTopic,
        )
        from pipeline.sinks.dynamodb.writer import ItemWriter  # noqa: PLC0415 - the same

        threads, self._group = options["uploads"], settings.kafka_group
        letters = (
            DeadLetterObjects(settings, _WORD, threads=threads)
            if settings.s3_bucket
            else DeadLetterTopic(settings, open_sender)
        )
        self._writer = ItemWriter(settings, letters, threads=threads)

    def begin(self, partition: Partition, standing: Standing) -> Lane:
        committed = begin_at(partition, standing, {}, self._group)
        return Lane.begin_unplanned(partition, committed, _WORD, standing.generation or "")

    def write(self, plan: Plan, blocks: list[Block], for_each: ForEach, permit: Permit) -> Written:  # noqa: ARG002 - items may be written again
        return self._writer.write(plan, blocks, for_each)

    def stop(self) -> None:
        self._writer.stop()
