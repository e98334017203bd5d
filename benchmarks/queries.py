"""What the dashboards' queries scan and how long they take, in three layouts of the same kind of daily bars.

    python -m local run python benchmarks/queries.py [--bars 1000000] [--events 20000]

- one object an event: what tutorials do; a JSON file per bar in one folder (20,000 of them are enough to see it);
- raw: JSON lines, gzip, 100,000 bars an object, as consumer.py lands them;
- curated: the same bars after the ETL: Parquet, zstd, a folder a month.

Queries are those of athena_queries.sql, for 5 of 500 tickers and the last 12 months, as a dashboard asks. Bytes are
what Athena reports as scanned, which is what it charges for; seconds are the median of three runs (one, where every
event is an object), on the machine that this runs on.
"""

import argparse
import statistics
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

from benchmarks.dashboard_lake import BARS_AN_OBJECT, DASHBOARDS, LAST_DAY, SYMBOLS, WATCHED, carry_out, put_batch
from dashboards.query_results import Narrowing, narrowed
from etl.curation import Curation
from pipeline import aws, records
from pipeline.athena.client import Athena
from pipeline.athena.queries import queries
from pipeline.records import Bar
from pipeline.settings import Settings, load_settings
from pipeline.sinks.lake.writer import ObjectWriter
from pipeline.tables import catalog
from pipeline.tables.athena_engine import AthenaEngine
from pipeline.tables.etl_inputs import etl_tables
from pipeline.tables.provision import Provision
from pipeline.tables.removal import removals


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bars", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=20_000)
    options = parser.parse_args()
    settings = replace(
        load_settings(required=["s3_bucket"]),
        s3_prefix="benchmark",
        glue_database="benchmark",
        athena_workgroup="benchmark",
    )
    now = datetime.now(UTC)
    remove(settings)
    carry_out(Provision(settings, today=now.date()).changes())
    print(f"{options.bars:,} bars of {len(SYMBOLS)} tickers; asked for {len(WATCHED)} tickers and 12 months\n")
    print("| layout | bars | query | scanned | per million bars | seconds |\n|---|---:|---|---:|---:|---:|")
    try:
        one_object_an_event(settings, options.events)
        report(settings, "one object an event", options.events, view="events", runs=1)
        land(settings, options.bars, now)
        report(settings, "raw, JSON lines gzip", options.bars)
        curate(settings, now)
        report(settings, "curated, Parquet", options.bars)
    finally:
        remove(settings)


def bars(count: int) -> Iterator[Bar]:
    """Random walks, the latest `count` bars up to LAST_DAY, in the order in which they come: day by day."""
    random = np.random.default_rng(1)
    closes = random.uniform(20, 400, len(SYMBOLS))
    days = -(-count // len(SYMBOLS))
    for number in range(count):
        symbol, back = number % len(SYMBOLS), days - 1 - number // len(SYMBOLS)
        if symbol == 0:
            changes, volumes = random.normal(0, 0.02, len(SYMBOLS)), random.integers(10_000, 10_000_000, len(SYMBOLS))
        close = float(closes[symbol])
        closes[symbol] = close * (1 + changes[symbol])
        time = f"{LAST_DAY - timedelta(days=back)} 00:00:00.000"
        yield Bar(
            symbol=SYMBOLS[symbol],
            time=time,
            interval="1d",
            open=round(close, 2),
            high=round(close * 1.01, 2),
            low=round(close * 0.99, 2),
            close=round(float(closes[symbol]), 2),
            volume=float(volumes[symbol]),
            source="simulated",
            ingested_at="2026-01-01 00:00:00.000",
        )


def one_object_an_event(settings: Settings, count: int) -> None:
    """Objects of one bar each in one folder, a plain table over it, and a view of the shape of bars."""
    s3, glue = aws.client(settings, "s3", pool_connections=8), aws.client(settings, "glue")
    folder = f"{settings.s3_root}events/"
    with ThreadPoolExecutor(8) as pool:

        def put(number: int, bar: Bar) -> None:
            s3.put_object(Bucket=settings.s3_bucket, Key=f"{folder}{number}.json", Body=records.encode(bar))

        list(pool.map(put, range(count), bars(count)))
    table: dict[str, Any] = catalog.raw_table(settings, "bars", catalog.Landing(first_day="2026-01-01"))
    table |= {"Name": "raw_events", "PartitionKeys": [], "Parameters": {"classification": "json"}}
    table["StorageDescriptor"] |= {"Location": f"s3://{settings.s3_bucket}/{folder}"}
    glue.create_table(DatabaseName=settings.glue_database, TableInput=table)
    select = catalog.raw_select("bars", "json", "raw_events", "true")
    Athena(settings).query(f"CREATE OR REPLACE VIEW events AS {select}")


def land(settings: Settings, count: int, now: datetime) -> None:
    """As consumer.py lands them, without Kafka."""
    writer = ObjectWriter(settings, threads=1)
    values: list[bytes] = []
    for number, bar in enumerate(bars(count), 1):
        values.append(records.encode(bar))
        # The newest batch is read again until the next one is there, so the last bar is a batch of its own.
        if len(values) == BARS_AN_OBJECT or number >= count - 1:
            put_batch(settings, writer, values, number - len(values), arrived_ms=int(now.timestamp() * 1000))
            values.clear()


def curate(settings: Settings, now: datetime) -> None:
    clients = {name: aws.client(settings, name) for name in ("s3", "glue", "athena")}
    landing = catalog.Landing(first_day=(now.date() - timedelta(days=365)).isoformat())
    table = etl_tables(settings, {"bars": landing})["bars"]
    # Nothing of today is read from the raw table afterwards: the watermark goes to tomorrow, as it will be on the day
    # after.
    done = Curation(AthenaEngine(settings), **clients, run="benchmark", now=now).curate(replace(table, late_days=-1))
    print(f"<!-- ETL: {done.partitions} months -->")


def report(settings: Settings, layout: str, count: int, view: str = "bars", runs: int = 3) -> None:
    narrowing = Narrowing(symbols=WATCHED, first_day=date(2025, 1, 1), last_day=LAST_DAY)
    athena = Athena(settings)
    for name in DASHBOARDS:
        sql = narrowed(queries()[name].sql, narrowing)
        results = [athena.run(sql.replace(" FROM bars WHERE", f" FROM {view} WHERE", 1)) for _ in range(runs)]
        scanned = results[-1].scanned_bytes
        seconds = statistics.median(result.seconds for result in results)
        print(
            f"| {layout} | {count:,} | {name} | {scanned / 1e6:,.2f} MB | {scanned / count:,.1f} MB | {seconds:.2f} |",
            flush=True,
        )


def remove(settings: Settings) -> None:
    carry_out(removals(settings, with_roles=False, with_data=True))
    # The table and the view of one_object_an_event, which removals() leaves alone as somebody else's.
    glue = aws.client(settings, "glue")
    try:
        glue.delete_database(Name=settings.glue_database)
    except glue.exceptions.EntityNotFoundException:
        return


if __name__ == "__main__":
    main()
