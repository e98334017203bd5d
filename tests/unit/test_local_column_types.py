"""The emulated crawl infers columns as AWS's crawler documents it."""

import gzip
import io
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from pyarrow import parquet

from local import column_types

LINES = (
    b'{"Symbol":"AAPL","close":1,"volume":5000000000,"ok":true,"n":null,"tags":["a"],"deep":{"x":1}}\n{"close":1.5}\n'
)
COLUMNS = {
    "symbol": "string",
    "close": "double",
    "volume": "bigint",
    "ok": "boolean",
    "tags": "array<string>",
    "deep": "struct<x:int>",
}


@pytest.mark.parametrize(("name", "body"), [("a.json", LINES), ("a.json.gz", gzip.compress(LINES))])
def test_json_columns(name, body):
    """Types of all records are merged, names are lower case, and a value that is always null makes no column."""
    assert column_types.columns("json", name, body, 1_000_000) == COLUMNS


def test_csv_columns():
    """A CSV's first row names the columns; whole numbers are bigint, and numbers mixed with text are text."""
    body = b"\xef\xbb\xbfDate,Volume,Close,Mixed\n2024-01-02,5,1.5,1\n2024-01-03,6,2,x\n"
    expected = {"date": "string", "volume": "bigint", "close": "double", "mixed": "string"}
    assert column_types.columns("csv", "a.csv", body, 1_000_000) == expected


def test_parquet_columns():
    """A Parquet file's own schema is taken."""
    buffer = io.BytesIO()
    parquet.write_table(pa.table({"Symbol": ["A"], "close": [1.5], "time": [datetime(2024, 1, 2, tzinfo=UTC)]}), buffer)
    found = column_types.columns("parquet", "a.parquet", buffer.getvalue(), 1_000_000)
    assert found == {"symbol": "string", "close": "double", "time": "timestamp"}


def test_only_whole_lines_of_the_limit_are_read():
    """A record cut off at the read limit is left out rather than read as half."""
    assert column_types.first_lines("a.json", b'{"a":1}\n{"b":2}\n', 12) == ['{"a":1}']
    assert column_types.first_lines("a.json.gz", gzip.compress(b'{"a":1}\n{"b":2}\n'), 12) == ['{"a":1}']


def test_names_that_are_no_data_are_left_out():
    """Only names that tell a known format make tables."""
    assert [column_types.kind_of(name) for name in ("a.json.gz", "A.CSV", "a.parquet", "a.txt", "b")] == [
        "json",
        "csv",
        "parquet",
        None,
        None,
    ]
