"""Run queries on Athena: those of athena_queries.sql by name, or any SQL.

  python -m pipeline.athena                                  which queries there are
  python -m pipeline.athena monthly_performance volatility   run them, print tables
  python -m pipeline.athena --all --csv results/             run all, write results/<name>.csv
  python -m pipeline.athena --sql "SELECT count(*) AS bars FROM bars" --json -

From Python:

    athena = Athena(settings)
    frame = athena.query("SELECT symbol, close FROM bars WHERE ...")       # pandas DataFrame with proper dtypes
    frame = athena.query(queries()["monthly_performance"])                 # a named query; errors tell the line in the file
"""

import argparse
import itertools
import json
import logging
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pandas as pd
import pyarrow as pa
from pyarrow import csv

from pipeline import aws, settings, terminal
from pipeline.settings import ServiceError, Settings, SettingsError

log = logging.getLogger(__name__)

QUERIES_FILE = Path(__file__).parent.parent / "athena_queries.sql"
PRICE_USD_PER_TB = 5.0  # https://aws.amazon.com/athena/pricing/, most regions; a TB is 2**40 bytes, and the least is 10 MB
LEAST_BYTES_CHARGED = 10 * 2**20
LONGEST_SECONDS = 1800.0  # Athena's own default limit of a DML query
AT_THE_SAME_TIME = 4

_ARROW_TYPES = {
    "boolean": pa.bool_(), "tinyint": pa.int8(), "smallint": pa.int16(), "integer": pa.int32(), "bigint": pa.int64(),
    "float": pa.float32(), "double": pa.float64(), "date": pa.date32(), "timestamp": pa.timestamp("ms"),
}  # fmt: skip


@dataclass(frozen=True)
class Query:
    """One block of athena_queries.sql. `line` is that of the SQL's first line in the file."""

    name: str
    description: str
    sql: str
    line: int = 1
    path: str = ""


@dataclass(frozen=True)
class Result:
    """What a finished query gave, and what it took. `rows` of a statement without a result is empty."""

    id: str
    rows: pd.DataFrame
    scanned_bytes: int
    seconds: float

    @property
    def cost_usd(self) -> float:
        """By the list price of most regions. DDL is free; it scans nothing."""
        return max(self.scanned_bytes, LEAST_BYTES_CHARGED) / 2**40 * PRICE_USD_PER_TB if self.scanned_bytes else 0.0


class QueryFailed(ServiceError):
    """A query that Athena refused or gave up; the text is Athena's reason, with the place in the file."""


def queries(path: str | Path = QUERIES_FILE) -> dict[str, Query]:
    """The blocks of a file of queries, by name, in their order. A block begins with `-- name: …`; the comment lines below
    that are its description; the rest, up to the next block, is one statement. Raises SettingsError."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SettingsError([f"{path}: cannot be read ({error.strerror})"]) from None
    found: dict[str, Query] = {}
    starts = [number for number, line in enumerate(lines) if line.startswith("-- name:")] + [len(lines)]
    for start, end in itertools.pairwise(starts):
        name = lines[start].removeprefix("-- name:").strip()
        first = next((n for n in range(start + 1, end) if lines[n].strip() and not lines[n].startswith("--")), end)
        description = " ".join(line.removeprefix("--").strip() for line in lines[start + 1 : first]).strip()
        sql = "\n".join(lines[first:end]).strip().removesuffix(";").rstrip()
        if not re.fullmatch(r"\w+", name) or not sql or name in found:
            raise SettingsError([f"{path}:{start + 1}: a block needs a name of its own (letters, digits, _) and a statement: {name!r}"])
        found[name] = Query(name, description, sql, first + 1, str(path))
    return found


class Athena:
    """Runs statements in the settings' workgroup and database. Safe to use from many threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._athena = aws.client(settings, "athena", pool_connections=AT_THE_SAME_TIME)
        self._s3 = aws.client(settings, "s3", pool_connections=AT_THE_SAME_TIME)
        self._running: set[str] = set()

    def query(self, query: str | Query) -> pd.DataFrame:
        """The rows of a query. Dates and timestamps (UTC, without zone) are datetime64, bigint is int64 (Int64 where null
        occurs), double is float64, the rest is text with None for null. Raises QueryFailed and ServiceError."""
        return self.run(query).rows

    def run(self, query: str | Query) -> Result:
        """Run one statement to its end. Ctrl-C cancels it in Athena, so that it scans and costs no more."""
        sql = query.sql if isinstance(query, Query) else query
        began = time.monotonic()
        with aws.naming("ATHENA_WORKGROUP, GLUE_DATABASE", f"{self._settings.athena_workgroup}, {self._settings.glue_database}"):
            query_id = self._athena.start_query_execution(
                QueryString=sql,
                QueryExecutionContext={"Database": self._settings.glue_database},
                WorkGroup=self._settings.athena_workgroup,
            )["QueryExecutionId"]
            self._running.add(query_id)
            try:
                execution = self._wait(query_id, began)
            except BaseException:
                self._athena.stop_query_execution(QueryExecutionId=query_id)
                raise
            finally:
                self._running.discard(query_id)
            status = execution["Status"]
            if status["State"] != "SUCCEEDED":
                reason = status.get("StateChangeReason", f"query {query_id}: {status['State']}, and Athena does not say why")
                raise QueryFailed(_placed(reason, query) + _hint(reason))
            rows = self._rows(execution)
        statistics = execution.get("Statistics", {})
        log.debug("query done", extra={"id": query_id, "bytes": statistics.get("DataScannedInBytes", 0)})
        return Result(query_id, rows, statistics.get("DataScannedInBytes", 0), time.monotonic() - began)

    def cancel(self) -> None:
        """Cancel whatever other threads are running."""
        for query_id in list(self._running):
            self._athena.stop_query_execution(QueryExecutionId=query_id)

    def _wait(self, query_id: str, began: float) -> dict[str, Any]:
        pause_seconds = 0.05
        while True:
            execution = self._athena.get_query_execution(QueryExecutionId=query_id)["QueryExecution"]
            if execution["Status"]["State"] not in ("QUEUED", "RUNNING"):
                return execution
            if time.monotonic() - began > LONGEST_SECONDS:
                raise QueryFailed(f"query {query_id}: took longer than {LONGEST_SECONDS:.0f} s and was cancelled")
            time.sleep(pause_seconds)
            pause_seconds = min(pause_seconds * 1.5, 1.0)

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
        rows = [[cell.get("VarCharValue") for cell in row["Data"]] for page in pages for row in page["ResultSet"]["Rows"]]
        return pd.DataFrame(rows, columns=names[: max(map(len, rows), default=len(names))])


