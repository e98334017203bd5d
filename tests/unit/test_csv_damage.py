"""Price CSVs that were damaged, or made to do harm: that row or file is reported, the others are read."""

import csv
import gzip
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.records import Bar, encode
from pipeline.settings import Settings
from pipeline.sources.csv import file as csv_file
from pipeline.sources.csv import unpacked
from pipeline.sources.csv.bars import Cleaner, Reject
from pipeline.sources.csv.dialects import UnusableFile, recognise
from pipeline.sources.csv.reading import Options
from pipeline.sources.csv.summary import Rejects

HEADER = b"Date,Open,High,Low,Close,Volume,Symbol,Company Name\n"
Read = Callable[..., tuple[list[Bar], Cleaner, str]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read a file of these bytes to its end; returns its bars, what was dropped, and why it ended early, if it did."""

    def read_bytes(content: bytes, name: str = "prices.csv", **options: object) -> tuple[list[Bar], Cleaner, str]:
        path = tmp_path / name
        path.write_bytes(content)
        bars, failure = [], ""
        with csv_file.at_hand(str(path), Settings()) as file:
            reading = csv_file.reading(file, Options(**options))
            cleaner = Cleaner(reading, source="csv:x", ingested_at=lambda: "2024-01-01 00:00:00.000")
            try:
                for chunk in csv_file.chunks(file, reading, cleaner):
                    bars += chunk.bars
            except UnusableFile as error:
                failure = str(error)
        for bar in bars:
            encode(bar)
        return bars, cleaner, failure

    return read_bytes


def rows(first: int, last: int, company: str = "Apple") -> bytes:
    """Good rows of a month, one a day."""
    return "".join(f"2024-01-{day:02},1,2,1,2,5,AAPL,{company}\n" for day in range(first, last + 1)).encode()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"2024-01-05,1e400,2,1,2,5,AAPL,x\n", "open is beyond the range of a double"),
        (b"2024-01-05,1,2,1,2,9e307K,AAPL,x\n", "volume is beyond the range of a double"),
        (b"2024-01-05,1,2,1,2,5,AAPL," + b"x" * 140_000 + b"\n", "a field longer than 131,072 characters"),
        (b"2024-01-05,1,2,1,2,5,AAPL," + b"x" * 5_000_000 + b"\n", "a field longer than 131,072 characters"),
        (b"2024-01-05,1\0,2,1,2,5,AAPL,x\n", "open is not a number"),
        (b"2024-01-05,1,2,1,2,5,AA\0PL,x\n", "control characters in the symbol"),
        (b"2024-01-05,1,2,1,2,5,\x1b]0;owned\x07,x\n", "control characters in the symbol"),
        ("2024-01-05,1,2,1,2,5,A\u202eLPAA,x\n".encode(), "control characters in the symbol"),
        (b"2024-01-05,1,2,1,2,5," + b"A" * 101 + b",x\n", "a symbol longer than 100 characters"),
    ],
)
def test_a_damaged_row_is_counted_and_its_neighbours_are_read(read: Read, row: bytes, reason: str) -> None:
    """A row that no vendor has written so is dropped with its reason, in both directions of reading."""
    bars, cleaner, failure = read(HEADER + rows(1, 4) + row + rows(6, 9))
    assert [bar.time[8:10] for bar in bars] == ["01", "02", "03", "04", "06", "07", "08", "09"]
    assert (cleaner.dropped, cleaner.damaged, failure) == ({reason: 1}, 1, "")
    backwards = HEADER + b"".join([*reversed(rows(6, 9).splitlines(True)), row, *reversed(rows(1, 4).splitlines(True))])
    bars, cleaner, failure = read(backwards)
    assert [bar.time[8:10] for bar in bars] == ["01", "02", "03", "04", "06", "07", "08", "09"]
    assert (cleaner.dropped, cleaner.damaged) == ({reason: 1}, 1)


def test_more_trades_than_a_bigint_holds_are_refused(read: Read) -> None:
    """A count of 2^63 is a damaged row and no record that no table can hold; 2^62 is a record."""
    header = b"ticker,volume,open,close,high,low,window_start,transactions\n"
    content = b"".join(b"NVDA,15,10,11,12,10,%d000000000,%d\n" % (1704171600 + 86400 * n, 1 << n) for n in (62, 63, 64))
    bars, cleaner, _ = read(header + content)
    assert [bar.trades for bar in bars] == [1 << 62]
    assert cleaner.dropped == {"trades is beyond the range of 64 bits": 2}


@pytest.mark.parametrize("row", [b'"2024-01-05,1,2,1,2,5,AAPL,Apple\n', b'2024-01-05,1,2,1,2,5,"AAPL,Apple\n'])
def test_a_quote_without_an_end_spoils_its_own_line_only(read: Read, row: bytes) -> None:
    """The rows after an open quote are read, each once, and its line is dropped; also at the end, or of two quotes."""
    bars, cleaner, _ = read(HEADER + rows(1, 4) + row + rows(6, 28))
    assert [int(bar.time[8:10]) for bar in bars] == [1, 2, 3, 4, *range(6, 29)]
    assert cleaner.dropped == {"not as many columns as the header": 1}
    bars, cleaner, _ = read(HEADER + rows(1, 4) + row)
    assert len(bars) == 4
    assert cleaner.dropped == {"not as many columns as the header": 1}
    bars, cleaner, _ = read(HEADER + rows(1, 4) + row + rows(6, 8) + row + rows(9, 28))
    assert [int(bar.time[8:10]) for bar in bars] == [1, 2, 3, 4, *range(6, 29)]
    assert cleaner.dropped == {"not as many columns as the header": 2}


def test_a_quote_without_an_end_in_the_last_column_takes_no_row_along(read: Read) -> None:
    """The row itself is whole; the rows after it are read too."""
    bars, cleaner, _ = read(HEADER + rows(1, 4) + b'2024-01-05,1,2,1,2,5,AAPL,"Apple\n' + rows(6, 28))
    assert [int(bar.time[8:10]) for bar in bars] == [*range(1, 29)]
    assert {bar.company for bar in bars} == {"Apple"}
    assert not cleaner.dropped


def test_lines_taken_into_quotes_are_counted(read: Read) -> None:
    """Where an even number of quotes hides an open one, the lines that it takes along are told as damaged."""
    row = b'2024-01-05,1"2,1,2,5,AAPL,"x\n'
    bars, cleaner, _ = read(HEADER + rows(1, 4) + row + rows(6, 28))
    assert len(bars) + sum(cleaner.dropped.values()) == 28


def test_a_quoted_line_end_is_part_of_its_field(read: Read) -> None:
    """A company name of two lines is one field, and the rows around it are whole."""
    bars, cleaner, _ = read(HEADER + rows(1, 2) + b'2024-01-05,1,2,1,2,5,AAPL,"Apple\nInc"\n' + rows(6, 7))
    assert [bar.company for bar in bars] == ["Apple", "Apple", "Apple\nInc", "Apple", "Apple"]
    assert not cleaner.dropped


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e"])
def test_other_line_separators_end_no_line(read: Read, separator: str) -> None:
    """What only some programs take for a line end stays inside its field, also in a file that stands newest first."""
    oldest_first = rows(1, 5, company=f"Apple{separator}Inc").splitlines(keepends=True)
    for lines in (oldest_first, oldest_first[::-1]):
        bars, cleaner, _ = read(HEADER + b"".join(lines))
        assert [bar.time[8:10] for bar in bars] == ["01", "02", "03", "04", "05"]
        assert {bar.company for bar in bars} == {f"Apple{separator}Inc"}
        assert not cleaner.dropped


def packed(count: int) -> tuple[bytes, list[str]]:
    """A gzip file of random rows, and their times."""
    random_ = random.Random(1)
    times = [f"2024-01-02 {n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}" for n in range(count)]
    lines = [f"{time},1,2,1,2,{random_.randrange(10**9)},AAPL,x\n".encode() for time in times]
    return gzip.compress(HEADER.replace(b"Date", b"Datetime") + b"".join(lines)), times


@pytest.mark.parametrize("damage", ["cut", "overwritten", "checksum"])
def test_a_damaged_gzip_file_is_read_up_to_the_damage(read: Read, damage: str) -> None:
    """What can be unpacked is read, in order and once, and then the file is reported."""
    content, times = packed(40_000)
    middle = len(content) * 3 // 4
    content = {
        "cut": content[:middle],
        "overwritten": content[:middle] + bytes(64) + content[middle + 64 :],
        "checksum": content[:-8] + bytes(8),
    }[damage]
    bars, _, failure = read(content, "prices.csv.gz", interval="1s", timezone="UTC")
    assert failure.startswith("is damaged")
    assert len(bars) >= 20_000
    assert [bar.time[:19] for bar in bars][:20_000] == times[:20_000]


@pytest.mark.parametrize("content", [b"\x1f\x8b", b"\x1f\x8b" + b"\xff" * 100, gzip.compress(HEADER, mtime=0)[:-20]])
def test_a_gzip_file_without_any_data_is_reported(read: Read, content: bytes) -> None:
    """A file that only begins like gzip ends in one sentence, not in a traceback."""
    with pytest.raises(UnusableFile, match=r"damaged|cannot be read"):
        read(content, "prices.csv.gz")


def bomb(line: bytes, megabytes: int) -> bytes:
    """A gzip file that unpacks to many megabytes of the same line."""
    piece = gzip.compress(line * ((4 << 20) // len(line)))
    return gzip.compress(HEADER + rows(1, 9)) + piece * (megabytes // 4)


def test_a_compression_bomb_of_rows_is_reported(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive that unpacks to 250 times its size and more is read no further; the rows before are."""
    monkeypatch.setattr(unpacked, "ALWAYS_ALLOWED_BYTES", 1 << 20)
    content = bomb(b"2024-01-02,1,2,1,2,5,AAPL,x\n", 4)
    assert len(content) < (4 << 20) / 250
    bars, _, failure = read(content, "prices.csv.gz", interval="1d")
    assert "compression bomb" in failure
    assert len(bars) == 9


@pytest.mark.parametrize(("line", "megabytes"), [(bytes(1000), 256), (b"," * 1000 + b"\n", 16)])
def test_a_compression_bomb_fills_no_memory(
    read: Read, monkeypatch: pytest.MonkeyPatch, line: bytes, megabytes: int
) -> None:
    """One that unpacks to a line without an end, or to rows of a thousand cells, is refused in bounded memory."""
    monkeypatch.setattr(unpacked, "ALWAYS_ALLOWED_BYTES", 1 << 20)
    content, failure = bomb(line, megabytes), ""
    tracemalloc.start()
    try:
        _, _, failure = read(content, "prices.csv.gz", interval="1d")
    except UnusableFile as error:
        failure = str(error)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "compression bomb" in failure
    assert peak < 100 << 20


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_line_without_an_end_is_cut(read: Read, encoding: str, tmp_path: Path) -> None:
    """A line of ten megabytes is one damaged row, in any encoding, and what follows is read."""
    text = HEADER.decode() + rows(1, 4).decode() + "2024-01-05,1,2,1,2,5,AAPL," + "x" * 10_000_001 + "\n"
    path = tmp_path / "long.csv"
    path.write_bytes((text + rows(6, 9).decode()).encode(encoding))
    with csv_file.at_hand(str(path), Settings(), encoding=encoding) as file:
        reading = csv_file.reading(file, Options())
        cleaner = Cleaner(reading, source="csv:x", ingested_at=lambda: "2024-01-01 00:00:00.000")
        bars = [bar for chunk in csv_file.chunks(file, reading, cleaner) for bar in chunk.bars]
    assert [bar.time[8:10] for bar in bars] == ["01", "02", "03", "04", "06", "07", "08", "09"]
    assert cleaner.damaged == 1


@pytest.mark.parametrize(
    "header",
    [
        "date,stock,value,change",
        "Date,AAPL,value",
        "DATE,STOCK,VALUE,CHANGE",
        "Date,1,2",
        "Date,AAPL.Open,MSFT",
        "Date,Return",
        "Date,AAPL,AAPL",
    ],
)
def test_columns_that_are_no_tickers_are_not_taken_for_some(header: str) -> None:
    """A wide table is one only if every column can be a ticker; else the header is refused, with the known kinds."""
    row = "2024-01-02" + ",1" * header.count(",")
    with pytest.raises(UnusableFile, match=r"(?s)no known kind.*wide table"):
        recognise([header, row], file_name="long.csv")


@pytest.mark.parametrize(
    "ticker", ["AAPL", "BRK-B", "BRK.B", "^GSPC", "BTC-USD", "0700.HK", "7203", "EURUSD=X", "BF/B"]
)
def test_columns_that_are_tickers(ticker: str) -> None:
    """Tickers as exchanges and Yahoo spell them make a wide table."""
    columns = recognise([f"Date,MSFT,{ticker}", "2024-01-02,1,2"], file_name="wide.csv")
    assert [prices.symbol for prices in columns.prices] == ["MSFT", ticker]


def test_a_column_of_text_is_no_ticker(read: Read) -> None:
    """A wide table with text where prices should stand is refused, with the column."""
    with pytest.raises(UnusableFile, match=r"column 'STATE' holds no prices but 'open'"):
        read(b"Date,AAPL,STATE\n2024-01-02,1,open\n2024-01-03,2,closed\n")


@pytest.mark.parametrize(
    "header",
    [
        b'"Index","AAPL.Open","AAPL.High","AAPL.Low","AAPL.Close","AAPL.Volume","AAPL.Adjusted"\n"2024-01-02",',
        b'"","AAPL.Open","AAPL.High","AAPL.Low","AAPL.Close","AAPL.Volume","AAPL.Adjusted"\n"2024-01-02",',
        b'"","Date","AAPL.Open","AAPL.High","AAPL.Low","AAPL.Close","AAPL.Volume","AAPL.Adjusted"\n"1",2024-01-02,',
    ],
)
def test_quantmod_columns_are_one_tickers_prices(read: Read, header: bytes) -> None:
    """What R writes of quantmod's tables is read as open to volume of its ticker."""
    ((bar,), cleaner, _) = read(header + b"10.5,12,10,11.25,1500,11\n")
    assert (bar.symbol, bar.time[:10]) == ("AAPL", "2024-01-02")
    assert (bar.open, bar.high, bar.low, bar.close, bar.volume) == (10.5, 12, 10, 11.25, 1500)
    assert not cleaner.dropped


def test_quantmod_columns_of_several_tickers(read: Read) -> None:
    """Tables that were merged give bars of each ticker, also of one with a dot; a closing price alone is enough."""
    bars, _, _ = read(b"Index,BRK.B.Open,BRK.B.High,BRK.B.Low,BRK.B.Close,MSFT.Close\n2024-01-02,1,4,0.5,2,7\n")
    assert [(b.symbol, b.open, b.high, b.low, b.close, b.volume) for b in bars] == [
        ("BRK.B", 1, 4, 0.5, 2, 0),
        ("MSFT", 7, 7, 7, 7, 0),
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"Price,Close,High\nTicker,MSFT\nDate,,\n2024-01-02,1,2\n",
        b"x" * 200_000 + b"\n1\n",
        b"Date,Close,Symbol\n0001-01-01,1,A\n9999-12-31T23:59:59-12:00,1,A\n",
        b"Date,Close,Symbol\n1492-10-12,1,A\n9999-12-31,1,A\n2024-01-02,1,A\n",
        b"Datetime,Close,Symbol\n1492-10-12 10:00,1,A\n9999-12-31 10:00,1,A\n2024-01-02 10:00,1,A\n",
    ],
)
def test_odd_headers_and_times_end_in_a_sentence(read: Read, content: bytes) -> None:
    """Rows of unlike length above the prices, a header without an end, times at the ends of the calendar: no
    traceback.
    """
    try:
        bars, _, _ = read(content)
    except UnusableFile:
        return
    assert len(bars) <= 1


def test_rejects_are_harmless_in_a_spreadsheet_and_a_terminal(tmp_path: Path) -> None:
    """A cell that begins like a formula gets an apostrophe, control characters are escaped, numbers stay numbers."""
    rejects = Rejects(str(tmp_path / "rejects.csv"))
    rejects.keep("=evil.csv", [Reject(7, "no symbol", ["=cmd|' /C calc'!A0", "-1.5", "\x1b[2J", "@x", "AAPL"])])
    text = (tmp_path / "rejects.csv").read_text()
    (_, row) = csv.reader(text.splitlines())
    assert row == ["'=evil.csv", "7", "no symbol", "'=cmd|' /C calc'!A0", "-1.5", "\\x1b[2J", "'@x", "AAPL"]
    assert "\x1b" not in text
