"""Statements on Athena: start, wait, cancel, and return the rows as a pandas DataFrame.

athena = Athena(settings)
frame = athena.query("SELECT symbol, close FROM bars WHERE ...")       # pandas DataFrame with proper dtypes
frame = athena.query(queries()["monthly_performance"])                 # a named query; errors tell the line in the file
"""

import logging
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pandas as pd
import pyarrow as pa
import tenacity
from pyarrow import csv

from pipeline import aws
from pipeline.athena.queries import Query
from pipeline.settings import ServiceError, Settings

log = logging.getLogger(__name__)

PRICE_USD_PER_TB = (
    5.0  # https://aws.amazon.com/athena/pricing/, most regions; a TB is 2**40 bytes, and the least is 10 MB
)
LEAST_BYTES_CHARGED = 10 * 2**20
LONGEST_SECONDS = 1800.0  # Athena's own default limit of a DML query
AT_THE_SAME_TIME = 4

# What the ETL has not read yet is JSON and has to be compared row by row, so it is what costs most.
_TOO_LARGE = (
    "; the query needs more memory than the engine has: run `python glue_setup.py etl` first, "
    "or ask for fewer months and symbols at a time (WHERE month = …, symbol IN …)"
)
_ARROW_TYPES = {
    "boolean": pa.bool_(),
    "tinyint": pa.int8(),
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("ms"),
}


Column = tuple[str, str, dict[str, Any]]  # name, type, and Athena's other words about it


@dataclass(frozen=True)
class Result:
    """What a finished query returned, and what it took. `rows` of a statement without a result is empty."""

    id: str
    rows: pd.DataFrame
    scanned_bytes: int
    seconds: float

    @property
    def cost_usd(self) -> float:
        """The list price of most regions, in US dollars. DDL scans nothing and is free."""
        return max(self.scanned_bytes, LEAST_BYTES_CHARGED) / 2**40 * PRICE_USD_PER_TB if self.scanned_bytes else 0.0


class QueryFailed(ServiceError):
    """Athena refused a query or gave up on it; the text is Athena's reason, with the place in the file."""


