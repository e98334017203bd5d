import json
import re
import sys
import webbrowser
from datetime import UTC, date, datetime

import pandas as pd
import pytest

from dashboards import heatmap, query_results
from dashboards.query_results import Narrowing
from dashboards.report import __main__ as command
from dashboards.report import charts, page, sections, tiles
from dashboards.report.library import library
from pipeline.settings import SettingsError
from pipeline.spreadsheet import harmless

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


def _monthly(rows):
    return pd.DataFrame(
        [{"symbol": symbol, "month": pd.Timestamp(month), "average_close": close} for symbol, month, close in rows]
    )


def test_the_index_is_100_in_each_tickers_first_month():
    """Colour compares a ticker with its own first month, whichever month that is; a month without an average is left
    out.
    """
    rows = heatmap.heatmap_rows(
        _monthly(
            [
                ("B", "2012-05-01", 30.0),
                ("A", "2012-02-01", 150.0),
                ("A", "2012-01-01", 100.0),
                ("A", "2012-03-01", None),
                ("B", "2012-06-01", 15.0),
            ]
        )
    )
    assert list(zip(rows["row"], rows["month_of_year"], rows["index_100"], strict=True)) == [
        ("A 2012", 1, 100.0),
        ("A 2012", 2, 150.0),
        ("B 2012", 5, 100.0),
        ("B 2012", 6, 50.0),
    ]


@pytest.mark.parametrize("index", [[100.0], [100, 104, 97], [100, 350, 20], [100, 5000], []])
def test_the_colour_limits_are_symmetric_and_reachable(index):
    """The limits lie symmetrically around 100, grow, and none is below zero, which no price reaches."""
    edges = charts.index_edges(pd.Series(index, dtype=float))
    assert len(edges) == len(charts.DIVERGING) - 1
    assert edges == sorted(set(edges))
    assert [200 - edge for edge in reversed(edges)] == edges
    assert edges[0] > 0


def test_pairs_fill_the_square():
    """One coefficient of an unordered pair stands in both cells, and each name correlates with itself by 1; null is
    left out.
    """
    rows = pd.DataFrame([("A", "B", 0.5), ("A", "C", None)], columns=["first_symbol", "second_symbol", "correlation"])
    square = charts.pairs(rows, "first_symbol", "second_symbol")
    assert {(one, other): value for one, other, value in square.itertuples(index=False)} == {
        ("A", "B"): 0.5,
        ("B", "A"): 0.5,
        ("A", "A"): 1.0,
        ("B", "B"): 1.0,
    }


def test_columns_name_each_text_once():
    """Numbers become a list with null for a missing one; texts and days name each distinct value once."""
    frame = pd.DataFrame(
        {
            "symbol": ["A", "A", "B"],
            "day": pd.to_datetime(["2012-01-02", "2012-01-03", "2012-01-02"]),
            "close": [1.0, float("nan"), 2.123456789123],
            "volume": [3, 4, 2**53],
        }
    )
    assert page.columns(frame) == {
        "symbol": {"of": ["A", "B"], "at": [0, 0, 1]},
        "day": {"of": ["2012-01-02", "2012-01-03"], "at": [0, 1, 0]},
        "close": [1, None, 2.123457],
        "volume": [3, 4, 2**53],
    }


def test_a_tickers_name_cannot_end_the_script(tmp_path):
    """A symbol that is HTML is shown as text, not run."""
    evil = "</script><script>alert(1)</script>"
    pd.DataFrame([{"symbol": evil, "total_volume": 1, "average_volume": 1.0, "days": 1}]).to_csv(
        tmp_path / "volume_by_ticker.csv", index=False
    )
    assert evil not in page.build(query_results.from_exports(tmp_path), now=NOW)


