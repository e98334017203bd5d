"""How fast the DynamoDB route is: python -m local run python -m benchmarks.dynamodb [--only ways|batch|latency]

ways      conditional PutItem on many connections beside TransactWriteItems, and BatchWriteItem, which has no
conditions: why the
          writer does what it does
batch     consumer.py --sink dynamodb over 10,000 rows, start-up and all latency   from the send of a record to the
moment in which a strongly consistent read gives its item, at 200 records a second, each
          sent for itself

The table is the embedded stack's, so the figures are those of the client and of the emulator, not of AWS.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.pool import ThreadPool
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

from benchmarks.landing import bars, fill, measure
from pipeline import aws, records
from pipeline.settings import Settings, load_settings
from pipeline.sinks.dynamodb import items
from pipeline.sinks.dynamodb.table import PriceTable
from pipeline.streams.kafka import producer as topic

WAYS_ITEMS = 2_000
BATCH_ROWS = 10_000
LATENCY_SECONDS = 20
LATENCY_RECORDS_PER_SECOND = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["ways", "batch", "latency"])
    only = parser.parse_args().only
    for name, run in (("ways", ways), ("batch", batch), ("latency", latency)):
        if only in (None, name):
            own = uuid.uuid4().hex[:6]
            settings = replace(
                load_settings(),
                kafka_topic_bars=f"bench_{own}",
                kafka_topic_checkpoints=f"bench_checkpoints_{own}",
                kafka_group=f"bench_{own}",
                dynamodb_table=f"bench_{own}",
            )
            PriceTable(settings).create()
            try:
                run(settings)
            finally:
                aws.client(settings, "dynamodb").delete_table(TableName=settings.dynamodb_table)


def ways(settings: Settings) -> None:
    client = aws.client(settings, "dynamodb", attempts=1, pool_connections=32)
    keys = items.Keys(settings.dynamodb_partition_key, settings.dynamodb_sort_key)
    puts = [
        items.put(
            settings.dynamodb_table, keys, items.bar_item(keys, records.encode(bar), bar, offset=0, timestamp_ms=0)
        )
        for bar in bars(WAYS_ITEMS)
    ]

    def transact(part: list[dict]) -> None:
        client.transact_write_items(TransactItems=[{"Put": one} for one in part])

    def batch_write(part: list[dict]) -> None:
        client.batch_write_item(
            RequestItems={settings.dynamodb_table: [{"PutRequest": {"Item": one["Item"]}} for one in part]}
        )

    print(f"{WAYS_ITEMS:,} items of {len(records.encode(next(bars(1))))} bytes as JSON")
    for name, call, size, threads in (
        ("PutItem, conditional, 1 thread", lambda part: client.put_item(**part[0]), 1, 1),
        ("PutItem, conditional, 8 threads", lambda part: client.put_item(**part[0]), 1, 8),
        ("PutItem, conditional, 32 threads", lambda part: client.put_item(**part[0]), 1, 32),
        ("TransactWriteItems of 100, 1 thread", transact, 100, 1),
        ("TransactWriteItems of 100, 8 threads", transact, 100, 8),
        ("BatchWriteItem of 25, no condition, 8 threads", batch_write, 25, 8),
    ):
        print(
            f"  {name:<48}{_timed(call, [puts[n : n + size] for n in range(0, len(puts), size)], threads)}", flush=True
        )


def _timed(call: Callable[[list[dict]], Any], parts: list[list[dict]], threads: int) -> str:
    with ThreadPool(threads) as pool:
        began, cpu_began = time.monotonic(), time.process_time()
        pool.map(call, parts, chunksize=1)
        wall, cpu = time.monotonic() - began, time.process_time() - cpu_began
    return f"{WAYS_ITEMS / wall:>8,.0f} items/s {cpu / WAYS_ITEMS * 1e6:>8,.0f} µs client CPU/item"


def _environment(settings: Settings) -> dict[str, str]:
    return os.environ | {
        "KAFKA_TOPIC_BARS": settings.kafka_topic_bars,
        "KAFKA_GROUP": settings.kafka_group,
        "DYNAMODB_TABLE": settings.dynamodb_table,
    }


def batch(settings: Settings) -> None:
    """The whole command. A second run over the same records shows what writing again costs."""
    fill(settings, BATCH_ROWS)
    for name, arguments in (
        ("consumer.py --sink dynamodb, empty table", []),
        ("again, --from-beginning", ["--from-beginning"]),
    ):
        cost = measure(
            [sys.executable, "consumer.py", "--sink", "dynamodb", "--until-caught-up", *arguments],
            _environment(settings),
        )
        print(
            f"{name:<44}{BATCH_ROWS / cost.wall_seconds:>8,.0f} records/s "
            f"{cost.cpu_seconds / BATCH_ROWS * 1e6:>6,.0f} µs CPU/record "
            f"{cost.peak_mb:>5.0f} MB peak {cost.wall_seconds:>6.1f} s",
            flush=True,
        )
    client = aws.client(settings, "dynamodb")
    pages = client.get_paginator("scan").paginate(TableName=settings.dynamodb_table, Select="COUNT")
    if (count := sum(page["Count"] for page in pages)) != BATCH_ROWS:
        raise SystemExit(f"{count} items, not {BATCH_ROWS}")


def latency(settings: Settings) -> None:
    fill(settings, 40)  # a record of every symbol, so that all partitions are in use
    count = LATENCY_SECONDS * LATENCY_RECORDS_PER_SECOND
    with TemporaryDirectory() as folder, (Path(folder) / "log").open("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "consumer.py", "--sink", "dynamodb"], env=_environment(settings), stderr=log
        )
        try:
            seen, waiting, keys = {}, {}, items.Keys(settings.dynamodb_partition_key, settings.dynamodb_sort_key)
            reader = aws.client(settings, "dynamodb")
            while (
                aws.client(settings, "dynamodb").scan(TableName=settings.dynamodb_table, Select="COUNT")["Count"] < 40
            ):
                time.sleep(0.2)
            sender = Thread(target=_send, args=(settings, keys, count, waiting))
            sender.start()
            while sender.is_alive() or (waiting and process.poll() is None):
                _look(reader, settings.dynamodb_table, keys, waiting, seen)
            sender.join()
        finally:
            process.terminate()
            process.wait()
        if len(seen) != count:
            log.seek(0)
            raise SystemExit(f"{len(seen)} of {count} items came: {log.read()[-2000:]}")
    waits = sorted(seen.values())
    print(
        f"latency at {LATENCY_RECORDS_PER_SECOND} records/s, {count:,} records: p50 {statistics.median(waits):.3f} s, "
        f"p99 {waits[int(count * 0.99)]:.3f} s, most {waits[-1]:.3f} s"
    )


def _send(settings: Settings, keys: items.Keys, count: int, waiting: dict[tuple[str, str], float]) -> None:
    """Each record by itself and at its own time; `waiting` gets the moment of its send."""
    producer = topic.KafkaProducer(**topic.connection(settings), linger_ms=0, acks="all")
    began = time.monotonic()
    for number, bar in enumerate(bars(count)):
        bar.time, bar.ingested_at = records.time_text_ms(1_800_000_000_000 + number), "2026-01-02 00:00:00.000"
        time.sleep(max(0.0, began + number / LATENCY_RECORDS_PER_SECOND - time.monotonic()))
        waiting[keys.of(bar)] = time.monotonic()
        producer.send(settings.kafka_topic_bars, records.encode(bar), bar.symbol.encode())
    producer.flush()
    producer.close()


def _look(
    client: Any, table: str, keys: items.Keys, waiting: dict[tuple[str, str], float], seen: dict[tuple[str, str], float]
) -> None:
    """One read of the oldest that have not been seen."""
    wanted = [{keys.partition: {"S": company}, keys.sort: {"S": day}} for company, day in list(waiting)[:100]]
    if not wanted:
        time.sleep(0.005)
        return
    answer = client.batch_get_item(
        RequestItems={
            table: {
                "Keys": wanted,
                "ConsistentRead": True,
                "ProjectionExpression": "#p, #s",
                "ExpressionAttributeNames": {"#p": keys.partition, "#s": keys.sort},
            }
        }
    )
    now = time.monotonic()
    for item in answer["Responses"][table]:
        key = item[keys.partition]["S"], item[keys.sort]["S"]
        seen[key] = now - waiting.pop(key)


if __name__ == "__main__":
    main()
