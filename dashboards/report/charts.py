"""The report's charts: a query's result in, a Vega-Lite chart out. Pure.

Colours are names of CSS variables, so the style sheet chooses them for a light screen, a dark screen and paper. Every
chart names its data set and the page supplies the rows, so that none is in the page twice. The page's controls set two
signals of a chart over time: `tickers`, those to show, and `since`, the first instant to show.
"""

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

SERIES = [f"var(--series-{number})" for number in range(1, 9)]
# From far below the first month's price to far above it; the middle one says "as in the first month".
DIVERGING = [f"var(--diverging-{number})" for number in range(1, 10)]
_DIVERGING_TEXT = [f"var(--diverging-text-{number})" for number in range(1, 10)]
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
# How the page's script writes a value: options of JavaScript's Intl.NumberFormat.
DOLLARS = {"style": "currency", "currency": "USD"}
PERCENT = {"style": "percent", "minimumFractionDigits": 1, "maximumFractionDigits": 1}
_CHOSEN_TICKERS = "indexof(tickers, datum.symbol) >= 0"
_CHOSEN_DAYS = "time(datum.day) >= since"


def config() -> dict[str, Any]:
    """Return the look that all charts share."""
    quiet = {"labelColor": "var(--quiet)", "titleColor": "var(--quiet)", "labelFontSize": 11, "titleFontSize": 11}
    return {
        "background": "transparent",
        "font": "system-ui, -apple-system, 'Segoe UI', sans-serif",
        "view": {"stroke": None},
        "axis": {
            **quiet,
            "titleFontWeight": "normal",
            "gridColor": "var(--grid)",
            "domainColor": "var(--axis)",
            "tickColor": "var(--axis)",
            "labelPadding": 4,
        },
        "legend": {
            **quiet,
            "orient": "top",
            "symbolType": "stroke",
            "symbolStrokeWidth": 3,
            "columnPadding": 14,
            "labelLimit": 120,
        },
        "header": quiet,
        "range": {"category": SERIES},
        "line": {"strokeWidth": 1.6},
    }


def _chart(data: str, *, height: int) -> alt.Chart:
    return alt.Chart(alt.NamedData(data), width="container", height=height)


def ticker_colours(symbols: list[str]) -> dict[str, str]:
    """Return a colour per ticker, the same in every chart whichever tickers are shown. After eight they repeat."""
    return {symbol: SERIES[number % len(SERIES)] for number, symbol in enumerate(symbols)}


def _page_signals(chart: alt.Chart) -> alt.Chart:
    """Let the page's controls choose the tickers and the first day."""
    shown = chart.transform_filter(_CHOSEN_TICKERS).transform_filter(_CHOSEN_DAYS)
    return shown.add_params(alt.param(name="tickers", value=[]), alt.param(name="since", value=0))


def _day_axis() -> alt.X:
    """Return an axis of days, whose labels name the year when it spans more than some months."""
    label = "span(domain('x')) > 2e10 ? utcFormat(datum.value, '%b %Y') : utcFormat(datum.value, '%d %b')"
    axis = alt.Axis(
        grid=False, labelOverlap=True, labelSeparation=8, labelExpr=label, tickCount=alt.ExprRef("ceil(width / 120)")
    )
    return alt.X("day:T", title=None, scale=alt.Scale(type="utc"), axis=axis)


def index_edges(index_100: pd.Series) -> list[float]:
    """Return the eight limits between nine colours: the middle colour means "as in the first month", which is 100.

    They are symmetric around it and span the smallest round distance that holds 19 cells in 20, at most 0 to 200,
    because no price falls below 0.
    """
    known = index_100.dropna()
    distance = np.quantile((known - 100).abs(), 0.95) if len(known) else 0
    outermost = next((step for step in (5, 10, 20, 50) if step >= distance), 100)
    above = [outermost * share for share in (0.1, 0.25, 0.5, 0.75)]
    return [round(100 - step, 2) for step in reversed(above)] + [round(100 + step, 2) for step in above]


