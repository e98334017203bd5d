"""Athena's query calls, carried out by Trino: what ministack does with DuckDB and without checks, done as AWS does it.

ministack's own query path keeps no views, accepts a wrong workgroup or database, puts the result object at another
place, ignores MaxResults and invents DataScannedInBytes. The calls replaced here are StartQueryExecution,
GetQueryResults and StopQueryExecution; workgroups, named queries and catalogs stay ministack's.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from urllib.parse import urlparse

import trino
from ministack.core.responses import error_response_json, json_response, new_uuid
from ministack.services import glue, s3

from local import athena_statements, athena_values
from local.memory import way_out
from local.state import State, read_json

logger = logging.getLogger("local.athena")

MAX_RESULTS = 1000  # GetQueryResults's own limit
RESULTS_KEPT = 200  # results held in memory; the objects in S3 stay
USER_ERROR, SYSTEM_ERROR = 2, 1  # AthenaError's ErrorCategory


class QueryFailed(Exception):
    """The query failed; the message is StateChangeReason."""


@dataclass
class StatementResult:
    """What a statement gave: columns as Trino describes them, rows as text, and what it cost."""

    columns: list[dict] = field(default_factory=list)
    rows: list[list[str | None]] = field(default_factory=list)
    updated_rows: int | None = None
    statistics: dict[str, int] = field(default_factory=dict)


def install(athena: ModuleType, state: State, note_change: Callable[[str], None]) -> None:
    """Replace the emulator's calls; its dispatcher looks them up by these names at every request."""
    queries = Queries(athena, state, note_change)
    athena._start_query_execution = queries.start
    athena._get_query_results = queries.results
    athena._stop_query_execution = queries.stop
    save_all = athena.get_state
    # The history of queries is not kept over a restart: saving every result again after every query would cost more
    # than it is worth, and the result objects are in S3.
    athena.get_state = lambda: save_all() | {"_executions": {}}