def test_an_export_keeps_tickers_that_look_like_missing_values(tmp_path):
    """NA, NAN and TRUE are tickers; only an empty field is missing."""
    path = tmp_path / "moving_averages.csv"
    path.write_text("symbol,day,close,average_10_days\nNA,2012-01-03,1.5,\nNAN,2012-01-03,2,2\nTRUE,2012-01-03,3,3\n")
    frame = query_results.read_export(path)
    assert list(frame["symbol"]) == ["NA", "NAN", "TRUE"]
    assert frame["average_10_days"].isna().tolist() == [True, False, False]
    assert frame["day"].dt.date.tolist() == [date(2012, 1, 3)] * 3


def test_an_export_made_harmless_for_spreadsheets_is_read_as_it_was(tmp_path):
    """A ticker that a spreadsheet would run, and so has an apostrophe in the export, is read without it."""
    symbols = ["=X", "-X", "+1A", "@X", "^HSI", "1COV", "'X", "BRK.B"]
    path = tmp_path / "closing_trend.csv"
    cells = [harmless(symbol) for symbol in symbols]
    assert cells[:2] == ["'=X", "'-X"]
    pd.DataFrame({"symbol": cells, "day": "2012-01-03", "close": -1.5}).to_csv(path, index=False)
    frame = query_results.read_export(path)
    assert list(frame["symbol"]) == symbols
    assert set(frame["close"]) == {-1.5}


@pytest.mark.parametrize("bad", ["0", "Infinity", "-Infinity", "NaN", "1e308"])
def test_one_bad_value_does_not_cost_the_page(tmp_path, bad):
    """An average of 0, NaN or Infinity leaves the page with its other rows, and its JSON strict."""
    (tmp_path / "monthly_performance.csv").write_text(
        f"symbol,month,average_close\nA,2012-01-01,{bad}\nA,2012-02-01,2\nB,2012-01-01,3\nB,2012-02-01,{bad}\n"
    )
    (tmp_path / "spread_of_prices.csv").write_text(
        f"symbol,minimum,quartile_1,median,quartile_3,maximum\nA,{bad},1,2,3,{bad}\nB,1,2,3,4,5\n"
    )
    text = page.build(query_results.from_exports(tmp_path), now=NOW)
    contents = json.loads(re.search(r'id="contents">(.*?)</script>', text)[1], parse_constant=pytest.fail)
    assert {"A", "B"} <= set(contents["tables"]["monthly_performance"]["symbol"]["of"])


def test_exports_are_narrowed_to_the_tickers(tmp_path):
    """--tickers leaves the rows of those tickers, in pairs both of them."""
    (tmp_path / "correlation_of_returns.csv").write_text("first_symbol,second_symbol,correlation\nA,B,0.5\nA,C,0.4\n")
    results = query_results.from_exports(tmp_path, ("A", "B"))(["correlation_of_returns", "drawdown"])
    assert results["correlation_of_returns"]["second_symbol"].tolist() == ["B"]
    assert results["drawdown"] is None


NARROWING = Narrowing(symbols=("AAPL", "O'X"), first_day=date(2012, 1, 1), last_day=date(2012, 12, 31))


def test_narrowing_hides_the_view_behind_a_part_of_it():
    """A statement gets a WITH of the view's own name; quotes in a symbol are doubled, the last day and its month belong
    to it.
    """
    assert query_results.narrowed("SELECT symbol FROM bars", NARROWING) == (
        "WITH bars AS (SELECT * FROM bars WHERE symbol IN ('AAPL', 'O''X') AND time >= timestamp '2012-01-01 00:00:00'"
        " AND month >= '2012-01' AND time < timestamp '2013-01-01 00:00:00' AND month <= '2012-12')"
        " SELECT symbol FROM bars"
    )


def test_narrowing_joins_the_statements_own_with():
    """A statement that starts with WITH keeps its parts, and its line numbers; one that looks back gets the days before
    too.
    """
    sql = query_results.narrowed("WITH daily AS (\nSELECT * FROM bars) SELECT * FROM daily", NARROWING, look_back=True)
    assert sql == (
        "WITH bars AS (SELECT * FROM bars WHERE symbol IN ('AAPL', 'O''X') AND time < timestamp '2013-01-01 00:00:00'"
        " AND month <= '2012-12'), daily AS (\nSELECT * FROM bars) SELECT * FROM daily"
    )


