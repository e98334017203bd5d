"""Reading Kafka without a group: a stream.Reader. Nothing is committed but by `commit`."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from kafka import KafkaConsumer, OffsetAndMetadata
from kafka import errors as kafka_errors

from pipeline.landing.block import Block
from pipeline.landing.buffer import Buffer
from pipeline.landing.positions import Committed, Partition, Standing
from pipeline.settings import ServiceError, Settings
from pipeline.streams.kafka import cluster, compatibility, decoder
from pipeline.streams.kafka.connection import MOVED_ON, READER, connection, of_kafka, partitions_of, reaching

_ANSWER_MS = 10_000
_LOOK_AGAIN_SECONDS = 30
# The records before the damage come first, as one poll's.
_DAMAGE_POLLS = 3


def standings(settings: Settings, topics: Iterable[str]) -> dict[Partition, Standing]:
    """Return where each partition of the topics that exist, and the settings' group in it, stand."""
    with reaching(settings), of_group(settings) as reader:
        partitions = partitions_of(reader, topics)
        return read_standings(settings, reader, partitions, reader)


def read_standings(
    settings: Settings, consumer: KafkaConsumer, partitions: Sequence[Partition], of_group: KafkaConsumer
) -> dict[Partition, Standing]:
    """Ask where partitions, and the group of the consumer `of_group` in them, stand.

    The generations are asked first: if a later question finds them again, all answers here were of them.
    """
    ids = generations(settings, consumer, partitions)
    wanted = list(map(of_kafka, partitions))
    committed = {
        p: _committed(of_group.committed(of_kafka(p), metadata=True, timeout_ms=_ANSWER_MS)) for p in partitions
    }
    oldest = consumer.beginning_offsets(wanted, timeout_ms=_ANSWER_MS)
    ends = consumer.end_offsets(wanted, timeout_ms=_ANSWER_MS)
    # The log was cut if the epoch of the record before the commit ends before the commit: other records follow there.
    epochs = {p: stored.epoch for p, stored in committed.items() if stored and stored.epoch >= 0}
    last = compatibility.ends_of_epochs(consumer, epochs)
    cuts = {p: end for p, end in last.items() if (stored := committed[p]) and end < stored.offset}
    return {p: Standing(oldest[p], ends[p], committed[p], ids[p.topic], cuts.get(p)) for p in partitions}


def _committed(stored: OffsetAndMetadata | None) -> Committed | None:
    if stored is None or stored.offset < 0:
        return None
    return Committed(stored.offset, stored.metadata or "", -1 if stored.leader_epoch is None else stored.leader_epoch)


def generations(settings: Settings, consumer: KafkaConsumer, partitions: Iterable[Partition]) -> dict[str, str | None]:
    """Ask which ids the partitions' topics have now; what a client remembers of them may be five minutes old.

    Their leaders are asked: a broker knows of a new topic before it hands out its records. Without private parts of
    kafka-python any broker is, which may hear of it a moment later than the leader.
    """
    wanted = list(partitions)
    found = compatibility.topic_ids(consumer, wanted)
    return cluster.topic_ids(settings, {partition.topic for partition in wanted}) if found is None else found


def commit(settings: Settings, offsets: Mapping[Partition, Committed]) -> None:
    """Commit these offsets for the settings' group. Raises ServiceError while the group has members."""
    wanted = {of_kafka(p): OffsetAndMetadata(c.offset, c.metadata, -1) for p, c in offsets.items()}
    with reaching(settings), of_group(settings) as reader:
        reader.assign(list(wanted))
        try:
            reader.commit(wanted, timeout_ms=_ANSWER_MS)
        except MOVED_ON as error:
            raise ServiceError(
                f"KAFKA_GROUP={settings.kafka_group}: stop its consumers before it begins anew"
            ) from error


def read_range(settings: Settings, partition: Partition, start: int, end: int) -> list[Block]:
    """Return the blocks of the offsets [start, end) as a read_committed reader sees them."""
    buffer, wanted = Buffer(start), of_kafka(partition)
    with reaching(settings), KafkaConsumer(**connection(settings), **READER) as reader:
        compatibility.read_in_blocks(reader)
        reader.assign([wanted])
        reader.seek(wanted, start)
        while reader.position(wanted) < end:
            buffer.add(decoder.poll(reader, 1_000).get(partition, []), now=0)
    return buffer.cut_before(end, now=0)


def damage(settings: Settings, partition: Partition, start: int) -> tuple[int, str] | None:
    """Return the offset of the first records from `start` on that cannot be read, and why; None if some can be."""
    wanted = of_kafka(partition)
    with reaching(settings), KafkaConsumer(**connection(settings), **READER) as reader:
        compatibility.read_in_blocks(reader)
        reader.assign([wanted])
        reader.seek(wanted, start)
        for _ in range(_DAMAGE_POLLS):
            try:
                decoder.poll(reader, 1_000)
            except kafka_errors.CorruptRecordError as error:
                return reader.position(wanted), str(error)
    return None


def hidden_since(settings: Settings, ends: Mapping[Partition, int]) -> dict[Partition, int]:
    """Where an open transaction keeps read_committed readers, who see these ends, from what is behind them: when the
    first record there came, in milliseconds since 1970, UTC.
    """
    found = {}
    options = {**READER, "isolation_level": "read_uncommitted"}
    with reaching(settings), KafkaConsumer(**connection(settings), **options) as reader:
        for wanted, last in reader.end_offsets(list(map(of_kafka, ends))).items():
            if last > ends[wanted]:
                reader.assign([wanted])
                reader.seek(wanted, ends[wanted])
                for record in reader.poll(timeout_ms=5_000, max_records=1).get(wanted, []):
                    found[Partition(*wanted)] = record.timestamp
    return found


def tail(settings: Settings, topic: str, *, last: int = 0) -> Iterator[list[bytes | None]]:
    """Follow a topic from `last` records of each partition before its end.

    Yields the values of each poll, and an empty list at least once a second. Waits for a topic that does not exist yet,
    and reads a partition that is added later from its beginning. Delivery: none is promised; a reader that starts again
    begins at the end again.
    """
    with reaching(settings), KafkaConsumer(**connection(settings), **READER) as reader:
        known: set[Partition] = set()
        look_again = time.monotonic()
        while True:
            if time.monotonic() >= look_again:
                found = set(partitions_of(reader, [topic]))
                _follow_too(reader, known, found - known, last)
                known |= found
                look_again = time.monotonic() + (_LOOK_AGAIN_SECONDS if known else 1)
            if not known:
                time.sleep(0.5)
            polled = reader.poll(timeout_ms=500) if known else {}
            yield [record.value for of_partition in polled.values() for record in of_partition]


def _follow_too(reader: KafkaConsumer, known: set[Partition], new: set[Partition], last: int) -> None:
    """Assign the new partitions beside the known ones, which go on where they are."""
    if not new:
        return
    positions = {partition: reader.position(partition) for partition in map(of_kafka, known)}
    added = list(map(of_kafka, new))
    oldest, ends = reader.beginning_offsets(added), reader.end_offsets(added)
    positions |= {p: oldest[p] if known else max(oldest[p], ends[p] - last) for p in added}
    reader.assign(list(positions))
    for partition, position in positions.items():
        reader.seek(partition, position)


def of_group(settings: Settings) -> KafkaConsumer:
    """A consumer that knows what the settings' group committed, and is no member of it."""
    return KafkaConsumer(**connection(settings), **READER, group_id=settings.kafka_group)
