"""Splits, dividends and the basis of prices in price CSVs."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.records import encode
from pipeline.settings import Settings
from pipeline.sources.csv import file as csv_file
from pipeline.sources.csv.bars import Chunk, Cleaner
from pipeline.sources.csv.reading import Options

WRITTEN = "2024-08-22"
YAHOO = b"Date,Open,High,Low,Close,Adj Close,Volume,Dividends,Stock Splits,Capital Gains\n"


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., tuple[Chunk, Cleaner]]:
    """Write bytes to a file of a day and read its bars and actions as the producer does."""

    def read_bytes(content: bytes, name: str = "AAPL.csv", **options: object) -> tuple[Chunk, Cleaner]:
        path = tmp_path / name
        path.write_bytes(content)
        noon = datetime.fromisoformat(f"{WRITTEN} 16:00").replace(tzinfo=UTC).timestamp()
        os.utime(path, (noon, noon))
        with csv_file.at_hand(str(path), Settings()) as file:
            reading = csv_file.reading(file, Options(**options))
            cleaner = Cleaner(reading, source=file.source, ingested_at=lambda: "2026-01-01 00:00:00.000")
            found = Chunk()
            for chunk in csv_file.chunks(file, reading, cleaner):
                found.bars += chunk.bars
                found.actions += chunk.actions
                found.rejects += chunk.rejects
            return found, cleaner

    return read_bytes


def said(chunk: Chunk) -> list[tuple]:
    for _, action in chunk.actions:
        encode(action)
    return [(a.kind, a.time[:10], a.ratio, a.amount, a.adjusted_to) for _, a in chunk.actions]


def test_yahoo(read: Callable) -> None:
    """Yahoo's splits and dividends become actions, amounts and prices on the shares of the day that the file was
    written; a capital gain among the dividends is not added, one beside them is.
    """
    found, _ = read(
        YAHOO + b"2024-01-02,10,12,10,11,11,1500,0.0,4.0,0.0\n2024-01-03,10,12,10,11,11,1500,0.837,0,0.417\n"
        b"2024-01-04,10,12,10,11,11,1500,0.25,0.1,0.5\n2024-01-05,10,12,10,11,11,1500,,1.0,\n"
    )
    assert said(found) == [
        ("split", "2024-01-02", 4.0, None, None),
        ("dividend", "2024-01-03", 1.0, 0.837, WRITTEN),
        ("split", "2024-01-04", 0.1, None, None),
        ("dividend", "2024-01-04", 1.0, 0.75, WRITTEN),
    ]
    assert {(bar.adjusted, bar.adjusted_to) for bar in found.bars} == {(True, WRITTEN)}


def test_a_day_without_prices_has_its_dividend(read: Callable) -> None:
    """A row without prices gives no bar, and its dividend all the same, also at the end of the file."""
    found, cleaner = read(YAHOO + b"2024-01-02,10,12,10,11,11,1500,0,0,0\n2024-01-03,,,,,,,0.5,0,0\n")
    assert (len(found.bars), cleaner.dropped["no prices"]) == (1, 1)
    assert said(found) == [("dividend", "2024-01-03", 1.0, 0.5, WRITTEN)]


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ("0,-2,0", "split is no ratio"),
        ("0,2:1,0", "split is not a number"),
        ("x,0,0", "dividend is not a number"),
        ("-1,0,0", "dividend less than 0"),
    ],
)
def test_bad_cells_are_counted(read: Callable, cells: str, reason: str) -> None:
    """A cell that is no split and no dividend is counted with its reason, and the row's bar is sent."""
    found, cleaner = read(YAHOO + b"2024-01-02,10,12,10,11,11,1500," + cells.encode() + b"\n")
    assert (len(found.bars), found.actions) == (1, [])
    assert cleaner.dropped == {reason: 1}
    assert found.rejects[0].reason == reason


def test_as_traded_files(read: Callable) -> None:
    """Alpha Vantage's and Quandl's prices are as traded, and their dividends as declared."""
    alpha = b"timestamp,open,high,low,close,adjusted_close,volume,dividend_amount,split_coefficient\n"
    quandl = b"ticker,date,open,high,low,close,volume,ex-dividend,split_ratio,adj_close\n"
    old = b"Date,Open,High,Low,Close,Volume,ExDividend,SplitRatio,AdjClose\n"
    for content in (
        alpha + b"2024-01-02,10,12,10,11,11,1500,0.5,2.0\n",
        quandl + b"AAPL,2024-01-02,10,12,10,11,1500,0.5,2.0,11\n",
        old + b"2024-01-02,10,12,10,11,1500,0.5,2.0,11\n",
    ):
        found, _ = read(content)
        assert said(found) == [("split", "2024-01-02", 2.0, None, None), ("dividend", "2024-01-02", 1.0, 0.5, None)]
        assert [(bar.symbol, bar.adjusted, bar.adjusted_to) for bar in found.bars] == [("AAPL", False, None)]


