"""What the report shows and in which order: query results in, sections out. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import altair as alt
import pandas as pd

from dashboards.heatmap import heatmap_rows
from dashboards.query_results import Results
from dashboards.report import charts

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
    "coverage_calendar",
    "news_sentiment",
)
_BY_KEYS = "arrow keys move between days"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One chart of a section. `rows` are what it draws; the chart refers to them by `name`.

    `key` says what its colours mean; the page's script writes the key of the tickers' lines.
    """

    name: str
    rows: pd.DataFrame
    chart: alt.TopLevelMixin
    description: str
    caption: str = ""
    tickers: tuple[str, ...] = ()
    key: dict[str, Any] | None = None
    has_ticker_lines: bool = False


@dataclass(frozen=True, kw_only=True)
class Section:
    """A card of the page. `missing` says why it lacks a part."""

    name: str
    title: str
    note: str
    half: bool = False
    parts: list[Part] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def sections(results: Results) -> list[Section]:
    """Return every section. One without rows says which query returned none; there is no news section without news."""
    symbols = symbols_of(results)
    news = results["news_sentiment"]
    return [
        *_prices_and_volumes(results, symbols),
        *_risks(results, symbols),
        _coverage_section(results),
        *([] if news is None or news.empty else [_news_section(results)]),
    ]


def _prices_and_volumes(results: Results, symbols: list[str]) -> list[Section]:
    return [
        _section(
            "monthly",
            "Monthly performance: average close by ticker and month",
            "Text is the average close in $. Colour is the same with the ticker's first month = 100, so that an "
            "expensive ticker does not outshine the rest.",
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
            "volume", "Volume by ticker", "Shares traded in total.", results, {"volume_by_ticker": _volumes}, half=True
        ),
        _section(
            "spread",
            "Spread of closing prices",
            "Line from the lowest to the highest close, box from the first to the third quartile, mark at the median.",
            results,
            {"spread_of_prices": _spread},
            half=True,
        ),
    ]


def _risks(results: Results, symbols: list[str]) -> list[Section]:
    return [
        _section(
            "volatility",
            "Volatility over time",
            "Standard deviation of the daily returns of 20 days, annualized.",
            results,
            {"volatility": partial(_volatility, symbols=symbols)},
            half=True,
        ),
        _section(
            "drawdown",
            "Drawdown",
            "How far each close lies below the highest close before it.",
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


def _coverage_section(results: Results) -> Section:
    note = "A square a session of the exchange, of the last six years with bars: weeks across, weekdays down."
    return _section("coverage", "Sessions with a bar", note, results, {"coverage_calendar": _calendar})


def _news_section(results: Results) -> Section:
    note = "Articles by their sentiment towards the ticker."
    return _section("news", "News sentiment", note, results, {"news_sentiment": _news})


def symbols_of(results: Results) -> list[str]:
    """Return every ticker of the results, in order."""
    return sorted(
        {symbol for rows in results.values() if rows is not None and "symbol" in rows for symbol in rows["symbol"]}
    )


def _section(
    name: str,
    title: str,
    note: str,
    results: Results,
    parts: Mapping[str, Callable[[pd.DataFrame], Part]],
    *,
    half: bool = False,
) -> Section:
    made, missing = [], []
    for query, make in parts.items():
        rows = results[query]
        if rows is None:
            missing.append(f"There is no result of the query {query}.")
        elif rows.empty:
            missing.append(f"The query {query} returned no rows.")
        else:
            made.append(make(rows))
    return Section(name=name, title=title, note=note, half=half, missing=missing, parts=made)


def _monthly(monthly: pd.DataFrame) -> Part:
    rows = heatmap_rows(monthly)
    edges = charts.index_edges(rows["index_100"])
    return Part(
        name="monthly_performance",
        rows=rows,
        chart=charts.monthly_heatmap(rows),
        key=_key(edges, "First month = 100"),
        description="Heatmap of the average close: a row per ticker and year, a column per month",
    )


def _key(edges: list[float], label: str) -> dict[str, Any]:
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
        description=f"Lines of the closing prices by day, one per ticker; {_BY_KEYS}",
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
        description="Bars of the shares traded, one per ticker, the greatest first",
    )


def _spread(rows: pd.DataFrame) -> Part:
    return Part(
        name="spread_of_prices",
        rows=rows,
        chart=charts.box_plot(rows),
        description="Box plots of the closing prices, one per ticker",
    )


def _volatility(rows: pd.DataFrame, symbols: list[str]) -> Part:
    return Part(
        name="volatility",
        rows=rows,
        chart=charts.volatility(symbols),
        has_ticker_lines=True,
        description=f"Lines of the 20-day volatility by day, one per ticker; {_BY_KEYS}",
    )


def _drawdown(rows: pd.DataFrame, symbols: list[str]) -> Part:
    return Part(
        name="drawdown",
        rows=rows,
        chart=charts.drawdown(symbols),
        has_ticker_lines=True,
        description=f"Lines of the drawdown by day, one per ticker; {_BY_KEYS}",
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
        description="Bars of the number of articles by sentiment, one per ticker",
    )


def _calendar(rows: pd.DataFrame) -> Part:
    placed = charts.calendar_rows(rows)
    entries = [{"colour": charts.COVERED, "text": "a bar"}, {"colour": charts.UNCOVERED, "text": "no bar"}]
    lacking = rows[rows["bars"] == 0].groupby("symbol").size()
    few = ", ".join(f"{symbol} {count:,}" for symbol, count in lacking.nlargest(5).items())
    return Part(
        name="coverage_calendar",
        rows=placed,
        chart=charts.coverage_calendar(placed),
        tickers=tuple(sorted(placed["symbol"].unique())),
        caption=f"Sessions without a bar: {few or 'none'}",
        key={"label": "Sessions", "entries": entries},
        description="Calendar of the sessions of one ticker, a square each: with a bar or without",
    )
