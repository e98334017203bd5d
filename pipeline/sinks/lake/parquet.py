"""Records as Parquet, and back."""

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import records

_ARROW_TYPES = {
    "string": pa.string(),
    "double": pa.float64(),
    "bigint": pa.int64(),
    "boolean": pa.bool_(),
    # Athena reads a Parquet timestamp without zone as it stands; ours are UTC.
    "timestamp": pa.timestamp("ms"),
}


def encode(kind: type[records.Record], found: list[records.Record], compression: str) -> bytes:
    """Return a file of one row group, with the types of the tables and times as timestamps; `compression` is gzip, else
    zstd.
    """
    arrays, fields = [], []
    for column in records.columns(kind):
        arrow_type = _ARROW_TYPES[column.type]
        cells = [getattr(record, column.name) for record in found]
        is_time = column.type == "timestamp"
        arrays.append(pa.array(cells, pa.string()).cast(arrow_type) if is_time else pa.array(cells, arrow_type))
        fields.append(pa.field(column.name, arrow_type, nullable=column.optional))
    buffer = io.BytesIO()
    table = pa.Table.from_arrays(arrays, schema=pa.schema(fields))
    pq.write_table(
        table, buffer, compression="gzip" if compression == "gzip" else "zstd", row_group_size=max(len(found), 1)
    )
    return buffer.getvalue()


def decode(body: bytes) -> list[dict[str, Any]]:
    """Return the rows of a Parquet file."""
    # Without threads, and from memory: a thread of Arrow's that still held a Python file when the process ended may
    # abort it. `verify --deep` was aborted once at its end.
    table = pq.read_table(pa.BufferReader(body), use_threads=False, pre_buffer=False)
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows
