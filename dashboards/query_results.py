"""Where every dashboard's numbers come from: the queries of athena_queries.sql, run on Athena or exported to CSV."""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline import terminal
from pipeline.athena import belonging, choices
from pipeline.athena.client import AT_THE_SAME_TIME, Athena
from pipeline.athena.queries import queries
from pipeline.settings import ServiceError, Settings, SettingsError, load_settings

# Rows by the query's name; None where there is no such export, or no such query in the file.
Results = Mapping[str, pd.DataFrame | None]
Read = Callable[[Iterable[str]], Results]

_LEFT_OUT = "left_out"  # attribute of a frame: how many of its values are not finite
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
    terminal.add_environment(parser)
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
        return _telling(from_exports(arguments.csv, symbols), symbols)
    settings = load_settings({"stock_env": arguments.stock_env}, required=("s3_bucket",))
    terminal.configure_logging(settings)
    belonging.check(settings)
    return _telling(from_athena(settings, narrowing), symbols)


def check_output(path: Path) -> None:
    """Raise SettingsError where a file cannot be written: before the queries, which take their time."""
    if not path.absolute().parent.is_dir():
        raise SettingsError([f"--output {path}: there is no folder {path.parent}"])
    if path.is_dir():
        raise SettingsError([f"--output {path}: is a folder"])


def _telling(read: Read, symbols: tuple[str, ...]) -> Read:
    """Return a reader that says on standard error which tickers have no rows and which values were left out. Raise
    ServiceError where no ticker of those asked for has any.
    """

    def told(names: Iterable[str]) -> Results:
        results = read(names)
        found = {symbol for frame in results.values() if frame is not None for symbol in frame.get("symbol", ())}
        if symbols and (absent := [symbol for symbol in symbols if symbol not in found]):
            text = f"--tickers: there are no rows of {', '.join(absent)}; tickers are spelled as the records spell them"
            if len(absent) == len(symbols):
                raise ServiceError(text)
            print(terminal.printable(text), file=sys.stderr)
        for line in left_out(results):
            print(f"left out: {line}", file=sys.stderr)
        return results

    return told


def left_out(results: Results) -> list[str]:
    """Return what of the results no chart can show, a line for each query: values that are NaN or infinite."""
    counts = {name: frame.attrs.get(_LEFT_OUT, 0) for name, frame in results.items() if frame is not None}
    return [
        f"{terminal.counted(count, 'value')} of {name}: not a finite number" for name, count in counts.items() if count
    ]


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
    frame, nans = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""]), 0
    for column in frame.columns:
        if column in _TIMES:
            frame[column] = pd.to_datetime(frame[column], format="ISO8601")
        elif column in _SYMBOLS:
            # `python -m pipeline.athena --csv` puts it before what a spreadsheet would run.
            frame[column] = frame[column].str.replace(r"^'(?=[=+\-@\t\r])", "", regex=True)
        elif not column.endswith(("_column", "_name")):
            absent = frame[column].isin(["NaN", "nan"])
            nans += int(absent.sum())
            frame[column] = _numbers(frame[column].mask(absent), path, column)
    return _finite(frame, nans)


def _numbers(texts: "pd.Series[Any]", path: Path, column: str) -> "pd.Series[Any]":
    try:
        return pd.to_numeric(texts)
    except (ValueError, TypeError) as error:
        raise ServiceError(f"--csv: {path.name}, column {column}: {error}") from None


def _finite(frame: pd.DataFrame, nans: int = 0) -> pd.DataFrame:
    """Return the rows with nothing in place of Infinity, which no chart can draw and no JSON can hold; how many values
    are left out, the NaN among them, goes into the frame's attributes.
    """
    numbers = frame.select_dtypes("number")
    infinite = int(np.isinf(numbers.to_numpy(dtype=float, na_value=np.nan)).sum()) if numbers.size else 0
    finite = frame.replace([np.inf, -np.inf], np.nan)
    finite.attrs[_LEFT_OUT] = nans + infinite
    return finite


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
        results: dict[str, pd.DataFrame | None] = {}
        with ThreadPoolExecutor(AT_THE_SAME_TIME) as threads, terminal.progress("queries", len(asked)) as progress:
            for name, frame in zip(asked, threads.map(run, asked), strict=True):
                results[name] = frame
                progress.update(1)
        return results

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
        conditions.append(choices.is_one_of("symbol", narrowing.symbols))
    if first_day:
        conditions.append(f"time >= timestamp '{first_day} 00:00:00' AND month >= '{first_day:%Y-%m}'")
    if narrowing.last_day:
        following = narrowing.last_day + timedelta(days=1)
        conditions.append(f"time < timestamp '{following} 00:00:00' AND month <= '{narrowing.last_day:%Y-%m}'")
    return " AND ".join(conditions)
