"""Kafka's record batches decoded whole, by numpy: ten times faster than one object a record.

A record batch becomes one `Block`: arrays of offsets and timestamps, and a list of values. `install` puts this into a
consumer, `poll` reads from it. Only reading the records inside a batch of message format v2 is ours; fetching,
checksums, decompression, aborted transactions, control batches and positions stay kafka-python's, whose loop over a
batch is handed a batch of one record, the block. What numpy might read differently (headers, odd numbers, anything
corrupt) and batches too small to gain go to kafka-python's own decoder, and so does everything when its version is not
one that was tested.
"""

import itertools
import logging
from collections.abc import Iterable, Iterator

import kafka
import numpy as np
from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord, Fetcher
from kafka.errors import CorruptRecordError
from kafka.record import MemoryRecords
from kafka.record.abc import ABCRecordBatch
from kafka.record.default_records import DefaultRecord, DefaultRecordBatch

from pipeline.landing.block import Block
from pipeline.streams.kafka import transport

log = logging.getLogger(__name__)

# This stands on private parts of kafka-python: Fetcher._append, Fetcher.PartitionRecords._unpack_records and
# _maybe_skip_record, MemoryRecords._buffer, _next_slice and _cache_next, DefaultRecordBatch._maybe_uncompress, _buffer
# and _pos; transport.py on KafkaTCPTransport._sock_recv and _protocol, and KafkaProtocol._rbuffer. For a new version
# run tests/unit/test_blocks.py and test_transport.py, then add it here.
TESTED_VERSIONS = frozenset({"3.0.12"})
# Below this many records some hundred numpy calls cost more than kafka-python's loop (measured).
_FEWEST_RECORDS = 24
# Batches whose offsets or times are beyond this go to the stock decoder, for adding to them could overflow 64 bits.
_GREATEST = 1 << 62


def install(consumer: KafkaConsumer, *, stock: bool = False) -> bool:
    """Make the consumer decode by blocks, before its first poll; False when it stays with kafka-python's decoder.

    That is so on request (`stock`), and with a version of kafka-python that this was not tested with, which is logged.
    `poll` returns the same records either way. The consumer must have no deserializers.
    """
    if stock:
        return False
    if kafka.__version__ not in TESTED_VERSIONS:
        log.warning(
            "kafka-python untested, decoding slowly",
            extra={"version": kafka.__version__, "tested": sorted(TESTED_VERSIONS)},
        )
        return False
    consumer._fetcher.__class__ = _BlockFetcher
    transport.install()
    return True


def poll(consumer: KafkaConsumer, timeout_ms: int, max_records: int | None = None) -> dict[TopicPartition, list[Block]]:
    """KafkaConsumer.poll, returning blocks. Raises what it raises, and CorruptRecordError where offsets do not ascend.

    The consumer's position is then behind the last block. At most max_records (default: the consumer's
    max_poll_records) and, with the fast decoder, the rest of the batch in which that number is reached.
    """
    polled = consumer.poll(timeout_ms=timeout_ms, max_records=max_records)
    return {partition: list(_blocks(partition, found)) for partition, found in polled.items()}


def _blocks(partition: TopicPartition, found: Iterable[ConsumerRecord]) -> Iterator[Block]:
    """Blocks as they are, and plain records (the stock path, and batches of Kafka before 0.11) gathered into blocks."""
    for is_block, records in itertools.groupby(found, key=lambda record: type(record.value) is Block):
        if is_block:
            yield from (record.value for record in records)
        else:
            yield _gather(partition, list(records))


def _gather(partition: TopicPartition, records: list) -> Block:
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


