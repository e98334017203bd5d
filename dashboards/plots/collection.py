"""The set of plots: which there are, in which order, and the page that shows them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dashboards import PAGE_STYLE
from dashboards.plots import figures
from dashboards.query_results import Results
from pipeline import terminal

TEMPLATES = Path(__file__).parent
QUERIES = ("daily_bars", "monthly_performance", "volume_by_ticker")
LAST_DAYS = (10, 30, 50)
ALL_TICKERS = "All tickers"
DOTS_PER_INCH = 100


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One plot; `group` is a ticker or ALL_TICKERS, `name` the file without .png."""

    group: str
    name: str
    title: str
    figure: Figure


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What the index page needs of a written plot. Its figure is freed: hundreds of them would fill the memory."""

    file: str
    title: str
    width: int
    height: int


def write(results: Results, folder: Path, *, now: datetime) -> int:
    """Write every plot and index.html into the folder; return the number of plots."""
    folder.mkdir(parents=True, exist_ok=True)
    groups: dict[str, list[Picture]] = {}
    with terminal.progress("plots") as progress:
        for plot in plots(results):
            groups.setdefault(plot.group, []).append(_save(plot, folder))
            progress.update()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("plots.html").render(
        groups=groups, style=PAGE_STYLE.read_text(encoding="utf-8"), made=f"{now:%d %b %Y %H:%M}"
    )
    (folder / "index.html").write_text(page, encoding="utf-8")
    return sum(map(len, groups.values()))


def _save(plot: Plot, folder: Path) -> Picture:
    file = f"{plot.name}.png"
    plot.figure.savefig(folder / file, dpi=DOTS_PER_INCH)
    width, height = plot.figure.get_size_inches() * DOTS_PER_INCH
    return Picture(file=file, title=plot.title, width=round(width), height=round(height))


def plots(results: Results) -> Iterator[Plot]:
    """Yield every plot, one at a time: first those of all tickers, then ticker by ticker. Needs daily bars."""
    bars = results["daily_bars"]
    assert bars is not None
    bars = drawable(bars).sort_values(["symbol", "day"])
    # From a close of 0 no return can be told.
    returns = bars.groupby("symbol")["close"].pct_change().replace([np.inf, -np.inf], np.nan)
    bars = bars.assign(daily_return=returns)
    yield from _of_all_tickers(results, bars)
    for symbol in bars["symbol"].unique():
        yield from _of_ticker(symbol, bars[bars["symbol"] == symbol])


def drawable(bars: pd.DataFrame) -> pd.DataFrame:
    """Return the bars that have a day and all prices; the others could not be drawn."""
    return bars.dropna(subset=["day", "open", "high", "low", "close"])


def _of_all_tickers(results: Results, bars: pd.DataFrame) -> Iterator[Plot]:
    for days in LAST_DAYS:
        title = f"Close over the last {days} trading days, first of them = 100"
        yield _of_all(f"last_{days}_days", title, figures.last_days_compared(bars, days, title))
    monthly, volumes = results["monthly_performance"], results["volume_by_ticker"]
    if monthly is not None and len(monthly):
        title = "Average close per month in $, coloured by the first month = 100"
        yield _of_all("monthly_heatmap", title, figures.monthly_heatmap(monthly, title))
    if volumes is not None and len(volumes):
        title = "Shares traded"
        yield _of_all("volume", title, figures.volume_bars(volumes, title))
    for column, title in {
        "close": "Spread of the closing prices, $",
        "volume": "Spread of the daily volumes, shares",
    }.items():
        if len(known := bars.dropna(subset=[column])):
            yield _of_all(f"box_{column}", title, figures.box_plot(known, column, title))
    if len(returns := bars.dropna(subset=["daily_return"])):
        title = "Spread of the daily returns"
        yield _of_all("box_returns", title, figures.box_plot(returns, "daily_return", title))
    if len(bars["symbol"].unique()) > 1:
        for column in [*figures.COLUMNS, "daily_return"]:
            wide = bars.pivot_table(index="day", columns="symbol", values=column)
            title = f"Correlation of tickers by {column.replace('_', ' ')}"
            yield _of_all(f"correlation_{column}", title, figures.correlation(wide, title))


def _of_all(name: str, title: str, figure: Figure) -> Plot:
    return Plot(group=ALL_TICKERS, name=f"all_{name}", title=title, figure=figure)


def _of_ticker(symbol: str, own: pd.DataFrame) -> Iterator[Plot]:
    name = file_name(symbol)
    for days in LAST_DAYS:
        title = f"{symbol}: prices over the last {days} trading days"
        yield Plot(
            group=symbol, name=f"{name}_last_{days}_days", title=title, figure=figures.last_days(own, days, title)
        )
    title = f"{symbol}: spread of open, high, low and close by year, $"
    yield Plot(group=symbol, name=f"{name}_box", title=title, figure=figures.box_plot_by_year(own, title))
    title = f"{symbol}: correlation of open, high, low, close and volume"
    yield Plot(
        group=symbol, name=f"{name}_correlation", title=title, figure=figures.correlation(own[figures.COLUMNS], title)
    )
    title = f"{symbol}: daily returns"
    yield Plot(group=symbol, name=f"{name}_returns", title=title, figure=figures.returns_histogram(own, title))


def file_name(symbol: str) -> str:
    """Return the start of a symbol's file names, different for different symbols.

    ^HSI and BRK/B hold characters that file names cannot: each becomes its code point, as in _5e_HSI.
    """
    return "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in ".-") else f"_{ord(letter):x}_"
        for letter in symbol
    )
