"""What a replay tells at its end, and what it keeps of the rows that it did not send."""

import csv
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from pipeline.settings import SettingsError
from pipeline.sources.csv.bars import Chunk, Cleaner, Plan, Reject

_SYMBOLS_SHOWN = 40


class Summary:
    """Counts of one file, and the first and last time of each symbol."""

    def __init__(self, name: str, plan: Plan, cleaner: Cleaner) -> None:
        self._name, self._plan, self._cleaner = name, plan, cleaner
        self._symbols: dict[str, list] = {}  # bars, first time, last time
        self.rows = self.usable = self.sent = 0

    def read(self, chunk: Chunk) -> None:
        self.rows += chunk.rows
        self.usable += len(chunk.bars)
        for bar in chunk.bars:
            seen = self._symbols.get(bar.symbol)
            if seen is None:
                self._symbols[bar.symbol] = [1, bar.time, bar.time]
                continue
            seen[0] += 1
            if bar.time > seen[2]:
                seen[2] = bar.time
            elif bar.time < seen[1]:
                seen[1] = bar.time

    def text(self, *, stopped: bool = False) -> str:
        plan, dropped = self._plan, self._cleaner.dropped
        lines = [f"{self._name}: {plan.layout.dialect.name}, bars of {plan.interval}"]
        lines += [f"  note: {note}" for note in plan.notes]
        counts = [f"rows read {self.rows:,}", f"sent {self.sent:,}"]
        if not stopped and self.usable > self.sent:
            counts.append(f"sent by an earlier run {self.usable - self.sent:,}")
        counts.append(f"dropped {sum(dropped.values()):,}")
        if self._cleaner.filled:
            counts.append(f"filled {self._cleaner.filled:,}")
        lines.append("  " + " · ".join(counts) + (" · stopped: the same command goes on" if stopped else ""))
        lines += [f"  dropped {count:,}: {reason}" for reason, count in dropped.most_common()]
        if self._symbols:
            width = max(map(len, self._symbols))
            lines += [
                f"  {symbol:<{width}}  {bars:>9,}  {first[:19]}  to  {last[:19]}"
                for symbol, (bars, first, last) in sorted(self._symbols.items())[:_SYMBOLS_SHOWN]
            ]
            if len(self._symbols) > _SYMBOLS_SHOWN:
                lines.append(f"  and {len(self._symbols) - _SYMBOLS_SHOWN:,} more symbols")
        return "\n".join(lines)


class Rejects(AbstractContextManager):
    """The file of rows that were not sent: file, line, reason, and the row as it was. Written anew by every run; none
    without a path.
    """

    def __init__(self, path: str | None) -> None:
        self._closing = ExitStack()
        self._writer = None
        if path:
            try:
                file = self._closing.enter_context(Path(path).open("w", newline="", encoding="utf-8"))
            except OSError as error:
                raise SettingsError([f"--rejects {path}: {error.strerror}"]) from None
            self._writer = csv.writer(file)
            self._writer.writerow(["file", "line", "reason", "row"])

    def keep(self, name: str, rejects: list[Reject]) -> None:
        if self._writer:
            self._writer.writerows([name, reject.line, reject.reason, *reject.cells] for reject in rejects)

    def __exit__(self, *_: object) -> None:
        self._closing.close()
