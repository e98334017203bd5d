"""The report's charts: a query's result in, a Vega-Lite chart out. Pure.

Colours are names of CSS variables, so that one drawing is right on a light screen, a dark screen and paper: the style sheet
decides. Every chart names its data set and the page supplies the rows, so that none is in the page twice. A chart over time
follows two signals that the page's controls set: `tickers`, those to show, and `since`, the first instant to show.
"""

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
_EVERY_ROW_SHOWN = "indexof(tickers, datum.symbol) >= 0"


def config() -> dict:
    """The look that every chart shares."""
    quiet = {"labelColor": "var(--quiet)", "titleColor": "var(--quiet)", "labelFontSize": 11, "titleFontSize": 11}
    return {
        "background": "transparent",
        "font": "system-ui, -apple-system, 'Segoe UI', sans-serif",
        "view": {"stroke": None},
        "axis": {**quiet, "titleFontWeight": "normal", "gridColor": "var(--grid)", "domainColor": "var(--axis)",
                 "tickColor": "var(--axis)", "labelPadding": 4},
        "legend": {**quiet, "orient": "top", "symbolType": "stroke", "symbolStrokeWidth": 3, "columnPadding": 14,
                   "labelLimit": 120},
        "header": quiet,
        "range": {"category": SERIES},
        "line": {"strokeWidth": 1.6},
    }


def _chart(data: str, *, height: int) -> alt.Chart:
    return alt.Chart(alt.NamedData(data), width="container", height=height)


def _ticker_colour() -> alt.Color:
    return alt.Color("symbol:N", title=None, scale=alt.Scale(range=SERIES))


def _page_signals(chart: alt.Chart | alt.LayerChart) -> alt.Chart | alt.LayerChart:
    """Let the page's controls choose the tickers and the first day."""
    shown = chart.transform_filter(_EVERY_ROW_SHOWN).transform_filter("time(datum.day) >= since")
    return shown.add_params(alt.param(name="tickers", value=[]), alt.param(name="since", value=0))


def _day_axis() -> alt.X:
    return alt.X("day:T", title=None, scale=alt.Scale(type="utc"), axis=alt.Axis(grid=False, labelOverlap=True, labelFlush=True))


def heatmap_rows(monthly: pd.DataFrame) -> pd.DataFrame:
    """monthly_performance with what the heatmap shows.

    `index_100` is the average close with the ticker's first month = 100; `row` is ticker and year; `month_of_year` is 1 to 12.
    Months without an average have nothing to show and are left out.
    """
    rows = monthly.dropna(subset=["average_close"]).sort_values(["symbol", "month"])
    first = rows.groupby("symbol")["average_close"].transform("first")
    month = pd.to_datetime(rows["month"])
    return rows.assign(
        index_100=(100 * rows["average_close"] / first).round(1),
        row=rows["symbol"] + " " + month.dt.year.astype(str),
        month_of_year=month.dt.month,
    )


def index_edges(index_100: pd.Series) -> list[float]:
    """The eight limits between nine colours: symmetric around 100, so that the middle colour means "as in the first month".

    They spread over the least round distance that holds 19 cells in 20, and at most over 0 to 200: no price falls below 0.
    """
    distance = np.quantile((index_100 - 100).abs(), 0.95) if len(index_100) else 0
    outermost = next((step for step in (5, 10, 20, 50) if step >= distance), 100)
    above = [outermost * share for share in (0.1, 0.25, 0.5, 0.75)]
    return [round(100 - step, 2) for step in reversed(above)] + [round(100 + step, 2) for step in above]


def monthly_heatmap(rows: pd.DataFrame) -> alt.LayerChart:
    """Rows are ticker and year, columns the months; text is the average close in $, colour the index. Takes heatmap_rows()."""
    by_symbol = rows.groupby("symbol", sort=True)["row"].unique()
    # A blank row between tickers; only a ticker's first row carries its name.
    order = [row for symbol, own in by_symbol.items() for row in [*sorted(own), f"{symbol} "]][:-1]
    named = [own.min() for own in by_symbol]
    edges = index_edges(rows["index_100"])
    x = alt.X("month_of_year:O", title=None, scale=alt.Scale(domain=list(range(1, 13)), paddingInner=0.04),
              axis=alt.Axis(orient="top", domain=False, ticks=False, labelAngle=0, labelExpr=f"{_MONTHS}[datum.value - 1]"))
    label = f"indexof({named}, datum.value) >= 0 ? datum.value : slice(datum.value, -1) == ' ' ? '' : slice(datum.value, -4)"
    y = alt.Y("row:N", title=None, scale=alt.Scale(domain=order, paddingInner=0.06),
              axis=alt.Axis(domain=False, ticks=False, labelExpr=label))
    tooltip = [alt.Tooltip("symbol:N", title="Ticker"), alt.Tooltip("utcyearmonth(month):T", title="Month", format="%B %Y"),
               alt.Tooltip("average_close:Q", title="Average close, $", format=",.2f"),
               alt.Tooltip("index_100:Q", title="First month = 100", format=".1f")]
    base = _chart("monthly_performance", height=22 * len(order)).encode(x, y, tooltip=tooltip)
    colour = alt.Scale(type="threshold", domain=edges, range=DIVERGING)
    cells = base.mark_rect().encode(alt.Color("index_100:Q", scale=colour, legend=None))
    # A narrow cell has no room for cents, a narrower one not for the dollar either.
    fitting = ("bandwidth('x') >= 48 ? format(datum.average_close, '$,.2f') : bandwidth('x') >= 34 ? "
               "format(datum.average_close, '$,.0f') : format(datum.average_close, datum.average_close < 100 ? '.0f' : '.3~s')")
    text = base.mark_text(text=alt.expr(fitting), fontSize=alt.expr("bandwidth('x') < 34 ? 9 : 11")).encode(
        alt.Color("index_100:Q", scale=alt.Scale(type="threshold", domain=edges, range=_DIVERGING_TEXT), legend=None)
    )
    return alt.layer(cells, text).resolve_scale(color="independent")


def closing_trend() -> alt.Chart:
    """Closing prices of the chosen tickers over time."""
    return _over_time("closing_trend", "close", "Close, $", DOLLARS, height=320)


def _over_time(data: str, field: str, title: str, format: dict, *, height: int = 240) -> alt.Chart:
    """A line a ticker over the days. The page reads `hover` to show the values of the day under the pointer."""
    lines = _chart(data, height=height).mark_line().encode(
        _day_axis(), alt.Y(f"{field}:Q", title=title, scale=alt.Scale(zero=False)), _ticker_colour()
    )
    return _page_signals(lines).properties(usermeta={"hover": {"values": {field: title}, "format": format}})


def volume_comparison(volumes: pd.DataFrame) -> alt.Chart:
    """Shares traded in all, a bar a ticker, the greatest first."""
    return _chart("volume_by_ticker", height=34 * max(len(volumes), 1)).mark_bar(color=SERIES[0], cornerRadiusEnd=3).encode(
        alt.X("total_volume:Q", title="Shares traded", axis=alt.Axis(labelExpr="replace(format(datum.value, '~s'), 'G', 'B')", tickCount=5)),
        alt.Y("symbol:N", title=None, sort="-x", axis=alt.Axis(domain=False, ticks=False)),
        tooltip=[alt.Tooltip("symbol:N", title="Ticker"), alt.Tooltip("total_volume:Q", title="Shares traded", format=","),
                 alt.Tooltip("average_volume:Q", title="Average a day", format=",.0f")],
    )
