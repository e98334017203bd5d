"""How long bars are, and when one is over. Pure."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from pipeline.records import DAILY_OR_LONGER, Bar
from pipeline.sessions import Exchange, Session

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
_MONTHS = {"1mo": 1, "3mo": 3, "1y": 12}
INTRADAY = frozenset(INTERVAL_SECONDS) - DAILY_OR_LONGER


def first_day(day: datetime, interval: str) -> datetime:
    """Return where the bar that holds a day starts: weeks on Sunday, as Polygon cuts them, months on their first."""
    if interval == "1w":
        return day - timedelta(days=(day.weekday() + 1) % 7)
    return day.replace(day=1) if interval == "1mo" else day


def last_day(start: date, interval: str) -> date:
    """Return the last calendar day of a bar of a day or longer that starts on a day."""
    months = _MONTHS.get(interval)
    if not months:
        return start + timedelta(days=INTERVAL_SECONDS[interval] // 86400 - 1)
    after = start.replace(day=1) + timedelta(days=31 * months)
    return after.replace(day=1) - timedelta(days=1)


def finished_at(bar: Bar, exchange: Exchange) -> datetime:
    """Return when a bar was over (aware): one of a day or longer at the close of its last session.

    A bar of days without any session, which the calendar of its exchange does not explain, is over at their last
    midnight at the exchange. Raises SettingsError.
    """
    start = datetime.fromisoformat(bar.time)
    if bar.interval not in DAILY_OR_LONGER:
        return start.replace(tzinfo=UTC) + timedelta(seconds=INTERVAL_SECONDS[bar.interval])
    last = last_day(start.date(), bar.interval)
    if sessions := exchange.sessions(start.date(), last):
        return sessions[-1].closes_at
    return datetime.combine(last + timedelta(days=1), time.min, exchange.zone)


def is_finished(bar: Bar, exchange: Exchange, now: datetime, delay: timedelta = timedelta(0)) -> bool:
    """Return whether a bar is over at `now` (aware), for a source that is late by `delay`. Raises SettingsError."""
    return finished_at(bar, exchange) + delay <= now


@dataclass(frozen=True, kw_only=True, slots=True)
class Period:
    """What one bar of a day, a week or a month covers: the day that it is stamped with, and its sessions."""

    day: date
    sessions: tuple[Session, ...]

    @property
    def time(self) -> str:
        """The bar's time, as records write it."""
        return f"{self.day} 00:00:00.000"

    @property
    def opens_at(self) -> datetime:
        return self.sessions[0].opens_at

    @property
    def closes_at(self) -> datetime:
        return self.sessions[-1].closes_at


def periods(exchange: Exchange, interval: str, first: date, last: date) -> list[Period]:
    """Return what the bars of `1d`, `1w` or `1mo` stamped with the days `first` to `last` cover; those that have no
    session are left out. Raises SettingsError.
    """
    if first > last:
        return []
    sessions = exchange.sessions(first, last if interval == "1d" else last_day(last, interval))
    grouped: dict[date, list[Session]] = {}
    for session in sessions:
        grouped.setdefault(_stamped(session.day, interval), []).append(session)
    return [Period(day=day, sessions=tuple(found)) for day, found in grouped.items() if first <= day <= last]


def _stamped(day: date, interval: str) -> date:
    return first_day(datetime.combine(day, time.min), interval).date()