class _BlockFetcher(Fetcher):
    """kafka-python's fetcher, whose records are blocks."""

    def _append(
        self, drained: dict, part: "_BlockFetcher.PartitionRecords", max_records: int, update_offsets: bool
    ) -> int:
        """Take one batch, and answer how many records it has: kafka-python calls again until it has enough of them."""
        try:
            taken = super()._append(drained, part, 1, update_offsets)
        except Exception:
            # kafka-python 3.0.12 would keep the broken data and loop for ever in the next poll. Without it, the next
            # poll fetches again from the position, which is behind the last record returned.
            part.drain()
            raise
        if not taken:
            return 0
        value = drained[part.topic_partition][-1].value
        return len(value) if type(value) is Block else 1

    class PartitionRecords(Fetcher.PartitionRecords):
        """What one fetch brought of one partition."""

        def _unpack_records(
            self, tp: TopicPartition, records: MemoryRecords, *deserializers: object
        ) -> Iterator[ConsumerRecord]:
            return super()._unpack_records(tp, _Batches(records, tp), *deserializers)

        def _maybe_skip_record(self, record: ConsumerRecord) -> bool:
            """Asked until it says no: a fetch in the middle of a batch brings the whole batch, whose start is cut off
            here.
            """
            block = record.value
            if type(block) is not Block:
                return super()._maybe_skip_record(record)
            unwanted = int(np.searchsorted(block.offsets, self.fetch_offset))
            if unwanted == len(block):
                return True
            if unwanted:
                _, rest = block.split(unwanted)
                for name in Block.__slots__:
                    setattr(block, name, getattr(rest, name))
            return False


class _Batches(MemoryRecords):
    """What one fetch brought of one partition, as batches that yield blocks."""

    def __init__(self, records: MemoryRecords, partition: TopicPartition) -> None:
        super().__init__(records._buffer)
        self._partition = partition

    def next_batch(self) -> ABCRecordBatch | None:
        data = self._next_slice
        if data is None or len(data) < DefaultRecordBatch.HEADER_STRUCT.size or data[self.MAGIC_OFFSET] != 2:
            return super().next_batch()
        self._cache_next()
        return _BlockBatch(data, self._partition)


class _BlockBatch(DefaultRecordBatch):
    """A batch whose iteration yields one record, the block; all else is kafka-python's own."""

    def __init__(self, data: memoryview, partition: TopicPartition) -> None:
        super().__init__(data[: self.HEADER_STRUCT.size])
        # Of bytes, unlike the bytearray that kafka-python has here, a slice is a value without another copy.
        self._buffer = bytes(data)
        self._partition = partition

    def __iter__(self) -> Iterator[DefaultRecord]:
        """One record, whose value is the block; none where compaction emptied the batch."""
        self._maybe_uncompress()
        block, records, error = _decode(self, self._partition), [], None
        if block is None:
            self._buffer = bytearray(self._buffer)  # as kafka-python has it, so that its errors read the same
            try:
                records.extend(map(next, itertools.repeat(self)))
            except Exception as caught:
                error = caught
            block = _gather(self._partition, records) if records else None
        if block:
            # Of this record kafka-python uses the offset, behind which it sets the position, and the value.
            yield DefaultRecord(
                self.size_in_bytes, int(block.offsets[-1]), int(block.timestamps[-1]), 0, None, block, []
            )
        if error:
            raise error


def _decode(batch: _BlockBatch, partition: TopicPartition) -> Block | None:
    """The records of a batch that is not compressed any more, or None when numpy might not read them exactly as
    kafka-python does.

    A record is: length, attributes (1 byte), timestamp delta, offset delta, key length, key, value length, value,
    header count, headers. All numbers are varints. https://kafka.apache.org/documentation/#record
    """
    if batch.records_count < _FEWEST_RECORDS or max(abs(batch.base_offset), abs(batch.first_timestamp)) > _GREATEST:
        return None
    data = bytes(batch._buffer)
    buffer = np.frombuffer(data, np.uint8)
    found = _find_records(buffer, batch._pos, batch.records_count)
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
    if batch.timestamp_type == batch.LOG_APPEND_TIME:
        timestamps = np.full(len(offsets), batch.max_timestamp)
    else:
        timestamps = batch.first_timestamp + time_deltas
    ends = np.cumsum(value_sizes + 1) - 1
    return Block(*partition, offsets, timestamps, b"\n".join(values), ends, np.flatnonzero(value_lengths < 0), "numpy")


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
