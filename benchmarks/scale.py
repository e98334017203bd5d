"""How the lake's query side grows: python -m local run python benchmarks/scale.py [--bars 1000000]

Minute bars of 500 tickers, and two years of their daily bars, landed as consumer.py lands them (JSON lines, gzip,
100,000 an object; Kafka is left out), then:

- `count(*)` over the view before any ETL;
- the ETL, by Athena as `glue_setup.py etl` runs it, with nothing that a user would not have;
- `count(*)`, the dashboards' five queries for 5 tickers and 12 months, and one ticker's minutes of 12 months, each the
  median of three runs; in turns with DuckDB over the same Parquet files on disk, where it is installed. Their queries
  read adjusted_bars in Trino and the bars themselves in DuckDB: there are no splits here, so the rows are equal;
- one more day of minute bars: the ETL's seconds, and the bytes that it wrote and copied.

Memory is the most that Trino's process had resident in that step. Bytes are those of the objects.
"""

import argparse
import importlib
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

from benchmarks.dashboard_lake import BARS_AN_OBJECT, DASHBOARDS, LAST_DAY, SYMBOLS, WATCHED, carry_out, put_batch
from dashboards.query_results import Narrowing, narrowed
from etl.curation import Curation
from local.stack import Stack
from pipeline import aws
from pipeline.athena.client import Athena, QueryFailed
from pipeline.athena.queries import queries
from pipeline.settings import Settings, load_settings
from pipeline.sinks.lake.writer import ObjectWriter
from pipeline.tables.athena_engine import AthenaEngine
from pipeline.tables.bucket_rules import bucket_changes
from pipeline.tables.etl_inputs import etl_tables
from pipeline.tables.lake_listing import LakeListing
from pipeline.tables.provision import Provision
from pipeline.tables.removal import removals

MINUTES_A_DAY = 390
LINE = (
    '{"symbol":"%s","time":"%s","interval":"%s","open":%.2f,"high":%.2f,"low":%.2f,"close":%.2f,"volume":%d.0,'
    '"source":"benchmark","ingested_at":"2026-01-01 00:00:00.000"}'
)


@dataclass
class Lake:
    """The lake under test; `landed` counts what lies in the raw folder."""

    settings: Settings
    landed: int = 0

    def land(self, lines: Iterator[bytes], day: date) -> None:
        """Put batches of lines as objects that arrived on a day."""
        writer = ObjectWriter(self.settings, threads=2)
        values: list[bytes] = []
        for line in lines:
            values.append(line)
            if len(values) == BARS_AN_OBJECT:
                self._put(writer, values, day)
                values = []
        if values:
            self._put(writer, values, day)

    def _put(self, writer: ObjectWriter, values: list[bytes], day: date) -> None:
        put_batch(self.settings, writer, values, self.landed, arrived_ms=noon_ms(day))
        self.landed += len(values)

    def curate(self, run: str, now: datetime, record: str = "bars") -> int:
        """What `glue_setup.py etl --tables bars` does; return how many partitions it wrote."""
        listing = LakeListing(self.settings)
        landing = listing.landing(record, listing.first_day_declared(record))
        clients = {name: aws.client(self.settings, name) for name in ("s3", "glue", "athena")}
        curation = Curation(AthenaEngine(self.settings), **clients, run=run, now=now)
        return curation.curate(etl_tables(self.settings, {record: landing})[record]).partitions

    def sizes(self, folder: str) -> dict[str, int]:
        """The objects below a folder of the lake, with their bytes."""
        pages = aws.client(self.settings, "s3").get_paginator("list_objects_v2")
        prefix = f"{self.settings.s3_root}{folder}"
        found = pages.paginate(Bucket=self.settings.s3_bucket, Prefix=prefix)
        return {each["Key"]: each["Size"] for page in found for each in page.get("Contents", [])}


def noon_ms(day: date) -> int:
    """Noon of a day, as Kafka has times."""
    return int(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp() * 1000)


@contextmanager
def lake_of_its_own(name: str) -> Iterator[Lake]:
    """A lake with this prefix, database and workgroup, which is gone afterwards."""
    settings = replace(load_settings(required=["s3_bucket"]), s3_prefix=name, glue_database=name, athena_workgroup=name)
    remove(settings)
    try:
        yield Lake(settings)
    finally:
        remove(settings)


