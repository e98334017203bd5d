"""producer.py replay as a user runs it, on the embedded stack."""

import csv
import gzip
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from committed import committed_values
from said import wait_for_text

from pipeline.records import Bar, decode
from pipeline.settings import Settings

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
    **{f"minute_bars/{symbol}_1min.csv": [] for symbol in ("AAPL", "AMZN", "SPY", "TSLA")},
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
    wait_for_text(process, "topics created")
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


OPTIONS = {
    "--symbol-column": (
        b"Date,Close,Listing,Symbol\n2024-01-02,2,AAPL.US,AAPL\n",
        ["--symbol-column", "Listing"],
        ("AAPL.US", "2024-01-02 00:00:00.000"),
    ),
    "--day-first": (
        b"Date,Close,Symbol\n01/02/2024,2,AAPL\n",
        ["--day-first"],
        ("AAPL", "2024-02-01 00:00:00.000"),
    ),
    "--month-first": (
        b"Date,Close,Symbol\n01/02/2024,2,AAPL\n",
        ["--month-first"],
        ("AAPL", "2024-01-02 00:00:00.000"),
    ),
    "--stamped-end": (
        b"Datetime,Open,High,Low,Close,Volume,Symbol\n2024-07-02 09:31,1,2,1,2,5,AAPL\n",
        ["--interval", "1m", "--timezone", "America/New_York", "--stamped-end"],
        ("AAPL", "2024-07-02 13:30:00.000"),
    ),
    "--stamped-start": (
        b"Datetime,Open,High,Low,Close,Volume,Symbol\n2024-07-02 09:31,1,2,1,2,5,AAPL\n",
        ["--interval", "1m", "--stamped-start"],
        ("AAPL", "2024-07-02 13:31:00.000"),
    ),
    "--encoding": (
        "Date,Close,Symbol\n2024-01-02,2,ЯНДЕКС\n".encode("cp1251"),
        ["--encoding", "cp1251"],
        ("ЯНДЕКС", "2024-01-02 00:00:00.000"),
    ),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_what_the_user_says_of_a_file(run: Callable, bars: Callable, tmp_path: Path, option: str) -> None:
    """Each option that says what a file leaves open has the effect that its help promises."""
    content, arguments, expected = OPTIONS[option]
    path = tmp_path / "prices.csv"
    path.write_bytes(content)
    done = run("producer.py", "replay", str(path), *arguments)
    assert done.returncode == 0, done.stderr
    assert [(bar.symbol, bar.time) for bar in bars()] == [expected]


def test_speed_follows_the_files_clock(run: Callable, bars: Callable, tmp_path: Path) -> None:
    """At --speed 60 bars of six minutes take five seconds and more; without it none."""
    path = tmp_path / "minutes.csv"
    path.write_text(
        "Datetime,Close,Symbol\n" + "".join(f"2024-01-02 15:0{n},2,AAPL\n" for n in range(6)), encoding="utf-8"
    )
    took = []
    for arguments in (["--speed", "60"], ["--restart"]):
        began = time.monotonic()
        assert run("producer.py", "replay", str(path), *arguments).returncode == 0
        took.append(time.monotonic() - began)
    assert took[0] - took[1] > 2.5
    assert len(bars()) == 12


def test_a_second_producer_with_the_same_id_stops_the_first(
    start: Callable, run: Callable, bars: Callable, environment: dict, tmp_path: Path
) -> None:
    """With --id two runs of different files exclude each other: the first says why it stops, the second is whole."""
    slow = start("producer.py", "replay", SAMPLE, "--rate", "20", "--id", "nightly")
    wait_for_text(slow, "topics created")
    until = time.monotonic() + 30
    while not bars() and time.monotonic() < until:
        time.sleep(0.2)
    path = tmp_path / "other.csv"
    path.write_text("Date,Close,Symbol\n2024-01-02,2,OTHER\n")
    servers = environment["KAFKA_BOOTSTRAP_SERVERS"]
    arguments = ["--id", "nightly", "--bootstrap-servers", servers]
    done = run("producer.py", "replay", str(path), *arguments, KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert done.returncode == 0, done.stderr
    assert slow.wait(30) == 1
    assert "another producer with the id 'nightly' has taken over" in slow.log_path.read_text()
    assert [bar.close for bar in bars() if bar.symbol == "OTHER"] == [2]


def test_a_file_that_grew_sends_its_new_rows(run: Callable, bars: Callable, tmp_path: Path) -> None:
    """Of an appended file the new rows go, under any name; older content that is put back sends nothing, says what
    happened, and is sent again with --restart.
    """
    rows = [f"2024-01-{day:02},1,2,1,{day},5,A" for day in range(2, 31)]

    def replay(name: str, count: int, *options: str) -> str:
        path = tmp_path / name
        path.write_text("\n".join(["Date,Open,High,Low,Close,Volume,Symbol", *rows[:count]]).replace(",2,1,", ",99,1,"))
        done = run("producer.py", "replay", str(path), *options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    replay("prices.csv", 20)
    grown = replay("prices_of_monday.csv", 22)
    assert "grew by 2 lines" in grown
    assert "sent 2 · sent by an earlier run 20" in grown
    assert sorted(bar.close for bar in bars()) == list(range(2, 24))
    back = replay("prices.csv", 20)
    assert "sent 0" in back
    assert "another one of the file (22 lines) since" in back
    assert "--restart" in back
    assert len(bars()) == 22
    assert "sent 20" in replay("prices.csv", 20, "--restart")
    assert len(bars()) == 42
