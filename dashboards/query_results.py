"""Where every dashboard's numbers come from: the queries of athena_queries.sql, run on Athena or exported to CSV before."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from pipeline.settings import SettingsError

# A query's name in, its rows out; None where there is no such result.
Read = Callable[[str], pd.DataFrame | None]

_TIMES = ("day", "month", "first_time", "last_time", "last_ingested_at")


def from_exports(folder: Path) -> Read:
    """Results that were exported as FOLDER/<query>.csv; a query that was not exported has none."""
    if not any(folder.glob("*.csv")):
        raise SettingsError([f"--csv: {folder} is not a folder with exports such as monthly_performance.csv"])

    def read(name: str) -> pd.DataFrame | None:
        path = folder / f"{name}.csv"
        return read_export(path) if path.exists() else None

    return read


def read_export(path: Path) -> pd.DataFrame:
    """One export, typed. Only an empty field is missing: NA, NAN and TRUE are tickers."""
    frame = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
    for column in frame.columns:
        if column in _TIMES:
            frame[column] = pd.to_datetime(frame[column], format="ISO8601")
        elif not column.endswith(("symbol", "column", "name")):
            frame[column] = pd.to_numeric(frame[column])
    return frame
