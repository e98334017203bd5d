"""Refused records of a route that has no batches: each is kept under its own offset, so that keeping it again changes
nothing.

With a bucket it is an object below dead_letter/<topic>.<route>/, apart from those of the S3 landing of the same topic.
Without one it is a record of a topic, whose key is the refused record's topic, partition and offset.
"""

import threading
from dataclasses import dataclass

import msgspec
from isal import igzip

from pipeline.landing import plan as batch
from pipeline.landing.plan import Layout, Plan
from pipeline.settings import Settings
from pipeline.sinks.lake.writer import Lake, Object, dead_letter
from pipeline.streams.kafka.producer import AcknowledgedProducer


@dataclass(frozen=True)
class Refused:
    """A record and why it was refused."""

    offset: int
    timestamp_ms: int
    value: bytes | None
    reason: str


def _letter(topic_name: str, partition: int, refused: Refused) -> bytes:
    letter = dead_letter(
        topic_name,
        partition,
        refused.offset,
        timestamp_ms=refused.timestamp_ms,
        value=refused.value,
        reason=refused.reason,
    )
    return msgspec.json.encode(letter)


class DeadLetterObjects:
    """Puts one object a refused record. Delivery: exactly once, for the name and the bytes depend on the record alone."""

    def __init__(self, settings: Settings, route: str, *, threads: int) -> None:
        self._lake = Lake(settings, threads=threads)
        self._layout = Layout(bucket=settings.s3_bucket, root=settings.s3_root, table="")
        self._route = route

    def keep(self, topic_name: str, partition: int, refused: Refused) -> int:
        """Put the object; waits for S3 as the landing does. Gives how many objects that makes. Raises ServiceError, and
        lake.Stopped after stop()."""
        plan = Plan(f"{topic_name}.{self._route}", partition, refused.offset, refused.offset + 1, self._layout)
        folder = batch.arrival_folder("day", refused.timestamp_ms)
        body = igzip.compress(_letter(topic_name, partition, refused) + b"\n", 1, mtime=0)
        self._lake.put(plan, Object(plan.dead_letter_key(folder), body, 1, is_dead_letter=True))
        return 1

    def stop(self) -> None:
        self._lake.stop()


class DeadLetterTopic:
    """Sends one record a refused record. Delivery: at least once; a repetition has the same key and the same value."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._producer: AcknowledgedProducer | None = None

    def keep(self, topic_name: str, partition: int, refused: Refused) -> int:
        """Send the record and wait until all replicas have it; that makes no object. Raises ServiceError."""
        name = self._settings.kafka_topic_dead_letters
        with self._lock:
            if self._producer is None:
                self._producer = AcknowledgedProducer(self._settings, [name])
        key = f"{topic_name}-{partition}-{refused.offset}".encode()
        self._producer.send(name, key, _letter(topic_name, partition, refused))
        return 0

    def stop(self) -> None:
        if self._producer is not None:
            self._producer.close()
