"""Bars as items of a DynamoDB table: their keys, their values, and the condition under which one may be written. Pure.

An item has the two key attributes, and every field of the bar that is not null under the field's own name. Its
partition key is the company, or the symbol where a record names no company. Its sort key is

    2025-04-15                    of a daily bar
    2025-04-15 13:30:00.000       of a shorter one: the start of the bar, UTC
    2025-04-14 1w                 of a longer one

so that the items of a company stand in the order of their times.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline import records
from pipeline.records import DAILY_OR_LONGER, Bar, InvalidRecord

Attributes = dict[str, dict[str, Any]]  # an item as DynamoDB's API has it: {"close": {"N": "67.85"}}

# Limits of the service: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
PARTITION_KEY_BYTES = 2048
ITEM_BYTES = 400 * 1024
_LEAST_NUMBER, _GREATEST_NUMBER = 1e-130, 9.99e125
# What an item holds beside the bar's own text: names of attributes and the two keys.
_BYTES_BESIDE = 4096
_ATTRIBUTE_TYPES = {"string": "S", "timestamp": "S", "double": "N", "bigint": "N", "boolean": "BOOL"}
_FIELDS = tuple((column.name, _ATTRIBUTE_TYPES[column.type]) for column in records.columns(Bar))


@dataclass(frozen=True)
class Keys:
    """The names of the table's key attributes."""

    partition: str
    sort: str

    def mistakes(self) -> list[str]:
        """Return the key names that would hide a field of the item. A partition key may be one: with `symbol` there is
        an item per symbol and date.
        """
        names, found = {name for name, _ in _FIELDS}, []
        if self.partition in names - {"symbol", "company"}:
            found.append(f"DYNAMODB_PARTITION_KEY: {self.partition!r} is another field of the item")
        if self.sort in names or self.sort == self.partition:
            found.append(f"DYNAMODB_SORT_KEY: {self.sort!r} is another field of the item")
        return found

    def of(self, bar: Bar) -> tuple[str, str]:
        """Return the values of the two keys of a bar."""
        return (bar.symbol if self.partition == "symbol" else bar.company or bar.symbol), date_text(bar)


def date_text(bar: Bar) -> str:
    """Return the sort key of a bar."""
    if bar.interval not in DAILY_OR_LONGER:
        return bar.time
    return bar.time[:10] if bar.interval == "1d" else f"{bar.time[:10]} {bar.interval}"


@dataclass(frozen=True)
class BarItem:
    """A bar that is to be written, and the record it came from."""

    bar: Bar
    key: tuple[str, str]
    item: Attributes
    offset: int
    timestamp_ms: int
    value: bytes

    @property
    def identity(self) -> tuple[str, str]:
        """Bars of one key and another identity are other facts, and do not replace each other."""
        return self.bar.symbol, self.bar.interval


def bar_item(keys: Keys, value: bytes, bar: Bar, *, offset: int, timestamp_ms: int) -> BarItem:
    """Return the item of a bar. Raise InvalidRecord for what DynamoDB would refuse."""
    company, day = keys.of(bar)
    if len(company.encode()) > PARTITION_KEY_BYTES:
        raise InvalidRecord(f"{keys.partition}: {company[:40]!r}… is longer than {PARTITION_KEY_BYTES} bytes")
    if len(value) > ITEM_BYTES - _BYTES_BESIDE:
        raise InvalidRecord(f"the record has {len(value)} bytes; an item of DynamoDB takes {ITEM_BYTES}")
    item = {
        name: {kind: _number(name, field) if kind == "N" else field}
        for name, kind in _FIELDS
        if (field := getattr(bar, name)) is not None
    }
    item |= {keys.partition: {"S": company}, keys.sort: {"S": day}}
    return BarItem(bar, (company, day), item, offset, timestamp_ms, value)


def _number(name: str, number: float) -> str:
    """Return the shortest decimal that means this float: 67.85, never 67.8499999. Raise InvalidRecord beyond DynamoDB's
    range.
    """
    if number and not _LEAST_NUMBER <= abs(number) <= _GREATEST_NUMBER:
        raise InvalidRecord(f"{name}: {number!r} is outside of what DynamoDB can hold")
    return repr(number)


def newest(found: Iterable[BarItem]) -> list[BarItem]:
    """Return of each key and identity the one with the greatest ingested_at, of equals the last."""
    chosen: dict[tuple[tuple[str, str], tuple[str, str]], BarItem] = {}
    for one in found:
        known = chosen.get((one.key, one.identity))
        if known is None or known.bar.ingested_at <= one.bar.ingested_at:
            chosen[one.key, one.identity] = one
    return list(chosen.values())


def put(table: str, keys: Keys, one: BarItem) -> dict[str, Any]:
    """Return the conditional Put of an item: into an empty place, or over an earlier revision of the same bar."""
    return {
        "TableName": table,
        "Item": one.item,
        "ConditionExpression": "attribute_not_exists(#key) OR "
        "(#at <= :at AND #symbol = :symbol AND #interval = :interval)",
        "ExpressionAttributeNames": {
            "#key": keys.partition,
            "#at": "ingested_at",
            "#symbol": "symbol",
            "#interval": "interval",
        },
        "ExpressionAttributeValues": {
            ":at": one.item["ingested_at"],
            ":symbol": one.item["symbol"],
            ":interval": one.item["interval"],
        },
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def taken_by(keys: Keys, one: BarItem, present: Mapping[str, Any]) -> str:
    """Return why the item in the table stands in a bar's place; empty if it is a later revision of the same bar."""
    if (present.get("symbol"), present.get("interval")) == one.identity:
        return ""
    symbol, interval = one.identity
    holder = f"{present['symbol']} {present.get('interval')}" if present.get("symbol") else "an item that is no bar"
    return (
        f"{keys.partition} {one.key[0]!r}, {keys.sort} {one.key[1]!r} is taken by {holder}, this is {symbol} "
        f"{interval}; give each interval a table of its own, or a table the partition key symbol"
    )
