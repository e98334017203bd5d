"""What a series is to be asked for: the parts of a time that hold a session, and which of these are over. Pure.

A session that is over and has no bar in the answer had nothing there, unlike one that nobody asked for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from pipeline.intervals import Period, periods
from pipeline.records import DAILY_OR_LONGER, time_text
from pipeline.sessions import Exchange, Session

_MOMENT = timedelta(milliseconds=1)
Part = tuple[str, str]  # the first and the last time, both included, as records write them


@dataclass(frozen=True, kw_only=True)
class Due:
    """One request: from a first to a last time, both included.

    `days` (YYYY-MM-DD) are over and asked for as a whole, so that one without a bar had none. `settled_until` is the
    last time of which the same is so of bars within the day; empty where there is none.
    """

    first: str
    last: str
    days: tuple[str, ...] = ()
    settled_until: str = ""


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How a series is asked. `delay`: how late the source's bars are after a close, before which some plans refuse to
    answer; `include_open`: bars that still form, too.
    """

    exchange: Exchange
    interval: str
    delay: timedelta
    revise: timedelta
    include_open: bool = False

    def due(self, part: Part, now: datetime, is_done: Callable[[str], bool]) -> Due | None:
        """Return what to ask for in a part of time; None where it holds no session, none that has begun to be over, or
        only those that were asked for and were over long ago (`revise`). `is_done` says so of a time. Raises
        SettingsError.
        """
        return (
            self._due_periods(part, now, is_done)
            if self.interval in DAILY_OR_LONGER
            else self._due_sessions(part, now, is_done)
        )

    def day_of(self, time: str) -> str:
        """Return the day, YYYY-MM-DD, that the bar of a time is counted under."""
        if self.interval in DAILY_OR_LONGER:
            return time[:10]
        return self.exchange.local_day(instant(time)).isoformat()

    def _due_periods(self, part: Part, now: datetime, is_done: Callable[[str], bool]) -> Due | None:
        first, last = part
        found = [
            period
            for period in periods(self.exchange, self.interval, day(first), min(day(last), _day_after(now)))
            if first <= period.time <= last and self._may_be_asked(period, now)
        ]
        if all(is_done(one.time) and one.closes_at <= now - self.revise for one in found):
            return None
        end = f"{found[-1].sessions[-1].day} 23:59:59.999"
        over = tuple(str(one.day) for one in found if one.closes_at + self.delay <= now)
        return Due(first=max(first, found[0].time), last=min(max(last, found[-1].time), end), days=over)

    def _may_be_asked(self, period: Period, now: datetime) -> bool:
        return (period.opens_at if self.include_open else period.closes_at + self.delay) <= now

    def _due_sessions(self, part: Part, now: datetime, is_done: Callable[[str], bool]) -> Due | None:
        """Bars within the day: also those before the opening and after the close, from midnight to midnight."""
        first, last = instant(part[0]), instant(part[1])
        begin, until = (self.exchange.local_day(at) for at in (first, min(last, now)))
        self.exchange.sessions(begin, until)  # raises for days that the calendar does not know
        sessions = self.exchange.known_sessions(begin, until + timedelta(days=1))
        spans = [span for session in sessions if (span := self._span(session))[0] <= min(last, now) and span[1] > first]
        if not spans:
            return None
        end = min(last, spans[-1][1] - _MOMENT)
        if is_done(time_text(end)) and spans[-1][1] <= now - self.revise:
            return None
        over = [one for one in sessions if one.closes_at <= last and one.closes_at + self.delay <= now]
        ends = [until - _MOMENT for _, until in spans if until - _MOMENT <= last and until + self.delay <= now]
        return Due(
            first=time_text(max(first, spans[0][0])),
            last=time_text(end),
            days=tuple(str(one.day) for one in over if first <= one.opens_at),
            settled_until=time_text(ends[-1]) if ends else "",
        )

    def _span(self, session: Session) -> tuple[datetime, datetime]:
        midnight, next_midnight = (
            datetime.combine(session.day + timedelta(days=after), time.min, self.exchange.zone) for after in (0, 1)
        )
        return min(session.opens_at, midnight), max(session.closes_at, next_midnight)


def instant(time: str) -> datetime:
    """Return the instant (aware) of a record's time."""
    return datetime.fromisoformat(time).replace(tzinfo=UTC)


def day(time: str) -> date:
    """Return the date of a record's time."""
    return date.fromisoformat(time[:10])


def _day_after(now: datetime) -> date:
    """No exchange is further ahead."""
    return now.date() + timedelta(days=1)
