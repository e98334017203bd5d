"""Price CSVs as people have them: bytes in, bars out."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.records import Bar, encode
from pipeline.settings import Settings
from pipeline.sources.csv import file as csv_file
from pipeline.sources.csv.bars import Cleaner
from pipeline.sources.csv.cells import number
from pipeline.sources.csv.dialects import DIALECTS, UnusableFile, recognise, symbol_in_file_name
from pipeline.sources.csv.reading import Options, Reading


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., tuple[list[Bar], Cleaner, Reading]]:
    """Write bytes to a file of a name and read its bars as the producer does."""

    def read_bytes(content: bytes, name: str = "AAPL.csv", **options: object) -> tuple[list[Bar], Cleaner, Reading]:
        path = tmp_path / name
        path.write_bytes(content)
        with csv_file.at_hand(str(path), Settings()) as file:
            reading = csv_file.reading(file, Options(**options))
            cleaner = Cleaner(reading, source=file.source, ingested_at=lambda: "2024-01-01 00:00:00.000")
            return [bar for chunk in csv_file.chunks(file, reading, cleaner) for bar in chunk.bars], cleaner, reading

    return read_bytes


OHLCV = ("open", "high", "low", "close", "volume")
ONE_BAR = (10.5, 12.0, 10.0, 11.25, 1500.0)
DIALECT_FILES = {
    "Yahoo": (b"Date,Open,High,Low,Close,Adj Close,Volume\n2024-01-02,10.5,12,10,11.25,11.0,1500\n", "AAPL"),
    "Yahoo without Adj Close": (b"Date,Open,High,Low,Close,Volume\n2024-01-02,10.5,12,10,11.25,1500\n", "AAPL"),
    "yfinance history": (
        (
            b"Date,Open,High,Low,Close,Volume,Dividends,Stock Splits,Capital Gains\n"
            b"2024-01-02 00:00:00-05:00,10.5,12,10,11.25,1500,0,0,0\n"
        ),
        "AAPL",
    ),
    "yfinance, index without a name": (b",Open,High,Low,Close,Volume\n2024-01-02,10.5,12,10,11.25,1500\n", "AAPL"),
    "yfinance three headers": (
        (
            b"Price,Close,High,Low,Open,Volume\nTicker,MSFT,MSFT,MSFT,MSFT,MSFT\nDate,,,,,\n"
            b"2024-01-02,11.25,12,10,10.5,1500\n"
        ),
        "MSFT",
    ),
    "Kaggle": (b"date,open,high,low,close,volume,Name\n2024-01-02,10.5,12,10,11.25,1500,NVDA\n", "NVDA"),
    "Ticker column": (b"Date,Ticker,Open,High,Low,Close,Volume\n2024-01-02,IBM,10.5,12,10,11.25,1500\n", "IBM"),
    "Symbol and company": (
        b"Date,Open,High,Low,Close,Volume,Company Name,Symbol\n2024-01-02,10.5,12,10,11.25,1500,Apple,AAPL\n",
        "AAPL",
    ),
    "index set": (
        b"Index,Date,Open,High,Low,Close,Adj Close,Volume,CloseUSD\nHSI,2024-01-02,10.5,12,10,11.25,11.25,1500,1.4\n",
        "HSI",
    ),
    "Polygon flat file": (
        (
            b"ticker,volume,open,close,high,low,window_start,transactions\n"
            b"NVDA,1500,10.5,11.25,12,10,1704171600000000000,42\n"
        ),
        "NVDA",
    ),
    "Alpha Vantage": (b"timestamp,open,high,low,close,volume\r\n2024-01-02,10.5,12,10,11.25,1500\r\n", "AAPL"),
    "Stooq": (b"Date,Open,High,Low,Close,Volume\r\n2024-01-02,10.5,12,10,11.25,1500\r\n", "AAPL"),
    "Stooq ASCII": (
        (
            b"<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\n"
            b"AAPL.US,D,20240102,000000,10.5,12,10,11.25,1500,0\n"
        ),
        "AAPL.US",
    ),
    "Nasdaq.com": (b"Date,Close/Last,Volume,Open,High,Low\n01/02/2024,$11.25,1500,$10.50,$12.00,$10.00\n", "AAPL"),
    "Investing.com": (
        (
            b'"Date","Price","Open","High","Low","Vol.","Change %"\n'
            b'"01/02/2024","11.25","10.50","12.00","10.00","1.5K","1.1%"\n'
            b'"01/16/2024","1","1","1","1","1.5K","1.1%"\n"01/17/2024","1","1","1","1","1.5K","1.1%"\n'
        ),
        "AAPL",
    ),
    "semicolons": (b"Date;Open;High;Low;Close;Volume\n2024-01-02;10.5;12;10;11.25;1500\n", "AAPL"),
}


@pytest.mark.parametrize("name", DIALECT_FILES)
def test_dialect(read: Callable, name: str) -> None:
    """Each dialect gives the same bar: trading date at midnight, prices and volume as they stand in the file."""
    content, symbol = DIALECT_FILES[name]
    bar = read(content)[0][0]
    assert (bar.symbol, bar.time, bar.interval) == (symbol, "2024-01-02 00:00:00.000", "1d")
    assert tuple(getattr(bar, field) for field in OHLCV) == ONE_BAR
    encode(bar)


def test_every_dialect_recognises_its_own_header() -> None:
    """The header shown to users for a dialect is recognised as that dialect."""
    for dialect in DIALECTS:
        header = dialect.header.replace("[", "").replace("]", "")
        assert recognise([header, header], file_name="AAPL.csv").dialect.name == dialect.name


def test_extras_of_flat_file_and_company(read: Callable) -> None:
    """Trades, company and what a vendor fixes about adjustment are kept."""
    bar = read(DIALECT_FILES["Polygon flat file"][0])[0][0]
    assert (bar.trades, bar.adjusted, bar.source) == (42, False, "csv:AAPL.csv")
    assert read(DIALECT_FILES["Symbol and company"][0])[0][0].company == "Apple"


def test_yfinance_many_tickers_and_wide(read: Callable) -> None:
    """Columns of several tickers become bars of each; a day that a ticker did not trade is dropped and counted."""
    bars, cleaner, _ = read(
        b"Price,Close,Close,High,High,Low,Low,Open,Open,Volume,Volume\nTicker,A,B,A,B,A,B,A,B,A,B\nDate,,,,,,,,,,\n"
        b"2024-01-02,1,2,1,2,1,2,1,2,10,20\n2024-01-03,1.5,,1.5,,1.5,,1.5,,10,\n"
    )
    assert [(b.symbol, b.close, b.volume) for b in bars] == [("A", 1, 10), ("B", 2, 20), ("A", 1.5, 10)]
    assert cleaner.dropped == {"no prices": 1}
    bars, _, reading = read(b"Date,AAPL,BRK-B\n2024-01-02,1,2\n2024-01-03,3,4\n")
    assert [(b.symbol, b.open, b.close, b.volume) for b in bars] == [
        ("AAPL", 1, 1, 0),
        ("BRK-B", 2, 2, 0),
        ("AAPL", 3, 3, 0),
        ("BRK-B", 4, 4, 0),
    ]
    assert any("wide" in note for note in reading.notes)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda b: b"\xef\xbb\xbf" + b, "AAPL.csv"),
        (lambda b: b.replace(b"\n", b"\r\n"), "AAPL.csv"),
        (lambda b: b.rstrip(b"\n"), "AAPL.csv"),
        (lambda b: b"\n".join(b'"' + line.replace(b",", b'","') + b'"' for line in b.strip().split(b"\n")), "AAPL.csv"),
        (gzip.compress, "AAPL.csv.gz"),
        (lambda b: b.decode().encode("utf-16"), "AAPL.csv"),
        (lambda b: b + b"\n\n", "AAPL.csv"),
    ],
)
def test_bytes_as_they_come(read: Callable, change: Callable, name: str) -> None:
    """A BOM, CRLF, no last line end, quotes, gzip, UTF-16 and blank lines change nothing."""
    plain = b"Date,Open,High,Low,Close,Volume\n2024-01-02,10.5,12,10,11.25,1500\n2024-01-03,1,2,1,2,0\n"
    assert [b.close for b in read(change(plain), name)[0]] == [11.25, 2]


TIMES = {
    "2024-07-01T13:30:00Z": "2024-07-01 13:30:00.000",
    "2024-07-01 09:30:00-04:00": "2024-07-01 13:30:00.000",
    "2024-07-01 13:30": "2024-07-01 13:30:00.000",
    "2024/07/01 13:30:00": "2024-07-01 13:30:00.000",
    "1719840600": "2024-07-01 13:30:00.000",
    "1719840600000": "2024-07-01 13:30:00.000",
    "1719840600000000000": "2024-07-01 13:30:00.000",
    "20240701 133000": "2024-07-01 13:30:00.000",
    "13/7/2024 13:30": "2024-07-13 13:30:00.000",
    "7/13/2024 1:30 PM": "2024-07-13 13:30:00.000",
    "13.07.2024 13:30:00": "2024-07-13 13:30:00.000",
}


@pytest.mark.parametrize("text", TIMES)
def test_times(read: Callable, text: str) -> None:
    """Times with and without offset, as epoch of any unit, and as dates of numbers become UTC."""
    content = f"Datetime,Open,High,Low,Close,Volume\n{text},1,2,1,2,5\n".encode()
    bars = read(content, interval="1m", timezone="UTC")[0]
    assert bars[0].time == TIMES[text]


def test_local_time_and_stamps_of_the_end(read: Callable) -> None:
    """--timezone says what a naive time means, across summer time; --stamped-end moves a bar to its start."""
    times = (b"2024-01-02 09:31:00", b"2024-01-02 09:32:00", b"2024-07-02 09:31:00")
    content = b"datetime,open,high,low,close,volume\n" + b"".join(time + b",1,2,1,2,5\n" for time in times)
    assert [b.time for b in read(content, timezone="America/New_York", ends=True)[0]] == [
        "2024-01-02 14:30:00.000",
        "2024-01-02 14:31:00.000",
        "2024-07-02 13:30:00.000",
    ]
    assert any("America/New_York, the time of XNYS" in note for note in read(content)[2].notes)


def test_daily_bar_keeps_its_trading_date(read: Callable) -> None:
    """The date of a daily bar is its exchange's, whether it comes with an offset, as UTC or as an epoch."""
    for text in (
        "2024-07-01 00:00:00+02:00",
        "2024-07-01 00:00:00-04:00",
        "2024-07-01 04:00:00+00:00",
        "1719806400000",
        "2024-07-01",
    ):
        assert (
            read(f"Date,Open,High,Low,Close,Volume\n{text},1,2,1,2,5\n".encode())[0][0].time
            == "2024-07-01 00:00:00.000"
        ), text


