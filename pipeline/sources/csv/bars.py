"""Rows of a price CSV to bars, cleaned as an analyst expects. Pure: rows in, bars and rejects out.

A file is read as a Plan (what its first lines say) and then in chunks, so the memory does not grow with the file.
"""

import csv
from array import array
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from operator import itemgetter
from typing import Literal
from zoneinfo import ZoneInfo

from pipeline.intervals import INTRADAY
from pipeline.records import Bar
from pipeline.sources.csv import cells as csv_values
from pipeline.sources.csv.dialects import Layout, UnusableFile, recognise

Missing = Literal["refuse", "drop", "fill"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a user can say of a file that the file does not say itself; empty or None lets the file decide."""

    symbol: str = ""
    symbol_column: str = ""
    interval: str = ""
    timezone: str = ""  # of times without an offset
    day_first: bool | None = None
    ends: bool = False  # times are the bars' ends
    missing: Missing = "drop"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How one file is read."""

    layout: Layout
    interval: str
    time_of: Callable[[list[str]], tuple[str, int]]
    newest_first: bool
    notes: tuple[str, ...]

    @property
    def named_symbol(self) -> str:
        """The symbol that the user or the file name gave; empty where the file itself names its symbols."""
        return self.layout.series[0].symbol if self.layout.symbol is None and len(self.layout.series) == 1 else ""


@dataclass(frozen=True)
class Reject:
    """A row that is not sent. `line` is its line in the file, counted from 1."""

    line: int
    reason: str
    cells: list[str]


@dataclass
class Chunk:
    """Bars with their positions: `positions[i]` says where in the file `bars[i]` comes from, and rises.

    A position counts rows times series in the order of reading, whatever the options, so it can be a checkpoint. `end`
    is the position at which the next chunk begins.
    """

    end: int = 0
    rows: int = 0
    positions: list[int] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)

    @property
    def start(self) -> int:
        """The position of the first bar, or where the next chunk begins."""
        return self.positions[0] if self.positions else self.end

    def since(self, position: int) -> "Chunk":
        """The same chunk without the bars before a position."""
        return self.after(bisect_left(self.positions, position))

    def after(self, count: int) -> "Chunk":
        """The same chunk without its first bars."""
        return Chunk(self.end, self.rows, self.positions[count:], self.bars[count:], self.rejects) if count else self


def plan(head: Sequence[str], *, file_name: str, options: Options, all_lines: Callable[[], Iterable[str]]) -> Plan:
    """Decide how a file is read from its first lines (some thousands, or all of it).

    `all_lines` gives the whole file, asked for only when its dates need proof. Raises UnusableFile.
    """
    layout = recognise(head, file_name=file_name, symbol=options.symbol, symbol_column=options.symbol_column)
    cell_of = _time_cell(layout)
    rows = [
        row for row in csv.reader(head[layout.header_lines :], delimiter=layout.delimiter) if len(row) == layout.width
    ]
    if not rows:
        raise UnusableFile(f"it has a header ({layout.dialect.name}) and no row of its {layout.width} columns")
    day_first = options.day_first
    if day_first is None and not layout.dialect.month_first:
        dates = (
            cell_of(row) for row in csv.reader(all_lines(), delimiter=layout.delimiter) if len(row) == layout.width
        )
        # A file whose first date is no date of numbers has none to prove.
        needs_proof = csv_values.has_numeric_date(cell_of(row) for row in rows[:20])
        day_first = csv_values.day_is_first(dates) if needs_proof else None
    read = csv_values.instant_reader([cell_of(row) for row in rows[:20]], day_first=bool(day_first))
    zone = options.timezone or layout.dialect.timezone
    instants = _instants(rows, layout, cell_of, read, zone)
    interval = options.interval or csv_values.infer_interval(instants, zone)
    time_of_cell = csv_values.time_reader(csv_values.TimeRules(read, interval, zone, options.ends))
    notes = [*layout.notes, *_time_notes(instants, interval, options, zone)]
    return Plan(
        layout=layout,
        interval=interval,
        time_of=lambda cells: time_of_cell(cell_of(cells)),
        notes=tuple(notes),
        newest_first=csv_values.newest_first(list(instants.values())),
    )


def _time_cell(layout: Layout) -> Callable[[list[str]], str]:
    if len(layout.time) == 1:
        return itemgetter(*layout.time)
    day, clock = layout.time
    return lambda cells: f"{cells[day]} {cells[clock]}"


def _instants(
    rows: list[list[str]], layout: Layout, cell_of: Callable, read: Callable, zone: str
) -> dict[str, list[datetime]]:
    """The times of each symbol in the order of the rows; those that do not parse are left for the cleaning to count."""
    found: dict[str, list[datetime]] = {}
    for row in rows:
        try:
            instant = read(cell_of(row).strip())
        except ValueError:
            continue
        found.setdefault(row[layout.symbol] if layout.symbol is not None else "", []).append(instant)
    if any(i.tzinfo for i in chain(*found.values())):
        local = ZoneInfo(zone) if zone else UTC
        found = {symbol: [i if i.tzinfo else i.replace(tzinfo=local) for i in times] for symbol, times in found.items()}
    return found


def _time_notes(instants: dict[str, list[datetime]], interval: str, options: Options, zone: str) -> Iterator[str]:
    naive = not next(chain(*instants.values())).tzinfo
    if naive and interval in INTRADAY and not options.timezone:
        yield f"times have no offset: read as {zone or 'UTC'} (another: --timezone America/New_York)"


