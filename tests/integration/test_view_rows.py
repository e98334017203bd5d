"""The views against the plain formulation of what they promise, one window over all rows, on the real engine."""

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from raw_objects import TODAY, bar, curate, land, parameters_of, set_up, settings_of

from etl.unread import condition as unread_condition
from local.stack import Stack
from pipeline import bucket as layout
from pipeline.athena.client import Athena
from pipeline.records import Bar, NewsItem
from pipeline.settings import Settings
from pipeline.tables import catalog

NOW = datetime.now(UTC)
ORDER = {"bars": ("source", "close", "volume"), "news": ("source", "title", "time")}
KEY = {"bars": ("symbol", "interval", "time", "month"), "news": ("id", "symbol", "month")}


@pytest.fixture
def lake(stack: Stack, bucket: str) -> Settings:
    return settings_of(stack, bucket)


def plain(lake: Settings, record: str) -> str:
    """The view as it was: of all curated and raw rows the first of each key, by a window over everything."""
    parameters = parameters_of(lake, record)
    watermark = parameters["etl.watermark"]
    late = unread_condition(
        f"s3://{lake.s3_bucket}/{layout.raw_folder(lake.s3_root, record)}",
        watermark=watermark,
        first_day="2020-01-01",
        read_before=json.loads(parameters.get("etl.read_before", "{}")),
        has_hours=False,
        by_month=False,
    )
    names = ", ".join(f'"{name}"' for name in catalog.view_columns(record))
    rows = [f"SELECT {names} FROM curated_{record}"]
    rows += [
        catalog.raw_select(record, "json", f"raw_{record}", condition, arrived_within=2)
        for condition in (f"dt >= '{watermark}'", late)
        if condition
    ]
    key = ", ".join(f'"{name}"' for name in KEY[record])
    order = ", ".join(f'"{name}" DESC' for name in ("ingested_at", *ORDER[record]))
    return (
        f"SELECT {names} FROM (SELECT *, row_number() OVER (PARTITION BY {key} ORDER BY {order}) AS recency "
        f"FROM ({' UNION ALL '.join(rows)})) WHERE recency = 1"
    )


def random_bar(chance: random.Random) -> Bar:
    """One of few keys, times of ingestion, sources, closes and volumes, so that all of these tie now and then."""
    close, volume, source = chance.choice((1.0, 2.0)), chance.choice((10.0, 20.0)), chance.choice("xy")
    return bar(
        chance.choice("ABC"),
        f"2025-{chance.randrange(1, 4):02}-{chance.randrange(1, 4):02}",
        close,
        interval=chance.choice(("1m", "1d")),
        volume=volume,
        source=source,
        # What does not choose follows from what does, so that the right row is one.
        company=f"{close} {volume} {source}" if volume == 10 else None,
        ingested_at=f"2026-01-0{chance.randrange(1, 4)} 00:00:00.000",
    )


def random_item(chance: random.Random) -> NewsItem:
    """The same for articles, whose time may change with a revision, the month included."""
    return NewsItem(
        id=chance.choice("123"),
        symbol=chance.choice("AB"),
        time=f"2025-{chance.randrange(1, 3):02}-{chance.randrange(1, 3):02} 10:00:00.000",
        title=chance.choice(("one", "two")),
        publisher="p",
        url="u",
        source=chance.choice("xy"),
        ingested_at=f"2026-01-0{chance.randrange(1, 3)} 00:00:00.000",
    )


@pytest.mark.parametrize(("record", "make"), [("bars", random_bar), ("news", random_item)])
def test_view_has_the_rows_of_the_plain_formulation(lake: Settings, record: str, make: Callable) -> None:
    """Over random revisions and ties, before and after runs of the ETL, also behind the watermark, the view has the
    very rows of a window over everything, to the last tie-break; and so has the curated table in the end.
    """
    chance, athena, at = random.Random(16), Athena(lake), 0
    land(lake, record, [make(chance) for _ in range(60)], day=TODAY - timedelta(days=4))
    set_up(lake)
    for number in range(3):
        for day in (TODAY - timedelta(days=4 * (number > 0)), TODAY):
            at += 100
            land(lake, record, [make(chance) for _ in range(60)], day=day, start=at)
        right = sorted_rows(athena.query(plain(lake, record)))
        assert len(right) > 10
        assert set(right["month"]) > {"2025-01"}
        pd.testing.assert_frame_equal(sorted_rows(athena.query(f"SELECT * FROM {record}")), right)
        curate(lake, record, now=NOW, run=f"run_{number}")
        pd.testing.assert_frame_equal(sorted_rows(athena.query(f"SELECT * FROM {record}")), right)
    pd.testing.assert_frame_equal(sorted_rows(athena.query(f"SELECT * FROM curated_{record}")), right)


def sorted_rows(frame: pd.DataFrame) -> pd.DataFrame:
    columns = sorted(frame.columns)
    return frame[columns].sort_values(columns, ignore_index=True)


def test_conditions_skip_what_they_exclude(lake: Settings) -> None:
    """A condition on month or interval keeps the engine from the files of the others, and one on the symbol reaches
    every table that the view reads.
    """
    bars = [
        bar(f"S{number % 50}", f"2025-{month:02}-{1 + number // 50:02}", number + 0.1 * month, interval=interval)
        for month in range(1, 7)
        for interval in ("1d", "1h")
        for number in range(1000)
    ]
    land(lake, "bars", bars, day=TODAY - timedelta(days=4))
    land(lake, "bars", [bar("S1", "2025-02-01", 1.0)], start=len(bars))
    set_up(lake)
    curate(lake, now=NOW, run="one")
    athena = Athena(lake)
    select = 'SELECT sum("close") AS total FROM bars'
    whole = athena.run(select).scanned_bytes
    month = athena.run(f"{select} WHERE month = '2025-02'").scanned_bytes
    both = athena.run(f"{select} WHERE month = '2025-02' AND \"interval\" = '1h'").scanned_bytes
    assert month < whole / 3
    assert both < month
    plan = "\n".join(athena.query(f"EXPLAIN {select} WHERE symbol = 'S1'").iloc[:, 0])
    scans = [part for part in plan.split("\n") if "TableScan" in part or "ScanFilter" in part]
    assert len(scans) >= 5
    assert all("ScanFilter" in scan and "'S1'" in scan for scan in scans), plan


@pytest.mark.timeout(300)
def test_a_million_landed_bars_can_be_counted(lake: Settings) -> None:
    """A million minute bars that no ETL has read are counted by the view, on the stack as its user has it."""
    symbols, minutes, batch = 200, 5000, 100_000
    start = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
    lines = [
        (
            b'{"symbol":"S%03d","time":"%s","interval":"1m","open":1.5,"high":2.5,"low":0.5,"close":1.25,'
            b'"volume":100.0,"source":"test","ingested_at":"2026-02-01 00:00:00.000"}'
        )
        % (symbol, f"{start + timedelta(minutes=minute):%Y-%m-%d %H:%M}:00.000".encode())
        for minute in range(minutes)
        for symbol in range(symbols)
    ]
    for first in range(0, len(lines), batch):
        land(lake, "bars", lines[first : first + batch], start=first)
    land(lake, "bars", lines[:1], start=len(lines))
    set_up(lake)
    assert Athena(lake).query("SELECT count(*) AS n FROM bars")["n"][0] == symbols * minutes
    assert curate(lake, now=NOW, run="one").partitions == 1
    assert Athena(lake).query("SELECT count(*) AS n FROM bars")["n"][0] == symbols * minutes
