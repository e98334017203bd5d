"""What is missing, and few requests that bring it. Pure.

A request is for one symbol over some time, or for one day of all US stocks. Each missing day of a symbol needs one of
the two: a few days that many symbols miss are asked for by day, the rest by symbol.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from math import ceil

# What one answer of Polygon holds: 50,000 bars, of which a day within extended hours has up to 960 minutes, and of
# crypto 1,440.
_MINUTES_A_PAGE = 50_000
_MINUTES_A_DAY = 1440
Fits = Callable[[date, date], bool]


@dataclass(frozen=True, kw_only=True)
class Gap:
    """What one symbol lacks: the days, and the first and last times of the ranges of its bars."""

    symbol: str
    days: tuple[date, ...]
    ranges: tuple[tuple[str, str], ...]

    def bars(self) -> Callable[[str, str], bool]:
        """Return whether the bar of a day and time is missing, as a function."""
        days, ends = {str(day) for day in self.days}, [last for _, last in self.ranges]

        def is_missing(day: str, time: str) -> bool:
            place = bisect_left(ends, time)
            return day in days and place < len(ends) and self.ranges[place][0] <= time

        return is_missing


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request: the days that it is to bring of some symbols. Without `symbol` it is for a whole day."""

    days: tuple[date, ...]
    symbol: str = ""


def plan(gaps: Sequence[Gap], *, fits: Fits, by_day: frozenset[str] = frozenset()) -> list[Request]:
    """Return the requests, by symbol first. `fits` says whether one request can reach from a day to another; `by_day`:
    the symbols that a request for a day has, too.
    """
    chosen = _days_to_ask(gaps, by_day, fits) if by_day else set()
    requests = []
    for gap in gaps:
        left = [day for day in gap.days if gap.symbol not in by_day or day not in chosen]
        requests += [Request(symbol=gap.symbol, days=days) for days in _spans(left, fits)]
    return requests + [Request(days=(day,)) for day in sorted(chosen)]


def fits(interval_seconds: int, *, by_month: bool) -> Fits:
    """Return what one answer holds: of bars of a day or longer every one; of shorter ones a calendar month, as of
    Alpha Vantage, or what a page of Polygon holds.
    """
    if interval_seconds >= 86_400:
        return lambda _first, _last: True
    if by_month:
        return lambda first, last: (first.year, first.month) == (last.year, last.month)
    longest = timedelta(days=_MINUTES_A_PAGE * max(interval_seconds, 60) // 60 // _MINUTES_A_DAY)
    return lambda first, last: last - first < longest


def minutes(requests: int, per_minute: int) -> int:
    """Return how long requests take at a limit, in whole minutes; 0 where there is no limit."""
    return ceil(requests / per_minute) - 1 if per_minute and requests else 0


def _spans(days: Sequence[date], fits: Fits) -> Iterator[tuple[date, ...]]:
    """The days in spans that one request may have."""
    span: list[date] = []
    for day in days:
        if span and not fits(span[0], day):
            yield tuple(span)
            span = []
        span.append(day)
    if span:
        yield tuple(span)


def _days_to_ask(gaps: Sequence[Gap], by_day: frozenset[str], fits: Fits) -> set[date]:
    """The days to ask for as a whole: the n that most symbols lack, with n such that all requests are fewest."""
    asked = [gap for gap in gaps if gap.symbol in by_day]
    lacking = Counter(day for gap in asked for day in gap.days)
    ranked = sorted(lacking, key=lambda day: (-lacking[day], day))
    rank = {day: place for place, day in enumerate(ranked)}
    # A symbol needs no request of its own once its least lacked day is among those asked for as a whole.
    done_at = Counter(max(rank[day] for day in gap.days) + 1 for gap in asked if gap.days)
    own = sum(1 for gap in asked for _ in _spans(gap.days, fits))
    best, fewest = 0, own
    for count in range(1, len(ranked) + 1):
        own -= done_at[count]
        if count + own < fewest:
            best, fewest = count, count + own
    return set(ranked[:best])
