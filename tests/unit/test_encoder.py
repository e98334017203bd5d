"""Record batches encoded whole are read back by kafka-python's own decoder as what went in."""

import pytest
from kafka import TopicPartition
from kafka.record import MemoryRecords
from kafka.record.util import encode_varint

from pipeline.landing.positions import Partition
from pipeline.streams.kafka import compatibility
from pipeline.streams.kafka.encoder import BATCH_BYTES, Varints, encode
from pipeline.streams.kafka.producer import failure

PARTITION = Partition("t", 0)


@pytest.mark.parametrize("number", [0, 1, 63, 64, 127, 128, 8191, 8192, 300_000])
def test_varints_are_kafkas(number: int) -> None:
    """Lengths and counts are written as kafka-python writes them."""
    expected = bytearray()
    encode_varint(number, expected.append)
    assert Varints()[number] == bytes(expected)


class Parts:
    """The parts of a producer that `append` touches, holding on to the batches."""

    def __init__(self) -> None:
        self.batches, self.added = [], []
        self._transaction_manager = self._accumulator = self._sender = self
        self._batches, self._incomplete = {PARTITION: self.batches}, set()

    def maybe_add_partition_to_transaction(self, partition: TopicPartition) -> None:
        self.added.append(partition)

    def _tp_lock(self, _partition: TopicPartition) -> "Parts":
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def wakeup(self) -> None:
        pass


def test_batches_are_read_back_whole() -> None:
    """Keys and values of any length come back in order, with offsets from 0 in each batch, valid checksums and a
    bounded size.
    """
    producer = Parts()
    pairs = [(f"S{n % 7}".encode() * (1 + n % 50), b"v" * (n * 37 % 1500)) for n in range(2000)]
    futures = compatibility.append(producer, PARTITION, encode(pairs, 1_700_000_000_000))
    assert producer.added == [PARTITION]
    assert len(futures) == len(producer.batches) > 1
    read = []
    for batch in producer.batches:
        batch.records.set_producer_state(7, 0, 0, True)
        batch.records.close()
        assert len(batch.records.buffer()) <= BATCH_BYTES + 2000
        decoded = MemoryRecords(bytes(batch.records.buffer())).next_batch()
        assert decoded.validate_crc()
        records = list(decoded)
        assert [record.offset for record in records] == list(range(batch.record_count))
        assert {record.timestamp for record in records} == {1_700_000_000_000}
        read += [(record.key, record.value) for record in records]
    assert read == pairs


def test_failure_is_seen() -> None:
    """A batch that failed, was aborted or is not answered has a reason; one that arrived has none."""
    producer = Parts()
    for _ in range(3):
        compatibility.append(producer, PARTITION, encode([(b"k", b"v")], 0))
    arrived, failed, waiting = producer.batches
    arrived.complete(5, -1)
    failed.abort(ValueError("no"))
    assert failure(arrived.produce_future) is None
    assert isinstance(failure(failed.produce_future), ValueError)
    assert "max.message.bytes" in str(failure(waiting.produce_future))
