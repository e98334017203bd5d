"""The embedded Athena and the emulated crawl: as AWS documents them, on Trino."""

import gzip
import time
import uuid

import pytest
from stack_client import client

from local.stack import Stack
from local.state import read_json

FINAL_STATES = ("SUCCEEDED", "FAILED", "CANCELLED")


class Athena:
    """A bucket, a database and a workgroup of the test's own."""

    def __init__(self, stack: Stack) -> None:
        name = f"local-{uuid.uuid4().hex[:12]}"
        self.bucket, self.database, self.workgroup = name, name.replace("-", "_"), name
        self.s3, self.glue, self.api = (client(stack, service) for service in ("s3", "glue", "athena"))
        self.s3.create_bucket(Bucket=self.bucket)
        self.glue.create_database(DatabaseInput={"Name": self.database})
        self.output = f"s3://{self.bucket}/enforced/"
        self.api.create_work_group(
            Name=self.workgroup,
            Configuration={
                "ResultConfiguration": {"OutputLocation": self.output},
                "EnforceWorkGroupConfiguration": True,
            },
        )

    def start(self, sql: str, **options) -> str:
        arguments = {"WorkGroup": self.workgroup, "QueryExecutionContext": {"Database": self.database}} | options
        return self.api.start_query_execution(QueryString=sql, **arguments)["QueryExecutionId"]

    def wait(self, query_id: str) -> dict:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            execution = self.api.get_query_execution(QueryExecutionId=query_id)["QueryExecution"]
            if execution["Status"]["State"] in FINAL_STATES:
                return execution
            time.sleep(0.05)
        raise TimeoutError(query_id)

    def run(self, sql: str, **options) -> dict:
        execution = self.wait(self.start(sql, **options))
        assert execution["Status"]["State"] == "SUCCEEDED", execution["Status"]
        return execution

    def rows(self, sql: str) -> list[list[str | None]]:
        """The rows without the header."""
        page = self.api.get_query_results(QueryExecutionId=self.run(sql)["QueryExecutionId"])
        return [[value.get("VarCharValue") for value in row["Data"]] for row in page["ResultSet"]["Rows"]][1:]

    def failure(self, sql: str, **options) -> str:
        execution = self.wait(self.start(sql, **options))
        assert execution["Status"]["State"] == "FAILED"
        return execution["Status"]["StateChangeReason"]


@pytest.fixture(scope="module")
def stack(private_stack: Stack) -> Stack:
    """A stack whose local AWS may be restarted."""
    return private_stack


@pytest.fixture(scope="module")
def athena(stack):
    return Athena(stack)


def test_select_returns_values_and_types_as_athena_does(athena):
    """Values come as Athena's texts, a NULL without any, and columns with Athena's type names."""
    query_id = athena.run(
        "SELECT 1 AS i, BIGINT '2' AS b, 1.5e10 AS d, true AS t, CAST(NULL AS varchar) AS n, DATE '2024-01-02' AS day, "
        "TIMESTAMP '2024-01-02 00:00:00' AS at, CAST(1.5 AS decimal(10,2)) AS m, 'x' AS s, ARRAY[1, 2] AS a;"
    )["QueryExecutionId"]
    result = athena.api.get_query_results(QueryExecutionId=query_id)["ResultSet"]
    types = {column["Name"]: column["Type"] for column in result["ResultSetMetadata"]["ColumnInfo"]}
    assert types == {
        "i": "integer",
        "b": "bigint",
        "d": "double",
        "t": "boolean",
        "n": "varchar",
        "day": "date",
        "at": "timestamp",
        "m": "decimal",
        "s": "varchar",
        "a": "array",
    }
    header, row = result["Rows"]
    assert [value["VarCharValue"] for value in header["Data"]] == list(types)
    assert [value.get("VarCharValue") for value in row["Data"]] == [
        "1",
        "2",
        "1.5E10",
        "true",
        None,
        "2024-01-02",
        "2024-01-02 00:00:00.000",
        "1.50",
        "x",
        "[1, 2]",
    ]


def test_the_result_object_lies_under_the_enforced_output_location(athena):
    """The workgroup's location wins over the caller's, and the object is `<location>/<id>.csv`."""
    execution = athena.run(
        "SELECT 1 AS a, 'x' AS b", ResultConfiguration={"OutputLocation": f"s3://{athena.bucket}/mine/"}
    )
    place = f"{athena.output}{execution['QueryExecutionId']}.csv"
    assert execution["ResultConfiguration"]["OutputLocation"] == place
    body = athena.s3.get_object(Bucket=athena.bucket, Key=f"enforced/{execution['QueryExecutionId']}.csv")[
        "Body"
    ].read()
    assert body == b'"a","b"\n"1","x"\n'