def test_ambiguous_dates_are_refused_and_proven_ones_read(read: Callable) -> None:
    """01/02/2024 alone is refused with both readings; a later 13 proves the order, as does the user."""
    header = b"Date,Open,High,Low,Close,Volume\n"
    with pytest.raises(
        UnusableFile, match=r"'01/02/2024' is 2024-01-02 with the month first or 2024-02-01 with the day first"
    ):
        read(header + b"01/02/2024,1,2,1,2,5\n")
    assert read(header + b"01/02/2024,1,2,1,2,5\n", day_first=True)[0][0].time.startswith("2024-02-01")
    assert read(header + b"01/02/2024,1,2,1,2,5\n", day_first=False)[0][0].time.startswith("2024-01-02")
    late_proof = b"".join(b"%02d/02/2024,1,2,1,2,5\n" % day for day in range(1, 29))
    assert [b.time[5:10] for b in read(header + late_proof)[0]] == [f"02-{day:02}" for day in range(1, 29)]


def test_interval_is_seen_in_the_distances(read: Callable) -> None:
    """Minutes, quarters of an hour, days over a weekend, weeks and months are told apart; a distance of ten days is not
    guessed.
    """
    header = "Date,Open,High,Low,Close,Volume,Symbol\n"

    def of(*times: str) -> str:
        return read((header + "".join(f"{t},1,2,1,2,5,{s}\n" for t in times for s in "AB")).encode())[2].interval

    assert of("2024-01-02 10:00", "2024-01-02 10:01", "2024-01-03 10:00") == "1m"
    assert of("2024-01-02 10:00", "2024-01-02 10:15") == "15m"
    assert of("2024-01-05", "2024-01-08") == "1d"
    assert of("2024-01-01", "2024-01-08", "2024-01-15") == "1w"
    assert of("2024-01-01", "2024-02-01", "2024-03-01") == "1mo"
    with pytest.raises(UnusableFile, match="10 days apart; say it with --interval"):
        of("2024-01-01", "2024-01-11")