class Queries:
    def __init__(self, athena: ModuleType, state: State, note_change: Callable[[str], None]) -> None:
        self.athena = athena
        self.state = state
        self.note_change = note_change
        self.cursors: dict[str, trino.dbapi.Cursor] = {}
        self.outcomes: dict[str, StatementResult] = {}
        self.oldest_first: deque[str] = deque()
        self.started: dict[str, str] = {}
        self.tasks: set[asyncio.Task] = set()

    # --- StartQueryExecution

    def start(self, data: dict) -> tuple:
        """Check what AWS checks before it accepts a query, then run it beside the event loop."""
        token = data.get("ClientRequestToken")
        if token and token in self.started:  # a client's retry of a call whose answer was lost
            return json_response({"QueryExecutionId": self.started[token]})
        workgroup = self.athena._workgroups.get(data.get("WorkGroup", "primary"))
        refusal = self._refusal(data, workgroup)
        if refusal:
            return error_response_json("InvalidRequestException", refusal, 400)
        execution = self._new_execution(data, workgroup)
        query_id = execution["QueryExecutionId"]
        self.athena._executions[query_id] = execution
        if token:
            self.started[token] = query_id
        task = asyncio.create_task(self._run(execution, workgroup, data.get("ExecutionParameters", [])))
        self.tasks.add(task)  # asyncio itself holds tasks weakly only
        task.add_done_callback(self.tasks.discard)
        return json_response({"QueryExecutionId": query_id})

    def _refusal(self, data: dict, workgroup: dict | None) -> str | None:
        if workgroup is None:
            return f"WorkGroup {data.get('WorkGroup')} is not found."
        if workgroup.get("State") == "DISABLED":
            return f"WorkGroup {workgroup['Name']} is disabled."
        if not data.get("QueryString", "").strip():
            return "queryString must not be empty."
        output = output_location(data, workgroup)
        if not output:
            return (
                "No output location provided. An output location is required either through the Workgroup result "
                "configuration setting or as an API input."
            )
        if urlparse(output).netloc not in s3._buckets:
            return f"Unable to verify/create output bucket {urlparse(output).netloc}"
        ddl = self.athena._parse_ddl(data["QueryString"])
        if isinstance(ddl, self.athena._CreateTable) and not ddl.external and not ddl.iceberg:
            return "External keyword required for table type HIVE"
        return None

    def _new_execution(self, data: dict, workgroup: dict) -> dict:
        query_id = new_uuid()
        query = data["QueryString"]
        context = data.get("QueryExecutionContext", {})
        kind = self.athena._detect_statement_type(query)
        folder = output_location(data, workgroup).rstrip("/")
        # Rows of a SELECT go to a CSV, what a DDL or utility statement says to a text file
        # (https://docs.aws.amazon.com/athena/latest/ug/querying-finding-output-files.html).
        return {
            "QueryExecutionId": query_id,
            "Query": query,
            "StatementType": kind,
            "ResultConfiguration": {"OutputLocation": f"{folder}/{query_id}.{'csv' if kind == 'DML' else 'txt'}"},
            "QueryExecutionContext": {
                "Database": context.get("Database", "default"),
                "Catalog": context.get("Catalog", "AwsDataCatalog"),
            },
            "Status": {"State": "QUEUED", "SubmissionDateTime": time.time()},
            "Statistics": {"DataScannedInBytes": 0},
            "WorkGroup": workgroup["Name"],
            "EngineVersion": {
                "SelectedEngineVersion": "AUTO",
                "EffectiveEngineVersion": "Athena engine version 3",
            },
        }

    async def _run(self, execution: dict, workgroup: dict, parameters: list[str]) -> None:
        """Run in a thread: while the query runs, Trino calls this very process for Glue and S3."""
        status = execution["Status"]
        if status["State"] == "QUEUED":
            status["State"] = "RUNNING"
        began = time.monotonic()
        try:
            outcome = await asyncio.to_thread(self._outcome, execution, workgroup, parameters)
            self._add_times(execution, began)
            if status["State"] == "RUNNING":
                self._keep(execution, outcome)
                status |= {"State": "SUCCEEDED", "CompletionDateTime": time.time()}
        except Exception as error:
            if not isinstance(error, QueryFailed):
                logger.exception("query %s failed inside the embedded stack", execution["QueryExecutionId"])
            self._add_times(execution, began)
            self._fail(status, error)

    def _add_times(self, execution: dict, began: float) -> None:
        """Before the final state is set, because a client reads both as soon as it sees that state."""
        elapsed_ms = round((time.monotonic() - began) * 1000)
        execution["Statistics"] |= {"EngineExecutionTimeInMillis": elapsed_ms, "TotalExecutionTimeInMillis": elapsed_ms}

    def _fail(self, status: dict, error: Exception) -> None:
        if status["State"] == "CANCELLED":
            return
        over_limit = "EXCEEDED_SCAN_LIMIT" in str(error)
        reason = (
            "Query exhausted allowed data scan limit: Bytes scanned limit was exceeded" if over_limit else str(error)
        )
        category = USER_ERROR if isinstance(error, QueryFailed) else SYSTEM_ERROR
        status |= {
            "State": "CANCELLED" if over_limit else "FAILED",
            "StateChangeReason": reason,
            "CompletionDateTime": time.time(),
            "AthenaError": {"ErrorCategory": category, "Retryable": False, "ErrorMessage": reason},
        }

    def _outcome(self, execution: dict, workgroup: dict, parameters: list[str]) -> StatementResult:
        database = execution["QueryExecutionContext"]["Database"].lower()
        location = execution["ResultConfiguration"]["OutputLocation"].rpartition("/")[0]
        plan = athena_statements.plan(
            execution["Query"], f"{location}/tables/{execution['QueryExecutionId']}/", self.athena
        )
        if database != "default" and database not in glue._databases:
            raise QueryFailed(f"SCHEMA_NOT_FOUND: Schema '{database}' does not exist")
        match plan:
            case athena_statements.Refused(reason):
                raise QueryFailed(reason)
            case athena_statements.Emulator(ddl):
                try:
                    self.athena._run_ddl(ddl, database)
                except ValueError as error:
                    raise QueryFailed(str(error)) from error
                self.note_change("glue")
                return StatementResult()
            case athena_statements.ShowPartitions(named_database, table):
                return show_partitions(named_database or database, table)
            case athena_statements.Trino(sql, compression):
                return self._on_trino(execution, sql, parameters, scan_limit_bytes(workgroup), compression)

    def _on_trino(
        self, execution: dict, sql: str, parameters: list[str], limit_bytes: int | None, compression: str | None
    ) -> StatementResult:
        context = execution["QueryExecutionContext"]
        connection = trino.dbapi.connect(
            host="127.0.0.1",
            port=read_json(self.state.ports_file)["trino"],
            user="athena",
            source="athena",
            catalog=context["Catalog"].lower(),
            schema=context["Database"].lower(),
            timezone="UTC",
            session_properties=({"query_max_scan_physical_bytes": f"{limit_bytes}B"} if limit_bytes else {})
            | ({"awsdatacatalog.compression_codec": compression} if compression else {}),
            legacy_primitive_types=True,
        )
        if parameters:
            sql = f"EXECUTE IMMEDIATE '{sql.replace(chr(39), chr(39) * 2)}' USING {', '.join(parameters)}"
        cursor = self.cursors[execution["QueryExecutionId"]] = connection.cursor()
        try:
            if execution["Status"]["State"] == "CANCELLED":
                return StatementResult()
            cursor.execute(sql)
            return trino_result(cursor, limit_bytes)
        except trino.exceptions.TrinoConnectionError as error:
            raise QueryFailed(
                f"INTERNAL_ERROR: the embedded stack's Trino does not answer; `python -m local up` starts it ({error})"
            ) from error
        except trino.exceptions.TrinoQueryError as error:
            raise QueryFailed(f"{error.error_name}: {error.message}{way_out(error.error_name)}") from error
        finally:
            execution["Statistics"] |= trino_statistics(cursor.stats or {})
            if execution["StatementType"] == "UTILITY":  # reads the catalog, which Athena does not charge for
                execution["Statistics"]["DataScannedInBytes"] = 0
            del self.cursors[execution["QueryExecutionId"]]

    # --- results

    def _keep(self, execution: dict, outcome: StatementResult) -> None:
        """Write the result object and hold the rows for GetQueryResults."""
        query_id = execution["QueryExecutionId"]
        place = urlparse(execution["ResultConfiguration"]["OutputLocation"])
        if has_header(execution, outcome):
            body = athena_values.csv_bytes([[column["name"] for column in outcome.columns], *outcome.rows])
        else:
            body = "".join("\t".join(value or "" for value in row) + "\n" for row in outcome.rows).encode()
        answer = s3._put_object(place.netloc, place.path.lstrip("/"), body, {"content-length": str(len(body))})
        if answer[0] >= 300:
            raise QueryFailed(
                f"Could not write the result to {place.geturl()}: {answer[2].decode(errors='replace')[:300]}"
            )
        self.outcomes[query_id] = outcome
        self.oldest_first.append(query_id)
        if len(self.oldest_first) > RESULTS_KEPT:
            self.outcomes.pop(self.oldest_first.popleft(), None)

    def results(self, data: dict) -> tuple:
        query_id = data.get("QueryExecutionId")
        execution = self.athena._executions.get(query_id)
        refusal = self._results_refusal(data, execution)
        if refusal:
            return error_response_json("InvalidRequestException", refusal, 400)
        outcome = self.outcomes[query_id]
        header = [[column["name"] for column in outcome.columns]] if has_header(execution, outcome) else []
        start = int(data.get("NextToken") or 0)
        end = start + data.get("MaxResults", MAX_RESULTS)
        # The header is the first row of the first page and counts among MaxResults, as in AWS.
        page = (header + outcome.rows)[start:end]
        answer = {
            "ResultSet": {
                "Rows": [{"Data": [{} if value is None else {"VarCharValue": value} for value in row]} for row in page],
                "ResultSetMetadata": {"ColumnInfo": [column_info(column) for column in outcome.columns]},
            },
            "UpdateCount": outcome.updated_rows or 0,
        }
        if end < len(header) + len(outcome.rows):
            answer["NextToken"] = str(end)
        return json_response(answer)

    def _results_refusal(self, data: dict, execution: dict | None) -> str | None:
        if execution is None:
            return f"QueryExecution {data.get('QueryExecutionId')} was not found"
        state = execution["Status"]["State"]
        if state in ("FAILED", "CANCELLED"):
            return f"Query did not finish successfully. Final query state: {state}"
        if state != "SUCCEEDED":
            return f"Query has not yet finished. Current state: {state}"
        if not 1 <= data.get("MaxResults", MAX_RESULTS) <= MAX_RESULTS:
            return f"MaxResults must be between 1 and {MAX_RESULTS}"
        if not (data.get("NextToken") or "0").isdigit():
            return "Invalid NextToken"
        if execution["QueryExecutionId"] not in self.outcomes:
            place = execution["ResultConfiguration"]["OutputLocation"]
            return f"The embedded Athena holds the last {RESULTS_KEPT} results only; this one is at {place}"
        return None

    # --- StopQueryExecution

    def stop(self, data: dict) -> tuple:
        query_id = data.get("QueryExecutionId")
        execution = self.athena._executions.get(query_id)
        if execution is None:
            return error_response_json("InvalidRequestException", f"QueryExecution {query_id} was not found", 400)
        status = execution["Status"]
        if status["State"] in ("QUEUED", "RUNNING"):
            status |= {
                "State": "CANCELLED",
                "StateChangeReason": "Query cancelled by user",
                "CompletionDateTime": time.time(),
            }
            cursor = self.cursors.get(query_id)
            if cursor is not None:
                # Not on this thread: Trino's answer may need this event loop.
                task = asyncio.create_task(asyncio.to_thread(_cancel, cursor))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)
        return json_response({})


