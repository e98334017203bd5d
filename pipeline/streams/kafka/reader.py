"""Reading a topic without a group: nothing is committed, nobody else is disturbed."""

import time
from collections.abc import Iterator, Mapping

from kafka import KafkaConsumer, TopicPartition

from pipeline.landing.block import Block
from pipeline.landing.buffer import Buffer
from pipeline.settings import Settings
from pipeline.streams.kafka import decoder
from pipeline.streams.kafka.producer import connection, reaching

READER = {
    "isolation_level": "read_committed",
    "auto_offset_reset": "none",
    "enable_auto_commit": False,
    "fetch_max_wait_ms": 50,
    "allow_auto_create_topics": False,
}


def read_range(settings: Settings, partition: TopicPartition, start: int, end: int) -> list[Block]:
    """The blocks of the offsets [start, end) as a read_committed reader sees them."""
    buffer = Buffer(start)
    with reaching(settings), KafkaConsumer(**connection(settings), **READER) as reader:
        decoder.install(reader)
        reader.assign([partition])
        reader.seek(partition, start)
        while reader.position(partition) < end:
            buffer.add(decoder.poll(reader, 1_000).get(partition, []), now=0)
    return buffer.cut_before(end, now=0)


def hidden_since(settings: Settings, ends: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    """Where an open transaction keeps read_committed readers, who see these ends, from what is behind them: when the
    first record there came, in milliseconds since 1970, UTC.
    """
    found = {}
    with (
        reaching(settings),
        KafkaConsumer(**connection(settings), **READER | {"isolation_level": "read_uncommitted"}) as reader,
    ):
        for partition, last in reader.end_offsets(list(ends)).items():
            if last > ends[partition]:
                reader.assign([partition])
                reader.seek(partition, ends[partition])
                for record in reader.poll(timeout_ms=5_000, max_records=1).get(partition, []):
                    found[partition] = record.timestamp
    return found


def tail(settings: Settings, topic: str, *, last: int = 0) -> Iterator[list[bytes | None]]:
    """Follow a topic from `last` records of each partition before its end.

    Yields the values of each poll, and an empty list at least once a second. Waits for a topic that does not exist yet,
    and reads a partition that is added later from its beginning. Delivery: none is promised; a reader that starts again
    begins at the end again.
    """
    with reaching(settings), KafkaConsumer(**connection(settings), **READER) as reader:
        known: set[TopicPartition] = set()
        look_again = time.monotonic()
        while True:
            if time.monotonic() >= look_again:
                found = {TopicPartition(topic, number) for number in reader.partitions_for_topic(topic) or ()}
                _follow_too(reader, known, found - known, last)
                known |= found
                look_again = time.monotonic() + (30 if known else 1)
            if not known:
                time.sleep(0.5)
            polled = reader.poll(timeout_ms=500) if known else {}
            yield [record.value for of_partition in polled.values() for record in of_partition]


def _follow_too(reader: KafkaConsumer, known: set[TopicPartition], new: set[TopicPartition], last: int) -> None:
    """Assign the new partitions beside the known ones, which go on where they are."""
    if not new:
        return
    positions = {partition: reader.position(partition) for partition in known}
    oldest, ends = reader.beginning_offsets(list(new)), reader.end_offsets(list(new))
    positions |= {p: oldest[p] if known else max(oldest[p], ends[p] - last) for p in new}
    reader.assign(list(positions))
    for partition, position in positions.items():
        reader.seek(partition, position)
