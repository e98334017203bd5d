"""The table trading_sessions and the view symbol_exchanges."""

import io
from datetime import date

import pandas as pd

from pipeline.sessions import Exchange
from pipeline.settings import Settings
from pipeline.tables import sessions


def test_the_object_of_an_exchange() -> None:
    """Its rows are the sessions with their instants in UTC, and the same sessions give the same bytes."""
    tokyo = Exchange("XTKS")
    body = sessions.encoded(tokyo, tokyo.sessions(date(2026, 1, 15), date(2026, 1, 16)))
    assert body == sessions.encoded(tokyo, Exchange("XTKS").sessions(date(2026, 1, 15), date(2026, 1, 16)))
    rows = pd.read_parquet(io.BytesIO(body))
    assert list(rows.columns) == [name for name, _, _ in sessions.COLUMNS]
    assert rows["exchange"].tolist() == ["XTKS", "XTKS"]
    assert rows["opens_at"].tolist() == [pd.Timestamp("2026-01-15"), pd.Timestamp("2026-01-16")]
    assert rows["break_until"].tolist() == [pd.Timestamp("2026-01-15 03:30"), pd.Timestamp("2026-01-16 03:30")]


def test_the_view_lists_patterns_in_their_order() -> None:
    """The patterns of SYMBOL_EXCHANGES stand before the default's, and their own wildcards are plain characters."""
    sql = sessions.view_sql(Settings(symbol_exchanges="A_B=XTKS,X:*=24/7"))
    assert "(CAST('A|_B' AS varchar), CAST('XTKS' AS varchar), 0)" in sql
    assert "(CAST('X:%' AS varchar), CAST('24/7' AS varchar), 1)" in sql
    assert "(CAST('%' AS varchar), CAST('XNYS' AS varchar), 2)" in sql
    assert "%', AS" not in sessions.view_sql(Settings(exchange="none", symbol_exchanges=""))
