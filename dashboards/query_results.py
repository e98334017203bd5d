"""Where every dashboard's numbers come from: the queries of athena_queries.sql, run on Athena or exported to CSV before."""

import argparse
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import pandas as pd

from pipeline import settings, terminal
from pipeline.settings import Settings, SettingsError

# Names of queries in, their rows out; None where a result was not exported.
Read = Callable[[Iterable[str]], dict[str, pd.DataFrame | None]]

_TIMES = ("day", "month", "first_time", "last_time", "last_ingested_at")
_SYMBOLS = ("symbol", "first_symbol", "second_symbol")
# Each row of these looks back at the days before it. They get the earlier days too, and give them up afterwards.
_LOOK_BACK = frozenset({"moving_averages", "volatility", "drawdown", "returns"})
# It tells of everything that landed, whatever a page shows.
_WHOLE = frozenset({"data_quality"})
# Athena runs 20 or more statements of an account at a time, by its default quota.
_STATEMENTS_AT_A_TIME = 6


@dataclass(frozen=True, kw_only=True)
class Narrowing:
    """Which rows a page is about; empty or None: all."""

    symbols: tuple[str, ...] = ()
    first_day: date | None = None
    last_day: date | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say where the numbers come from; chosen() reads them."""
    parser.add_argument("--csv", type=Path, metavar="FOLDER", help="read exported results, FOLDER/<query>.csv, instead of Athena")
    parser.add_argument("--tickers", default="", metavar="AAPL,MSFT,…", help="these tickers only")
    parser.add_argument("--from", dest="first_day", type=date.fromisoformat, metavar="YYYY-MM-DD", help="the first day")
    parser.add_argument("--to", dest="last_day", type=date.fromisoformat, metavar="YYYY-MM-DD", help="the last day")


def chosen(arguments: argparse.Namespace) -> Read:
    """The reader that the options ask for; raises SettingsError for options that contradict each other."""
    symbols = tuple(dict.fromkeys(symbol.strip() for symbol in arguments.tickers.split(",") if symbol.strip()))
    narrowing = Narrowing(symbols=symbols, first_day=arguments.first_day, last_day=arguments.last_day)
    mistakes = []
    if narrowing.first_day and narrowing.last_day and narrowing.first_day > narrowing.last_day:
        mistakes.append(f"--from {narrowing.first_day} is after --to {narrowing.last_day}")
    if arguments.csv and (narrowing.first_day or narrowing.last_day):
        mistakes.append("--from and --to narrow what Athena reads; exported totals cannot be narrowed any more")
    if arguments.csv and not any(arguments.csv.glob("*.csv")):
        mistakes.append(f"--csv: {arguments.csv} is not a folder with exports such as monthly_performance.csv")
    if mistakes:
        raise SettingsError(mistakes)
    if arguments.csv:
        return from_exports(arguments.csv, symbols)
    loaded = settings.load(required=("s3_bucket",))
    terminal.configure_logging(loaded)
    return from_athena(loaded, narrowing)


def from_exports(folder: Path, symbols: tuple[str, ...] = ()) -> Read:
    """Results that were exported as FOLDER/<query>.csv."""
    def read(names: Iterable[str]) -> dict[str, pd.DataFrame | None]:
        paths = {name: folder / f"{name}.csv" for name in names}
        return {name: _of_symbols(read_export(path), symbols) if path.exists() else None for name, path in paths.items()}

    return read


def _of_symbols(frame: pd.DataFrame, symbols: tuple[str, ...]) -> pd.DataFrame:
    for column in frame.columns.intersection(_SYMBOLS) if symbols else ():
        frame = frame[frame[column].isin(symbols)]
    return frame.reset_index(drop=True)


def read_export(path: Path) -> pd.DataFrame:
    """One export, typed. Only an empty field is missing: NA, NAN and TRUE are tickers."""
    frame = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
    for column in frame.columns:
        if column in _TIMES:
            frame[column] = pd.to_datetime(frame[column], format="ISO8601")
        elif column not in _SYMBOLS and not column.endswith(("_column", "_name")):
            frame[column] = pd.to_numeric(frame[column])
    return frame


def from_athena(settings: Settings, narrowing: Narrowing) -> Read:
    """Results of Athena, a few statements at a time; raises ServiceError."""
    from pipeline import athena  # noqa: PLC0415
    def run(name: str, sql: str) -> pd.DataFrame:
        if name in _WHOLE:
            return athena.run(settings, sql)
        look_back = name in _LOOK_BACK
        frame = athena.run(settings, narrowed(sql, narrowing, look_back=look_back))
        return frame[frame["day"] >= pd.Timestamp(narrowing.first_day)] if look_back and narrowing.first_day else frame

    def read(names: Iterable[str]) -> dict[str, pd.DataFrame | None]:
        statements = athena.queries()
        with ThreadPoolExecutor(_STATEMENTS_AT_A_TIME) as threads:
            running = {name: threads.submit(run, name, statements[name]) for name in names}
            return {name: frame.result() for name, frame in running.items()}

    return read


def narrowed(sql: str, narrowing: Narrowing, *, look_back: bool = False) -> str:
    """The statement with `bars` and `news` standing for the narrowing's part of them.

    A name given in WITH hides the view of the same name, and only after its own definition.
    """
    conditions = []
    if narrowing.symbols:
        listed = ", ".join("'" + symbol.replace("'", "''") + "'" for symbol in narrowing.symbols)
        conditions.append(f"symbol IN ({listed})")
    if narrowing.first_day and not look_back:
        conditions.append(f"time >= timestamp '{narrowing.first_day} 00:00:00'")
    if narrowing.last_day:
        conditions.append(f"time < timestamp '{narrowing.last_day + timedelta(days=1)} 00:00:00'")
    views = [view for view in ("bars", "news") if re.search(rf"\b(?:from|join)\s+{view}\b", sql, re.IGNORECASE)]
    if not conditions or not views:
        return sql
    named = ", ".join(f"{view} AS (SELECT * FROM {view} WHERE {' AND '.join(conditions)})"  # noqa: S608 - the one free text, a symbol, is quoted
                      for view in views)
    own = re.match(r"(?:\s*--[^\n]*\n)*\s*with\b", sql, re.IGNORECASE)
    return f"WITH {named}, {sql[own.end():]}" if own else f"WITH {named}\n{sql}"
