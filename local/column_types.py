"""What columns an object has, from its first megabyte: for the emulated crawl. Pure."""

import csv
import io
import json
import zlib
from typing import Any

import pyarrow as pa
from pyarrow import parquet

TEXT_INPUT = {
    "InputFormat": "org.apache.hadoop.mapred.TextInputFormat",
    "OutputFormat": "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat",
}
# How AWS's crawler describes each format's storage.
STORAGE = {
    "json": TEXT_INPUT | {"SerdeInfo": {"SerializationLibrary": "org.openx.data.jsonserde.JsonSerDe"}},
    "csv": TEXT_INPUT
    | {
        "SerdeInfo": {
            "SerializationLibrary": "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe",
            "Parameters": {"field.delim": ","},
        }
    },
    "parquet": {
        "InputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
        "OutputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
        "SerdeInfo": {"SerializationLibrary": "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"},
    },
}
# From narrow to wide; any other pair of different types has only string in common.
NUMBERS = ("int", "bigint", "double")
INT_LIMIT = 2**31


def kind_of(name: str) -> str | None:
    """The format an object's name tells, compressed or not; None for what is not data."""
    plain = name.lower().removesuffix(".gz")
    return next((kind for kind in STORAGE if plain.endswith(f".{kind}")), None)


def columns(kind: str, name: str, body: bytes, limit_bytes: int) -> dict[str, str]:
    """Column names, in order, with their Hive types."""
    if kind == "parquet":
        schema = parquet.read_schema(io.BytesIO(body))
        return {column.name.lower(): arrow_type(column.type) for column in schema}
    lines = first_lines(name, body, limit_bytes)
    return json_columns(lines) if kind == "json" else csv_columns(lines)


def first_lines(name: str, body: bytes, limit_bytes: int) -> list[str]:
    """Whole lines out of the first `limit_bytes` of the content, unpacked when it is gzip."""
    if name.lower().endswith(".gz"):
        # 16 tells zlib to expect gzip's header.
        content = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(body, limit_bytes)
        is_whole = len(content) < limit_bytes
    else:
        content, is_whole = body[:limit_bytes], len(body) <= limit_bytes
    text = content.decode("utf-8-sig", errors="replace")
    return (text if is_whole else text.rpartition("\n")[0]).splitlines()


def json_columns(lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in filter(str.strip, lines):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        for name, value in record.items() if isinstance(record, dict) else ():
            kind = json_type(value)
            if kind:
                found[name.lower()] = wider(found[name.lower()], kind) if name.lower() in found else kind
    return found


def json_type(value: Any) -> str | None:
    """A value's Hive type; None for null, which tells nothing."""
    match value:
        case None:
            return None
        case bool():
            return "boolean"
        case int():
            return "int" if -INT_LIMIT <= value < INT_LIMIT else "bigint"
        case float():
            return "double"
        case dict():
            return (
                "struct<"
                + ",".join(f"{name.lower()}:{json_type(item) or 'string'}" for name, item in value.items())
                + ">"
            )
        case list():
            return f"array<{next(filter(None, map(json_type, value)), 'string')}>"
    return "string"


def csv_columns(lines: list[str]) -> dict[str, str]:
    rows = list(csv.reader(lines))
    if not rows:
        return {}
    names = [name.strip().lower().replace(" ", "_") for name in rows[0]]
    found: dict[str, str] = {}
    for row in rows[1:]:
        for name, value in zip(names, row, strict=False):
            if value:
                found[name] = wider(found[name], csv_type(value)) if name in found else csv_type(value)
    return {name: found.get(name, "string") for name in names}


def csv_type(value: str) -> str:
    """Glue's CSV classifier knows bigint, double and string."""
    for kind, parse in (("bigint", int), ("double", float)):
        try:
            parse(value)
        except ValueError:
            continue
        return kind
    return "string"


def wider(one: str, other: str) -> str:
    if one == other:
        return one
    if one in NUMBERS and other in NUMBERS:
        return max(one, other, key=NUMBERS.index)
    return "string"


def arrow_type(kind: pa.DataType) -> str:
    """Arrow's types that Parquet files of this product hold, in Hive's words."""
    types = pa.types
    names = (
        (types.is_timestamp, "timestamp"),
        (types.is_date, "date"),
        (types.is_boolean, "boolean"),
        (types.is_float64, "double"),
        (types.is_float32, "float"),
        (types.is_int64, "bigint"),
        (types.is_integer, "int"),
    )
    if types.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    return next((name for is_kind, name in names if is_kind(kind)), "string")
