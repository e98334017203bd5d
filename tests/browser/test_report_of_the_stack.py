from datetime import UTC, datetime, timedelta

import by_pandas
import pandas as pd
import pytest

from dashboards import query_results
from dashboards.query_results import Narrowing

DAILY = by_pandas.daily_prices()


@pytest.fixture
def landed(run, environment, monkeypatch):
    """The sample's prices through Kafka into the lake, catalogued; this process may ask Athena too."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "NO_PROXY"):
        monkeypatch.setenv(name, environment[name])
    # Every day of the tables' range is a request to S3 in each query; the sample arrives today.
    first_day = (datetime.now(UTC) - timedelta(days=2)).date().isoformat()
    for command in (
        ["glue_setup.py"],
        ["producer.py", "replay", "samples/daily_prices.csv"],
        ["consumer.py", "--until-caught-up"],
    ):
        done = run(*command, FIRST_DAY=first_day)
        assert done.returncode == 0, done.stdout + done.stderr


def _assert_same(given, expected):
    """The same rows, in any order; columns that the query has more are its own business."""
    keys = [
        column
        for column in expected
        if column in ("symbol", "day", "month") or column.startswith(("first_", "second_"))
    ]
    given, expected = (frame[list(expected)].sort_values(keys, ignore_index=True) for frame in (given, expected))
    pd.testing.assert_frame_equal(given, expected, check_dtype=False, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("landed")
def test_from_a_csv_through_the_whole_pipeline_to_the_page(browser, run, settings, tmp_path):
    """Through Kafka, S3, Glue and Athena: the page's cells and rows equal pandas on the CSV, and so do parts chosen by
    the options.
    """
    expected = by_pandas.results(DAILY)
    made = run("-m", "dashboards.report", "--output", tmp_path / "report.html")
    assert made.returncode == 0, made.stderr
    browser.open((tmp_path / "report.html").as_uri())
    browser.wait("return document.documentElement.dataset.drawnMs")
    cells = browser.run("""
        const texts = document.querySelectorAll('[data-chart=monthly_performance] .mark-text.role-mark text');
        return [...texts].map(text => text.textContent)""")
    assert [float(cell[1:]) for cell in cells] == pytest.approx(
        list(expected["monthly_performance"]["average_close"]), abs=0.00501
    )
    for name in ("closing_trend", "volume_by_ticker"):
        rows = pd.DataFrame(browser.run("return report.tables[arguments[0]]", name))
        if "day" in rows:
            rows["day"] = pd.to_datetime(rows["day"])
        _assert_same(rows, expected[name].round(6))
    assert browser.console() == []
    _assert_queries(settings, Narrowing(), expected)
    # Totals and months of the part alone; averages that look back know the days before it.
    first, last, symbols = pd.Timestamp("2012-01-10"), pd.Timestamp("2012-12-28"), ("AAPL", "IBM")
    chosen = DAILY[DAILY["symbol"].isin(symbols) & (DAILY["day"] <= last)]
    look_back = {
        name: frame[frame["day"] >= first]
        for name, frame in by_pandas.results(chosen).items()
        if name in ("moving_averages", "volatility", "drawdown", "returns")
    }
    part = by_pandas.results(chosen[chosen["day"] >= first]) | look_back
    _assert_queries(settings, Narrowing(symbols=symbols, first_day=first.date(), last_day=last.date()), part)


def _assert_queries(settings, narrowing, expected):
    """Every query of the file that pandas has worked out too gives the same."""
    names = [name for name in expected if name not in ("data_quality", "news_sentiment")]
    results = query_results.from_athena(settings, narrowing)(names)
    compared = [name for name in names if results[name] is not None]
    assert len(compared) >= 5
    for name in compared:
        _assert_same(results[name], expected[name])
