"""The report's data-quality strip: how many records, how fresh, how many refused. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

# A weekend and a holiday pass without a new bar.
_STALE_DAYS = 4


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One figure of the strip; a warning stands out."""

    name: str
    value: str
    note: str = ""
    warning: bool = False
    since: str = ""  # an instant, ISO 8601, of which the page tells how long ago it was
    stale_days: int = _STALE_DAYS  # after which it is a warning


def tiles(quality: pd.DataFrame | None, *, now: datetime) -> list[Tile]:
    """Return the tiles, from the rows of the query data_quality; `now` is UTC."""
    if quality is None or quality.empty:
        return []
    tables = {row["table_name"]: row for row in quality.to_dict("records")}
    found = [
        _count(table, tables[table]) for table in ("bars", "ticks", "news", "actions") if _has_rows(tables.get(table))
    ]
    if _has_rows(tables.get("bars")):
        found += _freshness(tables["bars"], now)
    if "dead_letters" in tables:
        found.append(_dead_letters(int(tables["dead_letters"]["row_count"])))
    return found


def _has_rows(row: dict[Any, Any] | None) -> bool:
    return row is not None and not pd.isna(row["row_count"]) and bool(row["row_count"])


def _count(table: str, row: dict[Any, Any]) -> Tile:
    tickers = int(row["symbols"])
    return Tile(
        name=table.capitalize(), value=f"{int(row['row_count']):,}", note=f"{tickers} ticker{'s' * (tickers != 1)}"
    )


def _freshness(bars: dict[Any, Any], now: datetime) -> Iterator[Tile]:
    if not pd.isna(bars["last_time"]) and not pd.isna(bars["first_time"]):
        note = f"the first is of {bars['first_time']:%d %b %Y}"
        yield Tile(name="Latest bar", value=f"{bars['last_time']:%d %b %Y}", note=note)
    if pd.isna(bars["last_ingested_at"]):
        return
    age = now.replace(tzinfo=None) - bars["last_ingested_at"]
    yield Tile(
        name="Last read from a source",
        value=_ago(age),
        note=f"{bars['last_ingested_at']:%d %b %Y %H:%M} UTC",
        warning=age.days >= _STALE_DAYS,
        since=f"{bars['last_ingested_at']:%Y-%m-%dT%H:%M:%SZ}",
    )


def _dead_letters(count: int) -> Tile:
    note = "refused in the last 30 days" if count else "none refused in the last 30 days"
    return Tile(name="Dead letters", value=f"{count:,}", note=note, warning=count > 0)


def _ago(age: pd.Timedelta) -> str:
    for unit, seconds in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if (count := int(age.total_seconds() // seconds)) >= 1:
            return f"{count:,} {unit}{'s' * (count != 1)} ago"
    return "just now"
