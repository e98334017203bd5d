from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dashboards import query_results
from dashboards.plots import collection, figures

NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture
def results():
    """60 days of two tickers, one of them with a name that a file cannot have."""
    days = pd.bdate_range("2012-01-02", periods=60, name="day")
    random = np.random.default_rng(7)
    frames = []
    for symbol, price in {"A": 10.0, "^B/C": 600.0}.items():
        close = price * np.cumprod(1 + random.normal(0, 0.01, len(days)))
        frames.append(
            pd.DataFrame(
                {
                    "symbol": symbol,
                    "day": days,
                    "open": close * 0.99,
                    "high": close * 1.01,
                    "low": close * 0.98,
                    "close": close,
                    "volume": random.integers(1, 9, len(days)) * 1e6,
                }
            )
        )
    bars = pd.concat(frames, ignore_index=True)
    month = bars["day"].dt.to_period("M").dt.to_timestamp().rename("month")
    return {
        "daily_bars": bars,
        "monthly_performance": bars.groupby(["symbol", month])["close"].mean().rename("average_close").reset_index(),
        "volume_by_ticker": bars.groupby("symbol")["volume"].agg(total_volume="sum").reset_index(),
    }


def test_every_plot_is_a_picture_and_in_the_index(results, tmp_path):
    """Over twenty PNG files for two tickers, none of them blank, each named by the index page."""
    count = collection.write(results, tmp_path, now=NOW)
    files = sorted(path.name for path in tmp_path.glob("*.png"))
    assert count == len(files) > 20
    index = (tmp_path / "index.html").read_text()
    for name in files:
        assert f'src="{name}"' in index
        with Image.open(tmp_path / name) as picture:
            assert picture.width >= 500
            assert len(picture.convert("L").getcolors() or range(256)) > 10
    assert "_5e_B_2f_C_last_50_days.png" in files


@pytest.mark.parametrize("days", [10, 30, 50])
def test_lines_are_the_last_trading_days(results, days):
    """A ticker's line plot holds exactly its last closes, the comparison each ticker's from 100."""
    own = results["daily_bars"].query("symbol == 'A'")
    figure = figures.last_days(own, days, "")
    drawn = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    assert list(drawn["close"]) == list(own["close"].tail(days))
    compared = figures.last_days_compared(results["daily_bars"], days, "").axes[0].lines
    expected = own["close"].tail(days) / own["close"].tail(days).iloc[0] * 100
    assert list(compared[0].get_ydata()) == pytest.approx(list(expected))


def test_the_correlation_cells_say_pandas_coefficients(results):
    """The 25 texts of a ticker's heatmap are the coefficients of its five columns."""
    own = results["daily_bars"].query("symbol == 'A'")[figures.COLUMNS]
    texts = [text.get_text() for text in figures.correlation(own, "").axes[0].texts]
    assert texts == [f"{value:.2f}" for value in own.corr().to_numpy().ravel()]


def test_the_monthly_heatmap_is_symmetric_and_without_nan(results):
    """Cell texts are the months' averages, no text is nan, and the colours' middle is the first month's price."""
    figure = figures.monthly_heatmap(results["monthly_performance"], "")
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == [
        f"{value:,.2f}" for value in results["monthly_performance"].sort_values(["symbol", "month"])["average_close"]
    ]
    low, high = figure.axes[0].collections[0].get_clim()
    assert (low + high) / 2 == pytest.approx(100)


def test_one_ticker_of_one_day_is_enough(results, tmp_path):
    """The least there can be, one bar, makes the set without the comparisons and without an error."""
    results["daily_bars"] = results["daily_bars"].head(1)
    assert collection.write(results, tmp_path, now=NOW) > 10


@pytest.mark.parametrize("bad", [0, np.inf, -np.inf, np.nan])
def test_one_bad_value_does_not_cost_the_plots(results, tmp_path, bad):
    """A close and an average of 0, NaN or Infinity leave every other plot, read from exports as anybody's are."""
    bars, monthly = results["daily_bars"], results["monthly_performance"]
    bars.loc[[0, 30, 119], "close"] = bad
    monthly.loc[[0, 3], "average_close"] = bad
    for name, frame in results.items():
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    by_export = query_results.from_exports(tmp_path)(collection.QUERIES)
    assert collection.write(by_export, tmp_path / "plots", now=NOW) > 20


def test_different_symbols_have_different_files():
    """No two symbols share a file, whatever characters they hold."""
    symbols = ["^HSI", "_5e_HSI", "BRK.B", "BRK/B", "BRK-B", "ÉTÉ", "A B", "a"]
    names = [collection.file_name(symbol) for symbol in symbols]
    assert len(set(names)) == len(symbols)
    assert all(name.isascii() and "/" not in name and " " not in name for name in names)
