"""How one price CSV is read: what its first lines, the user's options and, for its dates, all of it say. Pure."""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from operator import itemgetter
from typing import Literal, cast
from zoneinfo import ZoneInfo

from pipeline.intervals import INTRADAY
from pipeline.records import Interval
from pipeline.sources.csv import cells as csv_cells
from pipeline.sources.csv.dialects import Columns, UnusableFile, recognise

Missing = Literal["refuse", "drop", "fill"]
Row = list[str]


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
class Reading:
    """How one file is read."""

    columns: Columns
    interval: Interval
    time_of: Callable[[Row], tuple[str, int]]  # of a row: the record's time, and a number that sorts alike
    newest_first: bool
    missing: Missing
    notes: tuple[str, ...]
    how: str = ""  # what was decided, as a text: two contents with the same one have the same bars for the same rows

    @property
    def named_symbol(self) -> str:
        """The symbol that the user or the file name gave; empty where the file itself names its symbols."""
        columns = self.columns
        return columns.prices[0].symbol if columns.symbol is None and len(columns.prices) == 1 else ""


def decide(head: Sequence[str], *, file_name: str, options: Options, all_lines: Callable[[], Iterable[str]]) -> Reading:
    """Return how a file is read, from its first lines (some thousands, or all of it).

    `all_lines` gives the whole file; it is called only when the order of day and month needs proof. Raises
    UnusableFile.
    """
    columns = recognise(head, file_name=file_name, symbol=options.symbol, symbol_column=options.symbol_column)
    cell_of = _time_cell(columns)
    rows = list(_rows(head[columns.header_lines :], columns))
    if not rows:
        raise UnusableFile(f"it has a header ({columns.dialect.name}) and no row of its {columns.width} columns")
    _check_prices(rows[:20], columns)
    samples = [cell_of(row) for row in rows[:20]]
    day_first = options.day_first
    # A file whose first date is no date of numbers has none to prove.
    if day_first is None and not columns.dialect.month_first and csv_cells.has_numeric_date(samples):
        day_first = csv_cells.day_is_first(cell_of(row) for row in _rows(all_lines(), columns))
    read = csv_cells.instant_reader(samples, day_first=bool(day_first))
    zone = options.timezone or columns.dialect.timezone
    instants = _instants(rows, columns, cell_of, read, zone)
    interval = cast("Interval", options.interval or csv_cells.infer_interval(instants, zone))
    time_of_cell = csv_cells.time_reader(csv_cells.TimeRules(read, interval, zone, options.ends))
    newest_first = csv_cells.newest_first(list(instants.values()))
    return Reading(
        columns=columns,
        interval=interval,
        time_of=lambda cells: time_of_cell(cell_of(cells)),
        newest_first=newest_first,
        missing=options.missing,
        notes=(*columns.notes, *_time_notes(instants, interval, options, zone)),
        how=f"{columns.dialect.name}/{interval}/{zone}/{'day' if day_first else 'month'} first/"
        f"{'newest' if newest_first else 'oldest'} first",
    )


def _rows(lines: Iterable[str], columns: Columns) -> Iterator[Row]:
    """The rows that are as wide as the header; what the csv module refuses is left for the cleaning to count."""
    reader = csv.reader(lines, delimiter=columns.delimiter)
    while True:
        try:
            for row in reader:
                if len(row) == columns.width:
                    yield row
        except csv.Error:
            continue
        return


def _check_prices(rows: Sequence[Row], columns: Columns) -> None:
    """Raise UnusableFile for a column of a wide table that holds text: its name is no ticker."""
    for prices in columns.prices if columns.symbol is None and len(columns.prices) > 1 else ():
        for text in (row[prices.close] for row in rows):
            try:
                csv_cells.number(text)
            except OverflowError:
                continue
            except ValueError:
                raise UnusableFile(
                    f"its column {prices.symbol!r} holds no prices but {text[:40]!r}; a wide table has one column of "
                    "prices per ticker"
                ) from None


def _time_cell(columns: Columns) -> Callable[[Row], str]:
    if len(columns.time) == 1:
        return itemgetter(*columns.time)
    day, clock = columns.time
    return lambda cells: f"{cells[day]} {cells[clock]}"


def _instants(
    rows: list[Row], columns: Columns, cell_of: Callable[[Row], str], read: Callable[[str], datetime], zone: str
) -> dict[str, list[datetime]]:
    """The times of each symbol in the order of the rows; those that do not parse are left for the cleaning to count."""
    found: dict[str, list[datetime]] = {}
    for row in rows:
        try:
            instant = read(cell_of(row).strip())
        except (ValueError, OverflowError):
            continue
        if not 1 < instant.year < 9999:
            continue  # An offset could carry it beyond what a datetime holds.
        found.setdefault(row[columns.symbol] if columns.symbol is not None else "", []).append(instant)
    if any(i.tzinfo for i in chain(*found.values())):
        local = ZoneInfo(zone) if zone else UTC
        found = {symbol: [i if i.tzinfo else i.replace(tzinfo=local) for i in times] for symbol, times in found.items()}
    return found


def _time_notes(instants: dict[str, list[datetime]], interval: str, options: Options, zone: str) -> Iterator[str]:
    naive = not any(instant.tzinfo for instant in chain(*instants.values()))
    if naive and interval in INTRADAY and not options.timezone:
        yield f"times have no offset: read as {zone or 'UTC'} (another: --timezone America/New_York)"
