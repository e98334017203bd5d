"""The figures: a query's result in, a matplotlib figure out. Pure."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

from dashboards.heatmap import heatmap_rows

PRICES = ["open", "high", "low", "close"]
COLUMNS = [*PRICES, "volume"]


def _axes(title: str, *, width: float = 9, height: float = 4.8) -> tuple[Figure, Axes]:
    # Not pyplot's figure, which stays in memory and may need a screen.
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1))
    with sns.axes_style("whitegrid", {"axes.edgecolor": "#c3c8ce", "grid.color": "#e6e8eb"}):
        axes = figure.subplots()
    axes.set_title(title, loc="left", fontsize=12)
    sns.despine(ax=axes)
    return figure, axes


def _legend_beside(axes: Axes) -> None:
    axes.legend(title=None, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


def _day_axis(axes: Axes) -> None:
    locator = AutoDateLocator(minticks=3, maxticks=9)  # type: ignore[no-untyped-call]  # matplotlib.dates has no types
    formatter = ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]  # ditto
    axes.xaxis.set(major_locator=locator, major_formatter=formatter)
    axes.set(xlabel=None)


def _millions(number: float, _position: float | None = None) -> str:
    """Return 20, 300, 40M, 80B: as people in the market write them."""
    return EngFormatter(sep="")(number).replace("G", "B")


def last_days(own: pd.DataFrame, days: int, title: str) -> Figure:
    """Draw open, high, low and close of one ticker."""
    figure, axes = _axes(title)
    last = own.nlargest(days, "day").sort_values("day")
    for column, style in {"high": ":", "low": ":", "open": "--", "close": "-"}.items():
        axes.plot(last["day"], last[column], style, label=column, marker="." if days <= 30 else None)
    axes.set_ylabel("Price, $")
    _day_axis(axes)
    _legend_beside(axes)
    return figure


def last_days_compared(bars: pd.DataFrame, days: int, title: str) -> Figure:
    """Draw the close of every ticker over the last trading days, each from 100."""
    figure, axes = _axes(title)
    last = bars[bars["day"].isin(bars["day"].drop_duplicates().nlargest(days))]
    index = 100 * last["close"] / last.groupby("symbol")["close"].transform("first")
    index = index.replace([np.inf, -np.inf], np.nan)
    sns.lineplot(last.assign(index=index), x="day", y="index", hue="symbol", errorbar=None, ax=axes)
    axes.axhline(100, color="#c3c8ce", linewidth=1, zorder=0)
    axes.set_ylabel("First day = 100")
    _day_axis(axes)
    _legend_beside(axes)
    return figure


def monthly_heatmap(monthly: pd.DataFrame, title: str) -> Figure:
    """Draw a row per ticker and year, a column per month."""
    rows = heatmap_rows(monthly)
    text = rows.pivot_table(index="row", columns="month_of_year", values="average_close").reindex(columns=range(1, 13))
    colour = rows.pivot_table(index="row", columns="month_of_year", values="index_100").reindex_like(text)
    figure, axes = _axes(title, width=11, height=1.6 + 0.28 * len(colour))
    # Symmetric around 100, and never below 0: no price falls there.
    reach = min(100.0, max(5.0, float(np.nanmax((colour - 100).abs().to_numpy(), initial=0))))
    sns.heatmap(
        colour,
        vmin=100 - reach,
        vmax=100 + reach,
        cmap="RdBu",
        linewidths=0.5,
        ax=axes,
        annot=text,
        fmt=",.2f",
        annot_kws={"size": 8},
        mask=colour.isna(),
        cbar_kws={"label": "First month = 100", "extend": "max"},
    )
    months = pd.date_range("2000-01-01", periods=12, freq="MS").strftime("%b")
    axes.set(xlabel=None, ylabel=None)
    axes.set_xticks([month + 0.5 for month in range(12)], months)
    axes.tick_params(length=0)
    return figure


def volume_bars(volumes: pd.DataFrame, title: str) -> Figure:
    """Draw the shares traded, one bar per ticker, the greatest first."""
    figure, axes = _axes(title, height=1.6 + 0.4 * len(volumes))
    order = volumes.sort_values("total_volume", ascending=False)
    sns.barplot(order, x="total_volume", y="symbol", color="#1f66c1", ax=axes)
    axes.xaxis.set_major_formatter(_millions)
    axes.set(xlabel="Shares", ylabel=None)
    return figure


def box_plot(bars: pd.DataFrame, column: str, title: str) -> Figure:
    """Draw one box per ticker; with a logarithmic axis where the tickers differ twentyfold."""
    figure, axes = _axes(title, height=1.6 + 0.5 * bars["symbol"].nunique())
    logarithmic = 0 < float(bars[column].min()) < float(bars[column].max()) / 20
    sns.boxplot(
        bars,
        x=column,
        y="symbol",
        color="#77aeda",
        fliersize=2,
        linewidth=1,
        ax=axes,
        log_scale=True if logarithmic else None,
    )
    if logarithmic:
        axes.xaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), minor_locator=NullLocator())
    if column == "daily_return":
        axes.xaxis.set_major_formatter("{x:.0%}")
    else:
        axes.xaxis.set_major_formatter(_millions)
    axes.set(xlabel=None, ylabel=None)
    return figure


def box_plot_by_year(own: pd.DataFrame, title: str) -> Figure:
    """Draw one box per year and price of one ticker."""
    figure, axes = _axes(title)
    long = own.assign(year=own["day"].dt.year).melt(
        id_vars="year", value_vars=PRICES, var_name="price", value_name="dollars"
    )
    sns.boxplot(long, x="year", y="dollars", hue="price", fliersize=2, linewidth=0.8, ax=axes)
    axes.set(xlabel=None, ylabel="Price, $")
    _legend_beside(axes)
    return figure


def correlation(frame: pd.DataFrame, title: str) -> Figure:
    """Draw Pearson's coefficients of the frame's columns; a cell without enough days stays empty."""
    coefficients = frame.corr()
    side = 2.2 + 0.75 * len(coefficients)
    figure, axes = _axes(title, width=max(side + 1.2, 6), height=max(side, 3.4))
    sns.heatmap(
        coefficients,
        vmin=-1,
        vmax=1,
        cmap="RdBu",
        annot=True,
        fmt=".2f",
        square=True,
        linewidths=0.5,
        ax=axes,
        mask=coefficients.isna(),
        cbar_kws={"label": "Correlation"},
    )
    axes.set(xlabel=None, ylabel=None)
    axes.tick_params(length=0, labelrotation=0)
    return figure


def returns_histogram(own: pd.DataFrame, title: str) -> Figure:
    """Draw how often one ticker's close changed by how much."""
    figure, axes = _axes(title)
    sns.histplot(own["daily_return"].dropna(), bins=60, color="#1f66c1", ax=axes)
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.set(xlabel="Change of the close from the day before", ylabel="Days")
    return figure
