"""The DynamoDB table of bars: one price by key, without SQL.

  python -m pipeline.dynamodb get Apple 2025-04-15               one day's bar; a time for shorter bars: "2025-04-15 13:30:00.000"
  python -m pipeline.dynamodb range Apple 2025-01-01 2025-03-31  all bars of these days, first and last included
  python -m pipeline.dynamodb latest                             the last bar of every company, or of those that are named
  python -m pipeline.dynamodb create                             make the table

`consumer.py --sink dynamodb` fills it. Companies are spelled as the records spell them; bars without one stand under their symbol.
"""

import argparse
import itertools
import re
import sys
import time
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

import msgspec
import pandas as pd
from botocore.exceptions import WaiterError

from pipeline import aws, records, settings, terminal
from pipeline.dynamodb_items import Attributes, Keys, plain
from pipeline.records import Bar
from pipeline.settings import ServiceError, Settings, SettingsError

# It sorts behind every sort key that begins with a digit, and behind every time of the day that it is added to.
_LAST = "~"
_NUMBERS = ("open", "high", "low", "close", "volume")
_CREATION_SECONDS = 120

Item = dict[str, Any]


class Table:
    """The settings' table. Reads are strongly consistent: what the consumer has committed is there. Raises ServiceError."""

    def __init__(self, settings: Settings) -> None:
        self.name, self._region = settings.dynamodb_table, settings.aws_region
        self.keys = Keys(settings.dynamodb_partition_key, settings.dynamodb_sort_key)
        if mistakes := self.keys.mistakes():
            raise SettingsError(mistakes)
        self._tags = [dict(zip(("Key", "Value"), tag.split("=", 1), strict=True)) for tag in settings.aws_tags.split(",") if tag]
        self._client = aws.client(settings, "dynamodb")

    def create(self) -> bool:
        """Make the table: billed by request, with point-in-time recovery, encrypted with the account's KMS key for DynamoDB.
        False if there is one already, which is left as it is; what is there is checked."""
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
        """Make sure that the table is there, can be written to, and has the keys that the settings say."""
        with aws.naming("DYNAMODB_TABLE", self.name):
            try:
                found = self._client.describe_table(TableName=self.name)["Table"]
            except self._client.exceptions.ResourceNotFoundException:
                raise ServiceError(f"DYNAMODB_TABLE={self.name}: {self._region} has no such table; "
                                   "`python -m pipeline.dynamodb create` or `consumer.py --sink dynamodb --create-table` makes it") from None
            if found["TableStatus"] == "CREATING":
                self._wait_until_active()
        types = {definition["AttributeName"]: definition["AttributeType"] for definition in found["AttributeDefinitions"]}
        schema = [(key["AttributeName"], key["KeyType"]) for key in found["KeySchema"]]
        if schema != self._schema or {types[name] for name, _ in schema} != {"S"}:
            theirs = ", ".join(f"{name} ({kind}, {types[name]})" for name, kind in schema)
            ours = ", ".join(f"{name} ({kind}, S)" for name, kind in self._schema)
            raise ServiceError(f"DYNAMODB_PARTITION_KEY, DYNAMODB_SORT_KEY: the keys of {self.name} are {theirs}, and not {ours}")

    @property
    def _schema(self) -> list[tuple[str, str]]:
        return [(self.keys.partition, "HASH"), (self.keys.sort, "RANGE")]

    def _wait_until_active(self) -> None:
        try:
            self._client.get_waiter("table_exists").wait(TableName=self.name, WaiterConfig={"Delay": 1, "MaxAttempts": _CREATION_SECONDS})
        except WaiterError as error:
            raise ServiceError(f"DYNAMODB_TABLE={self.name}: is not active after {_CREATION_SECONDS} s") from error

    def _keep_history(self) -> None:
        """Point-in-time recovery. A table that was just made may need a moment before it takes this."""
        give_up = time.monotonic() + _CREATION_SECONDS
        while True:
            try:
                self._client.update_continuous_backups(
                    TableName=self.name, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
                )
            except self._client.exceptions.ContinuousBackupsUnavailableException:
                if time.monotonic() > give_up:
                    raise
                time.sleep(1)
            else:
                return

    def get(self, company: str, date: str) -> Item | None:
        """The item of this company and sort key."""
        with self._reading():
            key = {self.keys.partition: {"S": company}, self.keys.sort: {"S": date}}
            answer = self._client.get_item(TableName=self.name, Key=key, ConsistentRead=True)
        return plain(answer["Item"]) if "Item" in answer else None

    def range(self, company: str, first: str = "", last: str = "", *, interval: str = "", backwards: bool = False) -> Iterator[Item]:
        """The items of a company from one day or time to another, both included, in their order; empty: without a limit.
        An interval leaves the others out, which are read, and paid for, all the same. Raises SettingsError for the wrong order."""
        if first > last + _LAST:
            raise SettingsError([f"{first} is after {last}"])
        names, values = {"#p": self.keys.partition, "#s": self.keys.sort}, {":p": {"S": company}}
        values |= {":first": {"S": first or "!"}, ":last": {"S": last + _LAST}}
        narrowed = {}
        if interval:
            names["#i"], values[":i"] = "interval", {"S": interval}
            narrowed["FilterExpression"] = "#i = :i"
        with self._reading():
            pages = self._client.get_paginator("query").paginate(
                TableName=self.name, ConsistentRead=True, ScanIndexForward=not backwards, ExpressionAttributeNames=names,
                KeyConditionExpression="#p = :p AND #s BETWEEN :first AND :last", ExpressionAttributeValues=values,
                # The last one of an interval is near: no reason to read a MB for it.
                **narrowed, **({"PaginationConfig": {"PageSize": 25}} if backwards else {}),
            )  # fmt: skip
            yield from (plain(item) for page in pages for item in page["Items"])

    def latest(self, company: str, *, interval: str = "") -> Item | None:
        """The last item of a company."""
        return next(self.range(company, interval=interval, backwards=True), None)

    def companies(self) -> Iterator[str]:
        """All partition keys, in no particular order, by one small read each: a scan that begins behind the last item of a
        partition finds the first one of the next."""
        start: dict[str, Attributes] = {}
        while True:
            with self._reading():
                found = self._client.scan(
                    TableName=self.name, Limit=1, ConsistentRead=True, ProjectionExpression="#p",
                    ExpressionAttributeNames={"#p": self.keys.partition}, **start,
                )["Items"]  # fmt: skip
            if not found:
                return
            company = found[0][self.keys.partition]["S"]
            yield company
            start = {"ExclusiveStartKey": {self.keys.partition: {"S": company}, self.keys.sort: {"S": _LAST}}}

    def _reading(self) -> Any:
        return aws.naming("DYNAMODB_TABLE", self.name)


