"""Trino's values and types as the Athena API writes them: every value is a text, and NULL is no text at all. Pure."""

import base64
import math
from decimal import Decimal
from typing import Any

# Athena names types without their parameters, and calls Trino's real float
# (https://docs.aws.amazon.com/athena/latest/ug/data-types.html).
RENAMED_TYPES = {"real": "float", "char": "char", "unknown": "unknown"}


def athena_type(column: dict) -> str:
    """A column's type as ResultSetMetadata names it: timestamp(3) is timestamp, decimal(10,2) is decimal."""
    name = column["typeSignature"]["rawType"]
    return RENAMED_TYPES.get(name, name)


def precision_and_scale(column: dict) -> tuple[int, int]:
    """The numbers that Athena gives beside a type (GetQueryResults, ColumnInfo)."""
    signature = column["typeSignature"]
    lengths = [argument["value"] for argument in signature.get("arguments", []) if argument["kind"] == "LONG"]
    match signature["rawType"], lengths:
        case "decimal", [precision, scale]:
            return precision, scale
        case "varchar", _:
            return 2147483647, 0
        case "timestamp" | "time" | "timestamp with time zone" | "time with time zone", _:
            return 3, 0
        case name, _:
            return {"tinyint": 3, "smallint": 5, "integer": 10, "bigint": 19, "real": 17, "double": 17}.get(name, 0), 0


def text(value: Any, signature: dict) -> str | None:
    """One value as text. `value` is what Trino's JSON holds; `signature` is its typeSignature."""
    if value is None:
        return None
    arguments = [argument["value"] for argument in signature.get("arguments", [])]
    match signature["rawType"]:
        case "double" | "real":
            return float_text(value)
        case "boolean":
            return "true" if value else "false"
        case "timestamp" | "timestamp with time zone":
            return timestamp_text(value)
        case "varbinary":
            return base64.b64decode(value).hex(" ")
        case "array":
            return "[" + ", ".join(nested_text(item, arguments[0]) for item in value) + "]"
        case "map":
            return "{" + ", ".join(f"{key}={nested_text(item, arguments[1])}" for key, item in value.items()) + "}"
        case "row":
            return "{" + ", ".join(_field_text(item, field) for item, field in zip(value, arguments, strict=True)) + "}"
        case _:
            return str(value)


def nested_text(value: Any, signature: dict) -> str:
    return "null" if value is None else text(value, signature)


def _field_text(value: Any, field: dict) -> str:
    name = (field.get("fieldName") or {}).get("name")
    shown = nested_text(value, field["typeSignature"])
    return f"{name}={shown}" if name else shown


def float_text(value: float | str) -> str:
    """A floating-point number as Java's Double.toString writes it (JDK 19 and newer): 0.1, 1.0E10, 1.0E-5, NaN."""
    number = float(value)  # NaN and Infinity come as text, as JSON has no numbers for them
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    if number == 0 or 1e-3 <= abs(number) < 1e7:
        shown = format(Decimal(repr(number)), "f")
        return shown if "." in shown else f"{shown}.0"
    sign, digits, exponent = Decimal(repr(number)).as_tuple()
    figures = "".join(map(str, digits)).rstrip("0")
    power = len(digits) + exponent - 1
    return f"{'-' if sign else ''}{figures[0]}.{figures[1:] or '0'}E{power}"


def timestamp_text(value: str) -> str:
    """With three decimals whatever the precision, and the zone after them: 2024-01-02 00:00:00.000 UTC."""
    day, _, rest = value.partition(" ")
    clock, _, zone = rest.partition(" ")
    seconds, _, fraction = clock.partition(".")
    shown = f"{day} {seconds}.{fraction[:3]:0<3}"
    return f"{shown} {zone}" if zone else shown


def csv_bytes(rows: list[list[str | None]]) -> bytes:
    """The result object: every value in double quotes, NULL as nothing at all
    (https://docs.aws.amazon.com/athena/latest/ug/querying-finding-output-files.html)."""
    return "".join(",".join(map(_quoted, row)) + "\n" for row in rows).encode()


def _quoted(value: str | None) -> str:
    return "" if value is None else '"' + value.replace('"', '""') + '"'
