"""How one price CSV is read: what its first lines, the user's options and, for its dates, all of it say. Pure."""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from operator import itemgetter
from typing import Literal, NamedTuple, cast
from zoneinfo import ZoneInfo

from pipeline.intervals import INTRADAY
from pipeline.records import DAILY_OR_LONGER, Interval
from pipeline.sessions import Exchange, Exchanges
from pipeline.settings import Settings
from pipeline.sources.csv import cells as csv_cells
from pipeline.sources.csv import clock
from pipeline.sources.csv.actions import local_day
from pipeline.sources.csv.dialects import Columns, UnusableFile, recognise

Missing = Literal["refuse", "drop", "fill"]
Row = list[str]
_OF_DEFAULTS = Exchanges(Settings()).of


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a user can say of a file that the file does not say itself; empty or None lets the file decide."""

    symbol: str = ""
    symbol_column: str = ""
    interval: str = ""
    timezone: str = ""  # of times without an offset
    day_first: bool | None = None
    ends: bool | None = None  # times are the bars' ends
    missing: Missing = "drop"
    basis: str = ""  # of the prices: as traded, unknown, or a day YYYY-MM-DD


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How one file is read."""

    columns: Columns
    interval: Interval
    time_of: Callable[[Row], tuple[str, int]]  # of a row: the record's time, and a number that sorts alike
    newest_first: bool
    missing: Missing
    basis: str  # of the prices: as traded, unknown, or a day YYYY-MM-DD
    written_on: str  # day YYYY-MM-DD
    day_of: Callable[[Row, str], str]  # of a row and its time: the exchange's day
    notes: tuple[str, ...]
    how: str = ""  # what was decided, as a text: two contents with the same one have the same bars for the same rows

    @property
    def amounts_adjusted_to(self) -> str | None:
        """The day on whose shares dividends are stated; None: each as declared."""
        return {"as traded": None, "unknown": self.written_on}.get(self.basis, self.basis)

    @property
    def named_symbol(self) -> str:
        """The symbol that the user or the file name gave; empty where the file itself names its symbols."""
        columns = self.columns
        return columns.prices[0].symbol if columns.symbol is None and len(columns.prices) == 1 else ""


def decide(
    head: Sequence[str],
    *,
    file_name: str,
    options: Options,
    all_lines: Callable[[], Iterable[str]],
    written_on: str,
    exchange_of: Callable[[str], Exchange] = _OF_DEFAULTS,
) -> Reading:
    """Return how a file is read, from its first lines (some thousands, or all of it).

    `all_lines` gives the whole file; it is called only when the order of day and month needs proof. `written_on` is the
    day YYYY-MM-DD of the file, which stands for that of the download. `exchange_of` gives a symbol's exchange, whose
    clock times without an offset are by. Raises UnusableFile.
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
    found = _instants(rows, columns, cell_of, read)
    times = _times(found, columns, options, exchange_of)
    time_of_cell = csv_cells.time_reader(csv_cells.TimeRules(read, times.interval, times.zone, times.ends))
    # A file that was given an earlier date since was still downloaded after its bars.
    in_order = _with_zone(found, times.zone)
    written_on = max([written_on, *(f"{max(of_symbol):%Y-%m-%d}" for of_symbol in in_order.values())])
    basis = _basis(columns, times.interval, options, written_on)
    newest_first = csv_cells.newest_first([*in_order.values()])
    # A file that grew was written later, and the rows that were there already have the basis of then.
    kind_of_basis = "as of the file" if basis == written_on else basis
    return Reading(
        columns=columns,
        interval=times.interval,
        time_of=lambda cells: time_of_cell(cell_of(cells)),
        newest_first=newest_first,
        missing=options.missing,
        basis=basis,
        written_on=written_on,
        day_of=lambda cells, time: local_day(cell_of(cells), time),
        notes=(*columns.notes, *times.notes, *_basis_notes(columns, basis, options)),
        how=f"{columns.dialect.name}/{times.interval}/{times.zone}/{'ends' if times.ends else 'starts'}/"
        f"{'day' if day_first else 'month'} first/{'newest' if newest_first else 'oldest'} first/{kind_of_basis}",
    )


class _Times(NamedTuple):
    """What the times of a file mean."""

    interval: Interval
    zone: str
    ends: bool
    notes: tuple[str, ...]


def _times(
    found: dict[str, list[datetime]], columns: Columns, options: Options, exchange_of: Callable[[str], Exchange]
) -> _Times:
    """Whose clock they are by, how long the bars are, and whether they mark their ends, with a note of each guess."""
    zone, exchanges, notes = options.timezone or columns.dialect.timezone, "", []
    named = columns.prices[0].symbol if columns.symbol is None else ""
    by_symbol = {symbol or named: times for symbol, times in found.items()}
    if not zone and clock.needs_zone(chain(*found.values())):
        zone, exchanges = clock.zone_of_exchanges(by_symbol, exchange_of)
    interval = cast("Interval", options.interval or csv_cells.infer_interval(_with_zone(found, zone), zone))
    is_naive = not any(instant.tzinfo for instant in chain(*found.values()))
    if is_naive and interval in INTRADAY and not options.timezone:
        whose = f"{zone}, the time of {exchanges}" if exchanges else zone or "UTC"
        notes.append(f"times have no offset: read as {whose} (another: --timezone, --timezone UTC)")
    ends = options.ends
    if ends is None:
        ends = clock.mark_ends(by_symbol, interval, zone, exchange_of)
        if ends:
            notes.append(
                "its times mark the end of each bar, by the opening and the close of its sessions: they are shifted to "
                "its start (--stamped-start leaves them as they are)"
            )
    return _Times(interval, zone, ends, tuple(notes))


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
    rows: list[Row], columns: Columns, cell_of: Callable[[Row], str], read: Callable[[str], datetime]
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
    return found


def _with_zone(found: dict[str, list[datetime]], zone: str) -> dict[str, list[datetime]]:
    """The times in an order: all with an offset where any has one."""
    if not any(i.tzinfo for i in chain(*found.values())):
        return found
    local = ZoneInfo(zone) if zone else UTC
    return {symbol: [i if i.tzinfo else i.replace(tzinfo=local) for i in times] for symbol, times in found.items()}


def _basis(columns: Columns, interval: str, options: Options, written_on: str) -> str:
    if options.basis:
        return options.basis
    vendor = columns.dialect.basis
    if columns.dialect.name == "Alpha Vantage" and interval not in DAILY_OR_LONGER:
        vendor = "unknown"
    return written_on if vendor == "download" else vendor


def _basis_notes(columns: Columns, basis: str, options: Options) -> Iterator[str]:
    if columns.dialect.basis == "download" and not options.basis:
        yield f"prices are on the shares of {basis}, when the file was written (another day: --basis YYYY-MM-DD)"
    if columns.dialect.basis == "unknown" and not options.basis:
        yield "nothing says on which shares its prices are, so no split will be applied to them (--basis says it)"
