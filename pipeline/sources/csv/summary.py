"""What a replay says at its end, and what it keeps of the rows that it did not send."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.settings import SettingsError
from pipeline.sources.csv.bars import Chunk, Cleaner, Reject
from pipeline.sources.csv.reading import Reading
from pipeline.spreadsheet import harmless
from pipeline.terminal import printable

_SYMBOLS_SHOWN = 40


@dataclass
class _Seen:
    """How many bars of a symbol were read, and the first and last of their times."""

    bars: int
    first: str
    last: str


class Summary:
    """Counts of one file, and the first and last time of each symbol."""

    def __init__(self, name: str, reading: Reading, cleaner: Cleaner) -> None:
        self._name, self._reading, self._cleaner = name, reading, cleaner
        self._symbols: dict[str, _Seen] = {}
        self.notes: list[str] = []  # further ones, beside those of the reading
        self.rows = self.usable = self.sent = self.actions = 0

    def read(self, chunk: Chunk) -> None:
        """Count what was read."""
        self.rows += chunk.rows
        self.usable += len(chunk.bars)
        symbols = self._symbols
        for bar in chunk.bars:
            seen = symbols.get(bar.symbol)
            if seen is None:
                symbols[bar.symbol] = _Seen(1, bar.time, bar.time)
                continue
            seen.bars += 1
            if bar.time > seen.last:
                seen.last = bar.time
            elif bar.time < seen.first:
                seen.first = bar.time

    def text(self, *, stopped: bool = False, way_on: str = "the same command goes on") -> str:
        """Return what the user is told at the end of a file, or when it was stopped before its end, with the way on."""
        reading, dropped = self._reading, self._cleaner.dropped
        lines = [f"{self._name}: {reading.columns.dialect.name}, bars of {reading.interval}"]
        lines += [f"  note: {note}" for note in (*reading.notes, *self.notes)]
        counts = [f"rows read {self.rows:,}", f"sent {self.sent:,}"]
        if not stopped and self.usable > self.sent:
            counts.append(f"sent by an earlier run {self.usable - self.sent:,}")
        if self.actions:
            counts.append(f"splits and dividends {self.actions:,}")
        counts.append(f"dropped {sum(dropped.values()):,}")
        if self._cleaner.filled:
            counts.append(f"filled {self._cleaner.filled:,}")
        lines.append("  " + " · ".join(counts) + (f" · stopped: {way_on}" if stopped else ""))
        lines += [f"  dropped {count:,}: {reason}" for reason, count in dropped.most_common()]
        if self._symbols:
            width = max(map(len, self._symbols))
            lines += [
                f"  {symbol:<{width}}  {seen.bars:>9,}  {seen.first[:19]}  to  {seen.last[:19]}"
                for symbol, seen in sorted(self._symbols.items())[:_SYMBOLS_SHOWN]
            ]
            if len(self._symbols) > _SYMBOLS_SHOWN:
                lines.append(f"  and {len(self._symbols) - _SYMBOLS_SHOWN:,} more symbols")
        return "\n".join(lines)


class Rejects:
    """The file of rows that were not sent: file, line, reason, and the row as it was. Every run writes it anew; without
    a path there is none.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path and Path(path)
        self._write("w", [["file", "line", "reason", "row"]])

    def keep(self, name: str, rejects: Sequence[Reject]) -> None:
        """Add the rows of a file."""
        if rejects:
            self._write("a", (self._row(name, reject) for reject in rejects))

    def _row(self, name: str, reject: Reject) -> list[object]:
        """People open it in a spreadsheet or a terminal, and the cells are a stranger's."""
        return [harmless(printable(name)), reject.line, reject.reason, *map(harmless, map(printable, reject.cells))]

    def _write(self, mode: str, rows: Iterable[Sequence[object]]) -> None:
        if not self._path:
            return
        try:
            with self._path.open(mode, newline="", encoding="utf-8") as file:
                csv.writer(file).writerows(rows)
        except OSError as error:
            raise SettingsError([f"--rejects {self._path}: {error.strerror}"]) from None
