"""The DynamoDB table of bars: its keys, creating and checking it, and reading it by key."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import tenacity
from boto3.dynamodb.types import TypeDeserializer
from botocore.exceptions import WaiterError

from pipeline import aws
from pipeline.settings import ServiceError, Settings, SettingsError
from pipeline.sinks.dynamodb.items import Attributes, Keys

# It sorts behind every sort key that begins with a digit, and behind every time of the day that it is added to.
_LAST = "~"
_CREATION_SECONDS = 120

Item = dict[str, Any]

_OURS = frozenset({"S", "N", "BOOL"})
_DESERIALIZER = TypeDeserializer()


def plain(item: Attributes) -> Item:
    """Return an item's values: text, true and false, and numbers as exact Decimal. Other types are left out; we write
    none.
    """
    return {name: _DESERIALIZER.deserialize(typed) for name, typed in item.items() if _OURS & typed.keys()}


class PriceTable:
    """The settings' table. Reads are strongly consistent: what the consumer has committed is there. Methods raise
    ServiceError.
    """

    def __init__(self, settings: Settings) -> None:
        self.name, self._region = settings.dynamodb_table, settings.aws_region
        self.keys = Keys(settings.dynamodb_partition_key, settings.dynamodb_sort_key)
        if mistakes := self.keys.mistakes():
            raise SettingsError(mistakes)
        self._tags = [
            dict(zip(("Key", "Value"), tag.split("=", 1), strict=True)) for tag in settings.aws_tags.split(",") if tag
        ]
        self._client = aws.client(settings, "dynamodb")

    def create(self) -> bool:
        """Create the table: billed by request, with point-in-time recovery, encrypted with the account's KMS key for
        DynamoDB. Return False if there is one already, which is checked and left as it is.
        """
        with aws.naming("DYNAMODB_TABLE", self.name):
            try:
                self._client.create_table(
                    TableName=self.name,
                    KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in self._schema],
                    AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name, _ in self._schema],
                    BillingMode="PAY_PER_REQUEST",
                    SSESpecification={"Enabled": True, "SSEType": "KMS"},
                    **({"Tags": self._tags} if self._tags else {}),
                )
            except self._client.exceptions.ResourceInUseException:
                self.check()
                return False
            self._wait_until_active()
            self._keep_history()
        return True

    def check(self) -> None:
        """Make sure that the table exists, is active, and has the keys that the settings say."""
        with aws.naming("DYNAMODB_TABLE", self.name):
            try:
                found = self._client.describe_table(TableName=self.name)["Table"]
            except self._client.exceptions.ResourceNotFoundException:
                raise ServiceError(
                    f"DYNAMODB_TABLE={self.name}: {self._region} has no such table; "
                    "`python -m pipeline.dynamodb create` or `consumer.py --sink dynamodb --create-table` creates it"
                ) from None
            if found["TableStatus"] == "CREATING":
                self._wait_until_active()
        types = {
            definition["AttributeName"]: definition["AttributeType"] for definition in found["AttributeDefinitions"]
        }
        schema = [(key["AttributeName"], key["KeyType"]) for key in found["KeySchema"]]
        if schema != self._schema or {types[name] for name, _ in schema} != {"S"}:
            theirs = ", ".join(f"{name} ({kind}, {types[name]})" for name, kind in schema)
            ours = ", ".join(f"{name} ({kind}, S)" for name, kind in self._schema)
            raise ServiceError(
                f"DYNAMODB_PARTITION_KEY, DYNAMODB_SORT_KEY: the keys of {self.name} are {theirs}, and not {ours}"
            )

    @property
    def _schema(self) -> list[tuple[str, str]]:
        return [(self.keys.partition, "HASH"), (self.keys.sort, "RANGE")]

    def _wait_until_active(self) -> None:
        try:
            self._client.get_waiter("table_exists").wait(
                TableName=self.name, WaiterConfig={"Delay": 1, "MaxAttempts": _CREATION_SECONDS}
            )
        except WaiterError as error:
            raise ServiceError(f"DYNAMODB_TABLE={self.name}: is not active after {_CREATION_SECONDS} s") from error

    def _keep_history(self) -> None:
        """Switch on point-in-time recovery. A table that was just created may need a moment before it takes this."""
        unavailable = self._client.exceptions.ContinuousBackupsUnavailableException
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(unavailable),
            wait=tenacity.wait_fixed(1),
            stop=tenacity.stop_after_delay(_CREATION_SECONDS),
            reraise=True,
        )
        retrying(
            self._client.update_continuous_backups,
            TableName=self.name,
            PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True},
        )

    def get(self, company: str, date: str) -> Item | None:
        """Return the item of this company and sort key, None if there is none."""
        with self._reading():
            key = {self.keys.partition: {"S": company}, self.keys.sort: {"S": date}}
            answer = self._client.get_item(TableName=self.name, Key=key, ConsistentRead=True)
        return plain(answer["Item"]) if "Item" in answer else None

    def range(
        self, company: str, first: str = "", last: str = "", *, interval: str = "", backwards: bool = False
    ) -> Iterator[Item]:
        """Yield the items of a company from one day or time to another, both included, in their order; empty: without
        a limit. An interval leaves the others out; they are read, and paid for, all the same. Raise SettingsError for
        the wrong order.
        """
        if first > last + _LAST:
            raise SettingsError([f"{first} is after {last}"])
        names, values = {"#p": self.keys.partition, "#s": self.keys.sort}, {":p": {"S": company}}
        values |= {":first": {"S": first or "!"}, ":last": {"S": last + _LAST}}
        narrowed: dict[str, Any] = {}
        if interval:
            names["#i"], values[":i"] = "interval", {"S": interval}
            narrowed["FilterExpression"] = "#i = :i"
        with self._reading():
            pages = self._client.get_paginator("query").paginate(
                TableName=self.name,
                ConsistentRead=True,
                ScanIndexForward=not backwards,
                ExpressionAttributeNames=names,
                KeyConditionExpression="#p = :p AND #s BETWEEN :first AND :last",
                ExpressionAttributeValues=values,
                # The last one of an interval is near: no reason to read a MB for it.
                **narrowed,
                **({"PaginationConfig": {"PageSize": 25}} if backwards else {}),
            )
            yield from (plain(item) for page in pages for item in page["Items"])

    def latest(self, company: str, *, interval: str = "") -> Item | None:
        """Return the last item of a company, None if there is none."""
        return next(self.range(company, interval=interval, backwards=True), None)

    def companies(self) -> Iterator[str]:
        """Yield all partition keys, in no particular order, by one small read each: a scan that begins behind the last
        item of a partition finds the first one of the next.
        """
        start: dict[str, Any] = {}
        while True:
            with self._reading():
                found = self._client.scan(
                    TableName=self.name,
                    Limit=1,
                    ConsistentRead=True,
                    ProjectionExpression="#p",
                    ExpressionAttributeNames={"#p": self.keys.partition},
                    **start,
                )["Items"]
            if not found:
                return
            company: str = found[0][self.keys.partition]["S"]
            yield company
            start = {"ExclusiveStartKey": {self.keys.partition: {"S": company}, self.keys.sort: {"S": _LAST}}}

    def _reading(self) -> AbstractContextManager[None]:
        return aws.naming("DYNAMODB_TABLE", self.name)