def monthly_heatmap(rows: pd.DataFrame) -> alt.LayerChart:
    """Return the heatmap of heatmap_rows(): rows are ticker and year, columns the months.

    The text is the average close in $, the colour the index.
    """
    by_symbol = rows.groupby("symbol", sort=True)["row"].unique()
    # A blank row between tickers; only a ticker's first row carries its name.
    order = [row for symbol, own in by_symbol.items() for row in [*sorted(own), f"{symbol} "]][:-1]
    named = [own.min() for own in by_symbol]
    edges = index_edges(rows["index_100"])
    x = alt.X(
        "month_of_year:O",
        title=None,
        scale=alt.Scale(domain=list(range(1, 13)), paddingInner=0.04),
        axis=alt.Axis(orient="top", domain=False, ticks=False, labelAngle=0, labelExpr=f"{_MONTHS}[datum.value - 1]"),
    )
    year = "slice(datum.value, -1) == ' ' ? '' : slice(datum.value, -4)"
    label = f"indexof({named}, datum.value) >= 0 ? datum.value : {year}"
    y = alt.Y(
        "row:N",
        title=None,
        scale=alt.Scale(domain=order, paddingInner=0.06),
        axis=alt.Axis(domain=False, ticks=False, labelExpr=label),
    )
    tooltip = [
        alt.Tooltip("symbol:N", title="Ticker"),
        alt.Tooltip("utcyearmonth(month):T", title="Month", format="%B %Y"),
        alt.Tooltip("average_close:Q", title="Average close, $", format=",.2f"),
        alt.Tooltip("index_100:Q", title="First month = 100", format=".1f"),
    ]
    base = _chart("monthly_performance", height=22 * len(order)).encode(x, y, tooltip=tooltip)
    # A narrow cell has no room for cents, a narrower one none for the dollar either.
    fitting = alt.expr(
        "bandwidth('x') >= 48 ? format(datum.average_close, '$,.2f') : "
        "bandwidth('x') >= 34 ? format(datum.average_close, '$,.0f') : "
        "format(datum.average_close, datum.average_close < 100 ? '.0f' : '.3~s')"
    )
    return _coloured_text(base, "index_100", edges, fitting, font_size=alt.expr("bandwidth('x') < 34 ? 9 : 11"))


def _over_time(
    data: str, field: str, title: str, number_format: dict[str, Any], symbols: list[str], *, height: int = 230
) -> alt.Chart:
    """Return a line per ticker over the days.

    The page writes the key, and reads `hover` to show the values of the day under the pointer.
    """
    colours = ticker_colours(symbols)
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    axis = alt.Axis(format=".0%") if number_format is PERCENT else alt.Axis()
    lines = (
        _chart(data, height=height)
        .mark_line()
        .encode(
            _day_axis(),
            alt.Y(f"{field}:Q", title=title, scale=alt.Scale(zero=False), axis=axis),
            alt.Color("symbol:N", scale=scale, legend=None),
        )
    )
    return _page_signals(lines).properties(usermeta={"hover": {"values": {field: title}, "format": number_format}})


def closing_trend(symbols: list[str]) -> alt.Chart:
    """Return the closing prices of the chosen tickers."""
    return _over_time("closing_trend", "close", "Close, $", DOLLARS, symbols, height=320)


def volatility(symbols: list[str]) -> alt.Chart:
    """Return how much the daily returns of the last 20 days vary, annualized."""
    return _over_time("volatility", "volatility", "Volatility, annualized", PERCENT, symbols)


def drawdown(symbols: list[str]) -> alt.Chart:
    """Return how far each close lies below the highest close before it."""
    return _over_time("drawdown", "drawdown", "Below the highest close so far", PERCENT, symbols)


AVERAGES = {"close": "Close", "average_10_days": "10 days", "average_30_days": "30 days", "average_50_days": "50 days"}


def moving_averages(symbols: list[str]) -> alt.Chart:
    """Return one ticker's close and its averages over the last 10, 30 and 50 days; the signal `ticker` chooses it."""
    series = list(AVERAGES.values())
    name = f"{list(AVERAGES)} [0] == datum.field ? '{series[0]}' : replace(slice(datum.field, 8), '_', ' ')"
    lines: alt.Chart = (
        _chart("moving_averages", height=280)
        .mark_line()
        .transform_filter("datum.symbol == ticker")
        .transform_filter(_CHOSEN_DAYS)
        .transform_fold(list(AVERAGES), as_=["field", "price"])
        .transform_calculate(series=name)
        .encode(
            _day_axis(),
            alt.Y("price:Q", title="Price, $", scale=alt.Scale(zero=False)),
            alt.Color("series:N", title=None, scale=alt.Scale(domain=series, range=["var(--quiet)", *SERIES[:3]])),
        )
    )
    signals = alt.param(name="ticker", value=symbols[0] if symbols else ""), alt.param(name="since", value=0)
    hover = {"values": AVERAGES, "format": DOLLARS}
    return lines.add_params(*signals).properties(usermeta={"hover": hover})


