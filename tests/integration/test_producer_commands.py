"""producer.py as a user runs it: replay, poll, news and simulate on the embedded stack."""

import csv
import gzip
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest
from committed import committed_values

from pipeline.records import Bar, NewsItem, Tick, decode
from pipeline.settings import Settings
from tests.integration.api_server import Answer, api_server

KEY = "secret-key-123"
SAMPLE = "samples/daily_prices.csv"


@pytest.fixture
def bars(settings: Settings) -> Callable[[], list[Bar]]:
    return lambda: [decode(Bar, value) for value in committed_values(settings, settings.kafka_topic_bars)]


def test_replay_equals_pandas_and_again_sends_nothing(run: Callable, bars: Callable) -> None:
    """The sample arrives row by row as pandas reads it; a second run sends nothing, --restart all of it again."""
    first = run("producer.py", "replay", SAMPLE)
    assert first.returncode == 0, first.stderr
    table = pd.read_csv(Path(__file__).parents[2] / SAMPLE)
    found = pd.DataFrame([{name: getattr(bar, name) for name in Bar.__struct_fields__} for bar in bars()])
    merged = table.merge(
        found.assign(Date=found["time"].str[:10]), left_on=["Date", "Symbol"], right_on=["Date", "symbol"]
    )
    assert len(merged) == len(table) == len(found)
    for ours, theirs in (
        ("open", "Open"),
        ("high", "High"),
        ("low", "Low"),
        ("close", "Close"),
        ("volume", "Volume"),
        ("company", "Company Name"),
    ):
        assert (merged[ours] == merged[theirs]).all()
    assert f"sent {len(table):,}" in first.stdout
    assert re.search(r"AAPL +1,300  2008-01-02 00:00:00  to  2013-03-01", first.stdout)
    assert "sent 0" in run("producer.py", "replay", SAMPLE).stdout
    assert len(bars()) == len(table)
    assert f"sent {len(table):,}" in run("producer.py", "replay", SAMPLE, "--restart").stdout
    assert len(bars()) == 2 * len(table)


SHARED_FILES = {
    "index_processed/indexProcessed_HSI.csv": [],
    **{
        f"minute_bars/{symbol}_1min.csv": ["--timezone", "America/New_York", "--stamped-end"]
        for symbol in ("AAPL", "AMZN", "SPY", "TSLA")
    },
    "minute_bars/TSLA_daily.csv": [],
    "multi_ticker/faang_nvda_2013_2018.csv": [],
    "multi_ticker/mag7_close_wide_2015_2025.csv": [],
    "multi_ticker/yahoo_company_name_AAPL_excerpt.csv": [],
    "polygon_flat/day_aggs_NVDA_2024-06.csv": [],
    "yahoo/CALM-1d-no-bad-divs.csv": [],
    "yahoo/EA-15m-no-bad-divs.csv": [],
    "yahoo/EWG-1d-no-bad-divs.csv": [],
    "yahoo/IBE-MC-1d-no-bad-divs.csv": ["--symbol", "IBE.MC"],
}


@pytest.mark.parametrize("name", SHARED_FILES)
def test_real_files_total_as_pandas_reads_them(run: Callable, bars: Callable, shared_data: Path, name: str) -> None:
    """Each real file gives as many bars as pandas counts rows, and the same sums; symbols and closes agree."""
    done = run("producer.py", "replay", str(shared_data / name), *SHARED_FILES[name])
    assert done.returncode == 0, done.stderr
    table, found = pd.read_csv(shared_data / name), bars()
    table.columns = [column.lower() for column in table.columns]
    if "wide" in name:
        assert len(found) == int(table.iloc[:, 1:].notna().sum().sum())
        for ticker in table.columns[1:]:
            assert sum(bar.close for bar in found if bar.symbol == ticker.upper()) == pytest.approx(
                table[ticker].sum(), rel=1e-12
            )
        return
    assert len(found) == len(table)
    for column in ("open", "high", "low", "close", "volume"):
        assert sum(getattr(bar, column) for bar in found) == pytest.approx(table[column].sum(), rel=1e-12), column
    assert len({(bar.symbol, bar.time) for bar in found}) == len(table)


def test_a_symbol_is_not_guessed_of_two(run: Callable, shared_data: Path) -> None:
    """A file whose name holds two candidates is refused with the option that helps; the other files are sent."""
    done = run("producer.py", "replay", str(shared_data / "yahoo"))
    assert done.returncode == 1
    assert "the file name holds IBE and MC" in done.stderr
    assert "--symbol" in done.stderr
    assert done.stdout.count("bars of") == 3


