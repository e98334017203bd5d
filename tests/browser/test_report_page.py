import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import by_pandas
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from dashboards import query_results
from dashboards.report.page import build

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def expected():
    return by_pandas.results(by_pandas.daily_prices())


@pytest.fixture(scope="module")
def address(expected, tmp_path_factory):
    """The page of the sample's prices, as a file address."""
    folder = tmp_path_factory.mktemp("report")
    page = folder / "report.html"
    page.write_text(
        build(query_results.from_exports(by_pandas.export(expected, folder / "exports")), now=NOW),
        encoding="utf-8",
    )
    return page.as_uri()


@pytest.fixture
def page(browser, address):
    browser.open(address)
    browser.wait("return document.documentElement.dataset.drawnMs")
    return browser


def test_the_page_is_quiet_and_stays_on_this_machine(page, address):
    """No console error, and no request but for the file itself and what is inside it."""
    assert page.run("return report.charts.size") == 10
    assert page.console() == []
    assert address in page.requests()
    assert [url for url in page.requests() if not url.startswith(("file:", "data:", "blob:"))] == []


def test_the_heatmap_shows_each_average_close(page, expected):
    """The cells hold every month's average in dollars and cents, in the order of ticker, year and month."""
    cells = page.run("""
        const texts = document.querySelectorAll('[data-chart=monthly_performance] .mark-text.role-mark text');
        return [...texts].map(text => text.textContent)""")
    assert len(cells) > 200
    assert all(re.fullmatch(r"\$\d+\.\d\d", cell) for cell in cells)
    assert [float(cell[1:]) for cell in cells] == pytest.approx(
        list(expected["monthly_performance"]["average_close"]), abs=0.00501
    )


# The points of the lines as drawn, turned back into values by the chart's own scales.
_DRAWN = """
const {view, element} = report.charts.get(arguments[0]);
const x = view.scale('x'), y = view.scale('y'), lines = {};
for (const path of element.querySelectorAll('.mark-line path')) {
  const points = path.getAttribute('d').match(/[ML][^ML]+/g).map(p => p.slice(1).split(',').map(Number));
  lines[path.__data__.datum[arguments[1]]] = points.map(([px, py]) => [x.invert(px).valueOf(), y.invert(py)]);
}
return lines;
"""
_HALF_A_DAY_MS = 43_200_000


def _assert_drawn(points, days, values, *, within):
    drawn_days, drawn_values = zip(*points, strict=True)
    assert list(drawn_days) == pytest.approx([day.timestamp() * 1000 for day in days], abs=_HALF_A_DAY_MS)
    assert list(drawn_values) == pytest.approx(list(values), abs=within)


@pytest.mark.parametrize(
    ("query", "column", "within"),
    [("closing_trend", "close", 0.01), ("volatility", "volatility", 1e-5), ("drawdown", "drawdown", 1e-5)],
)
def test_a_line_goes_through_each_value(page, expected, query, column, within):
    """Every point of every ticker's line lies at its day and its value."""
    lines = page.run(_DRAWN, query, "symbol")
    assert set(lines) == {"AAPL", "FB", "GOOG", "IBM", "MSFT"}
    for symbol, own in expected[query].dropna().groupby("symbol"):
        _assert_drawn(lines[symbol], own["day"], own[column], within=within)


def test_the_averages_are_those_of_the_chosen_ticker(page, expected):
    """Choosing a ticker draws its close and its three averages, each from the day that it exists on."""
    Select(page.driver.find_element(By.CSS_SELECTOR, "select[data-for=moving_averages]")).select_by_visible_text("IBM")
    page.wait("return report.charts.get('moving_averages').view.signal('ticker') === 'IBM'")
    page.run("return report.charts.get('moving_averages').view.runAsync().then(() => 1)")
    lines = page.run(_DRAWN, "moving_averages", "series")
    own = expected["moving_averages"].query("symbol == 'IBM'")
    for series, column in {
        "Close": "close",
        "10 days": "average_10_days",
        "30 days": "average_30_days",
        "50 days": "average_50_days",
    }.items():
        there = own.dropna(subset=[column])
        _assert_drawn(lines[series], there["day"], there[column], within=0.01)


