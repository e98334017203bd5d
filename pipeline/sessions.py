"""The trading sessions of exchanges, from the library exchange_calendars. Pure.

A session is named by its date at the exchange. It may begin on the day before in UTC (Sydney), and a session of 24/7 or
24/5 is a day in UTC. The library is imported when the first session is asked for: it takes pandas along.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from importlib import import_module
from importlib.metadata import version
from typing import Any
from zoneinfo import ZoneInfo

from pipeline.settings import Settings, SettingsError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# In place of an exchange: every symbol has to be listed in SYMBOL_EXCHANGES.
NO_EXCHANGE = "none"
# Known without the library.
_ZONES = {"XNYS": "America/New_York", "XNAS": "America/New_York", "24/7": "UTC", "24/5": "UTC"}
# Sessions are loaded some at a time: 28 years of New York take 0.1 s. So many days always hold one.
_MARGIN = timedelta(days=366)


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """One session: its date at the exchange, and its instants in UTC (aware). Tokyo and Hong Kong have a break."""

    day: date
    opens_at: datetime
    closes_at: datetime
    is_early_close: bool
    break_from: datetime | None = None
    break_until: datetime | None = None

    def starts(self, step: timedelta) -> list[datetime]:
        """Return where the bars of a length start that hold a part of the session, by the clock as APIs cut them: the
        first hour of New York at 9:00. Those that lie in the break are left out.
        """
        at = EPOCH + (self.opens_at - EPOCH) // step * step
        found = []
        while at < self.closes_at:
            if not (self.break_from and self.break_until and self.break_from <= at and at + step <= self.break_until):
                found.append(at)
            at += step
        return found


class Exchange:
    """The sessions of one exchange. `setting` is where its name comes from, for errors."""

    def __init__(self, name: str, setting: str = "EXCHANGE") -> None:
        self.name, self._setting = name, setting
        self._sessions: list[Session] = []
        self._days: list[date] = []

    def sessions(self, first: date, last: date) -> list[Session]:
        """Return the sessions of the days `first` to `last`, both included. Raises SettingsError for an exchange that
        does not exist, and for days that the library does not know.
        """
        self._check_bounds(first, last)
        return self.known_sessions(first, last)

    def known_sessions(self, first: date, last: date) -> list[Session]:
        """Return the sessions of the days `first` to `last`, as far as the library knows them. Raises SettingsError for
        an exchange that does not exist.
        """
        self._load(first, last)
        return self._sessions[bisect_left(self._days, first) : bisect_right(self._days, last)]

    def session(self, day: date) -> Session | None:
        """Return the session of a day; None for a day without one. Raises SettingsError."""
        return next(iter(self.sessions(day, day)), None)

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of the exchange's clock; UTC for 24/7 and 24/5. Raises SettingsError."""
        return ZoneInfo(_ZONES.get(self.name) or str(self._calendar.tz))

    def local_day(self, instant: datetime) -> date:
        """Return the date of an instant (aware) by the exchange's clock. Raises SettingsError."""
        return instant.astimezone(self.zone).date()

    @property
    def first_known_day(self) -> date:
        """The first day of which the library knows whether it is a session."""
        bound = self._calendar.bound_min()
        return bound.date() if bound is not None else date(1700, 1, 1)

    @property
    def last_known_day(self) -> date:
        """The last day of which the library knows whether it is a session."""
        bound = self._calendar.bound_max()
        return bound.date() if bound is not None else date(2199, 12, 31)

    def _check_bounds(self, first: date, last: date) -> None:
        known = f"{self._setting}: exchange_calendars {version('exchange_calendars')} knows the sessions of {self.name}"
        if last > self.last_known_day:
            raise SettingsError(
                [f"{known} up to {self.last_known_day}, and {last} is asked for; a newer release knows more"]
            )
        if first < self.first_known_day:
            raise SettingsError([f"{known} from {self.first_known_day} on, and {first} is asked for"])

    @cached_property
    def _calendar(self) -> Any:
        """The library's calendar of some years around today, which also says its bounds."""
        library = _library()
        try:
            calendar = library.get_calendar(self.name)
        except library.errors.InvalidCalendarName:
            codes = "market identifier codes (ISO 10383) such as XNYS, XTKS or XLON"
            known = f"knows {codes}, 24/7 for crypto and 24/5 for currencies"
            raise SettingsError(
                [f"{self._setting}: {self.name!r} is no exchange of exchange_calendars, which {known}"]
            ) from None
        self._keep(calendar)
        return calendar

    def _load(self, first: date, last: date) -> None:
        """Have the sessions of these days at hand."""
        first, last = max(first, self.first_known_day), min(last, self.last_known_day)
        at_hand = self._days[0], self._days[-1]
        if first >= at_hand[0] and last <= at_hand[1]:
            return
        start = max(min(first, at_hand[0]) - _MARGIN, self.first_known_day)
        end = min(max(last, at_hand[1]) + _MARGIN, self.last_known_day)
        self._keep(_library().get_calendar(self.name, start=f"{start}", end=f"{end}"))

    def _keep(self, calendar: Any) -> None:
        self._sessions = list(_read(calendar))
        self._days = [session.day for session in self._sessions]


def _library() -> Any:
    # Not imported above: with pandas it takes longer than all else that a script needs to start.
    return import_module("exchange_calendars")


def _read(calendar: Any) -> Iterator[Session]:
    """The sessions of one of the library's calendars."""
    early = set(calendar.early_closes)

    def instant(value: Any) -> datetime | None:
        # NaT, for no break, is the only value that is not itself.
        return value.to_pydatetime().astimezone(UTC) if value == value else None  # noqa: PLR0124

    for row in calendar.schedule.itertuples():
        yield Session(
            day=row.Index.date(),
            opens_at=row.open.to_pydatetime().astimezone(UTC),
            closes_at=row.close.to_pydatetime().astimezone(UTC),
            is_early_close=row.Index in early,
            break_from=instant(row.break_start),
            break_until=instant(row.break_end),
        )


class Exchanges:
    """Which exchange each symbol is traded on, as the settings say: SYMBOL_EXCHANGES, or else EXCHANGE."""

    def __init__(self, settings: Settings) -> None:
        self._default, self.overrides = settings.exchange, settings.symbol_exchange_list
        self._made: dict[str, Exchange] = {}

    def of(self, symbol: str) -> Exchange:
        """Return the exchange of a symbol. Raises SettingsError for a symbol without one."""
        for pattern, name in self.overrides:
            if re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), symbol):
                return self._exchange(name, "SYMBOL_EXCHANGES")
        if self._default == NO_EXCHANGE:
            raise SettingsError(
                [f"SYMBOL_EXCHANGES: {symbol} is not in it, and EXCHANGE={NO_EXCHANGE}: it has no exchange"]
            )
        return self._exchange(self._default, "EXCHANGE")

    def all(self) -> list[Exchange]:
        """Return each exchange of the settings, once."""
        found = [self._exchange(self._default, "EXCHANGE")] if self._default != NO_EXCHANGE else []
        found += [self._exchange(name, "SYMBOL_EXCHANGES") for _, name in self.overrides]
        return list({exchange.name: exchange for exchange in found}.values())

    def _exchange(self, name: str, setting: str) -> Exchange:
        return self._made.setdefault(name, Exchange(name, setting))


def end_of_next_year(today: date) -> date:
    """Return up to which day sessions are published."""
    return date(today.year + 1, 12, 31)
