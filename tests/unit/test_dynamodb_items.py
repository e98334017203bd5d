"""dynamodb_items.py: keys, numbers and conditions of items."""

from dataclasses import replace
from decimal import Decimal

import msgspec
import pytest
from counting import bars

from pipeline import records
from pipeline.records import Bar, InvalidRecord
from pipeline.sinks.dynamodb import items
from pipeline.sinks.dynamodb.items import BarItem, Keys
from pipeline.sinks.dynamodb.table import plain

KEYS = Keys("Company Name", "Date")


def bar(**changes: object) -> Bar:
    daily = {"company": "Apple", "interval": "1d", "time": "2025-04-15 00:00:00.000"}
    return msgspec.structs.replace(bars(0, 1)[0], **daily | changes)


def item_of(changed: Bar, offset: int = 0) -> BarItem:
    return items.bar_item(KEYS, records.encode(changed), changed, offset=offset, timestamp_ms=0)


@pytest.mark.parametrize(
    ("interval", "time", "expected"),
    [
        ("1d", "2025-04-15 00:00:00.000", "2025-04-15"),
        ("1m", "2025-04-15 13:30:00.000", "2025-04-15 13:30:00.000"),
        ("1h", "2025-04-15 13:00:00.000", "2025-04-15 13:00:00.000"),
        ("1w", "2025-04-14 00:00:00.000", "2025-04-14 1w"),
    ],
)
def test_sort_key_is_the_day_or_the_whole_time(interval: str, time: str, expected: str) -> None:
    """A daily bar stands under its day, a shorter one under its start, a longer one under its first day and length."""
    assert items.date_text(bar(interval=interval, time=time)) == expected


@pytest.mark.parametrize(
    ("keys", "company", "expected"),
    [(KEYS, "Apple", "Apple"), (KEYS, None, "AAPL"), (KEYS, "", "AAPL"), (Keys("symbol", "Date"), "Apple", "AAPL")],
)
def test_partition_key_falls_back_to_the_symbol(keys: Keys, company: str | None, expected: str) -> None:
    """A record without a company stands under its symbol, and so do all where the partition key is called symbol."""
    assert keys.of(bar(company=company))[0] == expected


@pytest.mark.parametrize("number", [67.85, 0.1, 158168416.0, 1e-9, 123456.789012345, 0.30000000000000004, 0.0, 2.5e17])
def test_numbers_are_the_decimals_of_the_source(number: float) -> None:
    """A number reaches the item as the decimal that was in the JSON, and comes back as the same float."""
    made = item_of(bar(volume=number))
    assert Decimal(made.item["volume"]["N"]) == Decimal(repr(number))
    assert float(plain(made.item)["volume"]) == number


def test_null_fields_are_left_out() -> None:
    """An item has the fields that the bar has, and its keys; true and false stay what they are."""
    made = plain(item_of(bar(adjusted=True)).item)
    assert set(made) == {
        "Company Name",
        "Date",
        "symbol",
        "company",
        "time",
        "interval",
        "open",
        "high",
        "low",
        "close",
        "volume",
        "adjusted",
        "source",
        "ingested_at",
    }
    assert made["adjusted"] is True


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"volume": 1e200}, "volume"),
        ({"open": 1e-200}, "open"),
        ({"company": "x" * 3000}, "Company"),
        ({"source": "x" * 500_000}, "bytes"),
    ],
)
def test_what_dynamodb_cannot_hold_is_refused_by_name(changes: dict, field: str) -> None:
    """A number, key or record beyond the limits of the service is a bad record, not a failing request."""
    with pytest.raises(InvalidRecord, match=field):
        item_of(bar(**changes))


def test_newest_of_a_key_is_written() -> None:
    """Of revisions in one batch the one with the greatest ingested_at is kept, of equals the last; other intervals stay
    apart.
    """
    old, new = bar(ingested_at="2026-01-01 00:00:00.000"), bar(ingested_at="2026-01-02 00:00:00.000", close=1.6)
    again, hourly = msgspec.structs.replace(new, close=1.7), bar(interval="1h")
    kept = items.newest([item_of(one, offset) for offset, one in enumerate([new, old, again, hourly])])
    assert sorted(one.offset for one in kept) == [2, 3]


def test_another_bar_in_the_place_is_named() -> None:
    """A later revision needs no word; another symbol, interval or program in the place is named with both keys."""
    mine = item_of(bar())
    assert items.taken_by(KEYS, mine, plain(mine.item)) == ""
    other = replace(mine, bar=bar(symbol="GOOGL"))
    assert "Company Name 'Apple', Date '2025-04-15' is taken by AAPL 1d, this is GOOGL 1d" in items.taken_by(
        KEYS, other, plain(mine.item)
    )
    assert "no bar" in items.taken_by(KEYS, mine, {"Company Name": "Apple", "Date": "2025-04-15"})


def test_key_names_that_hide_a_field() -> None:
    """Key names that are other fields of the item are mistakes, told with the setting."""
    assert KEYS.mistakes() == Keys("symbol", "day").mistakes() == []
    assert [text.split(":")[0] for text in Keys("open", "time").mistakes()] == [
        "DYNAMODB_PARTITION_KEY",
        "DYNAMODB_SORT_KEY",
    ]
