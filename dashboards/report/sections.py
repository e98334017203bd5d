"""What the report shows and in which order: query results in, sections out. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import pairwise

import altair as alt
import pandas as pd

from dashboards.report import charts

Results = Mapping[str, pd.DataFrame | None]

QUERIES = (
    "data_quality",
    "monthly_performance",
    "closing_trend",
    "moving_averages",
    "volume_by_ticker",
    "spread_of_prices",
    "volatility",
    "drawdown",
    "correlation",
    "correlation_of_returns",
    "news_sentiment",
)
_BY_KEYS = "arrow keys move between days"
# A weekend and a holiday pass without a new bar.
_STALE_DAYS = 4


@dataclass(frozen=True, kw_only=True)
class Part:
    """One chart of a section; `rows` are what it draws, under the name that the chart calls them by.

    `key` says what its colours mean; the page itself writes the key of tickers' lines.
    """

    name: str
    rows: pd.DataFrame
    chart: alt.TopLevelMixin
    description: str
    caption: str = ""
    tickers: tuple[str, ...] = ()
    key: dict | None = None
    has_ticker_lines: bool = False


@dataclass(frozen=True, kw_only=True)
class Section:
    """A card of the page. `missing` says why a part of it is not there."""

    name: str
    title: str
    note: str
    half: bool = False
    parts: list[Part] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Tile:
    name: str
    value: str
    note: str = ""
    warning: bool = False


def sections(results: Results) -> list[Section]:
    """Every section; one without rows says which query gave none. News is left out where there is no news."""
    symbols = symbols_of(results)
    every = [
        _section(
            "monthly",
            "Monthly performance: average close by ticker and month",
            "Text is the average close in $. Colour is the same with the ticker's first month = 100, so that an expensive "
            "ticker does not swamp the rest.",
            results,
            {"monthly_performance": _monthly},
        ),
        _section(
            "trend",
            "Closing price over time",
            "Daily closes; below, one ticker with its averages over the last 10, 30 and 50 trading days.",
            results,
            {"closing_trend": partial(_trend, symbols=symbols), "moving_averages": _averages},
        ),
        _section(
            "volume", "Volume by ticker", "Shares traded in all.", results, {"volume_by_ticker": _volumes}, half=True
        ),
        _section(
            "spread",
            "Spread of closing prices",
            "Line from the least to the greatest close, box from the first to the third quartile, mark at the median.",
            results,
            {"spread_of_prices": _spread},
            half=True,
        ),
        _section(
            "volatility",
            "Volatility over time",
            "Standard deviation of the daily returns of 20 days, as a yearly figure.",
            results,
            {"volatility": partial(_volatility, symbols=symbols)},
            half=True,
        ),
        _section(
            "drawdown",
            "Drawdown",
            "How far a close lies below the highest close before it.",
            results,
            {"drawdown": partial(_drawdown, symbols=symbols)},
            half=True,
        ),
        _section(
            "correlation",
            "Correlation of a ticker's columns",
            "Daily open, high, low, close and volume of one ticker.",
            results,
            {"correlation": _correlation},
            half=True,
        ),
        _section(
            "returns",
            "Correlation of tickers' returns",
            "Daily returns on the days that both have.",
            results,
            {"correlation_of_returns": _correlation_of_returns},
            half=True,
        ),
    ]
    if results["news_sentiment"] is not None and len(results["news_sentiment"]):
        every.append(
            _section(
                "news",
                "News sentiment",
                "Articles by what they say about the ticker.",
                results,
                {"news_sentiment": _news},
            )
        )
    return every


def symbols_of(results: Results) -> list[str]:
    """Every ticker of the results, in order."""
    return sorted(
        {symbol for rows in results.values() if rows is not None and "symbol" in rows for symbol in rows["symbol"]}
    )


def _section(name: str, title: str, note: str, results: Results, parts: dict, *, half: bool = False) -> Section:
    there = {query: make for query, make in parts.items() if results[query] is not None and len(results[query])}
    missing = [
        f"There is no result of the query {query}." if results[query] is None else f"The query {query} gave no rows."
        for query in parts
        if query not in there
    ]
    return Section(
        name=name,
        title=title,
        note=note,
        half=half,
        missing=missing,
        parts=[make(results[query]) for query, make in there.items()],
    )


def _monthly(monthly: pd.DataFrame) -> Part:
    rows = charts.heatmap_rows(monthly)
    edges = charts.index_edges(rows["index_100"])
    return Part(
        name="monthly_performance",
        rows=rows,
        chart=charts.monthly_heatmap(rows),
        key=_key(edges, "First month = 100"),
        description="Heatmap of the average close: a row a ticker and year, a column a month",
    )


def _key(edges: list[float], label: str) -> dict:
    texts = [
        f"below {edges[0]:g}",
        *(f"{low:g} to {high:g}" for low, high in pairwise(edges)),
        f"{edges[-1]:g} or more",
    ]
    return {
        "label": label,
        "entries": [{"colour": colour, "text": text} for colour, text in zip(charts.DIVERGING, texts, strict=True)],
    }


def _trend(rows: pd.DataFrame, symbols: list[str]) -> Part:
    return Part(
        name="closing_trend",
        rows=rows,
        chart=charts.closing_trend(symbols),
        has_ticker_lines=True,
        description=f"Lines of the closing prices by day, one a ticker; {_BY_KEYS}",
    )


def _averages(rows: pd.DataFrame) -> Part:
    symbols = sorted(rows["symbol"].unique())
    return Part(
        name="moving_averages",
        rows=rows,
        chart=charts.moving_averages(symbols),
        tickers=tuple(symbols),
        caption="Close with its 10, 30 and 50-day averages",
        description=f"Lines of one ticker's close and its averages over 10, 30 and 50 days; {_BY_KEYS}",
    )


def _volumes(rows: pd.DataFrame) -> Part:
    return Part(
        name="volume_by_ticker",
        rows=rows,
        chart=charts.volume_comparison(rows),
        description="Bars of the shares traded, one a ticker, the greatest first",
    )


def _spread(rows: pd.DataFrame) -> Part:
    return Part(
        name="spread_of_prices",
        rows=rows,
        chart=charts.box_plot(rows),
        description="Box plots of the closing prices, one a ticker",
    )


def _volatility(rows: pd.DataFrame, symbols: list[str]) -> Part:
    return Part(
        name="volatility",
        rows=rows,
        chart=charts.volatility(symbols),
        has_ticker_lines=True,
        description=f"Lines of the 20-day volatility by day, one a ticker; {_BY_KEYS}",
    )


def _drawdown(rows: pd.DataFrame, symbols: list[str]) -> Part:
    return Part(
        name="drawdown",
        rows=rows,
        chart=charts.drawdown(symbols),
        has_ticker_lines=True,
        description=f"Lines of the drawdown by day, one a ticker; {_BY_KEYS}",
    )


def _correlation(rows: pd.DataFrame) -> Part:
    chart = charts.correlations(
        "correlation", "first_column", "second_column", ["open", "high", "low", "close", "volume"], by_ticker=True
    )
    return Part(
        name="correlation",
        rows=charts.pairs(rows, "first_column", "second_column"),
        chart=chart,
        tickers=tuple(sorted(rows["symbol"].unique())),
        caption=" ",
        description="Square of the correlations between open, high, low, close and volume",
    )


def _correlation_of_returns(rows: pd.DataFrame) -> Part:
    square = charts.pairs(rows, "first_symbol", "second_symbol")
    order = sorted(square["first_symbol"].unique())
    return Part(
        name="correlation_of_returns",
        rows=square,
        description="Square of the correlations between tickers' daily returns",
        chart=charts.correlations("correlation_of_returns", "first_symbol", "second_symbol", order),
    )


def _news(rows: pd.DataFrame) -> Part:
    return Part(
        name="news_sentiment",
        rows=rows,
        chart=charts.news_sentiment(sorted(rows["symbol"].unique())),
        description="Bars of the number of articles by sentiment, one a ticker",
    )


def tiles(quality: pd.DataFrame | None, *, now: datetime) -> list[Tile]:
    """The data-quality strip: how many, how fresh, what was refused."""
    if quality is None or not len(quality):
        return []
    tables = {row["table_name"]: row for row in quality.to_dict("records")}
    found = []
    for table in ("bars", "ticks", "news"):
        row = tables.get(table)
        if row is not None and row["row_count"]:
            tickers = int(row["symbols"])
            found.append(
                Tile(
                    name=table.capitalize(),
                    value=f"{int(row['row_count']):,}",
                    note=f"{tickers} ticker{'s' * (tickers != 1)}",
                )
            )
    if (bars := tables.get("bars")) is not None and bars["row_count"]:
        found.append(
            Tile(
                name="Latest bar",
                value=f"{bars['last_time']:%d %b %Y}",
                note=f"the first is of {bars['first_time']:%d %b %Y}",
            )
        )
        age = now.replace(tzinfo=None) - bars["last_ingested_at"]
        found.append(
            Tile(
                name="Last read from a source",
                value=_ago(age),
                note=f"{bars['last_ingested_at']:%d %b %Y %H:%M} UTC",
                warning=age.days >= _STALE_DAYS,
            )
        )
    if (dead := tables.get("dead_letters")) is not None:
        count = int(dead["row_count"])
        note = "refused in the last 30 days" if count else "none refused in the last 30 days"
        found.append(Tile(name="Dead letters", value=f"{count:,}", note=note, warning=count > 0))
    return found


def _ago(age: pd.Timedelta) -> str:
    for unit, seconds in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if (count := int(age.total_seconds() // seconds)) >= 1:
            return f"{count:,} {unit}{'s' * (count != 1)} ago"
    return "just now"
