"""Where every dashboard's numbers come from: the queries of athena_queries.sql, run on Athena or exported to CSV."""

import argparse
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline import terminal
from pipeline.athena import choices
from pipeline.athena.client import AT_THE_SAME_TIME, Athena
from pipeline.athena.queries import queries
from pipeline.settings import Settings, SettingsError, load_settings

# Rows by the query's name; None where there is no such export, or no such query in the file.
Results = Mapping[str, pd.DataFrame | None]
Read = Callable[[Iterable[str]], Results]

_TIMES = ["day", "month", "first_time", "last_time", "last_ingested_at"]
_SYMBOLS = ["symbol", "first_symbol", "second_symbol"]
# A row of these depends on the days before it, so the query reads them too and they are dropped afterwards.
_LOOK_BACK = frozenset({"moving_averages", "volatility", "drawdown", "returns"})
# These report on everything that landed, whatever a page shows.
_WHOLE = frozenset({"data_quality"})
_NARROWED = ("adjusted_bars", "bars", "news")


@dataclass(frozen=True, kw_only=True)
class Narrowing:
    """Which rows a page shows; empty or None means all."""

    symbols: tuple[str, ...] = ()
    first_day: date | None = None
    last_day: date | None = None
    as_traded: bool = False  # prices of each day as they were traded that day, instead of on today's shares
    as_of: str = ""  # what had been read by this UTC time, as records write it; empty means now


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where the numbers come from; chosen() reads them."""
    parser.add_argument(
        "--csv", type=Path, metavar="FOLDER", help="read exported results, FOLDER/<query>.csv, instead of Athena"
    )
    parser.add_argument("--tickers", default="", metavar="AAPL,MSFT,…", help="these tickers only")
    parser.add_argument("--from", dest="first_day", type=date.fromisoformat, metavar="YYYY-MM-DD", help="the first day")
    parser.add_argument(
        "--as-traded", action="store_true", help="prices as they were traded, with the jumps that splits make"
    )
    parser.add_argument(
        "--as-of",
        type=choices.instant,
        metavar="TIME",
        help="what had been read by then (UTC), prices on the shares of that day; reads all raw objects",
    )
    parser.add_argument("--to", dest="last_day", type=date.fromisoformat, metavar="YYYY-MM-DD", help="the last day")


def chosen(arguments: argparse.Namespace) -> Read:
    """Return the reader that the options ask for; raise SettingsError for options that contradict each other."""
    symbols = tickers(arguments.tickers)
    narrowing = Narrowing(
        symbols=symbols,
        first_day=arguments.first_day,
        last_day=arguments.last_day,
        as_traded=arguments.as_traded,
        as_of=arguments.as_of or "",
    )
    mistakes = []
    if narrowing.first_day and narrowing.last_day and narrowing.first_day > narrowing.last_day:
        mistakes.append(f"--from {narrowing.first_day} is after --to {narrowing.last_day}")
    if arguments.csv and (narrowing.first_day or narrowing.last_day):
        mistakes.append("--from and --to narrow what Athena reads; exported totals can no longer be narrowed")
    if arguments.csv and (arguments.as_traded or arguments.as_of):
        mistakes.append(
            "--as-traded and --as-of: exports have what they were made with (they are options of that, too)"
        )
    if arguments.csv and not any(arguments.csv.glob("*.csv")):
        mistakes.append(f"--csv: {arguments.csv} is not a folder with exports such as monthly_performance.csv")
    if mistakes:
        raise SettingsError(mistakes)
    if arguments.csv:
        return from_exports(arguments.csv, symbols)
    settings = load_settings(required=("s3_bucket",))
    terminal.configure_logging(settings)
    return from_athena(settings, narrowing)


def tickers(text: str) -> tuple[str, ...]:
    """Return the tickers of a comma-separated list, each once."""
    return tuple(dict.fromkeys(symbol.strip() for symbol in text.split(",") if symbol.strip()))


def from_exports(folder: Path, symbols: tuple[str, ...] = ()) -> Read:
    """Return a reader of results that were exported as FOLDER/<query>.csv."""

    def read(names: Iterable[str]) -> Results:
        paths = {name: folder / f"{name}.csv" for name in names}
        return {
            name: _of_symbols(read_export(path), symbols) if path.exists() else None for name, path in paths.items()
        }

    return read


def _of_symbols(frame: pd.DataFrame, symbols: tuple[str, ...]) -> pd.DataFrame:
    for column in frame.columns.intersection(_SYMBOLS) if symbols else ():
        frame = frame[frame[column].isin(symbols)]
    return frame.reset_index(drop=True)


def read_export(path: Path) -> pd.DataFrame:
    """Read one export, with types. Only an empty field is missing: NA, NAN and TRUE are tickers."""
    frame = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
    for column in frame.columns:
        if column in _TIMES:
            frame[column] = pd.to_datetime(frame[column], format="ISO8601")
        elif column in _SYMBOLS:
            # `python -m pipeline.athena --csv` puts it before what a spreadsheet would run.
            frame[column] = frame[column].str.replace(r"^'(?=[=+\-@\t\r])", "", regex=True)
        elif not column.endswith(("_column", "_name")):
            frame[column] = pd.to_numeric(frame[column].mask(frame[column] == "NaN"))
    return _finite(frame)


def _finite(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with nothing in place of Infinity, which no chart can draw and no JSON can hold."""
    return frame.replace([np.inf, -np.inf], np.nan)


def from_athena(settings: Settings, narrowing: Narrowing) -> Read:
    """Return a reader that queries Athena, a few statements at a time; it raises ServiceError."""
    known, athena = queries(), Athena(settings)

    def run(name: str) -> pd.DataFrame | None:
        if name not in known:
            return None
        query, look_back = known[name], name in _LOOK_BACK
        if name in _WHOLE:
            return _finite(athena.query(query))
        frame = athena.query(replace(query, sql=narrowed(query.sql, narrowing, look_back=look_back)))
        if look_back and narrowing.first_day:
            frame = frame[frame["day"] >= pd.Timestamp(narrowing.first_day)].reset_index(drop=True)
        return _finite(frame)

    def read(names: Iterable[str]) -> Results:
        asked = list(names)
        with ThreadPoolExecutor(AT_THE_SAME_TIME) as threads:
            return dict(zip(asked, threads.map(run, asked), strict=True))

    return read


def narrowed(sql: str, narrowing: Narrowing, *, look_back: bool = False) -> str:
    """Return the statement with `adjusted_bars`, `bars` and `news` reduced to the narrowing's part of them, with its
    choice of prices and of what was known.
    """
    condition = _condition(narrowing, None if look_back else narrowing.first_day)
    conditions = dict.fromkeys(_NARROWED, condition)
    return choices.chosen(sql, conditions=conditions, as_traded=narrowing.as_traded, as_of=narrowing.as_of)


def _condition(narrowing: Narrowing, first_day: date | None) -> str:
    """Return the WHERE condition. It names months because the curated tables are partitioned by them, so Athena skips
    the others.
    """
    conditions = []
    if narrowing.symbols:
        listed = ", ".join("'" + symbol.replace("'", "''") + "'" for symbol in narrowing.symbols)
        conditions.append(f"symbol IN ({listed})")
    if first_day:
        conditions.append(f"time >= timestamp '{first_day} 00:00:00' AND month >= '{first_day:%Y-%m}'")
    if narrowing.last_day:
        following = narrowing.last_day + timedelta(days=1)
        conditions.append(f"time < timestamp '{following} 00:00:00' AND month <= '{narrowing.last_day:%Y-%m}'")
    return " AND ".join(conditions)
