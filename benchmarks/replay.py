"""CSV row to committed record, whole: read, recognise, check, encode, send in transactions.

  python -m local run --only kafka python -m benchmarks.replay                     1,000,000 rows, each way once
  python -m local run --only kafka python -m benchmarks.replay --rows 5000000 --only replay

Each way is a process of its own, so CPU and memory are its own, start-up included, and what it committed is counted
afterwards:
  replay      python producer.py replay
  confluent   confluent-kafka sending the same values, encoded beforehand, in transactions of the same size
  tutorial    the tutorials' loop: iterrows, json.dumps, kafka-python's send; a tenth of the rows, no transactions
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import uuid
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from time import monotonic

import pandas as pd
from confluent_kafka import Producer
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from pipeline import records
from pipeline.settings import Settings, load_settings
from pipeline.sources.csv import file as csv_file
from pipeline.sources.csv.bars import Cleaner
from pipeline.sources.csv.reading import Options
from pipeline.streams.kafka.producer import connection, ensure_topics

ROOT = Path(__file__).parent.parent
SYMBOLS, IN_A_TRANSACTION = 20, 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--only", choices=["replay", "confluent", "tutorial"])
    parser.add_argument("--run", nargs=2, metavar=("WAY", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        {"confluent": confluent, "tutorial": tutorial}[options.run[0]](load_settings(), Path(options.run[1]))
        return
    print("| way | rows | wall s | rows/s | CPU µs/row | peak MB | committed |\n" + "| --- " * 7 + "|")
    with tempfile.TemporaryDirectory() as folder:
        for way in [options.only] if options.only else ["replay", "confluent", "tutorial"]:
            rows = options.rows // 10 if way == "tutorial" else options.rows
            path = Path(folder) / f"{way}.csv"
            write_prices(path, rows)
            if way == "confluent":
                path = _encoded(path)
            measure(way, path, rows)


def measure(way: str, path: Path, rows: int) -> None:
    settings = load_settings({"kafka_topic_bars": f"benchmark_{uuid.uuid4().hex[:8]}"})
    ensure_topics(settings, [settings.kafka_topic_bars])
    command = (
        ["producer.py", "replay", str(path), "--timezone", "UTC"]
        if way == "replay"
        else ["-m", "benchmarks.replay", "--run", way, str(path)]
    )
    began = monotonic()
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"KAFKA_TOPIC_BARS": settings.kafka_topic_bars},
    )
    _, status, used = os.wait4(process.pid, 0)
    wall = monotonic() - began
    if status:
        sys.exit(f"{way} failed")
    cpu = (used.ru_utime + used.ru_stime) / rows * 1e6
    print(
        f"| {way} | {rows:,} | {wall:.1f} | {rows / wall:,.0f} | {cpu:.1f} | {used.ru_maxrss / 1024:.0f} "
        f"| {committed(settings):,} |",
        flush=True,
    )


def write_prices(path: Path, rows: int) -> None:
    """Minute bars of twenty symbols, as real ones look: prices with cents, sorted by time."""
    random_, start = random.Random(1), datetime(2020, 1, 2, 14, 30)  # noqa: DTZ001
    with path.open("w") as file:
        file.write("Date,Open,High,Low,Close,Volume,Company Name,Symbol\n")
        for row in range(rows):
            price, symbol = round(random_.uniform(10, 900), 2), row % SYMBOLS
            file.write(
                f"{start + timedelta(minutes=row // SYMBOLS)},"
                f"{price},{price + 1.25:.2f},{price - 1.5:.2f},{price + 0.5:.2f},"
                f"{random_.randrange(10**6)},Company {symbol},SY{symbol}\n"
            )


def _encoded(path: Path) -> Path:
    """The same rows as the values that replay sends, one a line, for a client that has nothing else to do."""
    encoded = path.with_suffix(".ndjson")
    with csv_file.at_hand(str(path), Settings()) as file, encoded.open("wb") as values:
        reading = csv_file.reading(file, Options())
        cleaner = Cleaner(reading, source=file.source, ingested_at=lambda: "2024-01-01 00:00:00.000")
        for chunk in csv_file.chunks(file, reading, cleaner):
            values.writelines(bar.symbol.encode() + b"\t" + records.encode(bar) + b"\n" for bar in chunk.bars)
    return encoded


def confluent(settings: Settings, path: Path) -> None:
    producer = Producer(
        {
            "bootstrap.servers": settings.kafka_bootstrap_servers,
            "transactional.id": uuid.uuid4().hex,
            "linger.ms": 5,
            "queue.buffering.max.messages": 2 * IN_A_TRANSACTION,
        }
    )
    producer.init_transactions()
    with path.open("rb") as file:
        while lines := list(islice(file, IN_A_TRANSACTION)):
            producer.begin_transaction()
            for line in lines:
                key, _, value = line.rstrip(b"\n").partition(b"\t")
                producer.produce(settings.kafka_topic_bars, value, key)
            producer.commit_transaction()


def tutorial(settings: Settings, path: Path) -> None:
    producer = KafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers, value_serializer=lambda row: json.dumps(row).encode()
    )
    for _, row in pd.read_csv(path).iterrows():
        producer.send(settings.kafka_topic_bars, row.to_dict())
    producer.flush()
    producer.close()


def committed(settings: Settings) -> int:
    """How many records a read_committed reader sees."""
    with KafkaConsumer(
        **connection(settings),
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=50,
    ) as reader:
        partitions = [
            TopicPartition(settings.kafka_topic_bars, partition)
            for partition in reader.partitions_for_topic(settings.kafka_topic_bars)
        ]
        reader.assign(partitions)
        ends, count = reader.end_offsets(partitions), 0
        while any(reader.position(partition) < ends[partition] for partition in partitions):
            count += sum(map(len, reader.poll(timeout_ms=500, max_records=20_000).values()))
    return count


if __name__ == "__main__":
    main()