def output_location(data: dict, workgroup: dict) -> str | None:
    """The workgroup's location if it enforces its settings (the default when it has any), else the caller's, else its
    own.
    """
    settings = workgroup.get("Configuration") or {}
    of_workgroup = (settings.get("ResultConfiguration") or {}).get("OutputLocation")
    of_caller = (data.get("ResultConfiguration") or {}).get("OutputLocation")
    if settings.get("EnforceWorkGroupConfiguration", workgroup["Name"] != "primary"):
        return of_workgroup or of_caller
    return of_caller or of_workgroup


def scan_limit_bytes(workgroup: dict) -> int | None:
    return (workgroup.get("Configuration") or {}).get("BytesScannedCutoffPerQuery")


def has_header(execution: dict, outcome: StatementResult) -> bool:
    """Only a query's rows have their column names above them, not what a DDL, INSERT or SHOW answers."""
    return execution["StatementType"] == "DML" and outcome.updated_rows is None


def column_info(column: dict) -> dict:
    kind = athena_values.athena_type(column)
    precision, scale = athena_values.precision_and_scale(column)
    return {
        "CatalogName": "hive",
        "SchemaName": "",
        "TableName": "",
        "Name": column["name"],
        "Label": column["name"],
        "Type": kind,
        "Precision": precision,
        "Scale": scale,
        "Nullable": "UNKNOWN",
        "CaseSensitive": kind in ("varchar", "char"),
    }


