"""Which kind of price CSV a header belongs to, and which of its columns is what. Pure: text in, Columns out.

The one table of dialects is DIALECTS. Most files differ in the names and the order of their columns only, and
COLUMN_NAMES covers that; a dialect adds what its vendor leaves unsaid, such as the zone of its times.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Literal, NamedTuple

from pipeline.intervals import NEW_YORK
from pipeline.sources.csv.action_columns import ActionColumns
from pipeline.sources.source import Unusable


class UnusableFile(Unusable):
    """A file of which nothing can be used; the text is a sentence for whoever has the file."""


# On the shares of which day a vendor states its prices: each bar's own, or the day of the download.
Basis = Literal["unknown", "as traded", "download"]


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """One vendor's header. `header` is the whole of it, with the columns that may be absent in brackets."""

    name: str
    header: str
    timezone: str = ""  # the zone of times without an offset, where the vendor fixes it
    month_first: bool = False  # whether 01/02/2024 is always the second of January
    basis: Basis = "unknown"

    @property
    def columns(self) -> frozenset[str]:
        return frozenset(column_name(c) for c in self.header.split(",") if not c.startswith("["))


# The first that fits is taken, so the more particular ones stand first.
DIALECTS = (
    # https://massive.com/docs/flat-files: nanoseconds since 1970, start of the window, prices as traded.
    Dialect(
        name="Polygon/Massive flat file",
        header="ticker,volume,open,close,high,low,window_start,transactions",
        timezone=NEW_YORK,
        basis="as traded",
    ),
    # Raw prices with the actions beside them, and its own adjusted columns, which are not read.
    Dialect(
        name="Quandl WIKI", header="Date,Open,High,Low,Close,Volume,Ex-Dividend,Split Ratio,[Ticker]", basis="as traded"
    ),
    Dialect(
        name="Quandl WIKI, shorter names",
        header="Date,Open,High,Low,Close,Volume,ExDividend,SplitRatio,[Ticker]",
        basis="as traded",
    ),
    Dialect(name="Stooq ASCII", header="<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,[<OPENINT>]"),
    Dialect(name="Nasdaq.com", header="Date,Close/Last,Volume,Open,High,Low", month_first=True),
    # Its editions write dates in the reader's own order, so the order has to be proven.
    Dialect(name="Investing.com", header="Date,Price,Open,High,Low,Vol.,[Change %]"),
    # https://www.alphavantage.co/documentation: "timestamps are US Eastern".
    # Daily prices are as traded; of shorter bars the file does not say whether they were asked for adjusted.
    Dialect(
        name="Alpha Vantage",
        header="timestamp,open,high,low,close,[adjusted_close],volume,[dividend_amount],[split_coefficient]",
        timezone=NEW_YORK,
        basis="as traded",
    ),
    Dialect(name="index set", header="Index,Date,Open,High,Low,Close,Adj Close,Volume,[CloseUSD]", basis="download"),
    Dialect(name="Kaggle", header="date,open,high,low,close,volume,Name"),
    # Close is adjusted for splits as of the download. Without Adj Close it may be adjusted for dividends too.
    Dialect(
        name="Yahoo",
        header="Date,Open,High,Low,Close,Adj Close,[Volume],[Symbol],[Dividends],[Stock Splits],[Capital Gains]",
        basis="download",
    ),
    Dialect(
        name="Yahoo, yfinance, Stooq", header="Date,Open,High,Low,Close,[Volume],[Symbol],[Company Name],[Dividends]"
    ),
    Dialect(name="closing prices", header="Date,Close,[Volume],[Symbol]"),
)
_YFINANCE = Dialect(name="yfinance, three header rows", header="Price/Ticker/Date")
_QUANTMOD = Dialect(
    name="R's quantmod, one or more tickers",
    header="Index,AAPL.Open,AAPL.High,AAPL.Low,AAPL.Close,AAPL.Volume,AAPL.Adjusted",
)
_WIDE = Dialect(name="wide table, one closing price per ticker (in capitals)", header="Date,AAPL,MSFT,…")

