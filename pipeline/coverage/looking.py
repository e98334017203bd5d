"""Coverage of a lake: what the calendar expects beside what Athena has and what the checkpoints say was asked for."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from pipeline.athena.client import Athena
from pipeline.coverage import stored
from pipeline.coverage.covered import GRACE, Covered, cover_periods, cover_sessions
from pipeline.intervals import Period, first_day, periods
from pipeline.records import DAILY_OR_LONGER
from pipeline.sessions import Exchange, Exchanges
from pipeline.settings import Settings
from pipeline.sources.asked import Asked, asked

# How far back a symbol is expected that has no bar at all, and bars within the day where no first day is given.
_LOOKBACK, _INTRADAY_LOOKBACK = timedelta(days=365), timedelta(days=30)
_NOTHING = Asked()


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to look at. Without symbols: all that have bars of the interval; without a first day: from each symbol's
    first bar, or the last 30 days of bars within the day; without a last day: up to now.
    """

    interval: str
    symbols: tuple[str, ...] = ()
    first: date | None = None
    last: date | None = None


def coverage(
    settings: Settings, wanted: Wanted, *, now: datetime, positions: Mapping[str, Mapping[str, Any]]
) -> list[Covered]:
    """Return the coverage of each symbol, in order. `positions`: the checkpoints, by key. Raises ServiceError, and
    SettingsError for an exchange that does not exist or days that its calendar does not know.
    """
    known = asked(positions, wanted.interval, settings.kafka_topic_bars) if positions else _NOTHING
    look = _Look(settings, wanted, now, known)
    found = look.days() if wanted.interval in DAILY_OR_LONGER else look.sessions()
    return sorted(found, key=lambda one: one.symbol)


class _Look:
    def __init__(self, settings: Settings, wanted: Wanted, now: datetime, known: Asked) -> None:
        self._athena, self._exchanges = Athena(settings), Exchanges(settings)
        self._wanted, self._now, self._known = wanted, now, known
        self._over = now - GRACE - timedelta(minutes=settings.polygon_delay_minutes)
        self._made: dict[tuple[str, date, date], list[Period]] = {}
        # No exchange is further ahead than the next day.
        self._last = wanted.last or (now + timedelta(days=1)).date()

    def days(self) -> Iterator[Covered]:
        """Bars of a day or longer."""
        wanted = self._wanted
        present = stored.stored_days(self._athena, wanted.interval, wanted.symbols, wanted.first, self._last)
        for symbol in wanted.symbols or present:
            exchange, days = self._exchanges.of(symbol), present.get(symbol, set())
            first = wanted.first or min(days, default=self._last - _LOOKBACK)
            aligned = first_day(datetime.combine(first, datetime.min.time()), wanted.interval).date()
            last = min(self._last, exchange.local_day(self._now))
            spans = self._periods(exchange, aligned, last)
            empty = self._known.empty.get(symbol, set())
            yield cover_periods(symbol, exchange, wanted.interval, spans, present=days, empty=empty)

    def _periods(self, exchange: Exchange, first: date, last: date) -> list[Period]:
        """What is over by now. Most symbols have the same, so each list is made once."""
        key = exchange.name, first, last
        if key not in self._made:
            found = periods(exchange, self._wanted.interval, first, last)
            self._made[key] = [one for one in found if one.closes_at <= self._over]
        return self._made[key]

    def sessions(self) -> Iterator[Covered]:
        """Bars within the day."""
        wanted = self._wanted
        first = wanted.first or self._last - _INTRADAY_LOOKBACK
        names = wanted.symbols or stored.symbols(self._athena, wanted.interval, first, self._last)
        by_exchange: dict[str, tuple[Exchange, list[str]]] = {}
        for symbol in names:
            exchange = self._exchanges.of(symbol)
            by_exchange.setdefault(exchange.name, (exchange, []))[1].append(symbol)
        for exchange, of_exchange in by_exchange.values():
            last = min(self._last, exchange.local_day(self._now))
            sessions = [one for one in exchange.sessions(first, max(first, last)) if one.closes_at <= self._over]
            there = stored.stored_sessions(self._athena, wanted.interval, of_exchange, first, last, exchange=exchange)
            for symbol in of_exchange:
                was_empty = self._was_empty(symbol)
                yield cover_sessions(
                    symbol, exchange, wanted.interval, sessions, stored=there.get(symbol, {}), was_empty=was_empty
                )

    def _was_empty(self, symbol: str) -> Callable[[date, str], bool]:
        days, done = self._known.empty.get(symbol, set()), self._known.done.get(symbol, [])

        def was_empty(day: date, time: str) -> bool:
            return str(day) in days or any(first <= time <= last for first, last in done)

        return was_empty
