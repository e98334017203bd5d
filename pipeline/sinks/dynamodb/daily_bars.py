"""The table's daily bars as a data frame, for plots."""

from collections.abc import Iterable

import pandas as pd

from pipeline.settings import Settings
from pipeline.sinks.dynamodb.table import PriceTable

_NUMBERS = ("open", "high", "low", "close", "volume")


def daily_bars(
    settings: Settings, *, symbols: Iterable[str] = (), first_day: object = None, last_day: object = None
) -> pd.DataFrame:
    """Return the table's daily bars as the query daily_bars of athena_queries.sql gives them: symbol, day (datetime64),
    open, high, low, close, volume (double), ordered by symbol and day. Read every company; choose `symbols` afterwards.
    Raise ServiceError.
    """
    table, chosen = PriceTable(settings), set(symbols)
    table.check()
    rows = [
        {"symbol": item["symbol"], "day": item["time"], **{name: float(item[name]) for name in _NUMBERS}}
        for company in table.companies()
        for item in table.range(company, str(first_day or ""), str(last_day or ""), interval="1d")
        if not chosen or item["symbol"] in chosen
    ]
    frame = pd.DataFrame(rows, columns=["symbol", "day", *_NUMBERS])
    frame["day"] = pd.to_datetime(frame["day"])
    return frame.sort_values(["symbol", "day"], ignore_index=True)
