"""What several commands of producer.py understand: numbers, lengths of time, instants, zones and lists of symbols."""

import os
import re
from argparse import ArgumentParser, ArgumentTypeError
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from pipeline.records import FIRST_YEAR, LAST_YEAR, UNKNOWN_BASIS, is_day, time_text

_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_LONGEST_SECONDS = 100 * 366 * 86400


def add_symbols(command: ArgumentParser) -> None:
    """Add --symbols, which is the setting SYMBOLS."""
    command.add_argument("--symbols", type=symbols, metavar="A,B", help="tickers, or a file of them (SYMBOLS)")


def positive(text: str) -> float:
    """Return a number above 0."""
    try:
        value = float(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 < value < float("inf"):
        raise ArgumentTypeError(f"{text!r} is not above 0")
    return value


def count(text: str) -> int:
    """Return a whole number above 0."""
    try:
        value = int(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a whole number") from None
    if value < 1:
        raise ArgumentTypeError(f"{text!r} is not above 0")
    return value


def seconds(text: str) -> float:
    """Return the seconds of a length of time: 90, 60s, 15m, 2h, 1d, 1w."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw]?)", text)
    if not found:
        raise ArgumentTypeError(f"{text!r} is not a length of time such as 60s, 15m, 2h or 2d")
    length = float(found[1]) * _UNIT_SECONDS[found[2] or "s"]
    if length > _LONGEST_SECONDS:
        raise ArgumentTypeError(f"{text!r} is longer than a hundred years")
    return length


def period(text: str) -> timedelta:
    """Return a length of time: 90, 60s, 15m, 2h, 1d, 1w."""
    return timedelta(seconds=seconds(text))


def first_instant(text: str) -> str:
    """Return a date's first instant, or the instant itself, as records write it."""
    return _time(text, "00:00:00.000")


def last_instant(text: str) -> str:
    """Return a date's last instant, or the instant itself, as records write it."""
    return _time(text, "23:59:59.999")


def _time(text: str, of_a_day: str) -> str:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a date or time such as 2024-01-31 or 2024-01-31T14:30Z") from None
    if not FIRST_YEAR < instant.year < LAST_YEAR:
        raise ArgumentTypeError(f"{text!r} is not in the years {FIRST_YEAR} to {LAST_YEAR}")
    return f"{text} {of_a_day}" if len(text) == 10 else time_text(instant)


def instant(time: str) -> datetime:
    """Return the instant, aware, of a record's time."""
    return datetime.fromisoformat(time).replace(tzinfo=UTC)


def zone(text: str) -> str:
    """Return the name of a time zone."""
    try:
        ZoneInfo(text)
    except (KeyError, ValueError, OSError):
        raise ArgumentTypeError(f"{text!r} is not a time zone such as America/New_York or Europe/Madrid") from None
    return text


def basis(text: str) -> str:
    """Return on which shares prices are: as traded, unknown, or a day YYYY-MM-DD."""
    found = "as traded" if text == "as-traded" else text
    if found not in ("as traded", UNKNOWN_BASIS) and not is_day(found):
        raise ArgumentTypeError(f"{text!r} is neither as-traded nor unknown nor a day such as 2024-01-31")
    return found


def encoding(text: str) -> str:
    """Return the name of a text encoding."""
    try:
        "".encode(text)
    except LookupError:
        raise ArgumentTypeError(f"{text!r} is not an encoding such as utf-8 or cp1252") from None
    return text


def symbols(text: str) -> str:
    """Return tickers, comma-separated: those of the text, or of the file that it names."""
    if os.path.isfile(text):  # noqa: PTH113 - False, not an error, for a list that is too long for a file name
        lines = (line.partition("#")[0] for line in Path(text).read_text(encoding="utf-8-sig").splitlines())
        text = ",".join(lines)
    elif re.search(r"(^[./~])|\.(txt|csv|lst|tsv)$", text):
        raise ArgumentTypeError(f"there is no file {text}")
    names = [name for name in re.split(r"[\s,;]+", text) if name]
    if not names:
        raise ArgumentTypeError(f"{text!r} holds no symbol")
    return ",".join(names)