def test_nothing_to_narrow_leaves_the_statement_alone():
    """Without options, and for statements on other tables, the text is what the file holds."""
    assert query_results.narrowed("SELECT 1 FROM bars", Narrowing()) == "SELECT 1 FROM bars"
    assert query_results.narrowed("SELECT 1 FROM dead_letters", NARROWING) == "SELECT 1 FROM dead_letters"


def test_mistakes_in_the_options_come_at_once(tmp_path):
    """A period that ends before it starts, dates for exports and a folder without exports: one error with all three."""
    arguments = command.parser().parse_args(["--csv", str(tmp_path), "--from", "2013-01-01", "--to", "2012-01-01"])
    with pytest.raises(SettingsError) as error:
        query_results.chosen(arguments)
    assert len(error.value.mistakes) == 3


def test_the_charts_library_is_bundled_once(tmp_path, monkeypatch):
    """The second page takes the script from the cache folder; without a folder to write to it is bundled again."""
    bundled = []

    def bundle(**_options):
        bundled.append(1)
        return "draw(); // </script>"

    monkeypatch.setattr("vl_convert.javascript_bundle", bundle)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    texts = {library() for _ in range(3)}
    assert (texts, len(bundled)) == ({"draw(); // <\\/script>"}, 1)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert (library(), library(), len(bundled)) == (*texts, *texts, 3)


def test_open_shows_the_page_in_the_browser(tmp_path, monkeypatch):
    """--open hands the written page to the browser; without it no browser is opened."""
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    (tmp_path / "volume_by_ticker.csv").write_text("symbol,total_volume,average_volume,days\nA,1,1,1\n")
    arguments = ["report", "--csv", str(tmp_path), "--output", str(tmp_path / "page.html")]
    for more in ([], ["--open"]):
        monkeypatch.setattr(sys, "argv", arguments + more)
        command.main()
    assert opened == [(tmp_path / "page.html").as_uri()]


def _quality(**bars):
    rows = [
        {
            "table_name": "bars",
            "row_count": 5396,
            "symbols": 5,
            "first_time": pd.Timestamp("2008-01-02"),
            "last_time": pd.Timestamp("2013-03-01"),
            "last_ingested_at": pd.Timestamp("2026-11-21 08:15"),
            **bars,
        },
        {"table_name": "ticks", "row_count": 0, "symbols": 0},
        {"table_name": "dead_letters", "row_count": 2, "symbols": 0},
    ]
    return pd.DataFrame(rows)


def test_the_strip_warns_of_dead_letters_and_stale_data():
    """Counts and ages are shown; a refused record and data older than a long weekend are warnings."""
    fresh = {tile.name: tile for tile in tiles.tiles(_quality(), now=NOW)}
    assert (fresh["Bars"].value, fresh["Latest bar"].value, fresh["Last read from a source"].value) == (
        "5,396",
        "01 Mar 2013",
        "45 minutes ago",
    )
    assert fresh["Last read from a source"].since == "2026-11-21T08:15:00Z"
    assert fresh["Dead letters"].warning
    assert not fresh["Last read from a source"].warning
    assert "Ticks" not in fresh
    stale = {tile.name: tile for tile in tiles.tiles(_quality(last_ingested_at=pd.Timestamp("2026-11-10")), now=NOW)}
    assert stale["Last read from a source"].value == "11 days ago"
    assert stale["Last read from a source"].warning


def test_news_is_shown_only_when_there_is_any():
    """The news section is left out without articles, and is there with one."""
    none = dict.fromkeys(sections.QUERIES)
    assert "news" not in [section.name for section in sections.sections(none)]
    articles = pd.DataFrame(
        [{"symbol": "A", "month": pd.Timestamp("2026-11-01"), "positive": 1, "neutral": 0, "negative": 2, "unknown": 0}]
    )
    assert sections.sections({**none, "news_sentiment": articles})[-1].name == "news"