def test_missing_values(read: Callable) -> None:
    """drop leaves out and counts, fill takes the last known close with volume 0, refuse names the line."""
    content = (
        b"Date,Open,High,Low,Close,Volume\n2024-01-02,,,,,\n2024-01-03,1,3,1,2,5\n2024-01-04,null,null,null,null,null\n"
        b"2024-01-05,3,4,2,3,\n2024-01-08,NaN,9,8,8.5,7\n"
    )
    bars, cleaner, _ = read(content)
    assert [b.time[:10] for b in bars] == ["2024-01-03"]
    assert cleaner.dropped == {"no prices": 2, "no volume": 1, "no open": 1}
    bars, cleaner, _ = read(content, missing="fill")
    assert [(b.open, b.high, b.low, b.close, b.volume) for b in bars] == [
        (1, 3, 1, 2, 5),
        (2, 2, 2, 2, 0),
        (3, 4, 2, 3, 0),
        (3, 9, 8, 8.5, 7),
    ]
    assert cleaner.dropped == {"no price before it to fill from": 1}
    assert cleaner.filled == 3
    with pytest.raises(UnusableFile, match="line 2 has no prices"):
        read(content, missing="refuse")


def test_filling_never_looks_ahead(read: Callable) -> None:
    """A file that stands newest first is read oldest first, so a gap is filled from the day before, with its line still
    right.
    """
    bars, cleaner, reading = read(
        b"timestamp,open,high,low,close,volume\n2024-01-04,9,9,9,9,1\n2024-01-03,,,,,\n2024-01-02,5,5,5,5,1",
        missing="fill",
    )
    assert reading.newest_first
    assert [(b.time[:10], b.close) for b in bars] == [("2024-01-02", 5), ("2024-01-03", 5), ("2024-01-04", 9)]
    chunk = Cleaner(reading, source="s", ingested_at=lambda: "").clean(["2024-01-05,x,,,,"], 3, -1)
    assert chunk.rejects[0].line == 3
    assert cleaner.filled == 1