def daily_bars(settings: Settings, *, symbols: Iterable[str] = (), first_day: object = None, last_day: object = None) -> pd.DataFrame:
    """The table's daily bars as the query daily_bars of athena_queries.sql gives them: symbol, day (datetime64), open, high, low,
    close, volume (double), in the order of symbol and day. Every company is read; `symbols` are chosen afterwards."""
    table, wanted = Table(settings), set(symbols)
    table.check()
    rows = [
        {"symbol": item["symbol"], "day": item["time"], **{name: float(item[name]) for name in _NUMBERS}}
        for company in table.companies()
        for item in table.range(company, str(first_day or ""), str(last_day or ""), interval="1d")
        if not wanted or item["symbol"] in wanted
    ]
    frame = pd.DataFrame(rows, columns=["symbol", "day", *_NUMBERS])
    frame["day"] = pd.to_datetime(frame["day"])
    return frame.sort_values(["symbol", "day"], ignore_index=True)


def main() -> int:
    options = _parser().parse_args()
    given = {name: getattr(options, name) for name in vars(options) if name in Settings.__dataclass_fields__}
    wanted = settings.load(given)
    terminal.configure_logging(wanted)
    table = Table(wanted)
    if options.command == "create":
        print(f"{table.name}: {'made' if table.create() else 'is there already, with these keys'}")
        return terminal.EXIT_DONE
    table.check()
    if options.command == "get":
        found = [item for item in [table.get(options.company, options.date)] if item]
    elif options.command == "range":
        found = list(table.range(options.company, options.first, options.last, interval=options.interval))
    else:
        companies = options.companies or sorted(table.companies())
        found = [item for company in companies if (item := table.latest(company, interval=options.interval))]
    if not found:
        print(f"{table.name}: no item for this; `python -m pipeline.dynamodb latest` lists the companies as they are spelled", file=sys.stderr)
        return terminal.EXIT_FAILED
    _print(table, found, options.format)
    return terminal.EXIT_DONE


