"""Which bars of a symbol there should be, and which of them are there, had nothing, or are missing. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import takewhile

from pipeline.intervals import INTERVAL_SECONDS, Period, first_day
from pipeline.records import time_text
from pipeline.sessions import EPOCH, Exchange, Session

# A session is expected from so long after its close and the source's delay: the requests and the landing take time.
GRACE = timedelta(minutes=45)


@dataclass(frozen=True)
class Range:
    """Bars that are missing one behind the other: the times of the first and the last, and how many they are."""

    first: str
    last: str
    bars: int


@dataclass(frozen=True, kw_only=True)
class Covered:
    """The bars of one symbol and interval. `empty` were asked for and had nothing; `outside` lie in no session."""

    symbol: str
    exchange: str
    interval: str
    sessions: int
    expected: int
    present: int
    empty: int
    outside: int
    behind: int  # sessions (weeks, months) at the end that nothing is known of
    first: date | None  # the first and the last session that was looked at
    last: date | None
    missing: tuple[Range, ...]
    missing_days: tuple[date, ...]  # the days that the missing bars are counted under

    @property
    def missing_bars(self) -> int:
        """How many bars are missing."""
        return self.expected - self.present - self.empty


@dataclass(frozen=True, kw_only=True)
class StoredDay:
    """The bars of one day: how many are within its session, and, where some lack, when these start (seconds of UTC)."""

    bars: int
    starts: frozenset[int] = frozenset()


def cover_periods(
    symbol: str, exchange: Exchange, interval: str, wanted: Sequence[Period], *, present: set[date], empty: set[str]
) -> Covered:
    """Return the coverage of bars of a day or longer. `present`: the days that bars carry; `empty`: days that had
    nothing.
    """
    stamped = {first_day(datetime(day.year, day.month, day.day), interval).date() for day in present}  # noqa: DTZ001 - a day
    had = [period.day in stamped for period in wanted]
    lacks = [not there and str(period.day) not in empty for there, period in zip(had, wanted, strict=True)]
    return Covered(
        symbol=symbol,
        exchange=exchange.name,
        interval=interval,
        sessions=sum(len(period.sessions) for period in wanted),
        expected=len(wanted),
        present=sum(had),
        empty=len(wanted) - sum(had) - sum(lacks),
        outside=_outside(stamped, [period.day for period in wanted]),
        behind=sum(1 for _ in takewhile(bool, reversed(lacks))),
        first=wanted[0].day if wanted else None,
        last=wanted[-1].day if wanted else None,
        missing=tuple(_ranges([period.time for period in wanted], lacks)),
        missing_days=tuple(period.day for period, lack in zip(wanted, lacks, strict=True) if lack),
    )


def cover_sessions(
    symbol: str,
    exchange: Exchange,
    interval: str,
    wanted: Sequence[Session],
    *,
    stored: Mapping[date, StoredDay],
    was_empty: Callable[[date, str], bool],
) -> Covered:
    """Return the coverage of bars within the day. `was_empty` says of a session's day and the time of a bar that is
    not there whether it was asked for.
    """
    step = timedelta(seconds=INTERVAL_SECONDS[interval])
    expected = present = empty = behind = 0
    times: list[str] = []
    lacks: list[bool] = []
    days: list[date] = []
    for session in wanted:
        here = stored.get(session.day, StoredDay(bars=0))
        starts = session.starts(step)
        there = {EPOCH + timedelta(seconds=at) // step * step for at in here.starts}
        expected += len(starts)
        if here.bars >= len(starts):
            present += len(starts)
            times.append("")  # which ends a range of what is missing
            lacks.append(False)
            behind = 0
            continue
        before = len(times)
        for start in starts:
            is_there, time = start in there, time_text(start)
            is_missing = not is_there and not was_empty(session.day, time)
            present += is_there
            empty += not is_there and not is_missing
            times.append(time)
            lacks.append(is_missing)
            if is_missing and (not days or days[-1] != session.day):
                days.append(session.day)
        behind = behind + 1 if all(lacks[before:]) else 0
    return Covered(
        symbol=symbol,
        exchange=exchange.name,
        interval=interval,
        sessions=len(wanted),
        expected=expected,
        present=present,
        empty=empty,
        outside=_outside(stored, [session.day for session in wanted]),
        behind=behind,
        first=wanted[0].day if wanted else None,
        last=wanted[-1].day if wanted else None,
        missing=tuple(_ranges(times, lacks)),
        missing_days=tuple(days),
    )


def _outside(days: Iterable[date], wanted: Sequence[date]) -> int:
    """How many days with bars lie between the first and the last that is wanted, and are none of them."""
    known = set(wanted)
    return sum(wanted[0] < day < wanted[-1] and day not in known for day in days) if wanted else 0


def _ranges(times: Sequence[str], lacks: Sequence[bool]) -> Iterator[Range]:
    """The runs of what is missing."""
    run: list[str] = []
    for time, lack in zip([*times, ""], [*lacks, False], strict=True):
        if lack:
            run.append(time)
        elif run:
            yield Range(run[0], run[-1], len(run))
            run = []