def _frame(body: bytes, columns: list[tuple[str, str, dict]]) -> pd.DataFrame:
    """The rows of Athena's CSV. Every value is quoted and null is nothing at all, which tells null from the empty text."""
    places = [f"c{number}" for number in range(len(columns))]
    table = csv.read_csv(
        pa.BufferReader(body),
        read_options=csv.ReadOptions(column_names=places, skip_rows=1),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(places, pa.string()), null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
        ),
    ) if body.count(b"\n", 0, len(body) - 1) else pa.table({place: pa.array([], pa.string()) for place in places})  # fmt: skip
    series = [_series(table.column(number), kind, details) for number, (_, kind, details) in enumerate(columns)]
    frame = pd.concat(series, axis=1) if series else pd.DataFrame()
    frame.columns = [name for name, _, _ in columns]
    return frame


def _series(texts: pa.ChunkedArray, kind: str, details: dict) -> pd.Series:
    wanted = pa.decimal128(details["Precision"], details["Scale"]) if kind == "decimal" else _ARROW_TYPES.get(kind)
    if kind == "timestamp with time zone":
        # Everything here is UTC, and says so: "2026-01-02 14:30:00.000 UTC".
        texts, wanted = pa.chunked_array([pa.array([t and t.removesuffix(" UTC") for t in texts.to_pylist()], pa.string())]), pa.timestamp("ms")
    values = texts.cast(wanted) if wanted else texts
    if wanted and pa.types.is_integer(wanted) and values.null_count:
        return values.to_pandas(types_mapper={pa.int8(): pd.Int8Dtype(), pa.int16(): pd.Int16Dtype(), pa.int32(): pd.Int32Dtype(),
                                              pa.int64(): pd.Int64Dtype()}.get)  # fmt: skip
    if kind == "date":
        return values.cast(pa.timestamp("ms")).to_pandas()
    return values.to_pandas() if wanted else pd.Series(texts.to_pylist(), dtype=object)


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
        "Insufficient permissions": "; the policy that is needed: `python glue_setup.py show --policy`",
    }
    return next((hint for sign, hint in hints.items() if sign in reason), "")


def main() -> int:
    parser = _parser()
    options = parser.parse_args()
    wanted = settings.load({name: getattr(options, name) for name in ("glue_database", "athena_workgroup")})
    terminal.configure_logging(wanted)
    known = queries(options.file)
    unknown = [name for name in options.names if name not in known]
    if unknown:
        raise SettingsError([f"{name}: is not in {options.file}, which has {', '.join(known)}" for name in unknown])
    chosen = [Query("sql", "", options.sql)] if options.sql else [known[n] for n in (known if options.all else options.names)]
    if not chosen:
        print(*(f"{query.name:<28} {query.description}" for query in known.values()), sep="\n")
        return terminal.EXIT_DONE
    if not options.sql and options.show_sql:
        print(*(f"-- {query.name}\n{query.sql};\n" for query in chosen), sep="\n")
        return terminal.EXIT_DONE
    return _run_all(Athena(wanted), chosen, options)