def test_messy_file_with_rejects(run: Callable, bars: Callable, tmp_path: Path) -> None:
    """Dropped rows are counted by reason and kept with line and reason; a gzip file over standard input is read."""
    content = (
        b"Date,Open,High,Low,Close,Volume\n2024-01-02,1,2,1,2,5\n2024-01-03,,,,,\n2024-01-03,1,1,2,2,5\n2024-01-02,1,2,1,2,5\n"
        b"2024-01-04,1,2,1,2,5\n"
    )
    path = tmp_path / "prices.csv.gz"
    path.write_bytes(gzip.compress(content))
    rejects = tmp_path / "rejects.csv"
    done = run("producer.py", "replay", str(path), "--symbol", "AAPL", "--rejects", str(rejects))
    assert done.returncode == 0, done.stderr
    assert "rows read 5 · sent 2 · dropped 3" in done.stdout
    with rejects.open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["file", "line", "reason", "row"]
    assert [(row[1], row[2]) for row in rows[1:]] == [
        ("3", "no prices"),
        ("4", "high less than low"),
        ("5", "duplicate"),
    ]
    assert rows[2][3:] == ["2024-01-03", "1", "1", "2", "2", "5"]
    assert [bar.time[:10] for bar in bars()] == ["2024-01-02", "2024-01-04"]
    refused = run("producer.py", "replay", str(path), "--symbol", "OTHER", "--missing", "refuse")
    assert refused.returncode == 1
    assert "line 3 has no prices" in refused.stderr
    assert len(bars()) == 2


def test_nothing_usable_exits_1(run: Callable, tmp_path: Path) -> None:
    """A file of which no row can be used, and one of no known kind, exit 1 with the header and the dialects."""
    for content in ("Date,Open,High,Low,Close,Volume,Symbol\n2024-01-02,,,,,,A\n", "name,age\nx,3\n"):
        path = tmp_path / "odd.csv"
        path.write_text(content)
        done = run("producer.py", "replay", str(path))
        assert done.returncode == 1
        assert content.split("\n")[0] in done.stderr
        assert "Kaggle: date,open" in done.stderr
        assert "Traceback" not in done.stderr


def test_standard_input_and_s3(run: Callable, bars: Callable, environment: dict, s3: object) -> None:
    """A CSV is read from standard input and from S3; the same bytes are sent once, wherever they come from."""
    content = b"Date,Open,High,Low,Close,Volume,Symbol\n2024-01-02,1,2,1,2,5,A\n2024-01-03,1,2,1,2,5,A\n"
    s3.put_object(Bucket=environment["S3_BUCKET"], Key="prices/a.csv", Body=content)
    done = run("producer.py", "replay", f"s3://{environment['S3_BUCKET']}/prices/")
    assert done.returncode == 0, done.stderr
    assert "sent 2" in done.stdout
    again = subprocess.run(
        [".venv/bin/python", "producer.py", "replay", "-"],
        cwd=Path(__file__).parents[2],
        env=environment,
        input=content,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    assert b"sent 0" in again.stdout
    assert len(bars()) == 2


def test_stopped_in_the_middle_it_goes_on(start: Callable, run: Callable, bars: Callable) -> None:
    """SIGTERM finishes the transaction in hand and exits 0; the same command goes on."""
    process = start("producer.py", "replay", SAMPLE, "--rate", "1000")
    _wait_for_text(process, "topics created")
    until = time.monotonic() + 30
    while not bars() and time.monotonic() < until:
        time.sleep(0.2)
    process.terminate()
    assert process.wait(20) == 0
    part = len(bars())
    assert 0 < part < 5396
    assert "stopped: the same command goes on" in process.log_path.read_text()
    assert f"sent {5396 - part:,}" in run("producer.py", "replay", SAMPLE).stdout
    assert Counter((bar.symbol, bar.time) for bar in bars()).most_common(1)[0][1] == 1
    assert len(bars()) == 5396


def _wait_for_text(process: subprocess.Popen, text: str) -> None:
    """Until the process has said it; fails after a minute."""
    until = time.monotonic() + 60
    while text not in process.log_path.read_text():
        assert time.monotonic() < until, f"{text!r} was not said"
        time.sleep(0.1)


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
        _wait_for_text(process, "waiting for the rate limit")
        process.terminate()
        assert process.wait(20) == 0
    assert len(server.requests) == 3


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


def test_simulate_counts_and_holds_its_rate(run: Callable, settings: Settings) -> None:
    """As many ticks as asked for, at the rate by the clock of the broker as well, and the same ones for the same seed."""
    done = run("producer.py", "simulate", "--seed", "5", "--rate", "500", "--count", "3000", "--symbols", "A,B")
    assert done.returncode == 0, done.stderr
    ticks = [decode(Tick, value) for value in committed_values(settings, settings.kafka_topic_ticks)]
    assert len(ticks) == 3000
    assert run(
        "producer.py", "simulate", "--seed", "5", "--rate", "500", "--count", "3000", "--symbols", "A,B"
    ).stdout.startswith("seed 5: sent 0")


@pytest.mark.parametrize("command", ["replay", "poll", "stream", "simulate", "news"])
def test_help_shows_examples(run: Callable, command: str) -> None:
    """Each command's help shows an example to copy."""
    shown = run("producer.py", command, "--help")
    assert shown.returncode == 0
    assert f"python producer.py {command} " in shown.stdout
