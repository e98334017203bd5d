"""The cells of a price CSV: numbers as vendors write them, times in every usual spelling, the length of a bar. Pure."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import pairwise, product
from typing import NamedTuple
from zoneinfo import ZoneInfo

from pipeline.intervals import INTERVAL_SECONDS, NEW_YORK
from pipeline.records import DAILY_OR_LONGER, FIRST_YEAR, LAST_YEAR
from pipeline.sources.csv.dialects import UnusableFile

_MISSING = frozenset({"", "null", "nan", "none", "n/a", "na", "#n/a", "-", "--", "<na>"})
_NUMBER = re.compile(r"[-+]?(\d+|\d{1,3}(,\d{3})+)?(\.\d*)?(e[-+]?\d+)?", re.ASCII | re.IGNORECASE)
_SCALES = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


def number(text: str) -> float | None:
    """Return a number as vendors write it: `$1,234.50`, `121.25M`; None for a cell that holds none.

    Raises ValueError for other text, and OverflowError for a number beyond the range of a double, such as 1e400.
    """
    text = text.strip().strip("$€£¥ \u00a0")
    if text.lower() in _MISSING:
        return None
    scale = _SCALES.get(text[-1].upper())
    digits = text[:-1] if scale else text
    if not _NUMBER.fullmatch(digits):
        raise ValueError(f"{text!r} is not a number")
    value = float(digits.replace(",", ""))
    if math.isinf(value * (scale or 1)):
        raise OverflowError(f"{text!r} is beyond the range of a double")
    # Scaled by decimal shift, 121.25M is 121250000 and not a neighbour of it.
    return round(value * scale, 2) if scale else value


_NUMERIC_DATE = re.compile(r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4}|\d{2})(?:[ ,T]+(\S.*))?", re.ASCII)
_EPOCH = re.compile(r"\d{9,19}(\.\d+)?", re.ASCII)
_NAMED_MONTHS = ("%b %d, %Y", "%B %d, %Y", "%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%d %B %Y")
_EPOCH_UNITS = {
    9: 1,
    10: 1,
    11: 1000,
    12: 1000,
    13: 1000,
    15: 10**6,
    16: 10**6,
    18: 10**9,
    19: 10**9,
}  # digits: units a second


def has_numeric_date(texts: Iterable[str]) -> bool:
    """Return whether any is a date of numbers, such as 01/02/2024, whose order has to be known."""
    return any(_NUMERIC_DATE.fullmatch(text.strip()) for text in texts)


def day_is_first(texts: Iterable[str]) -> bool | None:
    """Return whether dates of numbers have the day in front, from the first that proves it; None if none needs proof.

    Raises UnusableFile, with both readings, when every date can be read both ways.
    """
    first = None
    for text in texts:
        found = _NUMERIC_DATE.fullmatch(text.strip())
        if found is None:
            continue
        if found[2] == ".":
            return True  # Countries that write dots write the day first.
        if int(found[1]) > 12 or int(found[3]) > 12:
            return int(found[1]) > 12
        first = first or found
    if first is None:
        return None
    readings = [f"{_year(first[4])}-{int(m):02}-{int(d):02}" for m, d in ((first[1], first[3]), (first[3], first[1]))]
    raise UnusableFile(
        f"its dates can be read in two ways: {first[0]!r} is {readings[0]} with the month first or {readings[1]} "
        "with the day first; say which with --day-first or --month-first"
    )


def _year(text: str) -> int:
    return int(text) if len(text) == 4 else int(text) + (1900 if int(text) > 69 else 2000)


def instant_reader(samples: Sequence[str], *, day_first: bool) -> Callable[[str], datetime]:
    """Return the reader of all times spelt like the samples: text to a datetime, with the offset if the text has one.

    The reader raises ValueError; samples of which none is a time raise UnusableFile.
    """

    def numeric(text: str) -> datetime:
        found = _NUMERIC_DATE.fullmatch(text)
        if found is None:
            raise ValueError(text)
        day, month = (found[1], found[3]) if day_first else (found[3], found[1])
        return datetime.combine(date(_year(found[4]), int(month), int(day)), _time_of_day(found[5]))

    for text, read in product(samples, (_epoch, _iso, numeric, _named_month)):
        try:
            read(text.strip())
        except ValueError:
            continue
        return read
    raise UnusableFile(f"its times are of no known kind: {samples[0]!r}")


_YEAR_FIRST = re.compile(r"(\d{4})[/.-](\d{1,2})[/.-](\d{1,2})(?:[ T]+(\S.*))?", re.ASCII)
_DIGITS = re.compile(r"((?:19|20)\d{6}) ?(\d{1,6})", re.ASCII)


def _iso(text: str) -> datetime:
    try:
        if "-W" not in text:
            return datetime.fromisoformat(text)
    except ValueError:
        pass
    if text.endswith(" UTC"):
        return datetime.fromisoformat(text[:-4] + "Z")
    if found := _DIGITS.fullmatch(text):  # 20240102 093000, which two columns of ASCII exports make
        clock = found[2].zfill(4 if len(found[2]) == 4 else 6).ljust(6, "0")
        return datetime.strptime(found[1] + clock, "%Y%m%d%H%M%S")  # noqa: DTZ007 - the file's zone is applied by time_reader
    if found := _YEAR_FIRST.fullmatch(text):
        return datetime.combine(date(int(found[1]), int(found[2]), int(found[3])), _time_of_day(found[4]))
    raise ValueError(text)


def _epoch(text: str) -> datetime:
    # Twelve digits that begin as a year are 202401020930: as milliseconds they could only be of 1976.
    if not _EPOCH.fullmatch(text) or (len(text) == 12 and text[:2] in ("19", "20")):
        raise ValueError(text)
    whole, _, fraction = text.partition(".")
    units = _EPOCH_UNITS.get(len(whole))
    if units is None:
        raise ValueError(text)
    microseconds = int(whole) * 10**6 // units + (int(fraction[:6].ljust(6, "0")) // units if fraction else 0)
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)


def _named_month(text: str) -> datetime:
    for form in _NAMED_MONTHS:
        try:
            return datetime.strptime(text, form)  # noqa: DTZ007 - the file's zone is applied by time_reader
        except ValueError:
            continue
    raise ValueError(text)


def _time_of_day(text: str | None) -> time:
    if not text:
        return time.min
    for form in ("%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%I:%M %p", "%I:%M:%S %p"):
        try:
            return datetime.strptime(text.strip(), form).time()  # noqa: DTZ007
        except ValueError:
            continue
    raise ValueError(text)


def trading_date(instant: datetime, zone: str) -> date:
    """Return the day that a daily bar is of, as its exchange counts days.

    A local time says it itself. One in UTC says it at midnight; at another hour it is the exchange's midnight or
    opening in UTC (Polygon sends 04:00 or 05:00, Yahoo 13:30 or 14:30), and the exchange is New York's unless a zone is
    given.
    """
    if instant.tzinfo is None or instant.utcoffset() or not (instant.hour or instant.minute or instant.second):
        return instant.date()
    return instant.astimezone(ZoneInfo(zone or NEW_YORK)).date()


class TimeRules(NamedTuple):
    """What has to be known to turn a cell into a bar's time."""

    read: Callable[[str], datetime]
    interval: str
    zone: str  # of times without an offset; empty is UTC
    ends: bool  # the file stamps bars with their end