def test_the_controls_choose_tickers_and_days(page, expected):
    """Without IBM and with the last 50 days, the lines are those of the others over 50 trading days."""
    page.driver.find_element(By.CSS_SELECTOR, "input[value=IBM]").click()
    page.driver.find_element(By.CSS_SELECTOR, "input[name=range][value='50']").click()
    page.run("return report.charts.get('closing_trend').view.runAsync().then(() => 1)")
    lines = page.run(_DRAWN, "closing_trend", "symbol")
    assert sorted(lines) == ["AAPL", "FB", "GOOG", "MSFT"]
    last = expected["closing_trend"].query("symbol == 'FB'").tail(50)
    _assert_drawn(lines["FB"], last["day"], last["close"], within=0.01)


def test_a_ticker_keeps_its_colour(page):
    """Whichever tickers are shown, a ticker's line and its entry in the key have the colour that they had."""
    colours = """
        const lines = document.querySelectorAll('[data-chart=closing_trend] .mark-line path');
        return [...lines].map(line => [line.__data__.datum.symbol, getComputedStyle(line).stroke])"""
    before = dict(page.run(colours))
    assert len(set(before.values())) == 5
    page.driver.find_element(By.CSS_SELECTOR, "input[value=AAPL]").click()
    page.run("return report.charts.get('closing_trend').view.runAsync().then(() => 1)")
    after = dict(page.run(colours))
    assert after == {symbol: colour for symbol, colour in before.items() if symbol != "AAPL"}
    key = page.run("""
        const entries = document.querySelectorAll('#trend .key.lines li');
        return [...entries].map(entry => [entry.innerText, getComputedStyle(entry.firstChild).backgroundColor])""")
    assert dict(key) == after


def test_nothing_chosen_says_so(page):
    """Without a ticker the charts over time give way to a sentence, and come back with one."""
    for symbol in ("AAPL", "FB", "GOOG", "IBM", "MSFT"):
        page.driver.find_element(By.CSS_SELECTOR, f"input[value={symbol}]").click()
    assert page.run("return document.querySelectorAll('figure.nothing').length") == 3
    page.driver.find_element(By.CSS_SELECTOR, "input[value=FB]").click()
    page.run("return report.charts.get('closing_trend').view.runAsync().then(() => 1)")
    assert page.run("return document.querySelectorAll('figure.nothing').length") == 0
    assert list(page.run(_DRAWN, "closing_trend", "symbol")) == ["FB"]
    assert page.console() == []


def test_the_keyboard_shows_a_days_values(page, expected):
    """With the focus on the trend, the left arrow shows the last day's closes, and pressed again those of the day
    before.
    """
    chart = page.driver.find_element(By.CSS_SELECTOR, "[data-chart=closing_trend]")
    chart.send_keys(Keys.ARROW_LEFT)
    chart.send_keys(Keys.ARROW_LEFT)
    shown = page.run("return document.querySelector('[data-chart=closing_trend] .values').innerText").split()
    daily = expected["closing_trend"]
    day = sorted(daily["day"].unique())[-2]
    assert shown[0] == f"{day:%Y-%m-%d}"
    assert dict(zip(shown[1::2], shown[2::2], strict=True)) == {
        row.symbol: f"${row.close:,.2f}" for row in daily[daily["day"] == day].itertuples()
    }