def test_bad_rows_are_counted_and_kept(read: Callable, tmp_path: Path) -> None:
    """Duplicates, high below low, text for a number, negative volume, short rows and odd times are dropped, each with
    its reason.
    """
    bars, cleaner, _ = read(
        b"Date,Open,High,Low,Close,Volume\n2024-01-02,1,2,1,2,5\n2024-01-02,1,2,1,2,5\n2024-01-03,1,1,2,2,5\n"
        b"2024-01-04,x,2,1,2,5\n2024-01-05,1,2,1,2,-5\n2024-01-08,1,2\nsometime,1,2,1,2,5\n2024-01-09,inf,2,1,2,5\n"
        b"2024-01-01,1,2,1,2,5\n2024-01-01,1,2,1,2,5\n"
    )
    assert [b.time[:10] for b in bars] == ["2024-01-02", "2024-01-01"]
    assert cleaner.dropped == {
        "duplicate": 2,
        "high less than low": 1,
        "open is not a number": 2,
        "volume less than 0": 1,
        "not as many columns as the header": 1,
        "time not understood": 1,
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$1,234.50", 1234.5),
        ("121.25M", 121_250_000),
        ("1.5K", 1500),
        ("2B", 2e9),
        ("1e3", 1000),
        (" 12 ", 12),
        (".5", 0.5),
        ("-", None),
        ("N/A", None),
        ("", None),
    ],
)
def test_numbers(text: str, value: float | None) -> None:
    """Currency signs, thousands separators and K, M, B are read; what stands for nothing is None."""
    assert number(text) == value