def _run_all(athena: Athena, chosen: list[Query], options: argparse.Namespace) -> int:
    """Run a few at a time, show them in order; one that fails does not keep the others from running."""
    failed, finished = 0, []
    with _sigterm_as_ctrl_c(), ThreadPoolExecutor(AT_THE_SAME_TIME) as pool:
        futures = [pool.submit(athena.run, query) for query in chosen]
        try:
            for query, future in zip(chosen, futures, strict=True):
                try:
                    result = future.result()
                except QueryFailed as error:
                    failed += 1
                    print(f"error: {error}", file=sys.stderr)
                    continue
                finished.append(result)
                _show(query, result, options, is_one=len(chosen) == 1)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            athena.cancel()
            raise
    if len(chosen) > 1:
        scanned, cost = sum(r.scanned_bytes for r in finished), sum(r.cost_usd for r in finished)
        print(f"{len(finished)} queries, {failed} failed, {_size(scanned)} scanned, {cost:.6f} USD at list price", file=sys.stderr)
    return terminal.EXIT_FAILED if failed else terminal.EXIT_DONE


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """SIGTERM does what Ctrl-C does: nothing is left running in Athena."""

    def interrupt(_signum: int, _frame: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _show(query: Query, result: Result, options: argparse.Namespace, *, is_one: bool) -> None:
    cost = f"{len(result.rows):,} rows, {result.seconds:.2f} s, {_size(result.scanned_bytes)} scanned, {result.cost_usd:.6f} USD at list price"
    for kind, place in (("csv", options.csv), ("json", options.json)):
        if place:
            print(f"{query.name}: {cost}{_write(result.rows, kind, place, query.name, is_one=is_one)}", file=sys.stderr)
    if options.csv or options.json:
        return
    print(*filter(None, [f"\n{query.name}", query.description]), sep="\n", end="\n\n")
    most = options.rows if options.rows is not None else 40 if sys.stdout.isatty() else 0
    shown = result.rows.head(most) if most else result.rows
    if not result.rows.empty:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print(shown.to_string(index=False, na_rep="", line_width=width, float_format=lambda number: f"{number:,.4f}".rstrip("0").rstrip(".")))
    if len(shown) < len(result.rows):
        print(f"… {len(result.rows) - len(shown):,} more rows: --rows 0 prints all, --csv FILE writes all")
    print(f"\n({cost})")


def _write(rows: pd.DataFrame, kind: str, place: str, name: str, *, is_one: bool) -> str:
    """Write to standard output (-), to a file, or into a folder as <name>.csv; what to say about where."""
    path: Any = sys.stdout
    if place != "-":
        is_folder = not is_one or place.endswith("/") or Path(place).is_dir()
        path = Path(place) / f"{name}.{kind}" if is_folder else Path(place)
        path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "csv":
        rows.to_csv(path, index=False)
    else:
        # Not pandas' own writer, which rounds doubles. NaN is not JSON.
        objects = rows.astype(object).where(rows.notna(), None).to_dict("records")
        text = json.dumps(objects, indent=1, default=lambda value: value.isoformat() if hasattr(value, "isoformat") else str(value))
        print(text) if path is sys.stdout else path.write_text(text + "\n", encoding="utf-8")
    return "" if place == "-" else f" -> {path}"


def _size(size_bytes: int) -> str:
    for unit, name in ((2**30, "GB"), (2**20, "MB"), (2**10, "KB")):
        if size_bytes >= unit:
            return f"{size_bytes / unit:.1f} {name}"
    return f"{size_bytes} bytes"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipeline.athena", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="queries of the file; none: list them")
    parser.add_argument("--all", action="store_true", help="every query of the file")
    parser.add_argument("--sql", help="this statement instead of a named query")
    parser.add_argument("--file", default=str(QUERIES_FILE), help="another file of named queries")
    parser.add_argument("--csv", metavar="FILE", help="write CSV: a file, a folder (<name>.csv each), or - for standard output")
    parser.add_argument("--json", metavar="FILE", help="write JSON, an array of objects, likewise")
    parser.add_argument("--rows", type=int, metavar="N", help="print at most N rows, 0 for all (default 40 on a terminal)")
    parser.add_argument("--show-sql", action="store_true", help="print the SQL and run nothing")
    parser.add_argument("--database", dest="glue_database", help="GLUE_DATABASE")
    parser.add_argument("--workgroup", dest="athena_workgroup", help="ATHENA_WORKGROUP")
    return parser


if __name__ == "__main__":
    terminal.run(main)
