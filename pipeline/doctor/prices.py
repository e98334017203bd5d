"""The stored prices: splits that nobody told, actions that look wrong, bars of an unknown basis.

Runs four queries on Athena over the last thirteen months; the other areas of the doctor run none.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

import pandas as pd

from pipeline.athena.choices import chosen
from pipeline.athena.client import Athena
from pipeline.athena.queries import queries
from pipeline.doctor.finding import Finding, ok, warning
from pipeline.doctor.tables import has_tables
from pipeline.settings import Settings
from pipeline.tables.prices import PRICE_VIEWS

_LOOK_BACK = timedelta(days=400)
# Somebody pays a dividend every quarter.
_OLD_ACTIONS = timedelta(days=100)
_AGES = "SELECT (SELECT max(ingested_at) FROM bars) AS bars, (SELECT max(ingested_at) FROM actions) AS actions"
_SHOWN = 5


def findings(settings: Settings, *, now: datetime) -> Iterator[Finding]:
    """Yield what the flags of athena_queries.sql show; nothing without the views, which the tables' area reports."""
    if not settings.s3_bucket or not has_tables(settings, *PRICE_VIEWS):
        return
    athena, known = Athena(settings), queries()
    first_month = f"{now - _LOOK_BACK:%Y-%m}"
    lately = dict.fromkeys(("bars", "adjusted_bars"), f"month >= '{first_month}'")

    def rows(sql: str) -> pd.DataFrame:
        return athena.query(chosen(sql, conditions=lately))

    found = [
        *_flags(rows(known["unexplained_jumps"].sql), "unexplained_jumps", "verdict"),
        *_flags(rows(known["suspicious_actions"].sql), "suspicious_actions", "suspicion"),
        *_mixtures(rows(known["bars_by_basis"].sql)),
        *_ages(rows(_AGES)),
    ]
    yield from found or [ok("prices", f"nothing is suspicious since {first_month}")]


def _flags(rows: pd.DataFrame, query: str, column: str) -> Iterator[Finding]:
    if rows.empty:
        return
    shown = [f"{row.symbol} {row.day:%Y-%m-%d} ({getattr(row, column)})" for row in rows.head(_SHOWN).itertuples()]
    more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    cure = f"python -m pipeline.athena {query}; `producer.py actions` reads splits and dividends"
    yield warning("prices", f"{query}: {', '.join(shown)}{more}", cure)


def _mixtures(rows: pd.DataFrame) -> Iterator[Finding]:
    """Bars of an unknown basis beside others of the same ticker and interval make one chart of two bases."""
    for (symbol, interval), bases in rows.groupby(["symbol", "interval"]) if len(rows) else ():
        if len(bases) > 1 and (bases["basis"] == "unknown").any():
            unknown = int(bases.loc[bases["basis"] == "unknown", "bars"].iloc[0])
            others = int(bases["bars"].sum()) - unknown
            yield warning(
                "prices",
                f"{symbol} {interval}: {unknown:,} bars of an unknown basis beside {others:,} others",
                "replay their file again with --basis, which says on which shares its prices are",
            )


def _ages(rows: pd.DataFrame) -> Iterator[Finding]:
    bars, actions = rows["bars"].iloc[0], rows["actions"].iloc[0]
    if pd.isna(bars) or (not pd.isna(actions) and bars - actions < _OLD_ACTIONS):
        return
    said = (
        "there are none"
        if pd.isna(actions)
        else f"the newest was read {(bars - actions).days} days before the newest bar"
    )
    cure = "python producer.py actions --once, and then every day: without splits, prices over time are wrong"
    yield warning("prices", f"splits and dividends: {said}", cure)