@pytest.mark.parametrize(
    ("query", "first", "second"),
    [("correlation", "first_column", "second_column"), ("correlation_of_returns", "first_symbol", "second_symbol")],
)
def test_the_squares_hold_each_correlation(page, expected, query, first, second):
    """Each cell of the two correlation squares shows pandas' coefficient to two digits, and 1 on the diagonal."""
    rows = expected[query]
    rows = rows[rows["symbol"] == "AAPL"] if "symbol" in rows else rows
    wanted = {frozenset((row[first], row[second])): row["correlation"] for row in rows.to_dict("records")}
    cells = page.run(
        """return [...report.charts.get(arguments[0]).element.querySelectorAll('.mark-text.role-mark text')]
        .map(t => [t.__data__.datum[arguments[1]], t.__data__.datum[arguments[2]], t.textContent])""",
        query,
        first,
        second,
    )
    assert len(cells) == 25
    for one, other, text in cells:
        assert float(text.replace("\u2212", "-")) == pytest.approx(
            wanted.get(frozenset((one, other)), 1.0), abs=0.00501
        )


def test_the_boxes_end_at_the_quartiles(page, expected):
    """Each ticker's box reaches from its first to its third quartile on the axis."""
    boxes = page.run("""
        const {view, element} = report.charts.get('spread_of_prices');
        const price = (x) => view.scale('x').invert(x);
        return [...element.querySelectorAll('.mark-rect path')]
          .filter(box => box.__data__.datum.quartile_1 && box.getBBox().width > 3)
          .map(box => [box, box.__data__.x])
          .map(([box, x]) => [box.__data__.datum.symbol, price(x), price(x + box.getBBox().width)])""")
    quartiles = expected["spread_of_prices"].set_index("symbol")
    assert {box[0] for box in boxes} == set(quartiles.index)
    for symbol, low, high in boxes:
        assert [low, high] == pytest.approx(list(quartiles.loc[symbol, ["quartile_1", "quartile_3"]]), rel=1e-3)


def test_the_volume_bars_are_as_long_as_the_volumes(page, expected):
    """Each ticker's bar ends at the shares traded, the greatest first."""
    lengths = page.run("""
        const {view, element} = report.charts.get('volume_by_ticker');
        return [...element.querySelectorAll('.mark-rect path')].map(bar => {
            const {datum, width} = bar.__data__;
            return [datum.symbol, view.scale('x').invert(bar.getBBox().width), bar.getBoundingClientRect().y]});""")
    lengths.sort(key=lambda bar: bar[2])
    by_volume = expected["volume_by_ticker"].sort_values("total_volume", ascending=False)
    assert [bar[0] for bar in lengths] == list(by_volume["symbol"])
    assert [bar[1] for bar in lengths] == pytest.approx(list(by_volume["total_volume"]), rel=1e-3)


def test_the_page_is_small_and_drawn_soon(browser, address):
    """Five tickers over five years: at most 4 MB, and drawn within 3 s of the start of loading."""
    assert Path(url2pathname(urlsplit(address).path)).stat().st_size < 4_000_000
    drawn_ms = []
    # Other tests run beside this one: what counts is what the page can do, so the best of some loads.
    while len(drawn_ms) < 5 and min(drawn_ms, default=3000) >= 3000:
        browser.open(address)
        drawn_ms.append(int(browser.wait("return document.documentElement.dataset.drawnMs")))
    assert min(drawn_ms) < 3000