def time_reader(rules: TimeRules) -> Callable[[str], tuple[str, int]]:
    """Return the function from a cell to the record's time and a number that sorts alike. It raises ValueError."""
    zone = ZoneInfo(rules.zone) if rules.zone else UTC
    back = timedelta(seconds=INTERVAL_SECONDS[rules.interval] if rules.ends else 0)

    def daily(text: str) -> tuple[str, int]:
        day = trading_date(rules.read(text.strip()), rules.zone)
        _check_year(day.year)
        return f"{day.isoformat()} 00:00:00.000", day.toordinal()

    def intraday(text: str) -> tuple[str, int]:
        instant = rules.read(text.strip())
        instant = (instant if instant.tzinfo else instant.replace(tzinfo=zone)).astimezone(UTC) - back
        _check_year(instant.year)
        milliseconds = int(instant.timestamp() * 1000)
        return instant.replace(tzinfo=None).isoformat(sep=" ", timespec="milliseconds"), milliseconds

    # Files sorted by date repeat each time once a symbol; the bound keeps the memory of long minute files flat.
    return lru_cache(maxsize=1 << 13)(daily if rules.interval in DAILY_OR_LONGER else intraday)


def _check_year(year: int) -> None:
    if not FIRST_YEAR <= year <= LAST_YEAR:
        raise ValueError(f"the year {year}")


# The smallest distance in days between two bars of a symbol, and what it says. Weekends and holidays make a day up to
# five.
_DAILY_GAPS = (("1d", 1, 5), ("1w", 6, 8), ("1mo", 28, 31), ("3mo", 89, 92), ("1y", 364, 366))


def infer_interval(instants: dict[str, list[datetime]], zone: str) -> str:
    """Return the length of the bars, from the least distance of two times of a symbol. Raises UnusableFile."""
    every = [instant for times in instants.values() for instant in times]
    if all(_is_a_date(instant, zone) for instant in every):
        days = {
            symbol: sorted({trading_date(i, zone).toordinal() for i in times}) for symbol, times in instants.items()
        }
        gap = min((b - a for times in days.values() for a, b in pairwise(times)), default=1)
        found = next((name for name, least, most in _DAILY_GAPS if least <= gap <= most), None)
        distance = f"{gap} days"
    else:
        least_seconds = min(
            ((b - a).total_seconds() for times in instants.values() for a, b in pairwise(sorted(set(times)))), default=0
        )
        found = next((name for name, seconds in INTERVAL_SECONDS.items() if seconds == least_seconds), None)
        distance = f"{least_seconds:g} seconds"
    if found is None:
        raise UnusableFile(
            f"the length of its bars is not clear: the nearest two of a symbol are {distance} apart; say it with "
            "--interval"
        )
    return found


def _is_a_date(instant: datetime, zone: str) -> bool:
    """Whether the instant is a midnight, in its own offset or, if it is in UTC, in the exchange's zone."""
    if instant.tzinfo is not None and not instant.utcoffset() and (instant.hour or instant.minute):
        instant = instant.astimezone(ZoneInfo(zone or NEW_YORK))
    return not (instant.hour or instant.minute or instant.second or instant.microsecond)


def newest_first(instants: Sequence[Sequence[datetime]]) -> bool:
    """Return whether times fall more often than they rise from row to row of a symbol."""
    steps = [(b > a) - (b < a) for times in instants for a, b in pairwise(times)]
    return sum(steps) < 0
