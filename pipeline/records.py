"""What travels through the pipeline: bars, ticks, news items and corporate actions.

This is the one definition of every record. The JSON on the wire, the CSV header, the Parquet schema, the Glue columns,
the DynamoDB item and the table in the README all come from the four classes below, through `columns()`.
"""

import json
import math
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any, Literal, get_args

import msgspec
import numpy as np
from msgspec import Meta

TIME_FORMAT = "YYYY-MM-DD HH:MM:SS.SSS"
# Earlier and later times are mistakes, and some readers of the tables cannot hold them (pandas: 1678 to 2262).
FIRST_YEAR, LAST_YEAR = 1700, 2199
LAST_TIME = f"{LAST_YEAR}-12-31 23:59:59.999"
_CONTROL_CHARACTER = re.compile("[\x00-\x1f\x7f-\x9f]")
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}", re.ASCII)
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - naive on purpose: every time here is UTC

# The start of a bar or the instant of a trade, always UTC. AWS's documents name this text as the one that the OpenX
# JSON SerDe reads the same way every time, so raw tables keep it as a string and the views cast it once.
Time = Annotated[str, Meta(min_length=23, max_length=23, extra={"type": "timestamp", "unit": "UTC"})]
Symbol = Annotated[str, Meta(min_length=1, description="ticker symbol, the Kafka key")]
Price = Annotated[float, Meta(extra={"unit": "currency of the listing"})]
Volume = Annotated[
    float, Meta(ge=0, extra={"unit": "shares"}, description="shares traded; a double, for fractions exist")
]
Interval = Literal[
    "1s", "1m", "2m", "3m", "5m", "10m", "15m", "30m", "1h", "2h", "4h", "1d", "5d", "1w", "1mo", "3mo", "1y"
]
INTERVALS: tuple[str, ...] = get_args(Interval)
# Bars of these lengths carry their trading date at midnight, whatever the source's time zone.
DAILY_OR_LONGER = frozenset({"1d", "5d", "1w", "1mo", "3mo", "1y"})
Sentiment = Literal["positive", "neutral", "negative"]
ActionKind = Literal["split", "dividend", "symbol_change"]
# What `adjusted_to` says where nobody knows on the shares of which day a price is.
UNKNOWN_BASIS = "unknown"
_Day = Annotated[str, Meta(description="YYYY-MM-DD")]
_Source = Annotated[str, Meta(min_length=1, description="where it came from: polygon, csv:<file>, simulated, ...")]
_IngestedAt = Annotated[Time, Meta(description="when the producer read it; of one key the greatest wins")]


