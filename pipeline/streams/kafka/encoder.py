"""Kafka's record batches encoded whole: the counterpart of blocks.py, on the producing side.

KafkaProducer.send() costs 17 µs a record, most of it an object, a future and a dozen function calls for each. Here the
records of one partition become the bytes of a record batch (message format v2) in one loop, and the batch is handed to
kafka-python's accumulator as if send() had filled it. Producer ids, sequence numbers, checksums, retries and
transactions stay kafka-python's. The format: https://kafka.apache.org/documentation/#recordbatch. An untested version
of kafka-python gets send() instead.
"""

import logging
import time
from collections.abc import Iterable

import kafka
from kafka import KafkaProducer, TopicPartition
from kafka.future import Future
from kafka.producer.producer_batch import ProducerBatch
from kafka.record.memory_records import MemoryRecordsBuilder

log = logging.getLogger(__name__)

# What is used of kafka-python's private parts: the producer's accumulator, sender and transaction manager, and the
# builder's fields.
TESTED_VERSIONS = frozenset({"3.0.12"})
# Java's clients and brokers take batches of up to 1 MB; a quarter of it leaves room for topics with a lower limit.
BATCH_BYTES = 256 * 1024


def is_supported() -> bool:
    if kafka.__version__ in TESTED_VERSIONS:
        return True
    log.warning(
        "kafka-python untested, sending slowly", extra={"version": kafka.__version__, "tested": sorted(TESTED_VERSIONS)}
    )
    return False


class _Varints(dict):
    """Zigzag varints of counts and lengths, each computed once."""

    def __missing__(self, number: int) -> bytes:
        rest, encoded = number << 1, bytearray()
        while rest > 0x7F:
            encoded.append(rest & 0x7F | 0x80)
            rest >>= 7
        encoded.append(rest)
        self[number] = bytes(encoded)
        return self[number]


_VARINTS = _Varints()


def append(producer: KafkaProducer, partition: TopicPartition, records: Iterable[tuple[bytes, bytes]]) -> list[Future]:
    """Hand (key, value) pairs to the producer for one partition, in order. The producer must be in a transaction.

    Returns a future a batch; `failure(future)` says how it went.
    """
    # What send() does first: the transaction has to hold the partition before anything is sent to it.
    producer._transaction_manager.maybe_add_partition_to_transaction(partition)
    accumulator = producer._accumulator
    timestamp_ms = int(time.time() * 1000)
    futures, parts, size, count = [], [], 0, 0

    def close() -> None:
        batch = _batch(partition, b"".join(parts), count, timestamp_ms)
        with accumulator._tp_lock(partition):
            accumulator._batches[partition].append(batch)
            accumulator._incomplete.add(batch)
        futures.append(batch.produce_future)

    for key, value in records:
        offset, key_length, value_length = _VARINTS[count], _VARINTS[len(key)], _VARINTS[len(value)]
        length = 3 + len(offset) + len(key_length) + len(key) + len(value_length) + len(value)
        if count and size + length > BATCH_BYTES:
            close()
            parts, size, count = [], 0, 0
            offset = _VARINTS[0]
            length = 3 + len(offset) + len(key_length) + len(key) + len(value_length) + len(value)
        # Attributes and the difference to the first timestamp are both 0; no headers.
        parts += (_VARINTS[length], b"\0\0", offset, key_length, key, value_length, value, b"\0")
        size += length + 3
        count += 1
    if count:
        close()
    producer._sender.wakeup()
    return futures


def _batch(partition: TopicPartition, body: bytes, count: int, timestamp_ms: int) -> ProducerBatch:
    # A builder of no size counts as full, so that the sender does not wait for more.
    records = MemoryRecordsBuilder(2, 0, batch_size=0)
    builder = records._builder
    builder._buffer += body
    builder._first_timestamp = builder._max_timestamp = timestamp_ms
    builder._last_offset, builder._num_records = count - 1, count
    records._next_offset = count
    return ProducerBatch(partition, records)


def failure(future: Future) -> Exception | None:
    """Why a batch, or a record of send(), is not in the topic; None when it is."""
    if not future.is_done:
        # kafka-python splits a batch that the broker finds too large, and forgets the first one's future.
        return kafka.errors.MessageSizeTooLargeError(f"the topic's max.message.bytes is less than {BATCH_BYTES}")
    if future.failed():
        return future.exception
    reasons = future.value[2] if isinstance(future.value, tuple) and len(future.value) == 3 else None
    return reasons(0) if reasons else None
