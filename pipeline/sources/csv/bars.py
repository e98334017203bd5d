"""Rows of a price CSV to bars, cleaned as an analyst expects. Pure: lines in, bars and rejects out.

A file is read in chunks, so the memory does not grow with the file.
"""

import csv
from array import array
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from operator import itemgetter
from typing import NamedTuple

from pipeline.records import Action, Bar
from pipeline.sources.csv.action_columns import ActionColumns
from pipeline.sources.csv.actions import ActionRow, BadAction, row_actions
from pipeline.sources.csv.cells import number
from pipeline.sources.csv.dialects import UnusableFile
from pipeline.sources.csv.reading import Reading, Row

_LONGEST_SYMBOL, _SHOWN_CHARACTERS = 100, 200
_MOST_LINES_OF_A_ROW = 20
_FIRST_BEYOND_BIGINT = float(1 << 63)


@dataclass(frozen=True)
class Reject:
    """A row that is not sent. `line` is its line in the file, counted from 1."""

    line: int
    reason: str
    cells: Row


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
    actions: list[tuple[int, Action]] = field(default_factory=list)  # each with the position of its row

    @property
    def start(self) -> int:
        """The position of the first bar, or where the next chunk begins."""
        return self.positions[0] if self.positions else self.end

    def since(self, position: int) -> "Chunk":
        """Return the same chunk without the bars before a position."""
        found = self.after(bisect_left(self.positions, position))
        return replace(found, actions=[one for one in self.actions if one[0] >= position])

    def after(self, count: int) -> "Chunk":
        """Return the same chunk without its first bars."""
        return replace(self, positions=self.positions[count:], bars=self.bars[count:]) if count else self


class _Series(NamedTuple):
    """One symbol's five cells of a row: open, high, low, close, volume (close again where the file has no volume)."""

    symbol: str
    pick: Callable[[Row], tuple[str, ...]]
    has_volume: bool
    actions: ActionColumns


