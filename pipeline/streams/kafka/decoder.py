"""Kafka's record batches decoded whole, by numpy: ten times faster than one object a record.

A record batch becomes one `Block`: arrays of offsets and timestamps, and all values as lines. Only reading the records
inside a batch of message format v2 is ours; fetching, checksums, decompression, aborted transactions, control batches
and positions stay kafka-python's. What numpy might read differently (headers, odd numbers, anything corrupt) and
batches too small to gain go to kafka-python's own decoder. compatibility.py puts this into a consumer; without it
`poll` gathers kafka-python's records into the same blocks.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from kafka import KafkaConsumer
from kafka.errors import CorruptRecordError

from pipeline.landing.block import Block
from pipeline.landing.positions import Partition

# Below this many records some hundred numpy calls cost more than kafka-python's loop (measured).
FEWEST_RECORDS = 24
# Batches whose offsets or times are beyond this go to the stock decoder, for adding to them could overflow 64 bits.
_GREATEST = 1 << 62


class OpenedBatch(NamedTuple):
    """A record batch of message format v2 that is not compressed any more.

    Its records are `data` from `first` on. `append_time` is the time of all of them where the broker stamps them.
    """

    data: bytes
    first: int
    records: int
    base_offset: int
    first_timestamp: int
    append_time: int | None


def poll(consumer: KafkaConsumer, timeout_ms: int, max_records: int | None = None) -> dict[Partition, list[Block]]:
    """KafkaConsumer.poll, returning blocks. Raises what it raises, and CorruptRecordError where offsets do not ascend.

    The consumer's position is then behind the last block. At most max_records (default: the consumer's
    max_poll_records) and, with the fast decoder, the rest of the batch in which that number is reached.
    """
    polled = consumer.poll(timeout_ms=timeout_ms, max_records=max_records)
    return {Partition(*partition): list(_blocks(Partition(*partition), found)) for partition, found in polled.items()}


def _blocks(partition: Partition, found: Iterable[Any]) -> Iterator[Block]:
    """Blocks as they are, and plain records (the stock path, and batches of Kafka before 0.11) gathered into blocks."""
    for is_block, records in itertools.groupby(found, key=lambda record: type(record.value) is Block):
        if is_block:
            yield from (record.value for record in records)
        else:
            yield gather(partition, list(records))


def gather(partition: Partition, records: list[Any]) -> Block:
    """A block from records of kafka-python, which have offset, timestamp and value.

    Raises CorruptRecordError where kafka-python would not: for numbers beyond 64 bits, and offsets that do not ascend,
    on which the names of objects and the end of every batch depend.
    """
    try:
        offsets = np.array([record.offset for record in records], np.int64)
        timestamps = np.array([record.timestamp for record in records], np.int64)
    except OverflowError:
        raise CorruptRecordError(f"{partition}: an offset or timestamp exceeds 64 bits") from None
    if not _ascend(offsets):
        raise CorruptRecordError(f"{partition}: offsets do not ascend behind {offsets[0]}")
    return Block.of(partition, offsets, timestamps, [record.value for record in records], "stock")


def _ascend(offsets: np.ndarray) -> bool:
    return bool((offsets[1:] > offsets[:-1]).all())


def decode(partition: Partition, batch: OpenedBatch) -> Block | None:
    """The records of a batch, or None when numpy might not read them exactly as kafka-python does.

    A record is: length, attributes (1 byte), timestamp delta, offset delta, key length, key, value length, value,
    header count, headers. All numbers are varints. https://kafka.apache.org/documentation/#record
    """
    if batch.records < FEWEST_RECORDS or max(abs(batch.base_offset), abs(batch.first_timestamp)) > _GREATEST:
        return None
    data = batch.data
    buffer = np.frombuffer(data, np.uint8)
    found = _find_records(buffer, batch.first, batch.records)
    if found is None:
        return None
    # Each field is read for all records at once. Where a length is wrong the positions that follow are too, and nothing
    # is checked on the way: every field moves its position forward, so a record that ends where it should was read
    # right.
    attributes, ends = found
    time_deltas, after = _varints(buffer, attributes + 1)
    offset_deltas, after = _varints(buffer, after)
    key_lengths, after = _varints(buffer, after)
    value_lengths, value_begins = _varints(buffer, after + np.maximum(key_lengths, 0))  # -1 says null
    value_sizes = np.maximum(value_lengths, 0)
    value_ends = value_begins + value_sizes
    offsets = batch.base_offset + offset_deltas
    if not np.array_equal(value_ends + 1, ends) or not _ascend(offsets):
        return None
    values = [data[begin:end] for begin, end in zip(value_begins.tolist(), value_ends.tolist(), strict=True)]
    values.append(b"")  # makes the last line end
    if batch.append_time is not None:
        timestamps = np.full(len(offsets), batch.append_time)
    else:
        timestamps = batch.first_timestamp + time_deltas
    ends = np.cumsum(value_sizes + 1) - 1
    nulls = np.flatnonzero(value_lengths < 0)
    return Block(partition.topic, partition.partition, offsets, timestamps, b"\n".join(values), ends, nulls, "numpy")


def _find_records(buffer: np.ndarray, first: int, count: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Where the attributes of each record are and where it ends; None unless these are `count` records that fill the
    buffer.

    Only a record's length tells where the next one starts, and a loop that follows them takes half as long as all the
    rest. But a record without headers ends in a zero byte, their number; its length, one to five bytes without a zero,
    is followed by another, the attributes; and text has no zeros. So the starts are those zeros, and the records are
    found if each ends in a zero and starts where the one before ends. Values with zeros in them can look like more, and
    take the stock decoder.
    """
    zeros = np.concatenate(([first - 1], first + (buffer[first:] == 0).nonzero()[0]))
    apart = zeros[1:] - zeros[:-1]
    starts = zeros[:-1][(apart >= 2) & (apart <= 6)] + 1
    lengths, attributes = _varints(buffer, starts)
    ends = attributes + lengths
    likely = (lengths > 0) & (buffer.take(attributes, mode="clip") == 0) & (buffer.take(ends - 1, mode="clip") == 0)
    starts, attributes, ends = starts[likely], attributes[likely], ends[likely]
    if len(starts) != count or not np.array_equal(np.append(starts, len(buffer)), np.append(first, ends)):
        return None
    return attributes, ends


def _varints(buffer: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The zigzag varint at each of these positions, and the position behind each.

    Seven bits a byte, the lowest first; the top bit says that another byte follows. A pass reads one byte of all the
    varints that have one more, so there are as many passes as the longest has bytes, mostly one or two. A position
    beyond the end reads the last byte, and a varint of ten bytes, which may not fit 64 bits, is answered with such a
    position.
    """
    byte = buffer.take(at, mode="clip").astype(np.int64)
    number = byte & 0x7F
    at = at + 1
    for shift in range(7, 63, 7):
        more = byte > 0x7F
        if not np.count_nonzero(more):  # unlike more.any() without a detour through Python
            break
        byte = buffer.take(at, mode="clip") * more
        number |= (byte & 0x7F).astype(np.int64) << shift
        at += more
    else:
        at[byte > 0x7F] = len(buffer) + 1
    return (number >> 1) ^ -(number & 1), at
