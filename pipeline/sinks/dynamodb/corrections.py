"""Taking bars back from the DynamoDB table. An item holds its last revision only, so the one before comes from outside:
from the lake, whose raw objects have every record.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from botocore.exceptions import ClientError

from pipeline import aws
from pipeline.records import Bar, encode
from pipeline.settings import Settings
from pipeline.sinks.dynamodb import items
from pipeline.sinks.dynamodb.table import Item, PriceTable


def find(settings: Settings, covers: Callable[[dict[str, object]], bool]) -> list[Item]:
    """Return the table's items that are bars to take back. Read every company. Raise ServiceError."""
    table = PriceTable(settings)
    table.check()
    return [item for company in table.companies() for item in table.range(company) if covers(item)]


def take_back(settings: Settings, wrong: Iterable[Item], right: Iterable[Bar]) -> Counter[str]:
    """Put the right bar of the same key in the place of each wrong item, or delete it where there is none. Return how
    many were `replaced`, `deleted`, or `changed` by somebody meanwhile, and so left. Raise ServiceError.
    """
    table = PriceTable(settings)
    client, done = aws.client(settings, "dynamodb"), Counter[str]()
    by_key: dict[tuple[str, str, str], Bar] = {(bar.symbol, bar.interval, bar.time): bar for bar in right}
    for item in wrong:
        place = {table.keys.partition: item[table.keys.partition], table.keys.sort: item[table.keys.sort]}
        bar = by_key.get((str(item["symbol"]), str(item["interval"]), str(item["time"])))
        # A right bar that names the company otherwise has a place of its own.
        is_same_place = bar is not None and table.keys.of(bar) == tuple(place.values())
        as_found: dict[str, Any] = {
            "TableName": table.name,
            "ConditionExpression": "#at = :at AND #symbol = :symbol",
            "ExpressionAttributeNames": {"#at": "ingested_at", "#symbol": "symbol"},
            "ExpressionAttributeValues": {":at": {"S": item["ingested_at"]}, ":symbol": {"S": item["symbol"]}},
        }
        with aws.naming("DYNAMODB_TABLE", table.name):
            try:
                if bar is not None and is_same_place:
                    client.put_item(Item=_item(table, bar), **as_found)
                else:
                    client.delete_item(Key={name: {"S": value} for name, value in place.items()}, **as_found)
            except client.exceptions.ConditionalCheckFailedException:
                done["changed"] += 1
                continue
        done["replaced" if is_same_place else "deleted"] += 1
    return done


def put_back(settings: Settings, bars: Iterable[Bar]) -> Counter[str]:
    """Write bars where the table has no later revision of them. Return how many were `restored` and how many `kept`
    their later one. Raise ServiceError.
    """
    table = PriceTable(settings)
    table.check()
    client, done = aws.client(settings, "dynamodb"), Counter[str]()
    for bar in bars:
        one = items.bar_item(table.keys, encode(bar), bar, offset=0, timestamp_ms=0)
        with aws.naming("DYNAMODB_TABLE", table.name):
            try:
                client.put_item(**items.put(table.name, table.keys, one))
            except ClientError as error:
                if aws.error_code(error) != "ConditionalCheckFailedException":
                    raise
                done["kept"] += 1
                continue
        done["restored"] += 1
    return done


def _item(table: PriceTable, bar: Bar) -> items.Attributes:
    return items.bar_item(table.keys, encode(bar), bar, offset=0, timestamp_ms=0).item
