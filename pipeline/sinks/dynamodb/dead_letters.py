"""Refused records of a sink that has no batches: each is kept under its own offset, so that keeping it again changes
nothing.

With a bucket a refused record is an object below dead_letter/<topic>.<name>/, apart from those of the lake's landing of
the same topic. Without one it is a record of a topic, whose key is the refused record's topic, partition and offset.
"""

import threading
from dataclasses import dataclass

import msgspec

from pipeline.landing.plan import Layout, Plan, arrival_folder, nearest_ms
from pipeline.settings import Settings
from pipeline.sinks.lake.dead_letters import dead_letter
from pipeline.sinks.lake.objects import Object, gzipped
from pipeline.sinks.lake.writer import ObjectWriter
from pipeline.sinks.sink import OpenSender, Sender


@dataclass(frozen=True)
class Refused:
    """A record and why it was refused."""

    offset: int
    timestamp_ms: int
    value: bytes | None
    reason: str


def _letter(batch: Plan, refused: Refused) -> bytes:
    letter = dead_letter(
        batch.topic,
        batch.partition,
        refused.offset,
        timestamp_ms=refused.timestamp_ms,
        value=refused.value,
        reason=refused.reason,
    )
    return msgspec.json.encode(letter)


class DeadLetterObjects:
    """Puts one object per refused record. Delivery: exactly once, for name and bytes depend on the record alone."""

    def __init__(self, settings: Settings, name: str, *, threads: int) -> None:
        # Name and bytes depend on the record alone, so it does not matter which group kept it.
        self._writer = ObjectWriter(settings, threads=threads, is_any_group=True)
        self._writer.check(settings.s3_bucket, settings.s3_root)
        self._layout = Layout(bucket=settings.s3_bucket, root=settings.s3_root, table="")
        self._name = name

    def keep(self, batch: Plan, refused: Refused) -> int:
        """Put the object; wait for S3 as the lake does. Return how many objects that makes. Raise ServiceError, and
        WriteAbandoned after stop().
        """
        start, end = refused.offset, refused.offset + 1
        plan = Plan(f"{batch.topic}.{self._name}", batch.partition, start, end, self._layout, batch.generation)
        key = plan.dead_letter_key(arrival_folder("day", nearest_ms(refused.timestamp_ms)))
        body = gzipped(_letter(batch, refused) + b"\n")
        self._writer.put(plan, Object(key, body, 1, is_dead_letter=True))
        return 1

    def stop(self) -> None:
        self._writer.stop()


class DeadLetterTopic:
    """Sends one record per refused record. Delivery: at least once; a repetition has the same key and value."""

    def __init__(self, settings: Settings, open_sender: OpenSender) -> None:
        self._topic, self._open_sender = settings.kafka_topic_dead_letters, open_sender
        self._lock = threading.Lock()
        self._sender: Sender | None = None

    def keep(self, batch: Plan, refused: Refused) -> int:
        """Send the record and wait until all replicas have it. Return 0: that makes no object. Raise ServiceError."""
        with self._lock:
            if self._sender is None:
                self._sender = self._open_sender([self._topic])
        key = f"{batch.topic}-{batch.partition}-{refused.offset}".encode()
        self._sender.send(self._topic, key, _letter(batch, refused))
        return 0

    def stop(self) -> None:
        if self._sender is not None:
            self._sender.close()