class Athena:
    """Runs statements in the settings' workgroup and database. Threads may share it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._athena = aws.client(settings, "athena", pool_connections=AT_THE_SAME_TIME)
        self._s3 = aws.client(settings, "s3", pool_connections=AT_THE_SAME_TIME)
        self._running: set[str] = set()

    def query(self, query: str | Query) -> pd.DataFrame:
        """Return the rows of a query. Dates and timestamps (UTC, without zone) are datetime64, bigint is int64 (Int64
        where null occurs), double is float64, the rest is text with None for null. Raises QueryFailed and ServiceError.
        """
        return self.run(query).rows

    def run(self, query: str | Query) -> Result:
        """Run one statement to its end. Ctrl-C cancels it in Athena, so that it scans and costs no more. Raises
        QueryFailed and ServiceError.
        """
        sql = query.sql if isinstance(query, Query) else query
        began = time.monotonic()
        with aws.naming(
            "ATHENA_WORKGROUP, GLUE_DATABASE", f"{self._settings.athena_workgroup}, {self._settings.glue_database}"
        ):
            query_id = self._athena.start_query_execution(
                QueryString=sql,
                QueryExecutionContext={"Database": self._settings.glue_database},
                WorkGroup=self._settings.athena_workgroup,
            )["QueryExecutionId"]
            self._running.add(query_id)
            try:
                execution = self._finished(query_id)
            except BaseException:
                self._athena.stop_query_execution(QueryExecutionId=query_id)
                raise
            finally:
                self._running.discard(query_id)
            status = execution["Status"]
            if status["State"] != "SUCCEEDED":
                reason = status.get(
                    "StateChangeReason", f"query {query_id}: {status['State']}, and Athena does not say why"
                )
                raise QueryFailed(_placed(reason, query) + _hint(reason))
            rows = self._rows(execution)
        statistics = execution.get("Statistics", {})
        log.debug("query done", extra={"id": query_id, "bytes": statistics.get("DataScannedInBytes", 0)})
        return Result(query_id, rows, statistics.get("DataScannedInBytes", 0), time.monotonic() - began)

    def cancel(self) -> None:
        """Cancel what other threads are running."""
        for query_id in list(self._running):
            self._athena.stop_query_execution(QueryExecutionId=query_id)

    def _finished(self, query_id: str) -> dict[str, Any]:
        """Wait for the end of a query: short pauses first, for most queries take less than a second."""
        until_finished = tenacity.Retrying(
            retry=tenacity.retry_if_result(lambda execution: execution["Status"]["State"] in ("QUEUED", "RUNNING")),
            wait=tenacity.wait_exponential(multiplier=0.05, exp_base=1.5, max=1.0),
            stop=tenacity.stop_after_delay(LONGEST_SECONDS),
        )
        try:
            return until_finished(self._execution, query_id)
        except tenacity.RetryError:
            raise QueryFailed(f"query {query_id}: took longer than {LONGEST_SECONDS:.0f} s and was cancelled") from None

    def _execution(self, query_id: str) -> dict[str, Any]:
        execution: dict[str, Any] = self._athena.get_query_execution(QueryExecutionId=query_id)["QueryExecution"]
        return execution

    def _rows(self, execution: dict[str, Any]) -> pd.DataFrame:
        """From the result object: 1,000,000 rows in one request, where GetQueryResults would need a thousand."""
        first = self._athena.get_query_results(QueryExecutionId=execution["QueryExecutionId"], MaxResults=1)
        columns = [(c["Name"], c["Type"], c) for c in first["ResultSet"]["ResultSetMetadata"]["ColumnInfo"]]
        place = urlparse(execution["ResultConfiguration"]["OutputLocation"])
        if not columns:
            return pd.DataFrame()
        if not place.path.endswith(".csv"):
            return self._text_rows(execution["QueryExecutionId"], [name for name, _, _ in columns])
        body = self._s3.get_object(Bucket=place.netloc, Key=place.path.lstrip("/"))["Body"].read()
        return _frame(body, columns)

    def _text_rows(self, query_id: str, names: list[str]) -> pd.DataFrame:
        """What SHOW, DESCRIBE and EXPLAIN say."""
        pages = self._athena.get_paginator("get_query_results").paginate(QueryExecutionId=query_id)
        rows = [
            [cell.get("VarCharValue") for cell in row["Data"]] for page in pages for row in page["ResultSet"]["Rows"]
        ]
        return pd.DataFrame(rows, columns=names[: max(map(len, rows), default=len(names))])


def _frame(body: bytes, columns: list[Column]) -> pd.DataFrame:
    """The rows of Athena's CSV. Every value is quoted and null is nothing at all, which tells null from the
    empty text.
    """
    places = [f"c{number}" for number in range(len(columns))]
    table = (
        csv.read_csv(
            pa.BufferReader(body),
            read_options=csv.ReadOptions(column_names=places, skip_rows=1),
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(places, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
        if body.count(b"\n", 0, len(body) - 1)
        else pa.table({place: pa.array([], pa.string()) for place in places})
    )
    series = [_series(table.column(number), kind, details) for number, (_, kind, details) in enumerate(columns)]
    frame = pd.concat(series, axis=1) if series else pd.DataFrame()
    frame.columns = [name for name, _, _ in columns]
    frame.attrs["dates"] = [name for name, kind, _ in columns if kind == "date"]  # datetime64, but days
    return frame


def _series(texts: pa.ChunkedArray, kind: str, details: dict[str, Any]) -> "pd.Series[Any]":
    wanted = pa.decimal128(details["Precision"], details["Scale"]) if kind == "decimal" else _ARROW_TYPES.get(kind)
    if kind == "timestamp with time zone":
        # Everything here is UTC, and says so: "2026-01-02 14:30:00.000 UTC".
        texts, wanted = (
            pa.chunked_array([pa.array([t and t.removesuffix(" UTC") for t in texts.to_pylist()], pa.string())]),
            pa.timestamp("ms"),
        )
    values = texts.cast(wanted) if wanted else texts
    if wanted and pa.types.is_integer(wanted) and values.null_count:
        return _pandas(
            values,
            types_mapper={
                pa.int8(): pd.Int8Dtype(),
                pa.int16(): pd.Int16Dtype(),
                pa.int32(): pd.Int32Dtype(),
                pa.int64(): pd.Int64Dtype(),
            }.get,
        )
    if kind == "date":
        return _pandas(values.cast(pa.timestamp("ms")))
    return _pandas(values) if wanted else pd.Series(texts.to_pylist(), dtype=object)


def _pandas(values: pa.ChunkedArray, **options: Any) -> "pd.Series[Any]":
    series: pd.Series[Any] = values.to_pandas(**options)
    return series


def _placed(reason: str, query: str | Query) -> str:
    """Athena counts lines from the statement's first; the reader has the file."""
    if not isinstance(query, Query) or not query.path:
        return reason
    found = re.search(r"line (\d+):(\d+)", reason)
    line = query.line + (int(found[1]) - 1 if found else 0)
    column = f":{found[2]}" if found else ""
    return f"{Path(query.path).name}:{line}{column} ({query.name}): {reason}"


def _hint(reason: str) -> str:
    hints = {
        "TABLE_NOT_FOUND": "; `python glue_setup.py` makes the tables and views",
        "SCHEMA_NOT_FOUND": "; `python glue_setup.py` makes the database, GLUE_DATABASE names it",
        "_MEMORY_LIMIT": _TOO_LARGE,
        "exhausted resources": _TOO_LARGE,  # Athena's words for the same
        "_SPILL_": _TOO_LARGE,
        "Insufficient permissions": "; the policy that is needed: `python glue_setup.py show --policy`",
    }
    return next((hint for sign, hint in hints.items() if sign in reason), "")
