"""unexplained_jumps and suspicious_actions over real prices, and what the doctor makes of them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from actions_of import dividend, split
from raw_objects import bar, curate, land, set_up, settings_of

from local.stack import Stack
from pipeline import records
from pipeline.athena.client import Athena
from pipeline.athena.queries import queries
from pipeline.doctor import prices
from pipeline.doctor.finding import Finding
from pipeline.records import Action, Bar
from pipeline.settings import Settings

PRICES = Path(__file__).parents[2] / "samples/daily_prices.csv"
NOW = datetime.now(UTC)
SPLIT = split("AAPL", "2012-06-20", 2)


@pytest.fixture(scope="module")
def bars() -> list[Bar]:
    """Real prices and volumes of Apple as if it had split 2:1 on an ordinary day."""
    frame = pd.read_csv(PRICES, parse_dates=["Date"]).rename(columns=str.lower)
    frame = frame[(frame["symbol"] == "AAPL") & frame["date"].between("2011-06-01", "2012-12-31")]
    assert len(frame) > 300
    shares = (frame["date"] < "2012-06-20") + 1
    for name in ("open", "high", "low", "close"):
        frame[name] *= shares
    frame["volume"] /= shares
    return [
        Bar(
            symbol=row.symbol,
            time=records.time_text(row.date),
            interval="1d",
            open=row.open,
            high=row.high,
            low=row.low,
            close=row.close,
            volume=float(row.volume),
            source="test",
            ingested_at="2026-01-01 00:00:00.000",
        )
        for row in frame.itertuples()
    ]


def lake(stack: Stack, bucket: str, bars: list[Bar], actions: list[Action]) -> Settings:
    settings = settings_of(stack, bucket)
    land(settings, "bars", bars)
    if actions:
        land(settings, "actions", actions)
    set_up(settings)
    # Only dividends need what the ETL looks up.
    if actions:
        for record in ("bars", "actions"):
            curate(settings, record, now=NOW, run="one")
    return settings


def flagged(settings: Settings, name: str) -> list[tuple]:
    rows = Athena(settings).query(queries()[name])
    return [(f"{row['day']:%Y-%m-%d}", row.iloc[-1]) for _, row in rows.iterrows()]


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        ([], [("2012-06-20", "like a split")]),
        ([SPLIT], []),
        ([SPLIT, dividend("AAPL", "2012-08-01", 305)], [("2012-08-01", "dividend too large")]),
    ],
)
def test_jumps(stack: Stack, bucket: str, bars: list[Bar], actions: list[Action], expected: list[tuple]) -> None:
    """A split that nobody told is found in real prices, one that was told is none, and a dividend that is too large is
    seen by what it does to the prices.
    """
    assert flagged(lake(stack, bucket, bars, actions), "unexplained_jumps") == expected


def test_suspicious_actions(stack: Stack, bucket: str, bars: list[Bar]) -> None:
    """Each rule flags what it is for, of tickers that have bars, and nothing else."""
    actions = [
        SPLIT,
        split("AAPL", "2012-06-28", 2, id="again"),
        split("AAPL", "2012-05-10", 1.046),
        split("AAPL", "2012-06-11", 1.05),
        split("NONE", "2012-05-10", 1.046),
        dividend("AAPL", "2011-08-02", 0.06),
        dividend("AAPL", "2011-11-01", 0.06),
        dividend("AAPL", "2012-02-01", 6),
        dividend("AAPL", "2012-05-02", 0.06),
        dividend("AAPL", "2012-05-05", 0.06),
        dividend("AAPL", "2012-08-01", 0.06, currency="EUR"),
        dividend("AAPL", "2012-11-01", 700),
    ]
    assert flagged(lake(stack, bucket, bars, actions), "suspicious_actions") == [
        ("2012-02-01", "unit of the amount (x 100)"),
        ("2012-05-05", "twice"),
        ("2012-05-10", "near 1 and no n:m: taken for a spin-off"),
        ("2012-06-20", "listed twice: the later one counts"),
        ("2012-08-01", "not in dollars: not applied"),
        ("2012-11-01", "more than the share was worth"),
    ]


def test_the_doctor_tells(stack: Stack, bucket: str) -> None:
    """The doctor warns of a jump, a wrong action, a mixture with an unknown basis and of missing actions, names each,
    and is content with a sound lake.
    """
    now = NOW.date()
    days = [str(now - timedelta(days=40 - number)) for number in range(40)]
    sound = [bar("A", day, 100.0 + number % 2) for number, day in enumerate(days)]
    jump = [bar("J", day, 100.0 + number % 2 if number < 30 else 10.0) for number, day in enumerate(days)]
    quiet = lake(stack, bucket, sound, [])
    assert [line.text for line in found(quiet)] == ["splits and dividends: there are none"]
    land(quiet, "actions", [dividend("A", days[20], 1, ingested_at=f"{now} 00:00:00.000")])
    assert [line.state for line in found(quiet)] == ["ok"]
    mixed = [bar("A", str(now), 100.0, source="csv:prices.csv")]
    wrong = [split("A", days[10], 1.046)]
    texts = [line.text for line in found(lake(stack, bucket, [*sound, *jump, *mixed], wrong))]
    assert texts[0].startswith(f"unexplained_jumps: J {days[30]}")
    assert texts[1] == f"suspicious_actions: A {days[10]} (near 1 and no n:m: taken for a spin-off)"
    assert texts[2] == "A 1d: 1 bars of an unknown basis beside 40 others"
    assert len(texts) == 3


def found(settings: Settings) -> list[Finding]:
    return list(prices.findings(settings, now=NOW))
