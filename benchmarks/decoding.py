"""What decoding Kafka's record batches costs, in microseconds of CPU a record: kafka-python's own way and by blocks.

    python benchmarks/decoding.py

JSON bars in batches as the producer writes them, read from memory as a consumer's poll reads them, checksums included.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parent.parent))

import msgspec
from isal import igzip
from kafka import TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.record import MemoryRecords
from kafka.record.default_records import DefaultRecordBatchBuilder

from pipeline.landing.block import Block
from pipeline.records import Bar, encode, time_text_ms
from pipeline.streams.kafka import compatibility, decoder

PARTITION = TopicPartition("stock_bars", 0)
RECORDS = 100_000
START_MS = 1_763_735_400_000


def bars(count: int) -> list[bytes]:
    """Bars of about 190 bytes each."""
    return [
        encode(
            Bar(
                symbol=("AAPL", "MSFT", "NVDA", "AMZN")[n % 4],
                time=time_text_ms(START_MS + n * 60_000),
                interval="1m",
                open=189.25 + n % 97 / 100,
                high=190.5 + n % 89 / 100,
                low=188.75,
                close=189.5 + n % 83 / 100,
                volume=float(1000 + n % 9973),
                source="simulated",
                ingested_at=time_text_ms(START_MS + n * 60_000 + 60_000),
            )
        )
        for n in range(count)
    ]


def batches(values: list[bytes], size: int, compression: int) -> bytes:
    """The values in record batches, one after the other, as a broker sends them."""
    data = bytearray()
    for first in range(0, len(values), size):
        builder = DefaultRecordBatchBuilder(2, compression, False, -1, -1, -1, 1 << 30)
        for n, value in enumerate(values[first : first + size]):
            builder.append(n, START_MS + n // 8, b"AAPL", value, [])
        batch = builder.build()
        batch[:8] = first.to_bytes(8, "big")
        data += batch
    return bytes(data)


def read(fetched: bytes, kind: type) -> list[Block]:
    """All blocks, from the kind of partition records that a stock or an installed fetcher has."""
    found = kind(0, PARTITION, MemoryRecords(fetched)).take()
    consumer = SimpleNamespace(poll=lambda **_: {PARTITION: found})
    return decoder.poll(consumer, 0)[PARTITION]


def microseconds(work: Callable[[], object], repeats: int = 5) -> float:
    """The best of some runs, a record."""
    best = float("inf")
    for _ in range(repeats):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return best / RECORDS * 1e6


def main() -> None:
    values = bars(RECORDS)
    print(f"{RECORDS:,} bars of {sum(map(len, values)) / RECORDS:.0f} bytes; µs of CPU a record, checksum included")
    for compression, name in enumerate(("uncompressed", "gzip", "snappy", "lz4", "zstd")):
        for size in (2500, 100, 10) if compression == 0 else (2500,):
            fetched = batches(values, size, compression)
            stock = microseconds(lambda data=fetched: read(data, Fetcher.PartitionRecords), 3)
            fast = microseconds(lambda data=fetched: read(data, compatibility.BlockFetcher.PartitionRecords))
            print(
                f"{name}, batches of {size:,}: kafka-python {stock:.2f}, blocks {fast:.2f}, "
                f"{stock / fast:.1f} times faster"
            )
    check = msgspec.json.Decoder(Bar).decode
    for kind, some in (("bytes", values), ("memoryview", [memoryview(value) for value in values])):
        joined = microseconds(lambda some=some: b"\n".join(some))
        checked = microseconds(lambda some=some: [None for _ in map(check, some)])
        print(f"values as {kind}: join {joined:.2f}, check {checked:.2f}")
    lines = b"\n".join(values)
    print(f"gzip level 1 (isal): {microseconds(lambda: igzip.compress(lines, 1)):.2f}")


if __name__ == "__main__":
    main()
