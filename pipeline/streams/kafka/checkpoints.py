"""The checkpoints of all sources, as they are committed in the compacted topic."""

import time

import msgspec
from kafka import KafkaAdminClient, KafkaConsumer

from pipeline.landing.positions import Partition
from pipeline.settings import ServiceError, Settings
from pipeline.streams.kafka.connection import READER, connection, of_kafka, reaching
from pipeline.streams.stream import Position

# How long another producer's transaction can stay open, and twice that for its markers.
_GIVE_UP_SECONDS = 120


def positions(settings: Settings) -> dict[str, Position]:
    """Return each source's position by its key; none where nothing was ever produced. Raises ServiceError."""
    with reaching(settings):
        with KafkaAdminClient(**connection(settings)) as admin:
            if settings.kafka_topic_checkpoints not in admin.list_topics():
                return {}
        committed = read_committed(settings)
    return {key: msgspec.json.decode(value, type=dict) for key, value in committed.items() if value}


def read_committed(settings: Settings) -> dict[str, bytes | None]:
    """Return the latest committed value of every key.

    Read up to the end of the log, not of what is committed: behind another producer's open transaction may be a
    checkpoint of ours, which is not visible until that transaction has ended, by itself or by its timeout.
    """
    found: dict[str, bytes | None] = {}
    give_up = time.monotonic() + _GIVE_UP_SECONDS
    partition = of_kafka(Partition(settings.kafka_topic_checkpoints, 0))
    with KafkaConsumer(**connection(settings), **{**READER, "isolation_level": "read_uncommitted"}) as at_end:
        end = at_end.end_offsets([partition])[partition]
    with KafkaConsumer(**connection(settings), **{**READER, "auto_offset_reset": "earliest"}) as reader:
        reader.assign([partition])
        while reader.position(partition) < end:
            if time.monotonic() > give_up:
                raise ServiceError(
                    f"KAFKA_TOPIC_CHECKPOINTS={partition.topic}: another producer's transaction does not end"
                )
            for record in reader.poll(timeout_ms=500, max_records=10_000).get(partition, []):
                found[record.key.decode()] = record.value
    return found