class Cleaner:
    """Turns rows into bars and remembers what later rows need: the last close and the times of each symbol."""

    def __init__(self, plan: Plan, *, source: str, ingested_at: Callable[[], str], missing: Missing = "drop") -> None:
        self._plan, self._layout, self._missing = plan, plan.layout, missing
        self._source, self._ingested_at, self._adjusted = source, ingested_at, plan.layout.dialect.adjusted
        self._series = [
            (
                s.symbol,
                itemgetter(s.open, s.high, s.low, s.close, s.close if s.volume is None else s.volume),
                s.volume is not None,
            )
            for s in self._layout.series
        ]
        self._last_close: dict[str, float] = {}
        self._times: dict[str, array] = {}
        self.dropped: Counter[str] = Counter()
        self.filled = 0
        self._position = 0

    def clean(self, lines: Iterable[str], first_line: int, step: int = 1) -> Chunk:
        """The bars of some lines of the file. `first_line` is the number of the first, `step` is -1 for lines read
        backwards.
        """
        width, time_of, ingested_at = self._layout.width, self._plan.time_of, self._ingested_at()
        chunk = Chunk()
        for line, cells in enumerate(csv.reader(lines, delimiter=self._layout.delimiter)):
            position = self._position
            self._position += len(self._series)
            if not cells:
                continue  # A blank line.
            chunk.rows += 1
            if len(cells) != width:
                self._reject(chunk, first_line + step * line, "not as many columns as the header", cells)
                continue
            try:
                time, order = time_of(cells)
            except (ValueError, OverflowError):
                self._reject(chunk, first_line + step * line, "time not understood", cells)
                continue
            for at, series in enumerate(self._series, start=position):
                try:
                    chunk.bars.append(self._bar(cells, series, time, order, ingested_at))
                    chunk.positions.append(at)
                except _Unusable as unusable:
                    self._reject(chunk, first_line + step * line, str(unusable), cells)
        chunk.end = self._position
        return chunk

    def _reject(self, chunk: Chunk, line: int, reason: str, cells: list[str]) -> None:
        if self._missing == "refuse" and reason.startswith("no "):
            raise UnusableFile(
                f"line {line} has {reason}: {','.join(cells)[:200]}; --missing drop or --missing fill goes on"
            )
        self.dropped[reason] += 1
        chunk.rejects.append(Reject(line, reason, cells))

    def _bar(self, cells: list[str], series: tuple, time: str, order: int, ingested_at: str) -> Bar:
        layout = self._layout
        symbol, pick, has_volume = series
        if layout.symbol is not None:
            symbol = cells[layout.symbol].strip()
            if not symbol:
                raise _Unusable("no symbol")
        try:
            open_, high, low, close, volume = map(float, pick(cells))
        except ValueError:
            open_, high, low, close, volume = self._numbers(pick(cells), symbol, has_volume)
        if not has_volume:
            volume = 0.0
        total = open_ + high + low + close + volume
        if total - total != 0.0:  # True of NaN and infinity only.
            open_, high, low, close, volume = self._numbers(pick(cells), symbol, has_volume)
        if high < low:
            raise _Unusable("high less than low")
        if volume < 0:
            raise _Unusable("volume less than 0")
        self._remember_time(symbol, order)
        self._last_close[symbol] = close
        return Bar(
            symbol=symbol,
            time=time,
            interval=self._plan.interval,
            open=open_,
            high=high,
            low=low,
            close=close,
            volume=volume,
            company=None if layout.company is None else cells[layout.company].strip() or None,
            vwap=None if layout.vwap is None else _number("vwap", cells[layout.vwap]),
            trades=None if layout.trades is None else _count("trades", cells[layout.trades]),
            adjusted=self._adjusted,
            source=self._source,
            ingested_at=ingested_at,
        )

    def _numbers(self, texts: Sequence[str], symbol: str, has_volume: bool) -> tuple[float, float, float, float, float]:
        """Five numbers that are not plain: with ornaments, or missing and perhaps filled."""
        names = ("open", "high", "low", "close", "volume")
        if not has_volume:
            texts = (*texts[:4], "0")
        open_, high, low, close, volume = values = [
            _number(name, text) for name, text in zip(names, texts, strict=True)
        ]
        absent = [name for name, value in zip(names, values, strict=True) if value is None]
        if not absent:
            return open_, high, low, close, volume
        if self._missing != "fill":
            raise _Unusable(f"no {'prices' if {*absent} >= {*names[:4]} else ' and '.join(absent)}")
        last = self._last_close.get(symbol)
        if last is None and (open_ is None or close is None):
            raise _Unusable("no price before it to fill from")
        self.filled += 1
        open_, close = last if open_ is None else open_, last if close is None else close
        # The tightest range that is true of the prices which are known.
        known = [price for price in (open_, high, low, close) if price is not None]
        return open_, max(known) if high is None else high, min(known) if low is None else low, close, volume or 0.0

    def _remember_time(self, symbol: str, order: int) -> None:
        """Eight bytes a bar, in order: a set of five million keys would take 600 MB. Raises _Unusable for a time seen
        before.
        """
        times = self._times.get(symbol)
        if times is None:
            times = self._times[symbol] = array("q")
        if not times or order > times[-1]:
            times.append(order)
            return
        place = bisect_left(times, order)
        if times[place] == order:
            raise _Unusable("duplicate")
        insort(times, order)


class _Unusable(Exception):
    """Why a row is not sent, as it is counted."""


def _number(name: str, text: str) -> float | None:
    try:
        return csv_values.number(text)
    except ValueError:
        raise _Unusable(f"{name} is not a number") from None


def _count(name: str, text: str) -> int | None:
    value = _number(name, text)
    if value is not None and (value < 0 or value != int(value)):
        raise _Unusable(f"{name} is not a count")
    return None if value is None else int(value)
