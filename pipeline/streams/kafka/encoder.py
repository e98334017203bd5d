"""Kafka's record batches encoded whole: the counterpart of decoder.py, on the producing side.

KafkaProducer.send() costs 17 µs a record, most of it an object, a future and a dozen function calls for each. Here the
records of one partition become the bytes of record batches (message format v2) in one loop, and compatibility.py hands
the batches to kafka-python as if send() had filled them. The format:
https://kafka.apache.org/documentation/#recordbatch
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

# Java's clients and brokers take batches of up to 1 MB; a quarter of it leaves room for topics with a lower limit.
BATCH_BYTES = 256 * 1024


class EncodedBatch(NamedTuple):
    """The records of one batch, without its header. All of them have the same timestamp."""

    body: bytes
    records: int
    timestamp_ms: int


class Varints(dict[int, bytes]):
    """Zigzag varints of counts and lengths, each computed once."""

    def __missing__(self, number: int) -> bytes:
        rest, encoded = number << 1, bytearray()
        while rest > 0x7F:
            encoded.append(rest & 0x7F | 0x80)
            rest >>= 7
        encoded.append(rest)
        self[number] = bytes(encoded)
        return self[number]


_VARINTS = Varints()


def encode(records: Iterable[tuple[bytes, bytes]], timestamp_ms: int) -> Iterator[EncodedBatch]:
    """(key, value) pairs in order, as batches of at most BATCH_BYTES unless a single record is larger."""
    varints, parts, size, count = _VARINTS, list[bytes](), 0, 0
    for key, value in records:
        offset, key_length, value_length = varints[count], varints[len(key)], varints[len(value)]
        length = 3 + len(offset) + len(key_length) + len(key) + len(value_length) + len(value)
        if count and size + length > BATCH_BYTES:
            yield EncodedBatch(b"".join(parts), count, timestamp_ms)
            parts, size, count = [], 0, 0
            offset = varints[0]
            length = 3 + len(offset) + len(key_length) + len(key) + len(value_length) + len(value)
        # Attributes and the difference to the first timestamp are both 0; no headers.
        parts += (varints[length], b"\0\0", offset, key_length, key, value_length, value, b"\0")
        size += length + 3
        count += 1
    if count:
        yield EncodedBatch(b"".join(parts), count, timestamp_ms)
