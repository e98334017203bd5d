"""records.py: what a record must be."""

import math

import pytest

from pipeline import records
from pipeline.records import Bar, InvalidRecord, NewsItem, Tick

TIME = "2024-01-02 00:00:00.000"


def bar(**changes: object) -> Bar:
    fields = {
        "symbol": "AAPL",
        "time": TIME,
        "interval": "1d",
        "open": 185.5,
        "high": 188.0,
        "low": 183.9,
        "close": 184.25,
        "volume": 82_488_700.0,
        "source": "csv:x",
        "ingested_at": "2026-01-01 00:00:00.000",
    }
    return Bar(**(fields | changes))


@pytest.mark.parametrize(
    "record",
    [
        bar(),
        bar(company="Apple", vwap=184.9, trades=1_000_000, adjusted=False),
        bar(symbol="BRK.B", close=1e-9, low=0.0, volume=0.5),
        Tick(symbol="AAPL", time=TIME, price=184.25, volume=0.1, source="simulated", ingested_at=TIME),
        NewsItem(
            id="1",
            symbol="AAPL",
            time=TIME,
            title="Ünïcode\nline",
            publisher="P",
            url="u",
            source="s",
            ingested_at=TIME,
            sentiment="negative",
            reason="r",
        ),
    ],
)
def test_json_round_trip(record: records.Record) -> None:
    """A record that was encoded is decoded to the same record, and its JSON is one line."""
    value = records.encode(record)
    assert records.decode(type(record), value) == record
    assert b"\n" not in value


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("field", ["open", "high", "low", "close", "volume", "vwap"])
def test_numbers_that_are_not_finite_are_refused(field: str, number: float) -> None:
    """NaN and Infinity are refused by name and never become null."""
    with pytest.raises(InvalidRecord, match=f"{field}: .*is not a finite number"):
        records.encode(bar(**{field: number}))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"high": 1.0, "low": 2.0}, "high: 1.0 is less than low 2.0"),
        ({"symbol": ""}, "symbol: is empty"),
        ({"time": "2024-01-02"}, "time: '2024-01-02' is not a time"),
        ({"time": "2024-02-30 00:00:00.000"}, "time: '2024-02-30 00:00:00.000' is not a time"),
        ({"ingested_at": "2024-01-02T00:00:00.000"}, "ingested_at: "),
    ],
)
def test_bad_values_are_refused_on_the_way_out(change: dict, reason: str) -> None:
    """A record that breaks its definition is never sent, and the message names the field and the value."""
    with pytest.raises(InvalidRecord, match=reason):
        records.encode(bar(**change))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "truncated"),
        (b"not json", "malformed"),
        (b"null", "Expected `object`"),
        (b"[]", "Expected `object`"),
        (b"\xff\xfe", "malformed"),
        (records.encode(bar()).replace(b"184.25", b"NaN"), "malformed"),
        (records.encode(bar()).replace(b"184.25", b'"184.25"'), r"Expected `float`, got `str` - at `\$.close`"),
        (records.encode(bar()).replace(b'"close":184.25,', b""), "missing required field `close`"),
        (records.encode(bar()).replace(b'"symbol"', b'"Symbol":"x","symbol"'), "unknown field `Symbol`"),
        (records.encode(bar()).replace(b"188.0", b"1.0"), "high: 1.0 is less than low"),
        (records.encode(bar()).replace(b"82488700.0", b"-1"), r">= 0.* - at `\$.volume`"),
        (records.encode(bar()).replace(b'"1d"', b'"1 day"'), r"Invalid enum value '1 day' - at `\$.interval`"),
        (records.encode(bar()).replace(TIME.encode(), b"2024-13-02 00:00:00.000"), "time: '2024-13-02"),
        (records.encode(bar()).replace(b"AAPL", b""), r"length >= 1 - at `\$.symbol`"),
    ],
)
def test_bad_json_is_refused_one_by_one_and_in_bulk(value: bytes, reason: str) -> None:
    """What decode refuses with a reason, decode_lines refuses too, wherever it stands in the batch."""
    with pytest.raises(InvalidRecord, match=reason):
        records.decode(Bar, value)
    good = records.encode(bar())
    assert records.decode_lines(Bar, b"\n".join([good, value, good, b""]), 3) is None
    assert records.decode_lines(Bar, b"\n".join([good, good, b""]), 2) == [bar(), bar()]


def test_an_empty_line_is_refused_in_bulk() -> None:
    """An empty or null value, an empty line in bulk, is not passed over as if it were no record."""
    assert records.decode_lines(Bar, records.encode(bar()) + b"\n\n", 2) is None


def test_columns_follow_the_definition() -> None:
    """Every field is a column in its order, and times are timestamps."""
    columns = {column.name: column for column in records.columns(Bar)}
    assert list(columns) == [
        "symbol",
        "company",
        "time",
        "interval",
        "open",
        "high",
        "low",
        "close",
        "volume",
        "vwap",
        "trades",
        "adjusted",
        "source",
        "ingested_at",
        "adjusted_to",
    ]
    assert [columns[name].type for name in ("time", "open", "trades", "adjusted", "symbol")] == [
        "timestamp",
        "double",
        "bigint",
        "boolean",
        "string",
    ]
    assert {name for name, column in columns.items() if column.optional} == {
        "company",
        "vwap",
        "trades",
        "adjusted",
        "adjusted_to",
    }
    assert all(column.description for kind in records.TABLES.values() for column in records.columns(kind))


def test_time_text() -> None:
    """Instants become UTC text of milliseconds whatever their zone, and trading dates keep the date of theirs."""
    from datetime import datetime, timedelta, timezone

    new_york = timezone(timedelta(hours=-5))
    instant = datetime(2024, 1, 2, 19, 30, 15, 123456, tzinfo=new_york)
    assert records.time_text(instant) == "2024-01-03 00:30:15.123"
    assert records.time_text(instant.replace(tzinfo=None)) == "2024-01-02 19:30:15.123"
    assert records.time_text_ms(-1) == "1969-12-31 23:59:59.999"