def test_pages_hold_as_many_rows_as_asked_for(athena):
    """MaxResults counts the header among the first page's rows, and the pages together are the whole result."""
    query_id = athena.run("SELECT x FROM UNNEST(sequence(1, 25)) AS t(x) ORDER BY x")["QueryExecutionId"]
    pages = athena.api.get_paginator("get_query_results").paginate(
        QueryExecutionId=query_id, PaginationConfig={"PageSize": 10}
    )
    sizes, values = [], []
    for page in pages:
        sizes.append(len(page["ResultSet"]["Rows"]))
        values += [row["Data"][0]["VarCharValue"] for row in page["ResultSet"]["Rows"]]
    assert sizes == [10, 10, 6]
    assert values == ["x", *map(str, range(1, 26))]


def test_views_tables_and_inserts_are_kept(athena):
    """CREATE TABLE AS without a place, INSERT, and a view that is replaced, read back by later queries."""
    made = athena.run("CREATE TABLE numbers AS SELECT * FROM (VALUES (1, 'a'), (2, 'b')) AS t(number, letter)")
    assert athena.api.get_query_results(QueryExecutionId=made["QueryExecutionId"])["UpdateCount"] == 2
    athena.run("INSERT INTO numbers VALUES (3, 'c')")
    athena.run("CREATE VIEW doubled AS SELECT number * 2 AS n FROM numbers")
    athena.run("CREATE OR REPLACE VIEW doubled AS SELECT number * 3 AS n FROM numbers")
    assert athena.rows("SELECT n FROM doubled ORDER BY n") == [["3"], ["6"], ["9"]]
    view = athena.glue.get_table(DatabaseName=athena.database, Name="doubled")["Table"]
    assert view["TableType"] == "VIRTUAL_VIEW"
    scanned = athena.run("SELECT * FROM numbers")["Statistics"]["DataScannedInBytes"]
    assert 0 < scanned < 10_000


def test_hive_ddl_makes_a_table_that_queries_read(athena):
    """CREATE EXTERNAL TABLE with projected partitions is read with no partition added; DROP TABLE removes it."""
    athena.run(
        f"CREATE EXTERNAL TABLE prices (symbol string, price double) PARTITIONED BY (dt string) "
        f"ROW FORMAT SERDE 'org.openx.data.jsonserde.JsonSerDe' LOCATION 's3://{athena.bucket}/prices/' TBLPROPERTIES ("
        f"'projection.enabled'='true', 'projection.dt.type'='date', 'projection.dt.format'='yyyy-MM-dd', "
        f"'projection.dt.range'='2024-01-01,2024-01-31')"
    )
    body = gzip.compress(b'{"symbol":"AAPL","price":185.5}\n')
    athena.s3.put_object(Bucket=athena.bucket, Key="prices/dt=2024-01-03/a.json.gz", Body=body)
    assert athena.rows("SELECT symbol, price, dt FROM prices WHERE dt = '2024-01-03'") == [
        ["AAPL", "185.5", "2024-01-03"]
    ]
    athena.run("DROP TABLE prices")
    assert "TABLE_NOT_FOUND" in athena.failure("SELECT * FROM prices")


def test_a_failed_query_says_why(athena):
    """The reason is Trino's own, with its name, line and column."""
    assert athena.failure("SELECT nothing FROM (SELECT 1 AS a)") == (
        "COLUMN_NOT_FOUND: line 1:8: Column 'nothing' cannot be resolved"
    )
    query_id = athena.start("SELEC 1")
    athena.wait(query_id)
    with pytest.raises(athena.api.exceptions.InvalidRequestException, match="Final query state: FAILED"):
        athena.api.get_query_results(QueryExecutionId=query_id)


def test_wrong_workgroup_database_and_bucket_fail(athena):
    """A workgroup or output bucket that does not exist is refused at once, a database fails the query."""
    with pytest.raises(athena.api.exceptions.InvalidRequestException, match="WorkGroup wrong is not found"):
        athena.start("SELECT 1", WorkGroup="wrong")
    with pytest.raises(athena.api.exceptions.InvalidRequestException, match="Unable to verify/create output bucket"):
        athena.start("SELECT 1", WorkGroup="primary", ResultConfiguration={"OutputLocation": "s3://no-such-bucket/"})
    reason = athena.failure("SELECT 1", QueryExecutionContext={"Database": "wrong"})
    assert reason == "SCHEMA_NOT_FOUND: Schema 'wrong' does not exist"


