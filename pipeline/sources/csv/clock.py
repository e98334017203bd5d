"""Whose clock the times of a price CSV are by, and whether they mark the starts or the ends of its bars. Pure.

Times without an offset are the exchange's. Some vendors stamp a minute with its end: 09:31 is the first of a session.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from pipeline.intervals import INTERVAL_SECONDS, INTRADAY
from pipeline.sessions import Exchange, Session
from pipeline.sources.csv.dialects import UnusableFile

# Longer bars are cut by the clock or by the opening, so their stamps prove nothing.
_LONGEST = timedelta(minutes=30)
# Of a session's bars, how many have to be there for its first and its last to be known.
_DENSE = 0.5


def zone_of_exchanges(symbols: Collection[str], exchange_of: Callable[[str], Exchange]) -> tuple[str, str]:
    """Return the zone of the symbols' exchanges and the exchanges' names. Raises UnusableFile for several zones."""
    exchanges = {one.name: one for one in map(exchange_of, sorted(symbols) or [""])}
    zones = {one.zone.key for one in exchanges.values()}
    if len(zones) > 1:
        raise UnusableFile(
            f"its times need an exchange's zone, and its symbols are of exchanges in {', '.join(sorted(zones))}; say "
            "which with --timezone"
        )
    return zones.pop(), ", ".join(exchanges)


def needs_zone(instants: Iterable[datetime]) -> bool:
    """Return whether the zone decides what some times mean: a time of day without an offset, or one in UTC, whose day
    at the exchange may be another.
    """
    return any((i.hour or i.minute or i.second) and not (i.tzinfo and i.utcoffset()) for i in instants)


def mark_ends(
    instants: Mapping[str, Iterable[datetime]], interval: str, zone: str, exchange_of: Callable[[str], Exchange]
) -> bool:
    """Return whether times mark the ends of bars: in every session that is nearly whole there is a bar at its close and
    none at its opening. `zone` is that of times without an offset.
    """
    step = timedelta(seconds=INTERVAL_SECONDS[interval])
    if interval not in INTRADAY or step > _LONGEST:
        return False
    seen: Counter[bool] = Counter()
    for symbol, times in instants.items():
        exchange, days = exchange_of(symbol), _by_day(times, zone, exchange_of(symbol))
        sessions = exchange.known_sessions(min(days), max(days)) if days else []
        seen.update(
            found for one in sessions if (found := _marks_ends(one, days.get(one.day, set()), step)) is not None
        )
    return seen[True] > 0 and seen[False] == 0


def _by_day(times: Iterable[datetime], zone: str, exchange: Exchange) -> dict[date, set[datetime]]:
    """The times by the exchange's days."""
    local = ZoneInfo(zone) if zone else UTC
    days: dict[date, set[datetime]] = {}
    for naive_or_not in times:
        time = naive_or_not if naive_or_not.tzinfo else naive_or_not.replace(tzinfo=local)
        days.setdefault(exchange.local_day(time), set()).add(time.astimezone(UTC))
    return days


def _marks_ends(session: Session, there: set[datetime], step: timedelta) -> bool | None:
    """Whether the bars of a session are stamped with their ends; None where too few are there to tell, or where both
    its opening and its close have one.
    """
    within = sum(session.opens_at <= time <= session.closes_at for time in there)
    if within < _DENSE * len(session.starts(step)):
        return None
    has_opening, has_close = session.opens_at in there, session.closes_at in there
    return None if has_opening == has_close else has_close
