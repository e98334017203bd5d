"""The back-fill from flat files, fetched from the embedded S3 as from Massive's."""

import gzip
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

import producer
from pipeline.settings import Settings
from pipeline.sources import flat_files
from pipeline.sources.commands import all_commands
from pipeline.sources.gaps import Gap
from pipeline.sources.pacing import Clock
from pipeline.sources.progress import empty_days, sent_days

HEADER = "ticker,volume,open,close,high,low,window_start,transactions\n"
OPENING = datetime(2025, 11, 3, 14, 30, tzinfo=UTC)


def row(ticker: str, start: datetime, volume: int) -> str:
    return f"{ticker},{volume},10,10.5,11,9,{int(start.timestamp()) * 10**9},7\n"


@pytest.fixture
def filled(settings: Settings, environment: dict, s3: object, bucket: str) -> Callable:
    """Run the back-fill of some gaps: its bars, its checkpoint and its failure."""
    own = replace(
        settings,
        flat_files_bucket=bucket,
        flat_files_endpoint_url=settings.aws_endpoint_url,
        flat_files_access_key=environment["AWS_ACCESS_KEY_ID"],
        flat_files_secret_key=environment["AWS_SECRET_ACCESS_KEY"],
    )

    def run(gaps: list[Gap], files: dict[str, str], *arguments: str) -> tuple[list, dict, str]:
        for key, text in files.items():
            s3.put_object(Bucket=bucket, Key=key, Body=gzip.compress((HEADER + text).encode()))
        options = producer.parser(all_commands()).parse_args(["backfill", "--source", "flat_files", *arguments])
        options.gaps = gaps
        [source] = all_commands()["backfill"].sources(own, options, Clock(lambda: False))
        batches = list(source.batches(lambda _: None))
        bars = [bar for batch in batches for records in batch.records.values() for bar in records]
        return bars, batches[-1].positions[source.keys[0]], source.failure

    return run


def test_days_and_their_prices_as_traded(filled: Callable) -> None:
    """A day's file brings the tickers that lack the day and no other; a ticker not in it had nothing. A file that
    is not there is told and leaves its days missing.
    """
    days = tuple(date(2025, 11, day) for day in (3, 4))
    gaps = [
        Gap(symbol=symbol, days=days, ranges=(("2025-11-03 00:00:00.000", "2025-11-04 00:00:00.000"),))
        for symbol in ("AAPL", "GONE")
    ]
    midnight = datetime(2025, 11, 3, 5, tzinfo=UTC)
    file = row("AAPL", midnight, 100) + row("MSFT", midnight, 200)
    bars, state, failure = filled(gaps, {flat_files.key("1d", days[0]): file})
    assert [(bar.symbol, bar.time, bar.volume, bar.adjusted_to) for bar in bars] == [
        ("AAPL", "2025-11-03 00:00:00.000", 100, None)
    ]
    assert (sent_days(state), empty_days(state)) == ({"AAPL": {"2025-11-03"}}, {"GONE": {"2025-11-03"}})
    assert failure == "1 of 2 files could not be read; the log says why"


def test_minutes(filled: Callable) -> None:
    """Of the minutes of a day those come that are missing."""
    gap = Gap(symbol="AAPL", days=(date(2025, 11, 3),), ranges=(("2025-11-03 14:31:00.000",) * 2,))
    file = "".join(row("AAPL", OPENING.replace(minute=minute), minute) for minute in (30, 31, 32))
    bars, state, failure = filled([gap], {flat_files.key("1m", date(2025, 11, 3)): file}, "--interval", "1m")
    assert [(bar.time, bar.interval) for bar in bars] == [("2025-11-03 14:31:00.000", "1m")]
    assert (empty_days(state), failure) == ({"AAPL": {"2025-11-03"}}, "")