class Cleaner:
    """Turns rows into bars and remembers what later rows need: the last close and the times of each symbol."""

    def __init__(self, reading: Reading, *, source: str, ingested_at: Callable[[], str]) -> None:
        self._reading, self._columns, self._missing = reading, reading.columns, reading.missing
        self._source, self._ingested_at = source, ingested_at
        self._adjusted = {"as traded": False, "unknown": None}.get(reading.basis, True)
        self._adjusted_to = reading.basis if self._adjusted else ""
        self._series = [
            _Series(
                p.symbol,
                itemgetter(p.open, p.high, p.low, p.close, p.close if p.volume is None else p.volume),
                p.volume is not None,
                p.actions,
            )
            for p in self._columns.prices
        ]
        self._last_close: dict[str, float] = {}
        self._times: dict[str, array[int]] = {}
        self.dropped: Counter[str] = Counter()
        self.damaged = 0  # of the dropped rows those that no vendor has written so
        self.filled = 0
        self._position = 0

    def clean(self, lines: Sequence[str], first_line: int, step: int = 1) -> Chunk:
        """Return the bars of some lines of the file. `first_line` is the number of the first, `step` is -1 for lines
        read backwards.
        """
        chunk = Chunk()
        for start, end in self._parts(lines):
            part, line, before = lines[start:end], first_line + step * start, self._position
            done = self._clean(chunk, part, line, step)
            for at in range(done, len(part)):  # A field that is too long: line by line.
                self._clean(chunk, part[at : at + 1], line + step * at, step)
            rows = (self._position - before) // len(self._series)
            if rows > 1 and rows < len(part):
                self.dropped["taken into the quotes of another line"] += len(part) - rows
                self.damaged += len(part) - rows
        chunk.end = self._position
        return chunk

    def _parts(self, lines: Sequence[str]) -> Iterator[tuple[int, int]]:
        """Cut lines so that a quote without an end spoils its own line only: a line with an odd number of quotes is
        alone, or together with the lines up to the one that closes it, if they are a row as wide as the header.
        """
        odd = [at for at, line in enumerate(lines) if line.count('"') % 2] if '"' in "".join(lines) else []
        begun = 0
        for at, closing in zip_longest(odd, odd[1:], fillvalue=len(lines)):
            if at < begun:
                continue
            if begun < at:
                yield begun, at
            begun = closing + 1 if self._is_one_row(lines[at : closing + 1]) else at + 1
            yield at, begun
        if begun < len(lines):
            yield begun, len(lines)

    def _is_one_row(self, lines: Sequence[str]) -> bool:
        if not 1 < len(lines) <= _MOST_LINES_OF_A_ROW:
            return False
        try:
            rows = list(csv.reader(lines, delimiter=self._columns.delimiter, strict=True))
        except csv.Error:
            return False
        return len(rows) == 1 and len(rows[0]) == self._columns.width

    def _clean(self, chunk: Chunk, lines: Sequence[str], first_line: int, step: int) -> int:
        """Add the bars of the lines up to one that is no row of its own; return how many lines were read."""
        width, time_of, ingested_at = self._columns.width, self._reading.time_of, self._ingested_at()
        reader, series_count = csv.reader(lines, delimiter=self._columns.delimiter), len(self._series)
        try:
            for cells in reader:
                if len(cells) != width:
                    if len(lines) > 1 and _has_line_end(cells):
                        return self._count_sound_lines(lines)
                    self._position += series_count
                    if cells:  # Not a blank line.
                        unusable = _Unusable("not as many columns as the header")
                        self._reject_row(chunk, first_line + step * (reader.line_num - 1), unusable, cells)
                    continue
                position = self._position
                self._position += series_count
                try:
                    time, order = time_of(cells)
                except (ValueError, OverflowError):
                    unusable = _Unusable("time not understood")
                    self._reject_row(chunk, first_line + step * (reader.line_num - 1), unusable, cells)
                    continue
                chunk.rows += 1
                for at, series in enumerate(self._series, start=position):
                    if series.actions.any and (reason := self._add_actions(chunk, at, cells, series, time)):
                        self._reject(chunk, first_line + step * (reader.line_num - 1), _Unusable(reason), cells)
                    try:
                        chunk.bars.append(self._bar(cells, series, time, order, ingested_at))
                        chunk.positions.append(at)
                    except _Unusable as why:
                        self._reject(chunk, first_line + step * (reader.line_num - 1), why, cells)
        except csv.Error:
            if len(lines) > 1:
                return self._count_sound_lines(lines)
            self._position += series_count
            damage = _Damaged("a field longer than 131,072 characters")
            self._reject_row(chunk, first_line, damage, [lines[0][:_SHOWN_CHARACTERS]])
        return len(lines)

    def _add_actions(self, chunk: Chunk, at: int, cells: Row, series: _Series, time: str) -> str:
        """Add the row's split and dividend, whether or not its prices can be used; return why that cannot be done."""
        columns = self._columns
        row = ActionRow(
            symbol=series.symbol if columns.symbol is None else cells[columns.symbol].strip(),
            day=self._reading.day_of(cells, time),
            adjusted_to=self._reading.amounts_adjusted_to,
            source=self._source,
            ingested_at=self._ingested_at(),
        )
        try:
            chunk.actions += [(at, action) for action in row_actions(cells, series.actions, row)]
        except BadAction as why:
            return str(why)
        return ""

    def _count_sound_lines(self, lines: Sequence[str]) -> int:
        """How many lines stand before the first row that spoils its neighbours: by a quote without an end, or by a
        field that the csv module refuses.
        """
        reader, count = csv.reader(lines, delimiter=self._columns.delimiter), 0
        with suppress(csv.Error):
            for cells in reader:
                if len(cells) != self._columns.width and _has_line_end(cells):
                    break
                count = reader.line_num
        return count

    def _reject_row(self, chunk: Chunk, line: int, why: "_Unusable", cells: Row) -> None:
        chunk.rows += 1
        self._reject(chunk, line, why, cells)

    def _reject(self, chunk: Chunk, line: int, why: "_Unusable", cells: Row) -> None:
        reason = str(why)
        if self._missing == "refuse" and reason.startswith("no "):
            shown = ",".join(cells)[:_SHOWN_CHARACTERS]
            raise UnusableFile(f"line {line} has {reason}: {shown}; --missing drop or --missing fill goes on")
        self.dropped[reason] += 1
        self.damaged += isinstance(why, _Damaged) or any("\0" in cell for cell in cells)
        chunk.rejects.append(Reject(line, reason, cells))

    def _bar(self, cells: Row, series: _Series, time: str, order: int, ingested_at: str) -> Bar:
        columns = self._columns
        symbol, pick, has_volume, _ = series
        if columns.symbol is not None:
            symbol = cells[columns.symbol].strip()
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
        if low < 0 or open_ < 0 or close < 0:
            raise _Unusable("price less than 0")
        self._remember_time(symbol, order)
        self._last_close[symbol] = close
        return Bar(
            symbol=symbol,
            time=time,
            interval=self._reading.interval,
            open=open_,
            high=high,
            low=low,
            close=close,
            volume=volume,
            company=None if columns.company is None else cells[columns.company].strip() or None,
            vwap=None if columns.vwap is None else _number("vwap", cells[columns.vwap]),
            trades=None if columns.trades is None else _count("trades", cells[columns.trades]),
            adjusted=self._adjusted,
            source=self._source,
            ingested_at=ingested_at,
            # A file that is older than its last bar was given another date since.
            adjusted_to=max(self._adjusted_to, time[:10]) if self._adjusted_to else None,
        )

    def _numbers(self, texts: Sequence[str], symbol: str, has_volume: bool) -> tuple[float, float, float, float, float]:
        """Five numbers that are not plain: with ornaments, or missing and perhaps filled."""
        names = ("open", "high", "low", "close", "volume")
        if not has_volume:
            texts = (*texts[:4], "0")
        values = dict(zip(names, map(_number, names, texts), strict=True))
        absent = [name for name, value in values.items() if value is None]
        if absent and self._missing != "fill":
            raise _Unusable(f"no {'prices' if {*absent} >= {*names[:4]} else ' and '.join(absent)}")
        open_, high, low, close, volume = values.values()
        last = self._last_close.get(symbol)
        open_, close = last if open_ is None else open_, last if close is None else close
        if open_ is None or close is None:
            raise _Unusable("no price before it to fill from")
        self.filled += bool(absent)
        # The tightest range that is true of the prices which are known.
        known = [price for price in (open_, high, low, close) if price is not None]
        return open_, max(known) if high is None else high, min(known) if low is None else low, close, volume or 0.0

    def _remember_time(self, symbol: str, order: int) -> None:
        """Eight bytes a bar, in order: a set of five million keys would take 600 MB. Raises _Unusable for a time seen
        before.
        """
        times = self._times.get(symbol)
        if times is None:
            if not symbol.isprintable():
                raise _Damaged("control characters in the symbol")
            if len(symbol) > _LONGEST_SYMBOL:
                raise _Damaged(f"a symbol longer than {_LONGEST_SYMBOL} characters")
            times = self._times[symbol] = array("q")
        if not times or order > times[-1]:
            times.append(order)
            return
        place = bisect_left(times, order)
        if times[place] == order:
            raise _Unusable("duplicate")
        insort(times, order)


def _has_line_end(cells: Row) -> bool:
    return any("\n" in cell or "\r" in cell for cell in cells)


class _Unusable(Exception):
    """Why a row is not sent, as it is counted."""


class _Damaged(_Unusable):
    """A row that no vendor has written so: the file was damaged or made to do harm."""


def _number(name: str, text: str) -> float | None:
    try:
        return number(text)
    except ValueError:
        raise _Unusable(f"{name} is not a number") from None
    except OverflowError:
        raise _Damaged(f"{name} is beyond the range of a double") from None


def _count(name: str, text: str) -> int | None:
    value = _number(name, text)
    if value is None:
        return None
    if value < 0 or value != int(value):
        raise _Unusable(f"{name} is not a count")
    if value >= _FIRST_BEYOND_BIGINT:
        raise _Damaged(f"{name} is beyond the range of 64 bits")
    return int(value)