def test_a_query_over_the_workgroups_limit_is_cancelled(athena):
    """A query that scans more than the workgroup's cut-off ends as CANCELLED and says so."""
    athena.run(
        "CREATE TABLE wide AS SELECT random() AS a, random() AS b, random() AS c, random() AS d "
        "FROM UNNEST(sequence(1, 1000)) AS t(x), UNNEST(sequence(1, 500)) AS u(y)"
    )
    athena.api.create_work_group(
        Name=f"{athena.workgroup}-small",
        Configuration={
            "ResultConfiguration": {"OutputLocation": athena.output},
            "BytesScannedCutoffPerQuery": 10_000_000,
        },
    )
    execution = athena.wait(athena.start("SELECT max(a + b + c + d) FROM wide", WorkGroup=f"{athena.workgroup}-small"))
    assert execution["Status"]["State"] == "CANCELLED"
    assert "Bytes scanned limit was exceeded" in execution["Status"]["StateChangeReason"]


def test_a_stopped_query_ends_in_trino_too(athena, stack):
    """StopQueryExecution makes the query CANCELLED and Trino stops working on it."""
    marker = f"/* {uuid.uuid4().hex} */"
    numbers = [
        f"UNNEST(sequence(1, {count})) {name}(x{name})" for name, count in (("a", 10_000), ("b", 10_000), ("c", 1_000))
    ]
    long_sql = f"SELECT count(*) {marker} FROM {', '.join(numbers)}"
    query_id = athena.start(long_sql)
    assert trino_state(stack, marker, {"RUNNING", "STARTING"})
    athena.api.stop_query_execution(QueryExecutionId=query_id)
    assert athena.wait(query_id)["Status"]["State"] == "CANCELLED"
    assert trino_state(stack, marker, {"FAILED"})


def trino_state(stack: Stack, marker: str, wanted: set[str]) -> bool:
    """Whether the query with this marker comes to one of the wanted states within half a minute."""
    import trino

    cursor = trino.dbapi.connect(host="127.0.0.1", port=stack.ports()["trino"], user="test").cursor()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        cursor.execute("SELECT query, state FROM system.runtime.queries WHERE source = 'athena'")
        if any(marker in query and state in wanted for query, state in cursor.fetchall()):
            return True
        time.sleep(0.2)
    return False


# --- the emulated crawl


def test_the_emulated_crawl_makes_a_table_that_queries_read(athena):
    """A crawler run finds folders, columns and partitions, and the table is queried at once."""
    for day in ("2024-01-02", "2024-01-03"):
        body = gzip.compress(
            f'{{"symbol":"AAPL","close":185,"day":"{day}"}}\n{{"symbol":"IBM","close":160.5}}\n'.encode()
        )
        athena.s3.put_object(Bucket=athena.bucket, Key=f"raw/bars/dt={day}/part.json.gz", Body=body)
    crawled = f"{athena.database}_crawled"
    athena.glue.create_crawler(
        Name=athena.database,
        Role="arn:aws:iam::000000000000:role/crawler",
        DatabaseName=crawled,
        Targets={"S3Targets": [{"Path": f"s3://{athena.bucket}/raw/"}]},
    )
    for _ in range(2):  # the second run changes nothing
        athena.glue.start_crawler(Name=athena.database)
        deadline = time.monotonic() + 30
        while athena.glue.get_crawler(Name=athena.database)["Crawler"]["State"] != "READY":
            assert time.monotonic() < deadline
            time.sleep(0.1)
    last = athena.glue.get_crawler(Name=athena.database)["Crawler"]["LastCrawl"]
    assert last["Status"] == "SUCCEEDED", last
    table = athena.glue.get_table(DatabaseName=crawled, Name="bars")["Table"]
    assert [(column["Name"], column["Type"]) for column in table["StorageDescriptor"]["Columns"]] == [
        ("symbol", "string"),
        ("close", "double"),
        ("day", "string"),
    ]
    assert "emulated" in table["Parameters"]["comment"]
    partitions = athena.glue.get_partitions(DatabaseName=crawled, TableName="bars")["Partitions"]
    assert sorted(partition["Values"] for partition in partitions) == [["2024-01-02"], ["2024-01-03"]]
    assert athena.rows(f"SELECT symbol, sum(close) AS c FROM {crawled}.bars GROUP BY symbol ORDER BY symbol") == [
        ["AAPL", "370.0"],
        ["IBM", "321.0"],
    ]


def test_tables_and_views_survive_down_and_up(stack, athena):
    """After a restart of the local AWS in good order, views and named queries are there, on the same port."""
    athena.run("CREATE OR REPLACE VIEW kept AS SELECT 42 AS answer")
    athena.api.create_named_query(
        Name="kept", Database=athena.database, QueryString="SELECT 1", WorkGroup=athena.workgroup
    )
    stack.restart("aws")
    assert athena.rows("SELECT answer FROM kept") == [["42"]]
    assert athena.api.list_named_queries(WorkGroup=athena.workgroup)["NamedQueryIds"]
    assert read_json(stack.state.ports_file) == stack.ports()