# Our name of a column: the names it goes by, the surest first, as column_name() writes them.
COLUMN_NAMES = {
    "time": ("window start", "datetime", "timestamp", "date", "time", "unnamed: 0", ""),
    "open": ("open",),
    "high": ("high",),
    "low": ("low",),
    "close": ("close", "close/last", "price"),
    "volume": ("volume", "vol"),
    "vwap": ("vwap",),
    "trades": ("transactions", "trades"),
    "symbol": ("symbol", "ticker", "index", "name"),
    "company": ("company name", "company", "name"),
    "dividend": ("dividends", "dividend amount", "ex-dividend", "exdividend"),
    "split": ("stock splits", "split coefficient", "split ratio", "splitratio"),
    "gain": ("capital gains",),
}
_PRICES = ("open", "high", "low", "close")
# Columns that say something of a day, and so are no tickers of a wide table.
_OTHER_COLUMNS = frozenset({"adj close", "adjusted close", "change %", "openint"})
_FIELD_NAMES = frozenset(name for names in COLUMN_NAMES.values() for name in names) | _OTHER_COLUMNS
# What headers in capitals say besides: no exchange lists these as tickers.
_NO_TICKERS = frozenset(
    {"adjusted", "amount", "change", "country", "currency", "day", "exchange", "id", "month", "return", "returns"}
    | {"sector", "shares", "stock", "turnover", "type", "value", "weight", "year"}
)
_TICKER = re.compile(r"\^?(?=[0-9]*[A-Z]|[0-9]{4})[A-Z0-9]{1,10}([.=/& -][A-Z0-9]{1,6}){0,2}")


