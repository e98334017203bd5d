"""The ETL by Athena in slices: however small they are, the rows are the same, and what is not touched stays."""

import random
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from curated_lake import Interrupted, item, objects
from raw_objects import TODAY, bar, curate, land, set_up, settings_of

from etl.slices import Limits
from local.stack import Stack
from pipeline import aws
from pipeline.athena.client import Athena
from pipeline.records import Record, Tick
from pipeline.settings import Settings
from pipeline.tables.athena_engine import AthenaEngine

NOW = datetime.now(UTC)


class SmallSlices(AthenaEngine):
    """As if a statement could hold 50 rows."""

    limits = Limits(rows=50, partitions=3, small_rows=10)


class Dying(SmallSlices):
    """Dies at its n-th statement."""

    left = 0

    def write(self, *arguments: object) -> dict:
        self.left -= 1
        if self.left < 0:
            raise Interrupted
        return super().write(*arguments)


@pytest.fixture
def lake(stack: Stack, bucket: str) -> Settings:
    return settings_of(stack, bucket)


def minute_bars(day: int, *, revision: int = 1, symbols: int = 4, minutes: int = 15) -> list[Record]:
    return [
        bar(
            f"S{symbol}",
            "2025-01-01",
            100.0 * day + minute + symbol / 10 + revision / 100,
            interval="1m",
            ingested_at=f"2026-01-0{revision} 00:00:00.000",
            time=f"2025-01-{day:02} 15:{minute:02}:00.000",
        )
        for minute in range(minutes)
        for symbol in range(symbols)
    ]


def files(lake: Settings, run: str) -> dict[str, int]:
    """The Parquet files of a run by name, with their sizes."""
    s3 = aws.client(lake, "s3")
    found = objects(lake, f"curated/bars/run={run}")
    return {key.rpartition("/")[2]: s3.head_object(Bucket=lake.s3_bucket, Key=key)["ContentLength"] for key in found}


def test_slices_give_the_same_rows(stack: Stack, bucket: str) -> None:
    """Two lakes with the same objects, curated in slices of 50 rows and in one, hold the same rows of every table, over
    rounds of new, late and revised records; a partition may have one symbol with most of the rows.
    """
    lakes = (settings_of(stack, bucket), settings_of(stack, bucket))
    chance = random.Random(7)
    tick = {"volume": 1.0, "source": "s", "ingested_at": "2026-01-05 10:00:01.000"}
    for number in range(3):
        day = TODAY - timedelta(days=8 - 3 * number)
        skewed = [
            bar("BIG", "2025-02-01", float(n), interval="1m", time=f"2025-02-01 10:{n % 60:02}:{n // 60:02}.000")
            for n in range(100)
        ]
        bars = minute_bars(1 + number) + chance.sample(minute_bars(1, revision=2 + number), 9) + skewed[number::2]
        bars += [bar("A", f"20{year}-01-02", float(year + number)) for year in range(10, 15)]
        news = [item(f"N{n % 9}", f"title {number} {n}", 6 + n % 3) for n in range(45)]
        ticks = [
            Tick(symbol=f"T{n % 3}", time=f"2026-01-05 10:{n % 60:02}:00.000", price=float(n), **tick)
            for n in range(60)
        ]
        for lake, engine in zip(lakes, (SmallSlices, AthenaEngine), strict=True):
            for record, some in (("bars", bars), ("news", news), ("ticks", ticks)):
                land(lake, record, some, day=day, start=1000 * number)
            if not number:
                set_up(lake)
            for record in ("bars", "news", "ticks"):
                curate(lake, record, now=NOW, run=f"run_{number}", engine=engine(lake))
        for record in ("bars", "news", "ticks"):
            one, other = (rows_of(lake, record) for lake in lakes)
            assert len(one) > 0 or (record, number) == ("ticks", 0)  # a day that may still get ticks is not copied
            pd.testing.assert_frame_equal(one, other)
    assert len(files(lakes[0], "run_2")) > len(files(lakes[1], "run_2"))
    for lake in lakes:
        assert set_up(lake) == []
        glue = aws.client(lake, "glue")
        names = [table["Name"] for table in glue.get_tables(DatabaseName=lake.glue_database)["TableList"]]
        assert not [name for name in names if "run_" in name]
        assert not [key for key in objects(lake, "curated/") if "_new/" in key]


def rows_of(lake: Settings, record: str) -> pd.DataFrame:
    rows = Athena(lake).query(f"SELECT * FROM curated_{record}")
    return rows.sort_values(list(rows.columns), ignore_index=True)


def test_one_more_day_leaves_the_days_before(lake: Settings) -> None:
    """A new day of minute bars is written alone: the month's older file is copied inside S3 as it is, with its name."""

    class Engine(AthenaEngine):
        limits = Limits(rows=10_000, small_rows=10)

    land(lake, "bars", minute_bars(1) + minute_bars(2), day=TODAY - timedelta(days=6))
    # With this the watermark goes past that day, which is then not read again.
    land(lake, "bars", [bar("A", "2025-03-01", 1.0)], day=TODAY - timedelta(days=2), start=500)
    set_up(lake)
    # As if the objects had been there for a while: those of the last two minutes are read again, for uploads take time.
    later = datetime.now(UTC) + timedelta(minutes=5)
    curate(lake, now=later, run="one", engine=Engine(lake))
    [old] = [name for name in objects(lake, "curated/bars/run=one") if "2025-01" in name]
    size = files(lake, "one")[old.rpartition("/")[2]]
    land(lake, "bars", minute_bars(3), day=TODAY - timedelta(days=2), start=1000)
    curate(lake, now=later, run="two", engine=Engine(lake))
    after = [name for name in objects(lake, "curated/bars/run=two") if "2025-01" in name]
    assert len(after) == 2
    assert files(lake, "two")[old.rpartition("/")[2]] == size
    count = "SELECT count(*) AS n FROM curated_bars WHERE month = '2025-01'"
    assert Athena(lake).query(count)["n"][0] == 3 * len(minute_bars(1))


def test_death_between_slices_leaves_the_lake_readable(lake: Settings) -> None:
    """A run that dies at any of its statements changes nothing that is read, and the next run completes the work."""
    land(lake, "bars", minute_bars(1), day=TODAY - timedelta(days=6))
    set_up(lake)
    curate(lake, now=NOW, run="one", engine=SmallSlices(lake))
    land(lake, "bars", [bar("A", f"20{year}-01-02", 1.0) for year in range(10, 18)] + minute_bars(2), start=1000)
    right, before = rows(lake, "bars"), rows(lake, "curated_bars")
    for left in (0, 2):
        engine = Dying(lake)
        engine.left = left
        with pytest.raises(Interrupted):
            curate(lake, now=NOW, run=f"dead_{left}", engine=engine)
        assert (rows(lake, "bars"), rows(lake, "curated_bars")) == (right, before)
    curate(lake, now=NOW, run="two", engine=SmallSlices(lake))
    assert (rows(lake, "bars"), rows(lake, "curated_bars")) == (right, right)


def rows(lake: Settings, table: str) -> list[float]:
    return Athena(lake).query(f'SELECT "close" FROM {table} ORDER BY symbol, time')["close"].tolist()