@pytest.mark.parametrize("text", ["12,34", "1.2.3", "abc", "1,23,456", "12%"])
def test_numbers_that_are_none(text: str) -> None:
    """A decimal comma or any other text is no number: it is refused, never read as another one."""
    with pytest.raises(ValueError, match="is not a number"):
        number(text)


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("AAPL.csv", "AAPL"),
        ("aapl.us.txt", "AAPL.US"),
        ("AAPL_1min.csv", "AAPL"),
        ("BRK-B.csv.gz", "BRK-B"),
        ("^GSPC.csv", "^GSPC"),
        ("CALM-1d-no-bad-divs.csv", "CALM"),
        ("AAPL Historical Data.csv", "AAPL"),
        ("some/folder/IBM.csv", "IBM"),
    ],
)
def test_symbol_in_file_name(name: str, symbol: str) -> None:
    """A ticker is found in the usual names of files."""
    assert symbol_in_file_name(name) == symbol


@pytest.mark.parametrize("name", ["prices.csv.gz", "IBE-MC-1d-no-bad-divs.csv", "HistoricalData_1700000000.csv"])
def test_no_symbol_is_guessed(name: str) -> None:
    """A file name of no ticker, or of two, is refused with the option that helps."""
    with pytest.raises(UnusableFile, match="--symbol"):
        symbol_in_file_name(name)


def test_unknown_header_shows_itself_and_the_dialects(read: Callable) -> None:
    """A file of no known kind is refused with its header and the known kinds; an empty one is called empty."""
    with pytest.raises(UnusableFile, match=r"(?s)'name,age'.*Kaggle: date,open,high,low,close,volume,Name"):
        read(b"name,age\nx,3\n")
    with pytest.raises(UnusableFile, match="empty"):
        read(b"")
    with pytest.raises(UnusableFile, match="no row"):
        read(b"Date,Open,High,Low,Close,Volume\n")


def test_positions_go_on_where_a_run_ended(read: Callable) -> None:
    """A position counts rows times series whatever is dropped, so what follows it is the same in every run."""
    reading = read(b"Date,A,B\n2024-01-02,1,2\n2024-01-03,,4\n")[2]
    chunk = Cleaner(reading, source="s", ingested_at=lambda: "").clean(
        ["2024-01-02,1,2", "2024-01-03,,4", "2024-01-04,5,6"], 2
    )
    assert chunk.positions == [0, 1, 3, 4, 5]
    assert [b.close for b in chunk.since(3).bars] == [4, 5, 6]
    assert (chunk.since(6).start, chunk.end) == (6, 6)


@pytest.mark.parametrize("place", ["minute_bars/*.csv", "yahoo", "polygon_flat", "index_processed", "multi_ticker"])
def test_folders_and_globs(shared_data: Path, place: str) -> None:
    """Folders and globs name their files in order; a place with none says so."""
    found = csv_file.find([str(shared_data / place)], Settings())
    assert found == sorted(found)
    assert found
    with pytest.raises(UnusableFile, match="there is no such file"):
        csv_file.find([str(shared_data / place / "nothing*")], Settings())