class PriceColumns(NamedTuple):
    """Where one symbol's prices stand; `symbol` is empty where a column of its own names it."""

    symbol: str
    open: int
    high: int
    low: int
    close: int
    volume: int | None
    actions: ActionColumns = ActionColumns()


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What stands where in a file. Column numbers count from 0; `width` is the number of columns."""

    dialect: Dialect
    delimiter: str
    header: tuple[str, ...]
    header_lines: int
    time: tuple[int, ...]  # one column, or a date and a time of day
    prices: tuple[PriceColumns, ...]
    symbol: int | None = None
    company: int | None = None
    vwap: int | None = None
    trades: int | None = None
    notes: tuple[str, ...] = ()  # what a reader of the summary has to know

    @property
    def width(self) -> int:
        return len(self.header)


def known_dialects() -> str:
    """Return the dialects, one per line, for someone whose file is none of them."""
    return "\n".join(
        [
            "Known kinds (columns in brackets may be absent, further ones are ignored):",
            *(f"  {dialect.name}: {dialect.header}" for dialect in (*DIALECTS, _YFINANCE, _QUANTMOD, _WIDE)),
        ]
    )


def column_name(text: str) -> str:
    """Return a header cell in the spelling of the tables here: lower case, blanks for underscores, no ornaments."""
    return text.strip().strip("<>*.").strip().replace("_", " ").lower()


def recognise(lines: Sequence[str], *, file_name: str, symbol: str = "", symbol_column: str = "") -> Columns:
    """Return the columns of a file from its first lines.

    `symbol` names what no column names; without it the file name does. `symbol_column` is the column to take it from.
    Raises UnusableFile.
    """
    lines = [line for line in lines[:8] if line.strip()]
    if not lines:
        raise UnusableFile("the file is empty")
    delimiter = max(",;\t|", key=lines[0].count)
    rows: list[list[str]] = []
    try:
        rows.extend(csv.reader(lines, delimiter=delimiter))
    except csv.Error as error:  # Those above the row that the csv module refuses are in `rows`.
        if not rows:
            raise UnusableFile(f"its header is no CSV: {error}") from error
    found = (
        _yfinance_columns(rows, delimiter)
        or _long_columns(rows[0], delimiter, symbol_column)
        or _quantmod_columns(rows[0], delimiter)
        or _wide_columns(rows[0], delimiter)
    )
    if found is None:
        raise UnusableFile(f"its header is of no known kind: {lines[0].strip()[:200]!r}\n{known_dialects()}")
    if found.symbol is None and not found.prices[0].symbol:
        named = symbol or symbol_in_file_name(file_name)
        first = found.prices[0]
        found = replace(found, prices=(first._replace(symbol=named),))
    return found


def _yfinance_columns(rows: list[list[str]], delimiter: str) -> Columns | None:
    """What `yfinance.download(...).to_csv()` writes: a row of fields, a row of tickers (or the other way round), then
    the name of the date column alone.
    """
    if (
        len(rows) < 3
        or column_name(rows[2][0]) not in ("date", "datetime")
        or any(cell.strip() for cell in rows[2][1:])
    ):
        return None
    fields, tickers = rows[0], rows[1]
    if len(fields) != len(tickers):
        return None
    if not {column_name(cell) for cell in fields[1:]} <= _FIELD_NAMES:
        fields, tickers = tickers, fields
    places: dict[str, dict[str, int]] = {}
    for column, (name, ticker) in enumerate(zip(fields, tickers, strict=True)):
        if column:
            places.setdefault(ticker.strip(), {})[column_name(name)] = column
    whole = {ticker: at for ticker, at in places.items() if ticker and {*_PRICES} <= at.keys()}
    if not whole:
        return None
    prices = tuple(
        PriceColumns(ticker, at["open"], at["high"], at["low"], at["close"], at.get("volume"), _actions(at))
        for ticker, at in whole.items()
    )
    has_adjusted = all("adj close" in at for at in whole.values())
    return Columns(
        dialect=replace(_YFINANCE, basis="download") if has_adjusted else _YFINANCE,
        delimiter=delimiter,
        header=tuple(f"{f} {t}".strip() for f, t in zip(fields, tickers, strict=True)),
        header_lines=3,
        time=(0,),
        prices=prices,
    )


def _long_columns(header: list[str], delimiter: str, symbol_column: str) -> Columns | None:
    """One row per symbol and time, which is what nearly all vendors write."""
    names = [column_name(cell) for cell in header]
    dialect = next((d for d in DIALECTS if d.columns <= {*names, *_stand_ins(names)}), None)
    if dialect is None:
        return None
    columns = {
        ours: next((names.index(n) for n in theirs if n in names), None) for ours, theirs in COLUMN_NAMES.items()
    }
    if columns["symbol"] is not None and names[columns["symbol"]] == "index" and dialect.name != "index set":
        columns["symbol"] = None  # A row number that pandas wrote, not a stock index.
    if symbol_column:
        if column_name(symbol_column) not in names:
            raise UnusableFile(f"it has no column {symbol_column!r}; its columns: {', '.join(header)}")
        columns["symbol"] = names.index(column_name(symbol_column))
    if columns["company"] == columns["symbol"]:
        columns["company"] = None  # `Name` alone holds tickers (Kaggle); beside a ticker it holds the company.
    day, open_, high, low, close = (columns[name] for name in ("time", *_PRICES))
    if day is None or close is None:
        return None
    time = (day, names.index("time")) if "time" in names and names[day] == "date" else (day,)
    notes = []
    if open_ is None or high is None or low is None:
        notes.append("no open, high and low: each is the closing price")
        open_ = high = low = close
    if columns["volume"] is None:
        notes.append("no volume: it is 0")
    actions = ActionColumns(columns["dividend"], columns["split"], columns["gain"])
    return Columns(
        dialect=dialect,
        delimiter=delimiter,
        header=tuple(header),
        header_lines=1,
        time=time,
        prices=(PriceColumns("", open_, high, low, close, columns["volume"], actions),),
        symbol=columns["symbol"],
        company=columns["company"],
        vwap=columns["vwap"],
        trades=columns["trades"],
        notes=tuple(notes),
    )


def _actions(at: dict[str, int]) -> ActionColumns:
    """The action columns among a ticker's columns."""
    return ActionColumns(at.get("dividends"), at.get("stock splits"), at.get("capital gains"))


def _stand_ins(names: list[str]) -> set[str]:
    """Names that a header would have if its date column went by the usual name: yfinance writes Datetime, pandas
    nothing.
    """
    return (
        {"date"}
        if {*names} & {"datetime", "timestamp", "time", "window start"} or names[0] in ("", "unnamed: 0")
        else set()
    )


