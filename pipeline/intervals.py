"""How long bars are, and when one is over. Pure."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from pipeline.records import DAILY_OR_LONGER, Bar

NEW_YORK = "America/New_York"
# The shortest that a bar of the name can be.
INTERVAL_SECONDS = {
    "1s": 1,
    "1m": 60,
    "2m": 120,
    "3m": 180,
    "5m": 300,
    "10m": 600,
    "15m": 900,
    "30m": 1800,
    "1h": 3600,
    "2h": 7200,
    "4h": 14400,
    "1d": 86400,
    "5d": 5 * 86400,
    "1w": 7 * 86400,
    "1mo": 28 * 86400,
    "3mo": 89 * 86400,
    "1y": 365 * 86400,
}
INTRADAY = frozenset(INTERVAL_SECONDS) - DAILY_OR_LONGER


def first_day(day: datetime, interval: str) -> datetime:
    """Return where the bar that holds a day starts: weeks on Sunday, as Polygon cuts them, months on their first."""
    if interval == "1w":
        return day - timedelta(days=(day.weekday() + 1) % 7)
    return day.replace(day=1) if interval == "1mo" else day


def is_finished(bar: Bar, now: datetime, delay: timedelta = timedelta(0)) -> bool:
    """Return whether the bar's interval is over at `now` (aware) for a source whose data is late by `delay`.

    A day is over at midnight in New York. The wall clock counts, so that summer time changes nothing.
    """
    start = datetime.fromisoformat(bar.time)
    if bar.interval == "1mo":
        end = (start.replace(day=1) + timedelta(days=32)).replace(day=1)
    else:
        end = start + timedelta(seconds=INTERVAL_SECONDS[bar.interval])
    return end.replace(tzinfo=ZoneInfo(NEW_YORK) if bar.interval in DAILY_OR_LONGER else UTC) <= now - delay
