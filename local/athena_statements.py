"""Athena statements that Trino spells otherwise or does not have, told apart by the emulator's own SQL scanner.

SELECT, INSERT, CREATE VIEW and CREATE TABLE AS are Trino's as they stand. CREATE EXTERNAL TABLE and DROP TABLE are done
by the emulator, which writes to the same Glue catalog that Trino reads.
"""

import re
from dataclasses import dataclass
from types import ModuleType

NOT_EMULATED = {
    ("msck",): "MSCK REPAIR TABLE",
    ("unload",): "UNLOAD",
    ("alter", "table"): "ALTER TABLE",
}


@dataclass(frozen=True)
class Trino:
    """A statement for Trino to run, and the compression it asked for by Athena's own property."""

    sql: str
    compression: str | None = None


@dataclass(frozen=True)
class Emulator:
    """Hive DDL that the emulator carries out on its own Glue catalog; `ddl` is what its parser made of it."""

    ddl: object


@dataclass(frozen=True)
class ShowPartitions:
    database: str | None
    table: str


@dataclass(frozen=True)
class Refused:
    reason: str


def plan(query: str, table_location: str, athena: ModuleType) -> Trino | Emulator | ShowPartitions | Refused:
    """Decide who carries out a statement. `table_location` is where a CREATE TABLE AS without a place puts its data."""
    sql = query.strip().removesuffix(";").rstrip()
    ddl = athena._parse_ddl(sql)
    if ddl is not None:
        return Emulator(ddl)
    cursor = athena._Cursor(sql)
    for words, statement in NOT_EMULATED.items():
        if cursor.keywords(*words):
            return Refused(
                f"NOT_SUPPORTED: {statement} is not in the embedded Athena (it is in AWS's); "
                f"use Glue's calls, such as BatchCreatePartition"
            )
    if cursor.keywords("show", "partitions"):
        name = cursor.dotted_name(2)
        return (
            ShowPartitions(*name)
            if name and cursor.at_end()
            else Refused("SYNTAX_ERROR: SHOW PARTITIONS [database.]table")
        )
    sql, compression = _without_compression(sql, athena)
    return Trino(_with_location(_with_schema(sql, athena), table_location, athena), compression)


def _without_compression(sql: str, athena: ModuleType) -> tuple[str, str | None]:
    """Take write_compression = '…' out of a CREATE TABLE AS: for Trino the codec is a property of the session
    (https://docs.aws.amazon.com/athena/latest/ug/create-table-as.html)."""
    cursor = athena._Cursor(sql)
    if not cursor.keywords("create", "table"):
        return sql, None
    found = re.search(r"(,\s*)?\b(?:write|parquet|orc)_compression\s*=\s*'(\w+)'(\s*,)?", sql, re.IGNORECASE)
    if found is None:
        return sql, None
    comma = ", " if found[1] and found[3] else ""
    return sql[: found.start()] + comma + sql[found.end() :], found[2].upper()


def _with_schema(sql: str, athena: ModuleType) -> str:
    """Hive's word DATABASE is Trino's SCHEMA."""
    cursor = athena._Cursor(sql)
    if cursor.keywords("show", "databases"):
        word, replacement = cursor.tokens[1], "SCHEMAS"
    elif cursor.keywords("create", "database") or cursor.keywords("drop", "database"):
        word, replacement = cursor.tokens[1], "SCHEMA"
    else:
        return sql
    return sql[: word[2]] + replacement + sql[word[3] :]


def _with_location(sql: str, location: str, athena: ModuleType) -> str:
    """Name the place of a CREATE TABLE AS that names none: Athena puts it under the query's output location,
    Trino would need one on the database (https://docs.aws.amazon.com/athena/latest/ug/create-table-as.html)."""
    cursor = athena._Cursor(sql)
    if not cursor.keywords("create", "table"):
        return sql
    cursor.keywords("if", "not", "exists")
    if cursor.dotted_name(3) is None:
        return sql
    place = f"external_location = '{location}'"
    if cursor.keywords("with") and cursor.punct("("):
        start = cursor.tokens[cursor.i - 1][3]
        first = cursor.i
        cursor.skip_group()
        if any(token[:2] == ("name", "external_location") for token in cursor.tokens[first : cursor.i]):
            return sql
        return f"{sql[:start]}{place}, {sql[start:]}"
    if cursor.peek()[:2] == ("name", "as"):
        start = cursor.peek()[2]
        return f"{sql[:start]}WITH ({place}) {sql[start:]}"
    return sql
