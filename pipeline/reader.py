"""Reading a topic without a group: nothing is committed, nobody else is disturbed."""

from collections.abc import Iterator

from kafka import KafkaConsumer, TopicPartition

from pipeline import blocks as decoder
from pipeline.batch import Buffer
from pipeline.settings import ServiceError, Settings
from pipeline.topic import connection, reaching

READER = {"isolation_level": "read_committed", "auto_offset_reset": "none", "enable_auto_commit": False, "fetch_max_wait_ms": 50,
          "allow_auto_create_topics": False}  # fmt: skip
_POLL_MS = 1_000


def read_range(settings: Settings, partition: TopicPartition, start: int, end: int) -> list[decoder.Block]:
    """The blocks of the offsets [start, end) as a read_committed reader sees them."""
    buffer = Buffer(start)
    with reaching(settings), KafkaConsumer(**connection(settings), **READER) as reader:
        decoder.install(reader)
        reader.assign([partition])
        reader.seek(partition, start)
        while reader.position(partition) < end:
            buffer.add(decoder.poll(reader, _POLL_MS).get(partition, []), now=0)
    return buffer.cut_before(end, now=0)


def tail(settings: Settings, topic: str, *, last: int = 0) -> Iterator[list[bytes]]:
    """Follow a topic from its end, or from the last records of each partition: the values of each poll, in the order of their
    partitions, and an empty list at least once a second. Raises ServiceError when the topic or the broker is not there."""
    # Partitions that are added later are noticed at this age of what is known about the topic.
    options = READER | {"metadata_max_age_ms": 10_000}
    with reaching(settings), KafkaConsumer(**connection(settings), **options) as reader:
        if not reader.partitions_for_topic(topic):
            raise ServiceError(f"KAFKA_TOPIC_*: there is no topic {topic} on {settings.kafka_bootstrap_servers}")
        begun: set[TopicPartition] = set()
        while True:
            known = {TopicPartition(topic, number) for number in reader.partitions_for_topic(topic) or ()}
            if new := known - begun:
                reader.assign(sorted(known))
                oldest, ends = reader.beginning_offsets(sorted(new)), reader.end_offsets(sorted(new))
                for partition in new:
                    # A partition made while following is read from its beginning: all of it is new.
                    start = oldest[partition] if begun else max(ends[partition] - last, oldest[partition])
                    reader.seek(partition, start)
                begun |= new
            polled = reader.poll(timeout_ms=_POLL_MS, max_records=10_000)
            yield [record.value for partition in sorted(polled) for record in polled[partition] if record.value is not None]