def days_of(count: int) -> list[date]:
    """The days, in order, that so many minute bars need. The last day of the month is the one that comes later."""
    days = -(-count // (len(SYMBOLS) * MINUTES_A_DAY))
    return [LAST_DAY - timedelta(days=back) for back in range(days, 0, -1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bars", type=int, default=1_000_000, help="minute bars (default: %(default)s)")
    options = parser.parse_args()
    # As if the objects had been there for a while: the ETL reads those of the last two minutes again.
    now = datetime.now(UTC) + timedelta(minutes=5)
    with lake_of_its_own("scale") as lake:
        measure(lake, options.bars, now)


def measure(lake: Lake, count: int, now: datetime) -> None:
    minute_days = days_of(count)
    # What came four days ago is curated and not read from the raw folder again.
    before = now.date() - timedelta(days=4)
    print(f"{count:,} minute bars of {len(SYMBOLS)} tickers, {len(minute_days)} days, and two years of daily bars")
    carry_out(bucket_changes(lake.settings))
    step("landed", lambda: land_all(lake, minute_days, count, before))
    raw = sum(lake.sizes("raw/bars/").values())
    print(f"    {raw / 1e6:,.1f} MB, {raw / lake.landed:.1f} bytes a bar")
    carry_out(Provision(lake.settings, today=now.date()).changes())
    athena = Athena(lake.settings)
    everything = "SELECT count(*) AS n FROM bars"
    step("count(*) before the ETL", lambda: rows_or_reason(athena, everything))
    partitions = step("ETL", lambda: lake.curate("first", now))
    files = lake.sizes("curated/bars/run=first")
    print(f"    {partitions} partitions, {len(files)} files, {sum(files.values()) / 1e6:,.1f} MB")
    ask(lake, athena)
    lake.land(minutes([LAST_DAY], len(SYMBOLS) * MINUTES_A_DAY), now.date())
    step("ETL of one more day", lambda: lake.curate("second", now))
    after = lake.sizes("curated/bars/run=second")
    names = {key.rpartition("/")[2] for key in files}
    copied = sum(size for key, size in after.items() if key.rpartition("/")[2] in names)
    written = sum(after.values()) - copied
    rows = len(SYMBOLS) * MINUTES_A_DAY
    print(f"    {rows:,} bars: {written / 1e6:,.1f} MB written, {copied / 1e6:,.1f} MB copied inside S3")
    print(f"    {written / rows / (sum(files.values()) / (lake.landed - rows)):,.2f} bytes written per byte new")


def land_all(lake: Lake, minute_days: list[date], count: int, day: date) -> None:
    """Land everything as of a day, and one bar today, so that the watermark goes past that day."""
    lake.land(daily(), day)
    lake.land(minutes(minute_days, count), day)
    lake.land(iter([line("S000", f"{LAST_DAY} 00:00:00.000", "1d", 1.0, 1000)]), datetime.now(UTC).date())


def line(symbol: str, time: str, interval: str, close: float, volume: int) -> bytes:
    return (LINE % (symbol, time, interval, close, close * 1.01, close * 0.99, close, volume)).encode()


def daily() -> Iterator[bytes]:
    random = np.random.default_rng(1)
    closes = random.uniform(20, 400, len(SYMBOLS))
    for back in range(730, -1, -1):
        closes = closes * (1 + random.normal(0, 0.02, len(SYMBOLS)))
        volumes = random.integers(10_000, 10_000_000, len(SYMBOLS))
        time = f"{LAST_DAY - timedelta(days=back)} 00:00:00.000"
        yield from (line(*each) for each in zip(SYMBOLS, [time] * 500, ["1d"] * 500, closes, volumes, strict=True))


def minutes(days: list[date], count: int) -> Iterator[bytes]:
    """Random walks, minute by minute, as they come."""
    random = np.random.default_rng(2)
    closes = random.uniform(20, 400, len(SYMBOLS))
    left = count
    for day in days:
        for minute in range(14 * 60 + 30, 14 * 60 + 30 + MINUTES_A_DAY):
            closes = closes * (1 + random.normal(0, 0.0005, len(SYMBOLS)))
            volumes = random.integers(100, 100_000, len(SYMBOLS))
            time = f"{day} {minute // 60:02}:{minute % 60:02}:00.000"
            some = [line(s, time, "1m", c, v) for s, c, v in zip(SYMBOLS, closes, volumes, strict=True)]
            yield from some[:left]
            left -= min(left, len(some))
            if not left:
                return


def ask(lake: Lake, athena: Athena) -> None:
    """The queries, in turns with DuckDB."""
    narrowing = Narrowing(symbols=WATCHED, first_day=LAST_DAY - timedelta(days=364), last_day=LAST_DAY)
    months = [f"2025-{number:02}" for number in range(1, 13)]
    in_year = " OR ".join(f"month = '{month}'" for month in months)
    asked = {"count(*)": "SELECT count(*) AS n FROM bars"}
    asked |= {name: narrowed(queries()[name].sql, narrowing) for name in DASHBOARDS}
    asked["one ticker, 12 months of minutes"] = (
        'SELECT count(*) AS n, avg("close") AS mean, max(volume) AS most FROM bars '
        f"WHERE symbol = 'S123' AND \"interval\" = '1m' AND ({in_year})"
    )
    other = duck(lake)
    print("| query | Trino s | scanned MB | DuckDB s |\n|---|---:|---:|---:|")
    for name, sql in asked.items():
        results, others = [], []
        for _ in range(3):
            results.append(athena.run(sql))
            others += [other(sql)] if other else []
        seconds = statistics.median(result.seconds for result in results)
        compared = f"{statistics.median(others):.3f}" if others else "not installed"
        print(f"| {name} | {seconds:.2f} | {results[-1].scanned_bytes / 1e6:,.2f} | {compared} |", flush=True)


def duck(lake: Lake) -> Callable[[str], float] | None:
    """DuckDB over copies of the curated files on disk, with Hive's folders as columns; None where it is missing."""
    try:
        duckdb = importlib.import_module("duckdb")
    except ImportError:
        return None
    folder = Stack().state.folder / "duckdb"
    s3 = aws.client(lake.settings, "s3")
    for key in lake.sizes("curated/bars/run=first"):
        file = folder / key.partition("run=first")[2].partition("/")[2]
        file.parent.mkdir(parents=True, exist_ok=True)
        s3.download_file(lake.settings.s3_bucket, key, str(file))
    connection = duckdb.connect()
    options = "hive_partitioning = true, hive_types_autocast = false"
    for name in ("bars", "files"):
        connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{folder}/**/*', {options})")
    connection.execute("CREATE MACRO if_true(condition, value) AS CASE WHEN condition THEN value END")

    def seconds(sql: str) -> float:
        # DuckDB refuses a name in WITH that stands for itself, and an IF without its else.
        own = re.sub(r"bars AS \(SELECT \* FROM \w+ ", "bars AS (SELECT * FROM files ", sql).replace("IF(", "if_true(")
        began = time.monotonic()
        connection.execute(own).fetch_df()
        return time.monotonic() - began

    return seconds


def rows_or_reason(athena: Athena, sql: str) -> str:
    try:
        return f"{athena.query(sql).iloc[0, 0]:,}"
    except QueryFailed as error:
        return str(error)[:200]


def step(name: str, work: Callable[[], Any]) -> Any:
    """Do one step, and print its seconds and the most memory that Trino had meanwhile."""
    process = Stack().process("trino")
    pid = process.pid if process else 0
    # Linux forgets the most it has seen so far (man 5 proc_pid_clear_refs).
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    began = time.monotonic()
    result = work()
    seconds = time.monotonic() - began
    status = Path(f"/proc/{pid}/status").read_text()
    most_kb = int(status.partition("VmHWM:")[2].split()[0])
    said = "" if result is None else f"; {result}"
    print(f"{name}: {seconds:.1f} s, Trino at most {most_kb / 1e3:,.0f} MB{said}", flush=True)
    return result


def remove(settings: Settings) -> None:
    carry_out(removals(settings, with_roles=False, with_data=True))
    folder = Stack().state.folder / "duckdb"
    for file in sorted(folder.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()


if __name__ == "__main__":
    main()
