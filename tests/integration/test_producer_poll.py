"""producer.py poll and news as a user runs them, on the embedded stack."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from committed import committed_values
from said import wait_for_text

from pipeline.records import Bar, NewsItem, decode
from pipeline.settings import Settings
from tests.integration.api_server import Answer, api_server

KEY = "secret-key-123"


@pytest.fixture
def bars(settings: Settings) -> Callable[[], list[Bar]]:
    return lambda: [decode(Bar, value) for value in committed_values(settings, settings.kafka_topic_bars)]


def _polygon_pages(path: str, number: int) -> Answer:
    """Three pages of a thousand minutes; the first is limited twice, the second fails once, the third is cut once."""
    page = int(parse_qs(urlsplit(path).query).get("cursor", ["0"])[0])
    trouble = {0: Answer({}, 429, {"Retry-After": "1"}), 1: Answer({}, 429, {"Retry-After": "0"}), 3: Answer({}, 500)}
    if number in trouble:
        return trouble[number]
    results = [
        {"t": 1704205800000 + 60_000 * n, "o": 1, "h": 2, "l": 1, "c": 2, "v": n, "vw": 1.5, "n": 3}
        for n in range(page * 1000, page * 1000 + 1000)
    ]
    body = {"status": "OK", "adjusted": True, "results": results}
    if page < 2:
        body["next_url"] = f"https://api.polygon.io/v2/aggs/ticker/AAPL/range/1/minute/1/2?cursor={page + 1}"
    return Answer(body, cut=500 if number == 5 else None)


def test_poll_through_trouble(run: Callable, bars: Callable) -> None:
    """Three pages with two 429s, a 500 and a cut answer give every bar once, and the key is in no line of the log."""
    with api_server(_polygon_pages) as server:
        arguments = [
            "producer.py",
            "poll",
            "--once",
            "--interval",
            "1m",
            "--symbols",
            "AAPL",
            "--from",
            "2024-01-01",
            "--log-level",
            "DEBUG",
        ]
        changes = {"POLYGON_API_KEY": KEY, "POLYGON_BASE_URL": server.url, "POLYGON_REQUESTS_PER_MINUTE": "0"}
        done = run(*arguments, **changes)
        assert done.returncode == 0, done.stderr
        assert Counter(int(bar.volume) for bar in bars()) == Counter(range(3000))
        assert len(server.requests) == 7
        assert all(headers["Authorization"] == f"Bearer {KEY}" and KEY not in path for path, headers in server.requests)
        assert KEY not in done.stdout + done.stderr
        assert "HTTP 429" in done.stderr
        assert "cut off" in done.stderr
        again = run(*arguments, **changes)
    assert again.returncode == 0, again.stderr
    assert len(bars()) == 3000


def test_poll_sends_corrections_and_late_bars_only(run: Callable, bars: Callable) -> None:
    """The last days are asked for again: a corrected bar and a new one are sent, an unchanged one is not."""
    today = datetime.now(UTC).date()
    days = [day.date() for day in pd.bdate_range(end=today - pd.Timedelta(days=2), periods=3)]
    closes = {days[0]: 2.0, days[1]: 2.0}

    def answer(_path: str, _number: int) -> Answer:
        return Answer(
            {
                "status": "OK",
                "results": [
                    {
                        "t": int(pd.Timestamp(day, tz="America/New_York").timestamp() * 1000),
                        "o": 1,
                        "h": 9,
                        "l": 1,
                        "c": close,
                        "v": 5,
                    }
                    for day, close in sorted(closes.items())
                ],
            }
        )

    with api_server(answer) as server:
        arguments = ["producer.py", "poll", "--symbols", "AAPL", "--revise", "10d"]
        changes = {"POLYGON_API_KEY": KEY, "POLYGON_BASE_URL": server.url, "POLYGON_REQUESTS_PER_MINUTE": "0"}
        assert run(*arguments, **changes).returncode == 0
        closes |= {days[1]: 2.5, days[2]: 3.0}
        assert run(*arguments, **changes).returncode == 0
        # The day that is not over is asked for, and not sent.
        closes[today] = 4.0
        assert run(*arguments, **changes).returncode == 0
    assert [(bar.time[:10], bar.close) for bar in sorted(bars(), key=lambda bar: (bar.time, bar.close))] == [
        (str(days[0]), 2.0),
        (str(days[1]), 2.0),
        (str(days[1]), 2.5),
        (str(days[2]), 3.0),
    ]


def test_poll_tells_a_refused_key(run: Callable) -> None:
    """A refused key is an error that names its setting and holds no key; without a key nothing is asked."""
    with api_server(lambda *_: Answer({"status": "ERROR", "error": f"Unknown API Key {KEY}"}, 401)) as server:
        done = run("producer.py", "poll", "--symbols", "A,B", POLYGON_API_KEY=KEY, POLYGON_BASE_URL=server.url)
    assert done.returncode == 1
    assert "POLYGON_API_KEY" in done.stderr
    assert KEY not in done.stderr
    assert len(server.requests) == 1
    assert run("producer.py", "poll").returncode == 2


def test_poll_alpha_vantage(run: Callable, bars: Callable) -> None:
    """A second source has its own checkpoint, and its limit in a 200 does not end in an empty result."""
    item = {"1. open": "1", "2. high": "2", "3. low": "1", "4. close": "2", "5. volume": "7"}
    answers = [
        Answer(
            {
                "Meta Data": {"5. Time Zone": "US/Eastern"},
                "Time Series (Daily)": {"2024-06-04": item, "2024-06-03": item},
            }
        ),
        Answer(
            {"Information": "We have detected your API key as secret-key-123 and your limit is 25 requests per day"}
        ),
    ]
    with api_server(lambda _path, number: answers[number]) as server:
        arguments = ["producer.py", "poll", "--source", "alpha_vantage", "--symbols", "IBM", "--from", "2024-06-01"]
        changes = {"ALPHA_VANTAGE_API_KEY": KEY, "ALPHA_VANTAGE_BASE_URL": server.url}
        assert run(*arguments, **changes).returncode == 0
        limited = run(*arguments, **changes)
    assert limited.returncode == 1
    assert "25 requests per day" in limited.stderr
    assert KEY not in limited.stderr
    assert [(bar.time[:10], bar.source) for bar in bars()] == [
        ("2024-06-03", "alpha_vantage"),
        ("2024-06-04", "alpha_vantage"),
    ]


def test_poll_recorded_answers(run: Callable, bars: Callable, shared_data: Path) -> None:
    """--load reads a folder of answers without a key or a network, once."""
    folder = str(shared_data / "polygon_rest")
    for _ in range(2):
        assert run("producer.py", "poll", "--load", folder, "--symbols", "AAPL,NVDA").returncode == 0
        assert run("producer.py", "poll", "--load", folder, "--symbols", "AAPL", "--interval", "1m").returncode == 0
        assert run("producer.py", "poll", "--load", folder, "--symbols", "*", "--grouped").returncode == 0
    assert Counter((bar.symbol, bar.interval) for bar in bars()) == {
        ("AAPL", "1d"): 2,
        ("NVDA", "1d"): 1,
        ("AAPL", "1m"): 10,
        ("GIK", "1d"): 1,
    }


def test_poll_every_is_stopped(start: Callable, settings: Settings) -> None:
    """--every goes round until SIGTERM, also while it waits."""
    with api_server(lambda *_: Answer({"status": "OK"})) as server:
        process = start(
            "producer.py",
            "poll",
            "--every",
            "1s",
            "--symbols",
            "A",
            POLYGON_API_KEY=KEY,
            POLYGON_BASE_URL=server.url,
            POLYGON_REQUESTS_PER_MINUTE="3",
        )
        wait_for_text(process, "waiting for the rate limit")
        process.terminate()
        assert process.wait(20) == 0
    assert len(server.requests) == 3


def test_poll_sends_open_bars_and_their_changes(run: Callable, bars: Callable) -> None:
    """With --include-open a bar that is still forming is sent, and again when it has changed; prices are as traded
    unless --adjusted is given.
    """
    today = pd.Timestamp(datetime.now(ZoneInfo("America/New_York")).date(), tz="America/New_York")
    closes = iter([2.0, 2.0, 2.5])

    def answer(_path: str, _number: int) -> Answer:
        bar = {"t": int(today.timestamp() * 1000), "o": 1, "h": 9, "l": 1, "c": next(closes), "v": 5}
        return Answer({"status": "OK", "adjusted": False, "results": [bar]})

    with api_server(answer) as server:
        changes = {"POLYGON_API_KEY": KEY, "POLYGON_BASE_URL": server.url, "POLYGON_REQUESTS_PER_MINUTE": "0"}
        for _ in range(3):
            arguments = ["--symbols", "AAPL", "--include-open"]
            done = run("producer.py", "poll", *arguments, **changes)
            assert done.returncode == 0, done.stderr
    assert [(bar.close, bar.adjusted) for bar in bars()] == [(2.0, False), (2.5, False)]
    assert all("adjusted=false" in path for path, _ in server.requests)


def test_poll_previous_close(run: Callable, bars: Callable, environment: dict) -> None:
    """--previous-close asks for the last finished day, whatever --interval says, and sends it once."""
    day = int(pd.Timestamp("2024-06-03 16:00", tz="America/New_York").timestamp() * 1000)
    answer = Answer({"status": "OK", "results": [{"T": "AAPL", "t": day, "o": 1, "h": 9, "l": 1, "c": 2, "v": 5}]})
    with api_server(lambda *_: answer) as server:
        changes = {"POLYGON_API_KEY": KEY, "POLYGON_BASE_URL": server.url, "POLYGON_REQUESTS_PER_MINUTE": "0"}
        arguments = ["--symbols", "AAPL", "--previous-close", "--interval", "5m", "--from", "2024-06-01"]
        for _ in range(2):
            done = run("producer.py", "poll", *arguments, **changes)
            assert done.returncode == 0, done.stderr
    assert [(bar.symbol, bar.time, bar.interval) for bar in bars()] == [("AAPL", "2024-06-03 00:00:00.000", "1d")]
    assert {urlsplit(path).path for path, _ in server.requests} == {"/v2/aggs/ticker/AAPL/prev"}


def test_two_hundred_tickers_are_asked_for(run: Callable, bars: Callable) -> None:
    """A list of tickers on the command line may be longer than a file name; each is asked for and sent."""
    tickers = [f"TICK{number}" for number in range(200)]
    day = int(pd.Timestamp("2024-06-03", tz="America/New_York").timestamp() * 1000)
    answer = Answer({"status": "OK", "results": [{"t": day, "o": 1, "h": 9, "l": 1, "c": 2, "v": 5}]})
    with api_server(lambda *_: answer) as server:
        changes = {"POLYGON_API_KEY": KEY, "POLYGON_BASE_URL": server.url, "POLYGON_REQUESTS_PER_MINUTE": "0"}
        done = run("producer.py", "poll", "--symbols", ",".join(tickers), "--from", "2024-06-01", **changes)
    assert done.returncode == 0, done.stderr
    assert Counter(bar.symbol for bar in bars()) == Counter(tickers)


def test_a_ticker_without_bars_is_told(run: Callable) -> None:
    """A ticker of which the source has nothing, at a first poll, is named, and the exit code is 1; later it is no news
    when there is nothing new.
    """
    day = int(pd.Timestamp("2024-06-03", tz="America/New_York").timestamp() * 1000)

    def answer(path: str, *_: object) -> Answer:
        results = [{"t": day, "o": 1, "h": 9, "l": 1, "c": 2, "v": 5}] if "AAPL" in path else []
        return Answer({"status": "OK", "results": results})

    with api_server(answer) as server:
        changes = {"POLYGON_API_KEY": KEY, "POLYGON_BASE_URL": server.url, "POLYGON_REQUESTS_PER_MINUTE": "0"}
        done = run("producer.py", "poll", "--symbols", "AAPL,nope", "--from", "2024-06-01", **changes)
        assert done.returncode == 1
        assert "the source has no bar of nope in this time; is the ticker right? (most tickers are upper" in done.stderr
        assert run("producer.py", "poll", "--symbols", "AAPL", "--from", "2024-06-01", **changes).returncode == 0


def test_news_joins_by_symbol(run: Callable, settings: Settings) -> None:
    """Each article is one record of each ticker asked for, once, with its sentiment."""
    article = {
        "id": "a1",
        "publisher": {"name": "P"},
        "title": "T",
        "article_url": "https://example.org",
        "published_utc": "2024-06-24T18:33:53Z",
        "insights": [
            {"ticker": "NVDA", "sentiment": "positive", "sentiment_reasoning": "r"},
            {"ticker": "AMD", "sentiment": "negative", "sentiment_reasoning": "s"},
        ],
    }
    with api_server(lambda *_: Answer({"status": "OK", "results": [article]})) as server:
        for _ in range(2):
            done = run(
                "producer.py",
                "news",
                "--symbols",
                "NVDA,AMD",
                "--from",
                "2024-06-01",
                POLYGON_API_KEY=KEY,
                POLYGON_BASE_URL=server.url,
            )
            assert done.returncode == 0, done.stderr
    items = [decode(NewsItem, value) for value in committed_values(settings, settings.kafka_topic_news)]
    assert sorted((item.symbol, item.sentiment, item.id) for item in items) == [
        ("AMD", "negative", "a1"),
        ("NVDA", "positive", "a1"),
    ]