class Bar(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """Prices of one symbol over one interval. Key: (symbol, interval, time)."""

    symbol: Symbol
    company: Annotated[str, Meta(description="company name")] | None = None
    time: Annotated[Time, Meta(description="START of the bar; the trading date at midnight for a day or longer")]
    interval: Annotated[Interval, Meta(description="length of the bar")]
    open: Annotated[Price, Meta(description="first price")]
    high: Annotated[Price, Meta(description="highest price")]
    low: Annotated[Price, Meta(description="lowest price")]
    close: Annotated[Price, Meta(description="last price")]
    volume: Volume
    vwap: Annotated[Price, Meta(description="volume-weighted average price")] | None = None
    trades: Annotated[int, Meta(ge=0, le=2**63 - 1, description="number of trades")] | None = None
    adjusted: Annotated[bool, Meta(description="prices adjusted for splits")] | None = None
    source: _Source
    ingested_at: _IngestedAt
    # Last, for CSV objects that were landed before have no such column.
    adjusted_to: (
        Annotated[
            str,
            Meta(description="day YYYY-MM-DD on whose shares the prices are; unknown; or null: see adjusted_bars"),
        ]
        | None
    ) = None


class Tick(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """One trade, or one second of trades, of one symbol. Key: none; every tick counts."""

    symbol: Symbol
    time: Annotated[Time, Meta(description="instant of the trade")]
    price: Annotated[Price, Meta(description="price of the trade")]
    volume: Volume
    source: _Source
    ingested_at: _IngestedAt


class NewsItem(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """What one article says about one symbol. Key: (id, symbol)."""

    id: Annotated[str, Meta(min_length=1, description="the source's id of the article")]
    symbol: Symbol
    time: Annotated[Time, Meta(description="instant of publication")]
    title: Annotated[str, Meta(description="headline")]
    publisher: Annotated[str, Meta(description="who published it")]
    url: Annotated[str, Meta(description="where to read it")]
    sentiment: Annotated[Sentiment, Meta(description="positive, neutral or negative")] | None = None
    reason: Annotated[str, Meta(description="the source's reason for the sentiment")] | None = None
    source: _Source
    ingested_at: _IngestedAt


class Action(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A split, a dividend or a span of days under one symbol. Key: (source, kind, id)."""

    id: Annotated[str, Meta(min_length=1, description="the source's id of it; a later record of the id replaces it")]
    symbol: Symbol
    time: Annotated[Time, Meta(description="the ex-date, the execution day or the span's first day, at midnight")]
    kind: Annotated[ActionKind, Meta(description="split, dividend or symbol_change")]
    split_from: Annotated[float, Meta(gt=0, description="old shares of a split")] | None = None
    split_to: Annotated[float, Meta(gt=0, description="new shares for them")] | None = None
    amount: Annotated[float, Meta(gt=0, description="dividend per share", extra={"unit": "currency"})] | None = None
    currency: Annotated[str, Meta(description="currency of the amount, such as USD")] | None = None
    adjusted_to: (
        Annotated[_Day, Meta(description="day on whose shares the amount is stated; null: as declared")] | None
    ) = None
    declaration_day: Annotated[_Day, Meta(description="day of the announcement")] | None = None
    record_day: Annotated[_Day, Meta(description="day whose holders are paid")] | None = None
    pay_day: Annotated[_Day, Meta(description="day of the payment")] | None = None
    category: Annotated[str, Meta(description="the source's word, such as special or reverse_split")] | None = None
    new_symbol: Annotated[str, Meta(min_length=1, description="the name that the span's symbol has today")] | None = (
        None
    )
    until_day: Annotated[_Day, Meta(description="first day that is not of the span; null: it goes on")] | None = None
    figi: Annotated[str, Meta(description="composite FIGI, which stays when the symbol changes")] | None = None
    cancelled: Annotated[bool, Meta(description="true: the source no longer lists it")] | None = None
    source: _Source
    ingested_at: _IngestedAt

    @property
    def ratio(self) -> float:
        """New shares per old one; 1 for what is no split."""
        return self.split_to / self.split_from if self.split_to and self.split_from else 1.0


Record = Bar | Tick | NewsItem | Action
# The table that a record lands in, and the fields that say two records are the same fact.
TABLES: dict[str, type[Record]] = {"bars": Bar, "ticks": Tick, "news": NewsItem, "actions": Action}
KEYS: dict[str, tuple[str, ...]] = {
    "bars": ("symbol", "interval", "time"),
    "ticks": (),
    "news": ("id", "symbol"),
    "actions": ("source", "kind", "id"),
}


class InvalidRecord(ValueError):
    """A record that breaks its definition; the text names the field and the value."""


class Column(msgspec.Struct, frozen=True):
    """One field as a table sees it. `type` is one of string, double, bigint, boolean, timestamp."""

    name: str
    type: str
    optional: bool
    unit: str
    description: str


_COLUMN_TYPES: dict[type[msgspec.inspect.Type], str] = {
    msgspec.inspect.StrType: "string",
    msgspec.inspect.LiteralType: "string",
    msgspec.inspect.FloatType: "double",
    msgspec.inspect.IntType: "bigint",
    msgspec.inspect.BoolType: "boolean",
}


def columns(kind: type[Record]) -> tuple[Column, ...]:
    """Return the record's fields in order, derived from the class."""
    described = msgspec.inspect.type_info(kind)
    assert isinstance(described, msgspec.inspect.StructType)
    return tuple(_column(field) for field in described.fields)


def _column(field: msgspec.inspect.Field) -> Column:
    """Unwrap Annotated and `| None` down to the plain type, gathering what the annotations say on the way."""
    pending, unit, description, optional, kind = [field.type], "", "", False, ""
    while pending:
        current = pending.pop()
        if isinstance(current, msgspec.inspect.UnionType):
            pending.extend(current.types)
        elif isinstance(current, msgspec.inspect.Metadata):
            extra = current.extra or {}
            unit, kind = extra.get("unit", unit), extra.get("type", kind)
            description = (current.extra_json_schema or {}).get("description", description)
            pending.append(current.type)
        elif isinstance(current, msgspec.inspect.NoneType):
            optional = True
        else:
            kind = kind or _COLUMN_TYPES[type(current)]
    return Column(field.name, kind, optional, unit, description)


def _check_values(record: Record, latest_ingestion: str = LAST_TIME) -> None:
    """Checks that the types cannot express; raises InvalidRecord."""
    for name, text in (("time", record.time), ("ingested_at", record.ingested_at)):
        if not is_time(text):
            raise InvalidRecord(
                f"{name}: {text!r} is not a time of the form {TIME_FORMAT} in the years {FIRST_YEAR} to {LAST_YEAR}"
            )
    if record.ingested_at > latest_ingestion:
        raise InvalidRecord(f"ingested_at: {record.ingested_at!r} is in the future, it would win over later records")
    if not is_printable(record.symbol):
        raise InvalidRecord(f"symbol: {record.symbol!r} has a control character")
    if type(record) is Bar:
        if record.high < record.low:
            raise InvalidRecord(f"high: {record.high!r} is less than low {record.low!r}")
        if not _is_basis(record.adjusted_to):
            raise InvalidRecord(f"adjusted_to: {record.adjusted_to!r} is neither a day YYYY-MM-DD nor {UNKNOWN_BASIS}")
    if type(record) is Action:
        _check_action(record)


_DAYS_OF_ACTIONS = ("adjusted_to", "declaration_day", "record_day", "pay_day", "until_day")
_NEEDS = {"split": ("split_from", "split_to"), "dividend": ("amount",), "symbol_change": ("new_symbol",)}


def _check_action(action: Action) -> None:
    """What an action of its kind must say; raises InvalidRecord."""
    for name in _NEEDS[action.kind]:
        if not getattr(action, name):
            raise InvalidRecord(f"{name}: a {action.kind} needs one, not {getattr(action, name)!r}")
    for name in ("split_from", "split_to", "amount"):
        if (value := getattr(action, name)) is not None and not value > 0:
            raise InvalidRecord(f"{name}: {value!r} is not above 0")
    if action.kind == "split" and not 0 < action.ratio < math.inf:
        raise InvalidRecord(f"split_to: {action.split_to!r} for {action.split_from!r} is no ratio")
    if action.time[10:] != " 00:00:00.000":
        raise InvalidRecord(f"time: {action.time!r} is not a day at midnight")
    for name in _DAYS_OF_ACTIONS:
        if (day := getattr(action, name)) is not None and not is_day(day):
            raise InvalidRecord(f"{name}: {day!r} is not a day YYYY-MM-DD")
    if action.until_day is not None and action.until_day < action.time[:10]:
        raise InvalidRecord(f"until_day: {action.until_day!r} is before the span begins")
    for name in ("id", "new_symbol"):
        if (text := getattr(action, name)) is not None and not is_printable(text):
            raise InvalidRecord(f"{name}: {text!r} has a control character")


def _is_basis(adjusted_to: str | None) -> bool:
    return adjusted_to is None or adjusted_to == UNKNOWN_BASIS or is_day(adjusted_to)


_DECODERS: dict[type[Record], Any] = {kind: msgspec.json.Decoder(kind) for kind in TABLES.values()}


def decode(kind: type[Record], value: bytes, *, latest_ingestion: str = LAST_TIME) -> Record:
    """Decode and check a record's JSON; raises InvalidRecord with the field and the value."""
    try:
        record: Record = _DECODERS[kind].decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRecord(str(error)) from None
    except RecursionError:
        raise InvalidRecord("JSON is nested too deeply") from None
    _check_values(record, latest_ingestion)
    if value.count(b'"') != _quotes(kind, [record]) and (name := _repeated_key(value)):
        raise InvalidRecord(f"{name}: is there more than once")
    return record


def decode_lines(
    kind: type[Record], lines: bytes, count: int, *, latest_ingestion: str = LAST_TIME
) -> list[Record] | None:
    """Decode `count` lines with one value each; None when any of them is bad, or has to be looked at alone.

    This is the common case, at the speed of C: 0.5 µs a record.
    """
    try:
        decoded: list[Any] = _DECODERS[kind].decode_lines(lines)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    # An empty value is no record, and msgspec passes over it.
    if len(decoded) != count:
        return None
    # Each distinct text once: records of a batch share most of their times.
    ingested = {r.ingested_at for r in decoded}
    if not all(map(is_time, {r.time for r in decoded})) or not all(map(is_time, ingested)):
        return None
    if max(ingested) > latest_ingestion:
        return None
    # In JSON a control character is escaped, or one of these.
    if (b"\\" in lines or b"\x7f" in lines or b"\xc2" in lines) and not all(
        map(is_printable, {r.symbol for r in decoded})
    ):
        return None
    if kind is Bar and [r for r in decoded if r.high < r.low]:
        return None
    if kind is Action:
        return None  # there are few of them, and each is looked at
    quotes = np.count_nonzero(np.frombuffer(lines, np.uint8) == ord('"'))
    # Records without optional fields need not be looked at one by one.
    if quotes == _QUOTES[kind][0] * count:
        return decoded
    if quotes != _quotes(kind, decoded):
        return None
    if kind is Bar and not all(map(_is_basis, {r.adjusted_to for r in decoded})):
        return None
    return decoded


def _quotes(kind: type[Record], decoded: list[Any]) -> int:
    """Count the quotation marks of these records' JSON if no key is repeated, no null spelled out and no mark escaped.
    In each of these cases there are more.
    """
    least, optional = _QUOTES[kind]
    present = (more * (len(decoded) - [getattr(r, name) for r in decoded].count(None)) for name, more in optional)
    return least * len(decoded) + sum(present)


def _repeated_key(value: bytes) -> str:
    """Return a key that a record's JSON has more than once, empty if there is none. msgspec takes the last one; readers
    of JSON in Athena refuse the whole file.
    """
    pairs: list[tuple[str, Any]] = json.loads(value, object_pairs_hook=list)
    return next((name for name, count in Counter(name for name, _ in pairs).items() if count > 1), "")


def encode(record: Record) -> bytes:
    """Check a record and return its JSON: msgspec alone would write NaN and Infinity as null."""
    for name in _NUMBERS[type(record)]:
        number = getattr(record, name)
        if number is not None and not math.isfinite(number):
            raise InvalidRecord(f"{name}: {number!r} is not a finite number")
    if not record.symbol:
        raise InvalidRecord("symbol: is empty")
    _check_values(record)
    return msgspec.json.encode(record)


_NUMBERS = {kind: tuple(c.name for c in columns(kind) if c.type in ("double", "bigint")) for kind in TABLES.values()}


def _quotes_of(kind: type[Record]) -> tuple[int, tuple[tuple[str, int], ...]]:
    """Count the quotation marks of a record without its optional fields, and of each optional field."""
    marks = {c.name: 4 if c.type in ("string", "timestamp") else 2 for c in columns(kind)}
    optional = tuple((c.name, marks[c.name]) for c in columns(kind) if c.optional)
    return sum(marks.values()) - sum(more for _, more in optional), optional


_QUOTES = {kind: _quotes_of(kind) for kind in TABLES.values()}


@lru_cache(maxsize=1 << 16)
def is_printable(text: str) -> bool:
    """Whether the text has no control characters, which could give a terminal commands."""
    return not _CONTROL_CHARACTER.search(text)


@lru_cache(maxsize=1 << 17)
def is_time(text: str) -> bool:
    """Whether the text is a real instant of the form YYYY-MM-DD HH:MM:SS.SSS, and of a year that makes sense.

    Cached, as many bars share a time.
    """
    if not _TIME.fullmatch(text) or not FIRST_YEAR <= int(text[:4]) <= LAST_YEAR:
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=1 << 14)
def is_day(text: str) -> bool:
    """Whether the text is a real day of the form YYYY-MM-DD, and of a year that makes sense."""
    return bool(_DAY.fullmatch(text)) and is_time(f"{text} 00:00:00.000")


def time_text(instant: datetime) -> str:
    """Return the text of an instant; a naive one is taken as UTC."""
    if instant.tzinfo is not None:
        instant = instant.astimezone(UTC).replace(tzinfo=None)
    return instant.isoformat(sep=" ", timespec="milliseconds")


def time_text_ms(epoch_ms: int) -> str:
    """Return the text of an instant given in milliseconds since 1970, UTC."""
    return (_EPOCH + timedelta(milliseconds=epoch_ms)).isoformat(sep=" ", timespec="milliseconds")
