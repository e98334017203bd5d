"""athena_queries.sql as text: what every block has to keep to. What the blocks give is in
tests/integration/test_queries_on_trino.py.
"""

import re

import pytest

from pipeline.athena.queries import Query, queries

QUERIES = queries()
BLOCKS = [pytest.param(query, id=name) for name, query in QUERIES.items()]
# Names that the dashboards and the README use.
NEEDED = {
    "monthly_performance",
    "closing_trend",
    "moving_averages",
    "volume_by_ticker",
    "volume_by_month",
    "daily_average_price",
    "volatility",
    "drawdown",
    "returns",
    "correlation",
    "correlation_of_returns",
    "spread_of_prices",
    "news_sentiment",
    "data_quality",
    "daily_bars",
    "best_and_worst_days",
    "rsi",
    "bollinger_bands",
    "vwap",
    "tick_fluctuation",
    "news_and_next_day_return",
    "missing_sessions",
    "coverage_by_month",
    "coverage_calendar",
    "minutes_by_session",
    "stale_symbols",
    "duplicates_and_revisions",
    "dead_letters_by_reason",
    "landing_freshness",
}


def test_every_question_is_there() -> None:
    """No block that something else relies on is missing."""
    assert set(QUERIES) >= NEEDED


@pytest.mark.parametrize("query", BLOCKS)
def test_block_can_be_pasted(query: Query) -> None:
    """A block is one SELECT with a description, and needs no parameter filled in."""
    assert query.description
    assert re.match(r"(SELECT|WITH)\b", query.sql)
    assert ";" not in query.sql
    assert not re.search(r"[?{}$]", re.sub(r"'[^']*'", "", query.sql))


@pytest.mark.parametrize("query", BLOCKS)
def test_words_of_the_language_are_quoted(query: Query) -> None:
    """Columns called open, close and interval are quoted."""
    bare = re.sub(r"'[^']*'|--.*|INTERVAL '", " ", query.sql)
    assert not re.search(r'(?<!["\w])(open|close|interval)(?!["\w])', bare)


@pytest.mark.parametrize("query", BLOCKS)
def test_raw_tables_are_asked_by_day(query: Query) -> None:
    """Every read of a raw table has a condition on dt: it would list every day of its range otherwise."""
    for table in re.finditer(r"FROM (raw_\w+|dead_letters)(.*?)(?=FROM|UNION|\Z)", query.sql, re.DOTALL):
        assert re.search(r"WHERE\s+dt\s*>=", table[2]), table[1]