def test_the_downloaded_csv_is_harmless_in_a_spreadsheet(browser, tmp_path):
    """The CSV below a chart holds its rows, with an apostrophe before a ticker that a spreadsheet would run."""
    (tmp_path / "volume_by_ticker.csv").write_text(
        'symbol,total_volume,average_volume,days\n"=HYPERLINK(""x"")",1,-2.5,1\n^GSPC,2,2,1\n-X,3,3,1\n'
    )
    (tmp_path / "report.html").write_text(build(query_results.from_exports(tmp_path), now=NOW))
    browser.open((tmp_path / "report.html").as_uri())
    browser.wait("return document.documentElement.dataset.drawnMs")
    browser.run("""
        URL.createObjectURL = (blob) => { blob.text().then((text) => { window.saved = text; }); return "#"; };
        document.querySelector("[data-from=volume_by_ticker]").click();""")
    assert browser.wait("return window.saved").splitlines() == [
        "symbol,total_volume,average_volume,days",
        '"\'=HYPERLINK(""x"")",1,-2.5,1',
        "^GSPC,2,2,1",
        "'-X,3,3,1",
    ]


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_needs_no_sideways_scrolling(browser, address, dark):
    """At 360 pixels nothing is wider than the screen, and the text stands out from its background in both schemes."""
    browser.screen(width=360, height=760, dark=dark)
    browser.open(address)
    browser.wait("return document.documentElement.dataset.drawnMs")
    assert browser.run("return document.documentElement.scrollWidth") <= 360
    assert browser.run(
        "return [...document.querySelectorAll('svg')].every(svg => svg.getBoundingClientRect().right <= 360)"
    )
    ink, surface = (
        _luminance(colour)
        for colour in browser.run("""
        const card = document.querySelector('main > section'), label = card.querySelector('svg .role-axis-label text');
        return [getComputedStyle(label).fill, getComputedStyle(card).backgroundColor];""")
    )
    assert (max(ink, surface) + 0.05) / (min(ink, surface) + 0.05) > 4.5
    assert (surface < 0.1) == dark


def _luminance(colour):
    """WCAG's relative luminance of an rgb() text."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_it_prints_on_few_pages(page):
    """Five tickers over five years print on four pages: two by two where a chart needs half the width."""
    assert len(re.findall(rb"/Type\s*/Page\b", page.pdf())) == 4


def test_nothing_drawn_reads_nan(page):
    """No text of the page is NaN, undefined, null or Infinity."""
    assert page.run("return document.body.innerText.match(/NaN|undefined|null|Infinity/g)") is None


def test_without_rows_the_page_says_what_is_missing(browser, expected, tmp_path):
    """Empty results give a page without charts that names the commands and each query without rows."""
    empty = {name: frame.head(0) for name, frame in expected.items()}
    (tmp_path / "report.html").write_text(
        build(query_results.from_exports(by_pandas.export(empty, tmp_path / "none")), now=NOW)
    )
    browser.open((tmp_path / "report.html").as_uri())
    browser.wait("return document.documentElement.dataset.drawnMs")
    text = browser.run("return document.body.innerText")
    assert "python consumer.py --until-caught-up" in text
    assert "The query monthly_performance returned no rows." in text
    assert browser.run("return document.querySelectorAll('svg').length") == 0
    assert browser.console() == []


def test_the_calendar_has_a_square_a_session_and_shows_the_missing_ones(browser, expected, tmp_path):
    """The chosen ticker has a square for each session of the last six years, those without a bar in another colour, and
    the caption counts them.
    """
    sessions = expected["coverage_calendar"].copy()
    lacking = sessions.index[(sessions["symbol"] == "IBM") & (sessions["day"].dt.month == 7)]
    sessions.loc[lacking, "bars"] = 0
    folder = by_pandas.export({"coverage_calendar": sessions}, tmp_path / "exports")
    (tmp_path / "report.html").write_text(build(query_results.from_exports(folder), now=NOW), encoding="utf-8")
    browser.open((tmp_path / "report.html").as_uri())
    browser.wait("return document.documentElement.dataset.drawnMs")
    Select(browser.driver.find_element(By.CSS_SELECTOR, "select[data-for=coverage_calendar]")).select_by_visible_text(
        "IBM"
    )
    browser.run("return report.charts.get('coverage_calendar').view.runAsync().then(() => 1)")
    squares = browser.run("""
        const squares = document.querySelectorAll('[data-chart=coverage_calendar] .mark-rect path');
        return [...squares].map(square => square.getAttribute('fill'))""")
    assert Counter(squares) == {"var(--diverging-6)": 1300 - len(lacking), "var(--diverging-2)": len(lacking)}
    caption = browser.run("return document.querySelector('#coverage figcaption').firstChild.textContent")
    assert caption == f"Sessions without a bar: IBM {len(lacking)}"
    assert browser.console() == []