@pytest.mark.parametrize(
    ("basis", "expected"),
    [("", (None, None)), ("as traded", (False, None)), ("2024-01-31", (True, "2024-01-31"))],
)
def test_what_the_user_says_counts(read: Callable, basis: str, expected: tuple) -> None:
    """Where no vendor says it, the basis is unknown, and the user may say it."""
    found, _ = read(b"Date,Open,High,Low,Close,Volume\n2024-01-02,10,12,10,11,1500\n", basis=basis)
    assert [(bar.adjusted, bar.adjusted_to) for bar in found.bars] == [expected]


def test_intraday_of_alpha_vantage_is_unknown(read: Callable) -> None:
    """Alpha Vantage's minutes may be adjusted or not, so they say nothing."""
    header = b"timestamp,open,high,low,close,volume\n"
    found, _ = read(header + b"2024-01-02 10:00:00,10,12,10,11,5\n2024-01-02 10:01:00,10,12,10,11,5\n")
    assert [(bar.interval, bar.adjusted, bar.adjusted_to) for bar in found.bars] == [("1m", None, None)] * 2


def test_the_day_is_the_exchanges(read: Callable) -> None:
    """A split beside an evening's bar is of the exchange's day, which UTC has left already."""
    found, _ = read(
        b"Datetime,Open,High,Low,Close,Adj Close,Volume,Dividends,Stock Splits\n"
        b"2024-01-02 19:00:00-05:00,10,12,10,11,11,5,0.5,0\n2024-01-02 19:15:00-05:00,10,12,10,11,11,5,0,0\n"
    )
    assert found.bars[0].time == "2024-01-03 00:00:00.000"
    assert said(found) == [("dividend", "2024-01-02", 1.0, 0.5, WRITTEN)]


def test_a_file_of_several_tickers(read: Callable) -> None:
    """yfinance's three header rows give each ticker its own actions."""
    found, _ = read(
        b"Price,Adj Close,Adj Close,Close,Close,High,High,Low,Low,Open,Open,Volume,Volume,Dividends,Dividends\n"
        b"Ticker,A,B,A,B,A,B,A,B,A,B,A,B,A,B\nDate,,,,,,,,,,,,,,\n2024-01-02,1,2,1,2,1,2,1,2,1,2,10,20,0,0.5\n"
    )
    assert [(a.symbol, a.amount) for _, a in found.actions] == [("B", 0.5)]
    assert {bar.adjusted_to for bar in found.bars} == {WRITTEN}


def test_actions_follow_the_position() -> None:
    """A chunk that is resumed has the actions of the rows behind the position, and no others."""
    chunk = Chunk(end=9, positions=[0, 1, 4], bars=["a", "b", "c"], actions=[(0, "x"), (3, "y"), (8, "z")])
    assert (chunk.since(3).bars, chunk.since(3).actions) == (["c"], [(3, "y"), (8, "z")])


def test_real_files(read: Callable, shared_data: Path) -> None:
    """The vendors' files give their splits and dividends."""
    fund = read((shared_data / "adjusted/DODFX-1d-cg-double-count-fixed.csv").read_bytes(), "DODFX.csv")[0]
    assert said(fund) == [
        ("dividend", "2024-12-18", 1.0, 0.281, "2026-01-09"),
        ("split", "2025-10-27", 4.0, None, None),
        ("dividend", "2025-12-18", 1.0, 0.837, "2026-01-09"),
    ]
    # The file's date was set to an earlier day than that of its last bar.
    assert {bar.adjusted_to for bar in fund.bars} == {"2026-01-09"}
    nvda = read((shared_data / "adjusted/alphavantage_daily_adjusted_NVDA_2006_2018.csv").read_bytes(), "NVDA.csv")[0]
    assert [(a.time[:10], a.ratio) for _, a in nvda.actions if a.kind == "split"] == [
        ("2006-04-07", 2.0),
        ("2007-09-11", 1.5),
    ]
    assert sum(a.kind == "dividend" for _, a in nvda.actions) == 22
    wiki = read((shared_data / "adjusted/quandl_wiki_2014_AAPL_BRK_A_MSFT_ZEN.csv").read_bytes(), "WIKI.csv")[0]
    assert [(a.symbol, a.time[:10], a.ratio) for _, a in wiki.actions if a.kind == "split"] == [
        ("AAPL", "2014-06-09", 7.0)
    ]
