import re
from datetime import UTC, datetime

import by_pandas
import pytest

from dashboards import query_results, report

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def expected():
    return by_pandas.results(by_pandas.daily_prices())


@pytest.fixture(scope="module")
def address(expected, tmp_path_factory):
    """The page of the sample's prices, as a file address."""
    folder = tmp_path_factory.mktemp("report")
    page = folder / "report.html"
    page.write_text(report.build(query_results.from_exports(by_pandas.export(expected, folder / "exports")), now=NOW), encoding="utf-8")
    return page.as_uri()


@pytest.fixture
def page(browser, address):
    browser.open(address)
    browser.wait("return document.documentElement.dataset.drawnMs")
    return browser


def test_the_page_is_quiet_and_stays_on_this_machine(page, address):
    """No console error, and no request but for the file itself and what is inside it."""
    assert page.run("return report.charts.size") >= 3
    assert page.console() == []
    assert address in page.requests()
    assert [url for url in page.requests() if not url.startswith(("file:", "data:", "blob:"))] == []


def test_the_heatmap_shows_each_average_close(page, expected):
    """The cells hold every month's average in dollars and cents, in the order of ticker, year and month."""
    cells = page.run("return [...document.querySelectorAll('[data-chart=monthly_performance] .mark-text.role-mark text')].map(t => t.textContent)")
    assert len(cells) > 200
    assert all(re.fullmatch(r"\$\d+\.\d\d", cell) for cell in cells)
    assert [float(cell[1:]) for cell in cells] == pytest.approx(list(expected["monthly_performance"]["average_close"]), abs=0.00501)


# The points of a line as drawn, turned back into values by the chart's own scales.
_DRAWN = """
const {view, element} = report.charts.get(arguments[0]);
const x = view.scale('x'), y = view.scale('y'), lines = {};
for (const path of element.querySelectorAll('.mark-line path')) {
  const points = path.getAttribute('d').match(/[ML][^ML]+/g).map(p => p.slice(1).split(',').map(Number));
  lines[path.__data__.datum[arguments[1]]] = points.map(([px, py]) => [x.invert(px).valueOf(), y.invert(py)]);
}
return lines;
"""


def test_the_trend_draws_each_close(page, expected):
    """Every point of every ticker's line lies at its day and its closing price."""
    lines = page.run(_DRAWN, "closing_trend", "symbol")
    assert set(lines) == {"AAPL", "FB", "GOOG", "IBM", "MSFT"}
    for symbol, own in expected["closing_trend"].groupby("symbol"):
        days, closes = zip(*lines[symbol], strict=True)
        assert list(days) == pytest.approx([day.timestamp() * 1000 for day in own["day"]], abs=3_600_000)
        assert list(closes) == pytest.approx(list(own["close"]), abs=0.01)


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
