"""The analysts' set of PNG files with an index page, from the queries of athena_queries.sql.

python -m dashboards.plots                                        from Athena into plots/
python -m dashboards.plots --csv exports --output /tmp/plots      from exported results, exports/<query>.csv
python -m dashboards.plots --from-dynamodb                        from the DynamoDB table, without Athena
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import jinja2
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

from dashboards import query_results
from dashboards.report.charts import heatmap_rows
from pipeline import terminal
from pipeline.settings import ServiceError, SettingsError, load_settings
from pipeline.sinks.dynamodb.daily_bars import daily_bars

HERE = Path(__file__).parent
QUERIES = ("daily_bars", "monthly_performance", "volume_by_ticker")
LAST_DAYS = (10, 30, 50)
COLUMNS = ["open", "high", "low", "close", "volume"]
PRICES = ["open", "high", "low", "close"]


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One picture; `group` is a ticker or "All tickers", `name` the file without .png."""

    group: str
    name: str
    title: str
    figure: Figure


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What the index page needs of a plot; the figure itself is let go of once it is written."""

    file: str
    title: str
    width: int
    height: int


def main() -> None:
    arguments = parser().parse_args()
    results = from_dynamodb(arguments) if arguments.from_dynamodb else query_results.chosen(arguments)(QUERIES)
    bars = results["daily_bars"]
    if bars is None or bars.empty:
        raise ServiceError(
            "daily_bars: there are no daily bars to plot; see --csv, --tickers, --from, --to, or land some first"
        )
    count = write(results, arguments.output, now=datetime.now(UTC))
    print(f"{arguments.output / 'index.html'}: {count} plots")


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="python -m dashboards.plots", description=__doc__.splitlines()[0])
    options.add_argument("--output", type=Path, default=Path("plots"), metavar="FOLDER")
    options.add_argument(
        "--from-dynamodb", action="store_true", help="read the daily bars of DYNAMODB_TABLE instead of Athena"
    )
    query_results.add_arguments(options)
    return options


def from_dynamodb(arguments: argparse.Namespace) -> dict[str, pd.DataFrame | None]:
    """What the queries give, from the daily bars of the DynamoDB table; raises SettingsError and ServiceError."""
    if arguments.csv:
        raise SettingsError(["--csv and --from-dynamodb: the bars come from one place"])
    settings = load_settings()
    terminal.configure_logging(settings)
    symbols = {symbol.strip() for symbol in arguments.tickers.split(",") if symbol.strip()}
    bars = daily_bars(settings, symbols=symbols, first_day=arguments.first_day, last_day=arguments.last_day)
    monthly = bars.assign(month=bars["day"].dt.to_period("M").dt.start_time).groupby(
        ["symbol", "month"], as_index=False
    )
    volumes = bars.groupby("symbol", as_index=False)
    return {
        "daily_bars": bars,
        "monthly_performance": monthly.agg(average_close=("close", "mean")),
        "volume_by_ticker": volumes.agg(total_volume=("volume", "sum")),
    }


def write(results: dict[str, pd.DataFrame | None], folder: Path, *, now: datetime) -> int:
    """Write every plot and index.html into the folder; returns how many plots."""
    folder.mkdir(parents=True, exist_ok=True)
    groups: dict[str, list[Entry]] = {}
    with terminal.progress("plots") as progress:
        for plot in plots(results):
            plot.figure.savefig(folder / f"{plot.name}.png", dpi=100)
            width, height = plot.figure.get_size_inches() * 100
            groups.setdefault(plot.group, []).append(
                Entry(file=f"{plot.name}.png", title=plot.title, width=round(width), height=round(height))
            )
            progress.update()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("plots.html").render(
        groups=groups, style=(HERE.parent / "page.css").read_text(encoding="utf-8"), made=f"{now:%d %b %Y %H:%M}"
    )
    (folder / "index.html").write_text(page, encoding="utf-8")
    return sum(map(len, groups.values()))


def plots(results: dict[str, pd.DataFrame | None]) -> Iterator[Plot]:
    """Every plot, one at a time: first those of all tickers, then ticker by ticker."""
    bars = results["daily_bars"].sort_values(["symbol", "day"])
    bars = bars.assign(daily_return=bars.groupby("symbol")["close"].pct_change())
    monthly, volumes = results["monthly_performance"], results["volume_by_ticker"]
    everything = "All tickers"
    for days in LAST_DAYS:
        title = f"Close over the last {days} trading days, first of them = 100"
        yield Plot(
            group=everything, name=f"all_last_{days}_days", title=title, figure=last_days_compared(bars, days, title)
        )
    if monthly is not None and len(monthly):
        title = "Average close per month in $, coloured by the first month = 100"
        yield Plot(group=everything, name="all_monthly_heatmap", title=title, figure=monthly_heatmap(monthly, title))
    if volumes is not None and len(volumes):
        title = "Shares traded"
        yield Plot(group=everything, name="all_volume", title=title, figure=volume_bars(volumes, title))
    for column, title in {
        "close": "Spread of the closing prices, $",
        "volume": "Spread of the daily volumes, shares",
    }.items():
        yield Plot(group=everything, name=f"all_box_{column}", title=title, figure=box_plot(bars, column, title))
    if len(returns := bars.dropna(subset=["daily_return"])):
        title = "Spread of the daily returns"
        yield Plot(
            group=everything, name="all_box_returns", title=title, figure=box_plot(returns, "daily_return", title)
        )
    if len(set(bars["symbol"])) > 1:
        for column in [*COLUMNS, "daily_return"]:
            wide = bars.pivot_table(index="day", columns="symbol", values=column)
            title = f"Correlation of tickers by {column.replace('_', ' ')}"
            yield Plot(group=everything, name=f"all_correlation_{column}", title=title, figure=correlation(wide, title))
    for symbol, own in bars.groupby("symbol"):
        yield from _plots_of_ticker(symbol, own)


def _plots_of_ticker(symbol: str, own: pd.DataFrame) -> Iterator[Plot]:
    name = file_name(symbol)
    for days in LAST_DAYS:
        title = f"{symbol}: prices over the last {days} trading days"
        yield Plot(group=symbol, name=f"{name}_last_{days}_days", title=title, figure=last_days(own, days, title))
    title = f"{symbol}: spread of open, high, low and close by year, $"
    yield Plot(group=symbol, name=f"{name}_box", title=title, figure=box_plot_by_year(own, title))
    title = f"{symbol}: correlation of open, high, low, close and volume"
    yield Plot(group=symbol, name=f"{name}_correlation", title=title, figure=correlation(own[COLUMNS], title))
    title = f"{symbol}: daily returns"
    yield Plot(group=symbol, name=f"{name}_returns", title=title, figure=returns_histogram(own, title))


def file_name(symbol: str) -> str:
    """The symbol as the start of a file name, different for different symbols: ^HSI and BRK/B hold characters that
    names cannot.
    """
    return "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in ".-") else f"_{ord(letter):x}_"
        for letter in symbol
    )


def _axes(title: str, *, width: float = 9, height: float = 4.8) -> tuple[Figure, Axes]:
    # A Figure of its own, not pyplot's: nothing global keeps it, or needs a screen.
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1))
    with sns.axes_style("whitegrid", {"axes.edgecolor": "#c3c8ce", "grid.color": "#e6e8eb"}):
        axes = figure.subplots()
    axes.set_title(title, loc="left", fontsize=12)
    sns.despine(ax=axes)
    return figure, axes


def _legend_beside(axes: Axes) -> None:
    axes.legend(title=None, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


def _day_axis(axes: Axes) -> None:
    locator = AutoDateLocator(minticks=3, maxticks=9)
    axes.xaxis.set(major_locator=locator, major_formatter=ConciseDateFormatter(locator))
    axes.set_xlabel(None)


def _millions(number: float, _position: int = 0) -> str:
    """20, 300, 40M, 80B: as people in the market write them."""
    return EngFormatter(sep="")(number).replace("G", "B")


def last_days(own: pd.DataFrame, days: int, title: str) -> Figure:
    """Open, high, low and close of one ticker."""
    figure, axes = _axes(title)
    last = own.nlargest(days, "day").sort_values("day")
    for column, style in {"high": ":", "low": ":", "open": "--", "close": "-"}.items():
        axes.plot(last["day"], last[column], style, label=column, marker="." if days <= 30 else None)
    axes.set_ylabel("Price, $")
    _day_axis(axes)
    _legend_beside(axes)
    return figure


def last_days_compared(bars: pd.DataFrame, days: int, title: str) -> Figure:
    """Close of every ticker over the last trading days that there are, each from 100."""
    figure, axes = _axes(title)
    last = bars[bars["day"].isin(bars["day"].drop_duplicates().nlargest(days))]
    index = 100 * last["close"] / last.groupby("symbol")["close"].transform("first")
    sns.lineplot(last.assign(index=index), x="day", y="index", hue="symbol", errorbar=None, ax=axes)
    axes.axhline(100, color="#c3c8ce", linewidth=1, zorder=0)
    axes.set_ylabel("First day = 100")
    _day_axis(axes)
    _legend_beside(axes)
    return figure


def monthly_heatmap(monthly: pd.DataFrame, title: str) -> Figure:
    """A row a ticker and year, a column a month."""
    rows = heatmap_rows(monthly)
    colour = rows.pivot_table(index="row", columns="month_of_year", values="index_100").reindex(columns=range(1, 13))
    text = rows.pivot_table(index="row", columns="month_of_year", values="average_close").reindex(columns=range(1, 13))
    figure, axes = _axes(title, width=11, height=1.6 + 0.28 * len(colour))
    # Symmetric around 100, and never below 0: no price falls there.
    reach = min(100, max(5, (colour - 100).abs().max(axis=None)))
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
    figure, axes = _axes(title, height=1.6 + 0.4 * len(volumes))
    order = volumes.sort_values("total_volume", ascending=False)
    sns.barplot(order, x="total_volume", y="symbol", color="#1f66c1", ax=axes)
    axes.xaxis.set_major_formatter(_millions)
    axes.set(xlabel="Shares", ylabel=None)
    return figure


def box_plot(bars: pd.DataFrame, column: str, title: str) -> Figure:
    """One box a ticker; a logarithmic axis where the tickers differ twentyfold."""
    figure, axes = _axes(title, height=1.6 + 0.5 * bars["symbol"].nunique())
    logarithmic = 0 < bars[column].min() < bars[column].max() / 20
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
    figure, axes = _axes(title)
    long = own.assign(year=own["day"].dt.year).melt(
        id_vars="year", value_vars=PRICES, var_name="price", value_name="dollars"
    )
    sns.boxplot(long, x="year", y="dollars", hue="price", fliersize=2, linewidth=0.8, ax=axes)
    axes.set(xlabel=None, ylabel="Price, $")
    _legend_beside(axes)
    return figure


def correlation(frame: pd.DataFrame, title: str) -> Figure:
    """Pearson's coefficients of the frame's columns; a cell without enough days stays empty."""
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
    figure, axes = _axes(title)
    sns.histplot(own["daily_return"].dropna(), bins=60, color="#1f66c1", ax=axes)
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.set(xlabel="Change of the close from the day before", ylabel="Days")
    return figure


if __name__ == "__main__":
    terminal.run(main)