def _print(table: Table, found: list[Item], form: str) -> None:
    """Columns in the order of the record, those that no item has left out. Numbers are written as they are stored."""
    order = dict.fromkeys([table.keys.partition, table.keys.sort, *(column.name for column in records.columns(Bar))])
    present = set(itertools.chain.from_iterable(found))
    names = [name for name in order if name in present] + sorted(present - set(order))
    rows = [{name: _written(item.get(name)) for name in names} for item in found]
    if form == "json":
        print(msgspec.json.format(msgspec.json.Encoder(decimal_format="number").encode(rows), indent=1).decode())
        return
    frame = pd.DataFrame(rows, columns=names, dtype=object)
    if form == "csv":
        frame.to_csv(sys.stdout, index=False)
        return
    # On a terminal the prices matter, where they came from does not; CSV and JSON have everything.
    shown = [name for name in names if name not in ("time", "source", "ingested_at")]
    print(frame[shown].fillna("").to_string(index=False))


def _written(field: object) -> object:
    """Numbers without an exponent: 158168416 and not 1.58168416E+8."""
    return Decimal(f"{field:f}") if isinstance(field, Decimal) else field


def _date(text: str) -> str:
    """A day, a time, or a day with the interval of a longer bar."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\d( .*)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not YYYY-MM-DD, nor YYYY-MM-DD HH:MM:SS.SSS")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipeline.dynamodb", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="get|range|latest|create")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--table", dest="dynamodb_table", help="DYNAMODB_TABLE")
    common.add_argument("--partition-key", dest="dynamodb_partition_key", metavar="NAME", help="DYNAMODB_PARTITION_KEY")
    common.add_argument("--sort-key", dest="dynamodb_sort_key", metavar="NAME", help="DYNAMODB_SORT_KEY")
    reading = argparse.ArgumentParser(add_help=False, parents=[common])
    reading.add_argument("--format", choices=["table", "csv", "json"], default="table", help="default table")
    several = argparse.ArgumentParser(add_help=False, parents=[reading])
    several.add_argument("--interval", choices=records.INTERVALS, metavar="1d", default="", help="bars of this length only")
    get = commands.add_parser("get", parents=[reading], help="one bar")
    get.add_argument("company")
    get.add_argument("date", type=_date, help="YYYY-MM-DD, or the whole time of a shorter bar")
    ranged = commands.add_parser("range", parents=[several], help="all bars from one day to another")
    ranged.add_argument("company")
    ranged.add_argument("first", type=_date, help="YYYY-MM-DD, or a time")
    ranged.add_argument("last", type=_date, help="likewise; included")
    latest = commands.add_parser("latest", parents=[several], help="the last bar of each company")
    latest.add_argument("companies", nargs="*", metavar="company", help="default: all that the table has")
    commands.add_parser("create", parents=[common], help="make the table")
    return parser


if __name__ == "__main__":
    terminal.run(main)
