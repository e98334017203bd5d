"""producer.py replay over damaged files, and with changed options, on the embedded stack."""

import gzip
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from committed import committed_values

from pipeline.records import Bar, decode
from pipeline.settings import Settings

HEADER = "Date,Open,High,Low,Close,Volume,Symbol,Company Name\n"


@pytest.fixture
def bars(settings: Settings) -> Callable[[], list[Bar]]:
    return lambda: [decode(Bar, value) for value in committed_values(settings, settings.kafka_topic_bars)]


def rows(symbol: str, count: int, company: str = "x") -> list[str]:
    """Good rows of a symbol, one a day, whose volume is their number."""
    return [
        f"{2000 + n // 336}-{1 + n // 28 % 12:02}-{1 + n % 28:02},1,2,1,2,{n},{symbol},{company}\n"
        for n in range(count)
    ]


def damaged_files(folder: Path) -> None:
    """A folder of files: two good ones around those of which each is damaged in its own way."""

    def write(name: str, lines: list[str]) -> None:
        (folder / name).write_text(HEADER + "".join(lines))

    write("a_good.csv", rows("GOOD1", 100))
    for name, row in {
        "range": "2030-01-01,1e400,2,1,2,5,RANGE,x\n",
        "field": f"2030-01-01,1,2,1,2,5,FIELD,{'x' * 200_000}\n",
        "quote": '2030-01-01,1,2,1,2,5,"QUOTE,x\n',
        "nul": "2030-01-01,1\0,2,1,2,5,NUL,x\n",
        "control": "2030-01-01,1,2,1,2,5,EV\x1b[2JIL,x\n",
    }.items():
        good = rows(name.upper(), 100)
        write(f"{name}.csv", [*good[:50], row, *good[50:]])
    write("separator.csv", rows("SEPARATOR", 100, company="a\u2028b\x85c")[::-1])
    random_ = random.Random(1)
    many = [f"{row[:-1]}{random_.random()}\n" for row in rows("CUT", 30_000)]
    whole = gzip.compress((HEADER + "".join(many)).encode())
    (folder / "cut.csv.gz").write_bytes(whole[: len(whole) * 3 // 4])
    (folder / "bomb.csv.gz").write_bytes(gzip.compress(HEADER.encode() + bytes(80 << 20)))
    (folder / "odd.csv").write_text("date,stock,value,change\n2024-01-02,AAPL,1,2\n")
    write("z_good.csv", rows("GOOD2", 100))


def test_damaged_rows_and_files_are_reported_and_the_rest_is_sent(
    run: Callable, bars: Callable, tmp_path: Path
) -> None:
    """Of a folder of damaged files every good row is sent once, each damage is named, and the exit code is 1; again, no
    row is sent.
    """
    damaged_files(tmp_path)
    done = run("producer.py", "replay", str(tmp_path), "--interval", "1d", "--rejects", str(tmp_path / "rejects"))
    assert done.returncode == 1
    sent = Counter(bar.symbol for bar in bars())
    cut = sent.pop("CUT")
    assert sent == dict.fromkeys(("GOOD1", "RANGE", "FIELD", "QUOTE", "NUL", "CONTROL", "SEPARATOR", "GOOD2"), 100)
    assert [int(bar.volume) for bar in bars() if bar.symbol == "CUT"] == list(range(cut))
    assert cut >= 10_000
    assert {bar.company for bar in bars() if bar.symbol == "SEPARATOR"} == {"a\u2028b\x85c"}
    for text in (
        "open is beyond the range of a double",
        "a field longer than 131,072 characters",
        "control characters",
    ):
        assert text in done.stdout
    errors = {line.split("/")[-1].split(":")[0] for line in done.stderr.splitlines() if line.startswith("error: ")}
    assert errors == {"range.csv", "field.csv", "nul.csv", "control.csv", "cut.csv.gz", "bomb.csv.gz", "odd.csv"}
    assert "Traceback" not in done.stderr
    said = done.stdout + done.stderr + (tmp_path / "rejects").read_text()
    assert not [c for c in said if not c.isprintable() and c not in "\r\n"]
    assert "sent 0" in run("producer.py", "replay", str(tmp_path), "--interval", "1d").stdout
    assert sum(Counter(bar.symbol for bar in bars()).values()) == 800 + cut


def test_the_same_file_with_other_options_is_a_new_replay(run: Callable, bars: Callable, tmp_path: Path) -> None:
    """Options that change the records send them all again, once, and say what the other replay sent; without them the
    first replay's checkpoint holds.
    """
    path = tmp_path / "minutes.csv"
    path.write_text("Datetime,Close,Symbol\n2024-07-02 09:30,2,AAPL\n2024-07-02 09:31,3,AAPL\n2024-07-02 09:32,,AAPL\n")
    first = run("producer.py", "replay", str(path))
    assert "sent 2" in first.stdout
    assert "sent before" not in first.stdout
    other = run("producer.py", "replay", str(path), "--timezone", "Europe/Madrid")
    assert "sent 2" in other.stdout
    assert "other options (none): 2 records" in other.stdout
    filled = run("producer.py", "replay", str(path), "--missing", "fill")
    assert "sent 3" in filled.stdout
    assert "other options (timezone=Europe/Madrid): 2 records" in filled.stdout
    for arguments in ([], ["--timezone", "Europe/Madrid"], ["--missing", "fill"], ["--missing", "refuse"]):
        again = run("producer.py", "replay", str(path), *arguments)
        assert "sent 0" in again.stdout or again.returncode == 1
    assert Counter(bar.time for bar in bars()) == {
        "2024-07-02 13:30:00.000": 2,
        "2024-07-02 13:31:00.000": 2,
        "2024-07-02 13:32:00.000": 1,
        "2024-07-02 07:30:00.000": 1,
        "2024-07-02 07:31:00.000": 1,
    }
