"""Record batches built by hand, and a consumer's fetcher without the network to read them."""

import struct
from types import SimpleNamespace

from kafka import TopicPartition, codec
from kafka.consumer.fetcher import CompletedFetch, Fetcher
from kafka.consumer.subscription_state import SubscriptionState
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kafka.record.util import calc_crc32c

from pipeline.landing.block import Block
from pipeline.streams.kafka import compatibility, decoder

PARTITION = TopicPartition("stock_bars", 3)
CODECS = {
    DefaultRecordBatch.CODEC_NONE: bytes,
    DefaultRecordBatch.CODEC_GZIP: codec.gzip_encode,
    DefaultRecordBatch.CODEC_SNAPPY: codec.snappy_encode,
    DefaultRecordBatch.CODEC_LZ4: codec.lz4_encode,
    DefaultRecordBatch.CODEC_ZSTD: codec.zstd_encode,
}
HEADER = DefaultRecordBatch.HEADER_STRUCT
FIRST_TIMESTAMP = 1_763_700_000_000
ENOUGH = 100  # records for the fast decoder


def build_records(records: list[tuple], steps: list[int]) -> tuple[bytes, list[int]]:
    """The records as they lie in a batch, uncompressed, and their offset deltas; a step over 1 is what compaction
    leaves.
    """
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 1 << 30)
    deltas, delta = [], steps[0] - 1
    for index, (time, key, value, headers) in enumerate(records):
        builder.append(delta, FIRST_TIMESTAMP + time if index else FIRST_TIMESTAMP, key, value, headers)
        deltas.append(delta)
        delta += steps[(index + 1) % len(steps)]
    return bytes(builder.build()[HEADER.size :]), deltas


def build_batch(
    body: bytes,
    count: int,
    base_offset: int,
    last_delta: int,
    *,
    compression: int = 0,
    flags: int = 0,
    producer_id: int = -1,
    first_timestamp: int = FIRST_TIMESTAMP,
) -> bytes:
    """A batch with the right checksum, as a broker sends it."""
    return build_compressed_batch(
        CODECS[compression](body),
        count,
        base_offset,
        last_delta,
        compression=compression,
        flags=flags,
        producer_id=producer_id,
        first_timestamp=first_timestamp,
    )


def build_compressed_batch(
    payload: bytes,
    count: int,
    base_offset: int,
    last_delta: int,
    *,
    compression: int,
    flags: int = 0,
    producer_id: int = -1,
    first_timestamp: int = FIRST_TIMESTAMP,
) -> bytes:
    """A batch of records that are compressed already."""
    attributes = compression | flags
    size = HEADER.size + len(payload) - DefaultRecordBatch.AFTER_LEN_OFFSET
    batch = bytearray(HEADER.size) + payload
    HEADER.pack_into(
        batch,
        0,
        base_offset,
        size,
        7,
        2,
        0,
        attributes,
        last_delta,
        first_timestamp,
        FIRST_TIMESTAMP + 99_999,
        producer_id,
        0,
        0,
        count,
    )
    struct.pack_into(
        ">I",
        batch,
        DefaultRecordBatch.CRC_OFFSET,
        calc_crc32c(memoryview(batch)[DefaultRecordBatch.ATTRIBUTES_OFFSET :]),
    )
    return bytes(batch)


def plain_batch(base_offset: int, count: int, **options: int) -> bytes:
    records = [(i // 3, b"AAPL", b'{"close":%d}' % i, []) for i in range(count)]
    body, deltas = build_records(records, [1])
    return build_batch(body, count, base_offset, deltas[-1], **options)


def marker(base_offset: int, producer_id: int, *, commit: bool) -> bytes:
    """The control batch that ends a transaction."""
    body, _ = build_records([(0, struct.pack(">hh", 0, commit), bytes(6), [])], [1])
    flags = DefaultRecordBatch.CONTROL_MASK | DefaultRecordBatch.TRANSACTIONAL_MASK
    return build_batch(body, 1, base_offset, 0, flags=flags, producer_id=producer_id)


class Reader:
    """A kafka-python consumer's fetcher without the network: it is handed what the broker would have answered."""

    def __init__(
        self, *, stock: bool, fetch_offset: int = 0, isolation: str = "read_committed", check_crcs: bool = True
    ) -> None:
        self._subscriptions = SubscriptionState("earliest")
        self._subscriptions.assign_from_user([PARTITION])
        client = SimpleNamespace(_manager=SimpleNamespace(_net=None))
        self._fetcher = Fetcher(client, self._subscriptions, isolation_level=isolation, check_crcs=check_crcs)
        assert stock or compatibility.read_in_blocks(self)
        self.stock = stock
        self.seek(fetch_offset)

    def answer(self, data: bytes, aborted: list[tuple[int, int]] = ()) -> None:
        """Hand in the answer to a fetch from the position."""
        aborted = [SimpleNamespace(producer_id=producer, first_offset=first) for producer, first in aborted]
        answer = SimpleNamespace(
            error_code=0,
            high_watermark=1 << 40,
            records=data,
            aborted_transactions=aborted,
            diverging_epoch=None,
            preferred_read_replica=-1,
        )
        self._fetcher._completed_fetches.append(CompletedFetch(PARTITION, self.position, 12, answer, None))

    def poll(self, timeout_ms: int = 0, max_records: int | None = None) -> dict:
        """What KafkaConsumer.poll does here."""
        return self._fetcher.fetched_records(max_records)[0]

    def poll_records(self, max_records: int | None = None) -> list[tuple]:
        """One poll's (offset, timestamp, value), from plain records or from blocks."""
        if self.stock:
            return [(r.offset, r.timestamp, r.value) for r in self.poll(0, max_records).get(PARTITION, [])]
        return [record for block in self.poll_blocks(max_records) for record in rows(block)]

    def poll_blocks(self, max_records: int | None = None) -> list[Block]:
        return decoder.poll(self, 0, max_records).get(PARTITION, [])

    def read(
        self, data: bytes, aborted: list[tuple[int, int]] = (), max_records: int | None = None
    ) -> tuple[list, str, int]:
        """All the records of an answer, the error that ended them, and the position afterwards."""
        self.answer(data, aborted)
        found, error = [], ""
        try:
            while polled := self.poll_records(max_records):
                found += polled
        except Exception as caught:  # noqa: BLE001 - whatever it is, both decoders must say the same
            error = repr(caught)
        return found, error, self.position

    @property
    def position(self) -> int:
        return self._subscriptions.assignment[PARTITION].position.offset

    def seek(self, offset: int) -> None:
        self._subscriptions.seek(PARTITION, offset)

    def pause(self) -> None:
        self._subscriptions.pause(PARTITION)

    def resume(self) -> None:
        self._subscriptions.resume(PARTITION)


def rows(block: Block) -> list[tuple]:
    assert (block.topic, block.partition) == PARTITION
    assert len(block) == len(block.values) == len(block.offsets) == len(block.timestamps) > 0
    assert block.bytes == sum(len(value or b"") for value in block.values)
    return list(zip(block.offsets.tolist(), block.timestamps.tolist(), block.values, strict=True))
