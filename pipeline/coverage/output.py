"""Coverage as a table, as CSV, as JSON and as metrics. Pure."""

import csv
import io
import json
from collections.abc import Iterator, Sequence

from pipeline.coverage.covered import Covered, Range
from pipeline.spreadsheet import harmless

_RANGES_SHOWN = 3
_COLUMNS = (
    "symbol",
    "exchange",
    "sessions",
    "expected",
    "present",
    "empty",
    "missing",
    "outside",
    "behind",
    "first",
    "last",
)


def table(found: Sequence[Covered]) -> str:
    """Return a table for people: a line a symbol, with the first ranges of what is missing, and a line of sums."""
    rows = [[*_cells(one), _short(one.missing)] for one in found]
    heads = [*_COLUMNS, "missing bars"]
    widths = [max(len(row[place]) for row in [heads, *rows]) for place in range(len(heads))]
    lines = ["  ".join(_aligned(row, widths)).rstrip() for row in [heads, *rows]]
    missing = sum(one.missing_bars for one in found)
    incomplete = sum(bool(one.missing) for one in found)
    sums = f"{len(found):,} symbols, {sum(one.expected for one in found):,} bars expected, {missing:,} missing"
    return "\n".join([*lines, "", f"{sums}{f' of {incomplete:,} symbols' if missing else ''}"])


def as_csv(found: Sequence[Covered]) -> str:
    """Return a line a symbol; the ranges of what is missing are one cell, first..last each, separated by blanks."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_COLUMNS, "missing_ranges"])
    for one in found:
        ranges = " ".join(_range(missing, separator="..") for missing in one.missing)
        writer.writerow([harmless(one.symbol), *(cell.replace(",", "") for cell in _cells(one)[1:]), ranges])
    return text.getvalue()


def as_json(found: Sequence[Covered]) -> str:
    """Return an array of objects, one a symbol, with every range of what is missing."""
    objects = [
        {
            **{name: getattr(one, name) for name in ("symbol", "exchange", "interval", "sessions", "expected")},
            "present": one.present,
            "empty": one.empty,
            "missing": one.missing_bars,
            "outside": one.outside,
            "behind": one.behind,
            "first": one.first and str(one.first),
            "last": one.last and str(one.last),
            "missing_days": [str(day) for day in one.missing_days],
            "missing_ranges": [{"first": each.first, "last": each.last, "bars": each.bars} for each in one.missing],
        }
        for one in found
    ]
    return json.dumps(objects, indent=1) + "\n"


def as_metrics(found: Sequence[Covered]) -> str:
    """Return gauges in Prometheus' text format: how far each symbol is behind, and how many of its bars are missing."""
    behind = "# HELP stock_sessions_behind Sessions at the end, weeks or months for such bars, without a bar\n"
    missing = "# HELP stock_bars_missing Bars that the calendar expects, and that nobody has asked for in vain\n"
    lines = [behind + "# TYPE stock_sessions_behind gauge", missing + "# TYPE stock_bars_missing gauge"]
    for place, name, value in ((0, "stock_sessions_behind", "behind"), (1, "stock_bars_missing", "missing_bars")):
        for one in found:
            symbol = one.symbol.replace("\\", r"\\").replace('"', r"\"")
            lines[place] += f'\n{name}{{symbol="{symbol}",interval="{one.interval}"}} {getattr(one, value)}'
    return "\n".join(lines) + "\n"


def _cells(one: Covered) -> list[str]:
    counts = (one.sessions, one.expected, one.present, one.empty, one.missing_bars, one.outside, one.behind)
    return [one.symbol, one.exchange, *(f"{count:,}" for count in counts), str(one.first or ""), str(one.last or "")]


def _aligned(row: list[str], widths: list[int]) -> Iterator[str]:
    for place, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield f"{cell:>{width}}" if 2 <= place < 9 else f"{cell:<{width}}"


def _short(missing: Sequence[Range]) -> str:
    shown = [_range(one, separator=" to ") for one in missing[:_RANGES_SHOWN]]
    if len(missing) > _RANGES_SHOWN:
        shown.append(f"and {len(missing) - _RANGES_SHOWN:,} more ranges")
    return ", ".join(shown)


def _range(one: Range, *, separator: str) -> str:
    first, last = _time(one.first), _time(one.last)
    return first if one.bars == 1 else f"{first}{separator}{last}"


def _time(time: str) -> str:
    """A day, or a minute of UTC."""
    return time[:10] if time.endswith(" 00:00:00.000") else time[:16].replace(" ", "T")
