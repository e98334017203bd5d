"""pipeline.athena as a user runs it: tables, files, errors, and a query that is interrupted."""

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from raw_objects import TODAY, bar, land, set_up, settings_of

from local.stack import Stack
from pipeline import aws
from pipeline.athena.client import Athena, QueryFailed
from pipeline.athena.queries import Query
from pipeline.settings import ServiceError, Settings

# Counts pairs of rows for longer than any test waits.
ENDLESS = """SELECT count(*) AS n
FROM UNNEST(sequence(1, 10000)) AS a (x), UNNEST(sequence(1, 10000)) AS b (y), UNNEST(sequence(1, 10000)) AS c (z)
WHERE x * y + z = 7"""


@pytest.fixture(scope="module")
def lake(stack: Stack, bucket: str) -> Settings:
    settings = settings_of(stack, bucket)
    land(
        settings,
        "bars",
        [bar("A", "2026-01-05", 10.0), bar("A", "2026-01-06", 12.5), bar("B", "2026-01-05", 7.0)],
        day=TODAY,
    )
    set_up(settings)
    return settings


@pytest.fixture
def query(lake: Settings, run: Callable) -> Callable:
    """Run pipeline.athena on the module's lake."""
    own = {"S3_PREFIX": lake.s3_prefix, "GLUE_DATABASE": lake.glue_database, "ATHENA_WORKGROUP": lake.athena_workgroup}
    return lambda *arguments, **changes: run("-m", "pipeline.athena", *arguments, **own | changes)


def test_lists_the_queries(query: Callable) -> None:
    """Without arguments it says which queries there are, and what each answers."""
    listed = query()
    assert listed.returncode == 0
    assert "monthly_performance" in listed.stdout
    assert "How did the closing prices move?" in listed.stdout


def test_table_with_cost(query: Callable) -> None:
    """A query prints its rows, and what it scanned and cost."""
    done = query("monthly_performance")
    assert done.returncode == 0, done.stderr
    assert "2026-01-01" in done.stdout
    assert "11.25" in done.stdout
    assert "2 rows" in done.stdout
    assert "USD" in done.stdout


def test_csv_and_json_files(query: Callable, tmp_path: Path) -> None:
    """--csv and --json write a file for one query and a folder for several, and standard output for -."""
    assert query("closing_trend", "--csv", tmp_path / "one.csv").returncode == 0
    frame = pd.read_csv(tmp_path / "one.csv", parse_dates=["day"])
    assert frame["close"].tolist() == [10.0, 12.5, 7.0]
    several = query("closing_trend", "volume_by_ticker", "--csv", tmp_path / "all", "--json", tmp_path / "all")
    assert several.returncode == 0, several.stderr
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == [
        "closing_trend.csv",
        "closing_trend.json",
        "volume_by_ticker.csv",
        "volume_by_ticker.json",
    ]
    assert json.loads(
        query("--sql", "SELECT DATE '2026-01-05' AS day, 1e0 / 3 AS x, NULL AS nothing, 7 AS n", "--json", "-").stdout
    ) == [{"day": "2026-01-05", "x": 1 / 3, "nothing": None, "n": 7}]


def test_printed_rows_and_names_on_the_command_line(query: Callable, lake: Settings) -> None:
    """--rows limits what is printed and says so; --database and --workgroup win over the environment; --show-sql runs
    nothing.
    """
    given = ("--database", lake.glue_database, "--workgroup", lake.athena_workgroup)
    unused = {"GLUE_DATABASE": "no_such_database", "ATHENA_WORKGROUP": "no_such_workgroup"}
    done = query("closing_trend", "--rows", "1", *given, **unused)
    assert done.returncode == 0, done.stderr
    assert "2 more rows" in done.stdout
    shown = query("closing_trend", "--show-sql", AWS_ENDPOINT_URL="http://127.0.0.1:1")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("-- closing_trend\n")
    assert "FROM adjusted_bars" in shown.stdout


def test_unknown_query_names_the_known(query: Callable) -> None:
    """A name that is not in the file is wrong use, and the known names are told."""
    wrong = query("monthly")
    assert wrong.returncode == 2
    assert "monthly_performance" in wrong.stderr


def test_failed_query_tells_reason_and_line(query: Callable, tmp_path: Path) -> None:
    """A failed query says Athena's reason and the line in the file; the others still run, and the exit code is 1."""
    file = tmp_path / "mine.sql"
    file.write_text(
        "-- name: wrong\n-- Why?\nSELECT symbol,\n  no_such_column\nFROM bars;\n"
        "-- name: right\n-- Yes.\nSELECT 1 AS one;\n",
        encoding="utf-8",
    )
    done = query("--file", file, "--all")
    assert done.returncode == 1
    assert "mine.sql:4:3 (wrong): " in done.stderr
    assert "no_such_column" in done.stderr
    assert "one" in done.stdout


def test_missing_table_tells_the_cure(lake: Settings) -> None:
    """A table that is not there is told with the command that makes it."""
    with pytest.raises(QueryFailed, match=r"python glue_setup\.py"):
        Athena(lake).query(Query("q", "", "SELECT * FROM no_such_table", 1, "f.sql"))


def test_missing_workgroup_names_the_setting(stack: Stack, bucket: str) -> None:
    """A workgroup that is not there is a ServiceError that names the setting."""
    with pytest.raises(ServiceError, match="ATHENA_WORKGROUP"):
        Athena(settings_of(stack, bucket)).query("SELECT 1")


def test_large_result_is_whole(lake: Settings) -> None:
    """A result far longer than a page of the API comes whole and in its order."""
    rows = Athena(lake).query(
        "SELECT x * 1000 + y AS n "
        "FROM UNNEST(sequence(0, 24)) AS a (x) CROSS JOIN UNNEST(sequence(0, 999)) AS b (y) ORDER BY n"
    )
    assert rows["n"].tolist() == list(range(25_000))


def test_statements_without_rows(lake: Settings) -> None:
    """SHOW answers with text, and a statement that writes with no rows."""
    athena = Athena(lake)
    assert "bars" in athena.query("SHOW TABLES").iloc[:, 0].tolist()
    assert athena.query("CREATE OR REPLACE VIEW one AS SELECT 1 AS x").empty


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_query_is_cancelled(lake: Settings, start: Callable, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM cancel the query in Athena, and no traceback is shown."""
    own = {"S3_PREFIX": lake.s3_prefix, "GLUE_DATABASE": lake.glue_database, "ATHENA_WORKGROUP": lake.athena_workgroup}
    athena = aws.client(lake, "athena")

    def running() -> list[str]:
        ids = athena.list_query_executions(WorkGroup=lake.athena_workgroup)["QueryExecutionIds"]
        found = [athena.get_query_execution(QueryExecutionId=one)["QueryExecution"] for one in ids]
        return [
            one["QueryExecutionId"] for one in found if one["Query"] == ENDLESS and one["Status"]["State"] == "RUNNING"
        ]

    process = start("-m", "pipeline.athena", "--sql", ENDLESS, **own)
    deadline = time.monotonic() + 60
    while not running() and time.monotonic() < deadline:
        time.sleep(0.1)
    (query_id,) = running()
    try:
        process.send_signal(number)
        assert process.wait(timeout=30) == 1
        assert athena.get_query_execution(QueryExecutionId=query_id)["QueryExecution"]["Status"]["State"] == "CANCELLED"
    finally:
        athena.stop_query_execution(QueryExecutionId=query_id)
    assert process.log_path.read_text().strip().splitlines() == ["stopped"]