def trino_result(cursor: trino.dbapi.Cursor, limit_bytes: int | None) -> StatementResult:
    """All rows as text; of a statement that writes, only how many rows it wrote."""
    values = cursor.fetchall()
    # Trino looks at the limit once a second, so a short query is through before it is stopped.
    if limit_bytes and cursor.stats.get("physicalInputBytes", 0) > limit_bytes:
        raise QueryFailed("EXCEEDED_SCAN_LIMIT")
    if cursor.update_type is not None:
        return StatementResult(updated_rows=max(cursor.rowcount, 0))
    columns = cursor._query.columns or []
    signatures = [column["typeSignature"] for column in columns]
    rows = [[athena_values.text(*pair) for pair in zip(row, signatures, strict=True)] for row in values]
    return StatementResult(columns, rows)


def trino_statistics(stats: dict) -> dict[str, int]:
    """What Trino measured, under Athena's names. physicalInputBytes is what it read from S3 for this query."""
    names = {
        "physicalInputBytes": "DataScannedInBytes",
        "queuedTimeMillis": "QueryQueueTimeInMillis",
        "planningTimeMillis": "QueryPlanningTimeInMillis",
    }
    return {athena: stats[name] for name, athena in names.items() if name in stats}


def show_partitions(database: str, table: str) -> StatementResult:
    """`dt=2024-01-02/hour=05`, a line each. Projected partitions are in no catalog and so not shown, as in AWS."""
    found = glue._tables.get(f"{database}/{table}")
    if found is None:
        raise QueryFailed(f"TABLE_NOT_FOUND: Table '{database}.{table}' does not exist")
    names = [key["Name"] for key in found.get("PartitionKeys") or []]
    partitions = glue._partitions.get(f"{database}/{table}", [])
    lines = sorted(
        "/".join(f"{name}={value}" for name, value in zip(names, partition["Values"], strict=True))
        for partition in partitions
    )
    column = {"name": "partition", "typeSignature": {"rawType": "varchar", "arguments": []}}
    return StatementResult([column], [[line] for line in lines])


def _cancel(cursor: trino.dbapi.Cursor) -> None:
    try:
        cursor.cancel()
    except trino.exceptions.Error as error:
        logger.warning("Trino did not cancel: %s", error)
