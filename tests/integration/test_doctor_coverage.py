"""The doctor's area of coverage, on a lake whose tickers are behind and have a gap."""

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from doctor_findings import problems
from raw_objects import TODAY, bar, land, set_up

from pipeline.doctor import coverage
from pipeline.settings import Settings

# Before Tuesday's session, within a month of the last session that set_up publishes.
NOW = datetime(2025, 12, 2, 10, tzinfo=UTC)
DAYS = [
    "03",
    "04",
    "05",
    "06",
    "07",
    "10",
    "11",
    "12",
    "13",
    "14",
    "17",
    "18",
    "19",
    "20",
    "21",
    "24",
    "25",
    "26",
    "28",
]
DAYS = [*(f"2025-11-{day}" for day in DAYS), "2025-12-01"]


@pytest.mark.usefixtures("credentials")
def test_the_doctor_tells_who_is_behind_and_what_is_missing(settings: Settings) -> None:
    """Tickers behind the last session and bars missing between others are told, with the cure; a table of sessions that
    is about to end is, too.
    """
    # The sample arrives today, and each day of a raw table is a request of every query.
    settings = replace(settings, first_day=str(TODAY))
    days = {"A": DAYS, "B": DAYS[:-3], "C": [*DAYS[:5], *DAYS[6:]]}
    land(settings, "bars", [bar(name, day, 1.0) for name, own in days.items() for day in own])
    set_up(settings, today=date(2024, 6, 1))
    found = list(coverage.findings(settings, now=NOW))
    assert [one.text for one in found] == [
        *(f"the sessions of {name} in trading_sessions end on 2025-12-31" for name in ("24/5", "24/7", "XNYS")),
        "behind: B 3 sessions",
        "missing since 2025-11-02: C 1 bars",
    ]
    assert problems(found) == []
    assert all("producer.py backfill" in one.cure for one in found[3:])
    assert all("glue_setup.py" in one.cure for one in found[:3])
