"""One bad value does not kill a page: report and plots show the rest and say what they left out."""

import argparse
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dashboards import query_results
from dashboards.plots import collection
from dashboards.report.page import build
from pipeline.settings import ServiceError, SettingsError

NOW = datetime(2026, 11, 21, tzinfo=UTC)
DAYS = pd.bdate_range("2024-01-01", periods=30).strftime("%Y-%m-%d")


def exports(folder: Path, closes: dict[str, list[object]]) -> Path:
    """The exports of some tickers' daily bars, with what a database writes of prices that are no numbers."""
    prices = ("open", "high", "low", "close")
    daily = pd.concat(
        pd.DataFrame({"symbol": symbol, "day": DAYS[: len(own)], **dict.fromkeys(prices, own)})
        for symbol, own in closes.items()
    ).assign(volume=5)
    monthly = daily.groupby("symbol", as_index=False).agg(average_close=("close", "first")).assign(month="2024-01-01")
    numbers = pd.to_numeric(daily["close"], errors="coerce").replace([np.inf, -np.inf], np.nan)
    shares = {"minimum": 0, "quartile_1": 0.25, "median": 0.5, "quartile_3": 0.75, "maximum": 1}
    of_symbols = numbers.groupby(daily["symbol"])
    spread = pd.DataFrame({name: of_symbols.quantile(share) for name, share in shares.items()})
    frames = {
        "daily_bars": daily,
        "closing_trend": daily[["symbol", "day", "close"]],
        "monthly_performance": monthly,
        "spread_of_prices": spread.reset_index(),
        "volume_by_ticker": daily.groupby("symbol", as_index=False)
        .agg(total_volume=("volume", "sum"))
        .assign(average_volume=5),
        "volatility": daily[["symbol", "day"]].assign(volatility="NaN"),
        "data_quality": pd.DataFrame(
            {"table_name": ["bars"], "row_count": [1], "symbols": [1], "first_time": [""], "last_time": [""]}
        ).assign(last_ingested_at=""),
    }
    for name, frame in frames.items():
        frame.to_csv(folder / f"{name}.csv", index=False)
    return folder


ODD: dict[str, list[object]] = {
    "a first month of 0": [0.0] * 5 + [4.0] * 25,
    "all 0": [0.0] * 30,
    "Infinity": ["Infinity", *[5.0] * 29],
    "all NaN": ["NaN"] * 30,
    "one bar": [3.0],
    "negative": [-3.0, 2.0],
    "very far apart": [1e300, 1e-300],
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_the_report_shows_the_others(odd: list[object], tmp_path: Path) -> None:
    """A ticker with odd prices, alone or beside a sound one, does not keep the report from being made."""
    for number, closes in enumerate(({"SOUND": [10.0] * 30, "ODD": odd}, {"ODD": odd})):
        folder = tmp_path / str(number)
        folder.mkdir()
        page = build(query_results.from_exports(exports(folder, closes)), now=NOW)
        assert "ODD" in page
        assert "Left out: " in page


@pytest.mark.parametrize("odd", ["all NaN", "Infinity"])
def test_the_plots_show_the_others(odd: str, tmp_path: Path) -> None:
    """Bars without prices or volumes are left out of the plots, and the others are drawn."""
    results = query_results.from_exports(exports(tmp_path, {"SOUND": [10.0] * 30, "ODD": ODD[odd]}))(collection.QUERIES)
    without_volume = dict(results) | {"daily_bars": results["daily_bars"].assign(volume=np.nan)}
    assert sum(1 for _ in collection.plots(without_volume)) > 5


def chosen(folder: Path, *arguments: str) -> query_results.Read:
    parser = argparse.ArgumentParser()
    query_results.add_arguments(parser)
    return query_results.chosen(parser.parse_args(["--csv", str(folder), *arguments]))


def test_what_was_left_out_is_told(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Values that are no finite numbers are counted on standard error, query by query."""
    folder = exports(tmp_path, {"A": [1.0] * 28 + ["NaN", "-Infinity"]})
    chosen(folder)(["closing_trend", "monthly_performance"])
    assert capsys.readouterr().err == "left out: 2 values of closing_trend: not a finite number\n"


def test_tickers_without_rows_are_told(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A ticker that has no rows is told, and where none has any the command fails."""
    folder = exports(tmp_path, {"A": [1.0] * 30})
    assert len(chosen(folder, "--tickers", "A,NOPE")(["closing_trend"])["closing_trend"]) == 30
    assert "there are no rows of NOPE" in capsys.readouterr().err
    with pytest.raises(ServiceError, match="no rows of NOPE"):
        chosen(folder, "--tickers", "NOPE")(["closing_trend"])


def test_text_in_a_column_of_numbers_is_told(tmp_path: Path) -> None:
    """A text where a number belongs names the file and the column."""
    folder = exports(tmp_path, {"A": [1.0] * 29 + ["oops"]})
    with pytest.raises(ServiceError, match=r"closing_trend\.csv, column close"):
        chosen(folder)(["closing_trend"])


def test_the_output_is_checked_before_the_queries(tmp_path: Path) -> None:
    """A page that could not be written is told at once."""
    for wrong in (tmp_path / "none" / "x.html", tmp_path):
        with pytest.raises(SettingsError, match="--output"):
            query_results.check_output(wrong)
    query_results.check_output(tmp_path / "x.html")