def pairs(rows: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """Return correlations of unordered pairs as a full square: each pair both ways, and each with itself."""
    rows = rows.dropna(subset=["correlation"])
    others = [name for name in rows.columns if name not in (first, second, "correlation")]
    both = pd.concat([rows, rows.rename(columns={first: second, second: first})])
    itself = both.assign(correlation=1.0)
    itself[second] = itself[first]
    square = pd.concat([both, itself])[[*others, first, second, "correlation"]]
    keys = [name for name in square.columns if name not in ("correlation", "days")]
    return square.drop_duplicates(keys, ignore_index=True)


CORRELATION_EDGES = [-0.8, -0.5, -0.2, -0.05, 0.05, 0.2, 0.5, 0.8]


def correlations(data: str, first: str, second: str, order: list[str], *, by_ticker: bool = False) -> alt.LayerChart:
    """Return the square of correlations, from -1 to 1, of pairs()."""
    across = alt.Axis(orient="top", domain=False, ticks=False, labelAngle=0)
    if len(order) > 10:
        across = alt.Axis(
            orient="top", domain=False, ticks=False, labelAngle=-90, labelAlign="left", labelBaseline="middle"
        )
    down = alt.Axis(domain=False, ticks=False)
    base = _chart(data, height=34 * max(len(order), 2) + 20).encode(
        alt.X(f"{first}:N", title=None, sort=order, scale=alt.Scale(paddingInner=0.04), axis=across),
        alt.Y(f"{second}:N", title=None, sort=order, scale=alt.Scale(paddingInner=0.06), axis=down),
        tooltip=[
            alt.Tooltip(f"{first}:N", title="One"),
            alt.Tooltip(f"{second}:N", title="Other"),
            alt.Tooltip("correlation:Q", title="Correlation", format=".3f"),
        ],
    )
    if by_ticker:
        base = base.transform_filter("datum.symbol == ticker")
    text = alt.expr("bandwidth('x') < 28 ? '' : format(datum.correlation, '.2f')")
    square = _coloured_text(base, "correlation", CORRELATION_EDGES, text, font_size=11)
    return square.add_params(alt.param(name="ticker", value="")) if by_ticker else square


def _coloured_text(
    base: alt.Chart, field: str, edges: list[float], text: alt.ExprRef, *, font_size: float | alt.ExprRef
) -> alt.LayerChart:
    """Return cells coloured by the field, with text in the ink that is readable on each colour."""

    def colour(inks: list[str]) -> alt.Color:
        return alt.Color(f"{field}:Q", scale=alt.Scale(type="threshold", domain=edges, range=inks), legend=None)

    cells = base.mark_rect().encode(colour(DIVERGING))
    texts = base.mark_text(text=text, fontSize=font_size).encode(colour(_DIVERGING_TEXT))
    layers: alt.LayerChart = alt.layer(cells, texts).resolve_scale(color="independent")
    return layers


def box_plot(spread: pd.DataFrame) -> alt.LayerChart:
    """Return the lowest, the quartiles and the highest close per ticker.

    The axis is logarithmic where the prices differ twentyfold, as $30 and $600 do.
    """
    low, high = spread["minimum"].min(), spread["maximum"].max()
    scale = alt.Scale(type="log", nice=False) if 0 < low < high / 20 else alt.Scale(zero=False)
    base = _chart("spread_of_prices", height=34 * max(len(spread), 1)).encode(
        alt.Y("symbol:N", title=None, axis=alt.Axis(domain=False, ticks=False)),
        tooltip=[alt.Tooltip("symbol:N", title="Ticker")]
        + [alt.Tooltip(f"{field}:Q", title=title, format="$,.2f") for field, title in SPREAD.items()],
    )
    axis = alt.Axis(tickCount=5, format="~s", grid=True)
    whisker = base.mark_rule(color="var(--quiet)").encode(
        alt.X("minimum:Q", title="Close, $", scale=scale, axis=axis), alt.X2("maximum")
    )
    box = base.mark_bar(size=16, color=SERIES[0]).encode(alt.X("quartile_1:Q", scale=scale), alt.X2("quartile_3"))
    median = base.mark_tick(size=16, thickness=2, color="var(--surface)").encode(alt.X("median:Q", scale=scale))
    return alt.LayerChart(layer=[whisker, box, median])


SPREAD = {
    "minimum": "Lowest",
    "quartile_1": "First quartile",
    "median": "Median",
    "quartile_3": "Third quartile",
    "maximum": "Highest",
}
SENTIMENTS = {"positive": DIVERGING[7], "neutral": DIVERGING[4], "negative": DIVERGING[1], "unknown": "var(--axis)"}


def news_sentiment(symbols: list[str]) -> alt.Chart:
    """Return the number of articles by sentiment, one bar per ticker."""
    bars: alt.Chart = (
        _chart("news_sentiment", height=34 * max(len(symbols), 1))
        .mark_bar()
        .transform_fold(list(SENTIMENTS), as_=["sentiment", "articles"])
        .encode(
            alt.X("sum(articles):Q", title="Articles", axis=alt.Axis(tickMinStep=1)),
            alt.Y("symbol:N", title=None, axis=alt.Axis(domain=False, ticks=False)),
            alt.Color(
                "sentiment:N",
                title=None,
                scale=alt.Scale(domain=list(SENTIMENTS), range=list(SENTIMENTS.values())),
                legend=alt.Legend(symbolType="square", symbolStrokeWidth=0),
            ),
            alt.Order("order:Q"),
            tooltip=[
                alt.Tooltip("symbol:N", title="Ticker"),
                alt.Tooltip("sentiment:N", title="Sentiment"),
                alt.Tooltip("sum(articles):Q", title="Articles"),
            ],
        )
        .transform_calculate(order=f"indexof({list(SENTIMENTS)}, datum.sentiment)")
    )
    return bars


def volume_comparison(volumes: pd.DataFrame) -> alt.Chart:
    """Return the shares traded, one bar per ticker, the greatest first."""
    bars: alt.Chart = (
        _chart("volume_by_ticker", height=34 * max(len(volumes), 1))
        .mark_bar(color=SERIES[0], cornerRadiusEnd=3)
        .encode(
            alt.X(
                "total_volume:Q",
                title="Shares traded",
                axis=alt.Axis(labelExpr="replace(format(datum.value, '~s'), 'G', 'B')", tickCount=5),
            ),
            alt.Y("symbol:N", title=None, sort="-x", axis=alt.Axis(domain=False, ticks=False)),
            tooltip=[
                alt.Tooltip("symbol:N", title="Ticker"),
                alt.Tooltip("total_volume:Q", title="Shares traded", format=","),
                alt.Tooltip("average_volume:Q", title="Daily average", format=",.0f"),
            ],
        )
    )
    return bars


# Of a session with a bar, and of one without.
COVERED, UNCOVERED = DIVERGING[5], DIVERGING[1]
_YEARS_OF_CALENDAR = 6


def calendar_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of coverage_calendar of the last six years with their place in a calendar: `row` is year and
    weekday (1 is Monday), `week` counts the weeks of the year from 0.
    """
    year = pd.to_datetime(rows["day"]).dt.year
    rows = rows[year > year.max() - _YEARS_OF_CALENDAR]
    day = pd.to_datetime(rows["day"])
    new_year = pd.to_datetime(day.dt.strftime("%Y-01-01"))
    return rows.assign(row=day.dt.strftime("%Y %u"), week=(day.dt.day_of_year - 1 + new_year.dt.day_of_week) // 7)


def coverage_calendar(rows: pd.DataFrame) -> alt.Chart:
    """Return a square a session of one ticker, of calendar_rows(); the signal `ticker` chooses it."""
    weekdays = sorted({row[-1] for row in rows["row"]} | set("12345"))
    years = sorted({row[:4] for row in rows["row"]})
    # A blank row between years; only a year's first row carries its name.
    order = [row for year in years for row in [*(f"{year} {number}" for number in weekdays), f"{year} "]][:-1]
    x = alt.X("week:O", title=None, scale=alt.Scale(domain=list(range(54)), paddingInner=0.15), axis=None)
    label = f"slice(datum.value, -1) == '{weekdays[0]}' ? slice(datum.value, 0, 4) : ''"
    y = alt.Y(
        "row:N",
        title=None,
        scale=alt.Scale(domain=order, paddingInner=0.15),
        axis=alt.Axis(domain=False, ticks=False, labelExpr=label),
    )
    colour = alt.Color("bars:N", scale=alt.Scale(domain=[1, 0], range=[COVERED, UNCOVERED]), legend=None)
    tooltip = [
        alt.Tooltip("symbol:N", title="Ticker"),
        alt.Tooltip("utcyearmonthdate(day):T", title="Session", format="%a, %d %b %Y"),
        alt.Tooltip("bars:Q", title="Bars"),
    ]
    squares: alt.Chart = (
        _chart("coverage_calendar", height=13 * len(order))
        .mark_rect(cornerRadius=1)
        .transform_filter("datum.symbol == ticker")
        .encode(x, y, colour, tooltip=tooltip)
    )
    return squares.add_params(alt.param(name="ticker", value=""))