def _quantmod_columns(header: list[str], delimiter: str) -> Columns | None:
    """What R writes of quantmod's tables: a date, and AAPL.Open to AAPL.Adjusted of each ticker."""
    places: dict[str, dict[str, int]] = {}
    others: dict[str, int] = {}
    for column, cell in enumerate(header):
        ticker, _, name = cell.strip().rpartition(".")
        if ticker and column_name(name) in (*_PRICES, "volume", "adjusted"):
            places.setdefault(ticker, {})[column_name(name)] = column
        else:
            others[column_name(cell)] = column
    # A date beside a first column without a name, which holds row numbers then.
    time = next((others[name] for name in ("date", "datetime", "index", "time", "") if name in others), None)
    if time is None or not places or not others.keys() <= {"date", "datetime", "index", "time", ""}:
        return None
    if not all("close" in at for at in places.values()):
        return None
    prices = []
    for ticker, at in places.items():
        open_, high, low, close = (at.get(name, at["close"]) for name in _PRICES)
        prices.append(PriceColumns(ticker, open_, high, low, close, at.get("volume")))
    is_whole = all({*_PRICES, "volume"} <= at.keys() for at in places.values())
    has_adjusted = all("adjusted" in at for at in places.values())
    return Columns(
        dialect=replace(_QUANTMOD, basis="download") if has_adjusted else _QUANTMOD,
        delimiter=delimiter,
        header=tuple(header),
        header_lines=1,
        time=(time,),
        prices=tuple(prices),
        notes=() if is_whole else ("no open, high or low: it is the closing price; no volume: it is 0",),
    )


def _wide_columns(header: list[str], delimiter: str) -> Columns | None:
    """A date and one closing price per ticker."""
    tickers = [cell.strip() for cell in header[1:]]
    if column_name(header[0]) not in COLUMN_NAMES["time"] or not tickers or len(set(tickers)) < len(tickers):
        return None
    if not all(_TICKER.fullmatch(ticker) for ticker in tickers):
        return None
    if {column_name(ticker) for ticker in tickers} & (_FIELD_NAMES | _NO_TICKERS):
        return None
    return Columns(
        dialect=_WIDE,
        delimiter=delimiter,
        header=tuple(header),
        header_lines=1,
        time=(0,),
        prices=tuple(PriceColumns(t, c, c, c, c, None) for c, t in enumerate(tickers, start=1)),
        notes=("a wide table of closing prices: open, high and low are the close, volume is 0",),
    )


# Names in small letters that say whose prices a file holds as little as its ending does.
_COMMON_NAMES = frozenset(
    {"bars", "csv", "daily", "data", "eod", "file", "input", "new", "ohlc", "ohlcv", "old", "out", "price", "quote"}
    | {"stock", "table", "test"}
)


def symbol_in_file_name(file_name: str) -> str:
    """Return the ticker in a file name: AAPL.csv, aapl.us.txt, AAPL_1min.csv, BRK-B.csv.gz. Raises UnusableFile."""
    stem = re.sub(r"(?i)\.(csv|txt|tsv)?(\.gz)?$", "", PurePath(file_name).name)
    if re.fullmatch(r"\^?[A-Z][A-Z0-9]{0,5}([.=-][A-Z0-9]{1,3})?", stem):
        return stem
    if re.fullmatch(r"[a-z]{1,5}(\.[a-z]{2})?", stem) and stem not in _COMMON_NAMES:
        return stem.upper()
    found = re.findall(r"(?<![A-Za-z0-9.])\^?[A-Z][A-Z0-9]{0,5}(?:\.[A-Z]{1,3})?(?![A-Za-z0-9.])", stem)
    words = [w for w in dict.fromkeys(found) if w not in ("CSV", "OHLC", "OHLCV", "US", "USD", "ETF", "NYSE", "NASDAQ")]
    if len(words) == 1:
        return str(words[0])
    holds = f"the file name holds {' and '.join(words)}" if words else "the file name holds no ticker"
    raise UnusableFile(
        f"no column names the symbol and {holds}: say it with --symbol, or its column with --symbol-column"
    )
