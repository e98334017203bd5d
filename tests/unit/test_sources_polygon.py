"""Polygon's and Alpha Vantage's answers as bars and news, from recorded and written answers."""

from datetime import UTC, date, datetime
from pathlib import Path

import msgspec
import pytest

from pipeline.records import encode
from pipeline.sources import alpha_vantage, polygon
from pipeline.sources.recorded import Recorded
from pipeline.sources.rest import SourceError

START, END = datetime(2000, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
HOW = {"adjusted": True, "ingested_at": lambda: "2026-01-01 00:00:00.000"}


@pytest.fixture
def recorded(shared_data: Path) -> Recorded:
    return Recorded(str(shared_data / "polygon_rest"), polygon.recorded_name)


def test_daily_bars_have_their_trading_date(recorded: Recorded) -> None:
    """Midnight in New York, which comes as 04:00 or 05:00 UTC, is the trading date; all fields are kept."""
    bars = [bar for bar, _ in polygon.bars(recorded.get, "AAPL", "1d", START, END, **HOW)]
    assert [bar.time for bar in bars] == ["2005-04-01 00:00:00.000", "2005-04-04 00:00:00.000"]
    first = bars[0]
    assert (first.open, first.high, first.low, first.close, first.volume, first.vwap, first.trades, first.adjusted) == (
        1.5032,
        1.5064,
        1.4489,
        1.4604,
        642646396,
        1.469,
        82132,
        True,
    )
    for bar in bars:
        encode(bar)


def test_minute_bars_are_utc_and_keep_their_gaps(recorded: Recorded) -> None:
    """Minutes without a trade have no bar; a next page that was not recorded ends the recording."""
    bars = [bar for bar, _ in polygon.bars(recorded.get, "AAPL", "1m", START, END, **HOW)]
    assert len(bars) == 10
    assert bars[0].time == "2023-07-31 08:00:00.000"
    assert bars[4].time == "2023-07-31 08:05:00.000"


def test_delayed_is_said(recorded: Recorded) -> None:
    """A DELAYED answer has bars, and says that its data is late."""
    assert [(bar.symbol, late) for bar, late in polygon.bars(recorded.get, "NVDA", "1d", START, END, **HOW)] == [
        ("NVDA", True)
    ]


def test_grouped_daily_is_stamped_with_the_end(recorded: Recorded) -> None:
    """The end of the session is on the trading date in New York."""
    ((bar, _),) = polygon.grouped_daily(recorded.get, date(2020, 10, 14), **HOW)
    assert (bar.symbol, bar.time, bar.interval) == ("GIK", "2020-10-14 00:00:00.000", "1d")


def test_requests_are_as_documented() -> None:
    """Paths, limits and the choice of adjustment are those of the API."""
    asked = []

    def get(path: str, parameters: dict) -> dict:
        asked.append((path, parameters))
        return {"status": "OK"}

    list(
        polygon.bars(
            get,
            "BRK.B",
            "15m",
            datetime(2024, 1, 2, 14, 30, tzinfo=UTC),
            datetime(2024, 1, 3, tzinfo=UTC),
            **HOW | {"adjusted": False},
        )
    )
    list(polygon.bars(get, "AAPL", "1w", START, END, **HOW))
    list(polygon.grouped_daily(get, date(2024, 1, 2), **HOW))
    list(polygon.previous_close(get, "AAPL", **HOW))
    assert asked == [
        (
            "/v2/aggs/ticker/BRK.B/range/15/minute/1704205800000/1704240000000",
            {"adjusted": "false", "sort": "asc", "limit": 50000},
        ),
        (
            "/v2/aggs/ticker/AAPL/range/1/week/2000-01-01/2026-01-01",
            {"adjusted": "true", "sort": "asc", "limit": 50000},
        ),
        ("/v2/aggs/grouped/locale/us/market/stocks/2024-01-02", {"adjusted": "true"}),
        ("/v2/aggs/ticker/AAPL/prev", {"adjusted": "true"}),
    ]


def test_a_bar_not_as_documented_is_an_error() -> None:
    """A bar without a price is told with its content, not filled with something."""
    with pytest.raises(SourceError, match=r"X: a bar that is not as documented .*'o'"):
        list(polygon.bars(lambda *_: {"results": [{"t": 1, "v": 1}]}, "X", "1d", START, END, **HOW))


@pytest.mark.parametrize(
    "page",
    [
        {"results": {"t": 1}},
        {"results": "none"},
        {"results": [1]},
        {"results": [{"t": 10**30, "o": 1, "h": 1, "l": 1, "c": 1, "v": 1}]},
        {"results": [{"t": "x", "o": 1, "h": 1, "l": 1, "c": 1, "v": 1}]},
    ],
)
def test_answers_of_an_odd_shape_are_errors(page: dict) -> None:
    """Whatever stands where bars or articles should, it ends in one typed error."""
    for ask in (
        lambda: polygon.bars(lambda *_: page, "X", "1d", START, END, **HOW),
        lambda: polygon.bars(lambda *_: page, "X", "1m", START, END, **HOW),
        lambda: polygon.grouped_daily(lambda *_: page, date(2024, 1, 2), **HOW),
        lambda: polygon.news(lambda *_: page, "X", "2024-01-02 00:00:00.000", "2024-01-03", ingested_at=lambda: ""),
    ):
        with pytest.raises(SourceError, match="not as documented"):
            list(ask())


@pytest.mark.parametrize(
    "body",
    [
        {"Time Series (Daily)": []},
        {"Time Series (Daily)": {"2024-06-04": 7}},
        {"Meta Data": {"5. Time Zone": "Mars/Olympus"}, "Time Series (Daily)": {}},
        {"Meta Data": {"5. Time Zone": "../../etc/passwd"}, "Time Series (Daily)": {}},
    ],
)
def test_alpha_vantage_answers_of_an_odd_shape_are_errors(body: dict) -> None:
    """A series that is none, and a zone that nobody knows, end in one typed error."""
    with pytest.raises(SourceError, match=r"not as documented|not a time zone"):
        list(alpha_vantage.bars(lambda *_: body, "IBM", "1d", START, END, **HOW))


ARTICLE = {
    "id": "a1",
    "publisher": {"name": "The Paper"},
    "title": "Chips",
    "article_url": "https://example.org/a1",
    "tickers": ["NVDA", "AMD", "X"],
    "published_utc": "2024-06-24T18:33:53Z",
    "insights": [
        {"ticker": "NVDA", "sentiment": "positive", "sentiment_reasoning": "record sales"},
        {"ticker": "AMD", "sentiment": "mixed", "sentiment_reasoning": "hard to say"},
    ],
}


def test_news_is_one_item_an_article_and_ticker() -> None:
    """The insight of the ticker asked for is taken; a sentiment that is none of the three, or no insight, is null."""

    def of(symbol: str) -> list:
        items = polygon.news(
            lambda *_: {"results": [ARTICLE]},
            symbol,
            "2024-06-01 00:00:00.000",
            "2024-07-01 00:00:00.000",
            ingested_at=HOW["ingested_at"],
        )
        return [(item.symbol, item.sentiment, item.reason) for item in items if encode(item)]

    assert of("NVDA") == [("NVDA", "positive", "record sales")]
    assert of("AMD") == [("AMD", None, "hard to say")]
    assert of("X") == [("X", None, None)]
    assert of("*") == [("NVDA", "positive", "record sales"), ("AMD", None, "hard to say")]


def test_alpha_vantage_series(tmp_path: Path) -> None:
    """Daily bars come oldest first with their date; intraday times are New York's; weeks and months start at their
    start.
    """
    item = {"1. open": "1.0", "2. high": "2.0", "3. low": "0.5", "4. close": "1.5", "5. volume": "100"}
    for name, body in {
        "TIME_SERIES_DAILY_IBM": {
            "Meta Data": {"5. Time Zone": "US/Eastern"},
            "Time Series (Daily)": {"2024-06-04": item, "2024-06-03": item},
        },
        "TIME_SERIES_INTRADAY_IBM_5min": {
            "Meta Data": {"6. Time Zone": "US/Eastern"},
            "Time Series (5min)": {"2024-06-03 09:30:00": item},
        },
        "TIME_SERIES_WEEKLY_IBM": {"Weekly Time Series": {"2024-06-07": item}},
        "TIME_SERIES_MONTHLY_IBM": {"Monthly Time Series": {"2024-06-28": item}},
    }.items():
        (tmp_path / f"{name}.json").write_bytes(msgspec.json.encode(body))
    get = Recorded(str(tmp_path), alpha_vantage.recorded_name).get

    def times(interval: str, start: datetime = datetime(2024, 6, 1, tzinfo=UTC)) -> list[str]:
        return [
            bar.time
            for bar, _ in alpha_vantage.bars(get, "IBM", interval, start, datetime(2024, 6, 30, tzinfo=UTC), **HOW)
            if encode(bar)
        ]

    assert times("1d") == ["2024-06-03 00:00:00.000", "2024-06-04 00:00:00.000"]
    assert times("1d", datetime(2024, 6, 4, tzinfo=UTC)) == ["2024-06-04 00:00:00.000"]
    assert times("5m") == ["2024-06-03 13:30:00.000"]
    assert times("1w") == ["2024-06-02 00:00:00.000"]
    assert times("1mo") == ["2024-06-01 00:00:00.000"]


def test_a_bar_says_up_to_which_day_it_is_adjusted() -> None:
    """Adjusted prices are on the shares of the day in New York on which they were asked for; others are as traded."""
    item = {"t": 1704171600000, "o": 1, "h": 1, "l": 1, "c": 1, "v": 1}
    for asked, basis in (("2024-06-10 03:00:00.000", "2024-06-09"), ("2024-06-10 05:00:00.000", "2024-06-10")):
        for adjusted in (True, False):
            body = {"status": "OK", "adjusted": adjusted, "results": [item]}
            how = {"adjusted": adjusted, "ingested_at": lambda asked=asked: asked}
            [(bar, _)] = polygon.bars(lambda *_, body=body: body, "A", "1d", START, END, **how)
            assert bar.adjusted_to == (basis if adjusted else None)
