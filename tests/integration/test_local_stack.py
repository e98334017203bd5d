"""The embedded stack does what it promises: on loopback only, exact about processes and ports, and Athena by Trino."""

import gzip
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from dataclasses import asdict
from pathlib import Path

import boto3
import pytest

from local import StackError, processes
from local.stack import Stack
from local.state import read_json, write_whole

ROOT = Path(__file__).resolve().parents[2]
FINAL_STATES = ("SUCCEEDED", "FAILED", "CANCELLED")


def client(stack: Stack, service: str):
    settings = stack.environment()
    return boto3.client(
        service, endpoint_url=settings["AWS_ENDPOINT_URL"], region_name=settings["AWS_REGION"],
        aws_access_key_id=settings["AWS_ACCESS_KEY_ID"], aws_secret_access_key=settings["AWS_SECRET_ACCESS_KEY"],
    )  # fmt: skip


def local(folder: Path, *arguments: str, **changes: str) -> subprocess.CompletedProcess:
    """Run `python -m local …` as a user does, on a stack of its own."""
    environment = os.environ | {"LOCAL_STACK_DIR": str(folder)} | changes
    command = [sys.executable, "-m", "local", *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)


@pytest.fixture
def second(tmp_path):
    """A stack that a test may hurt; nothing of it runs yet."""
    stack = Stack(tmp_path / "stack")
    yield stack
    stack.down()


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
            Configuration={"ResultConfiguration": {"OutputLocation": self.output}, "EnforceWorkGroupConfiguration": True},
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
def athena(stack):
    return Athena(stack)


# --- processes and ports


def test_status_shows_every_service_answering(stack):
    """`status` exits 0 when all three services answer, and names them with their addresses."""
    done = local(stack.state.folder, "status")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [["trino", "up"], ["aws", "up"], ["kafka", "up"]]
    assert f"127.0.0.1:{stack.ports()['kafka']}" in done.stdout


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's table of sockets")
def test_every_listener_is_on_loopback(stack):
    """No socket of any of the stack's processes listens on another address than 127.0.0.1, on its known ports only."""
    found = {}
    for name in ("kafka", "aws", "trino"):
        for address, port in listeners(stack.process(name).pid):
            assert address == "127.0.0.1", (name, address, port)
            found[port] = name
    ports = stack.ports()
    assert found == {
        ports["kafka"]: "kafka", ports["kafka_controller"]: "kafka", ports["aws"]: "aws", ports["trino"]: "trino",
    }  # fmt: skip


def listeners(pid: int) -> list[tuple[str, int]]:
    """Addresses that a process listens on, from /proc (man 5 proc_pid_net): state 0A is LISTEN."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        found = re.match(r"socket:\[(\d+)\]", str(descriptor.readlink()))
        inodes |= {found[1]} if found else set()
    result = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                address, port = fields[1].split(":")
                shown = socket.inet_ntoa(bytes.fromhex(address)[::-1]) if table == "tcp" else address
                result.append((shown, int(port, 16)))
    return result


def test_up_again_changes_nothing(stack):
    """`up` on a stack that runs leaves every process as it is."""
    before = {name: stack.process(name) for name in ("kafka", "aws", "trino")}
    stack.up()
    assert {name: stack.process(name) for name in before} == before


def test_two_ups_at_the_same_time_start_one_stack(second):
    """Two `up` on one folder take turns: both succeed and one process runs."""
    environment = os.environ | {"LOCAL_STACK_DIR": str(second.state.folder)}
    command = [sys.executable, "-m", "local", "up", "--only", "aws"]
    both = [subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    pids = {re.search(r"^aws +up .* pid (\d+)", output, re.MULTILINE)[1] for output in outputs}
    assert pids == {str(second.process("aws").pid)}


def test_two_stacks_at_the_same_time_get_different_ports(stack, second):
    """A second stack avoids the ports of the first and each keeps its own identity."""
    second.up(["aws"])
    assert second.ports()["aws"] != stack.ports()["aws"]
    client(second, "s3").create_bucket(Bucket="only-in-the-second")
    assert "only-in-the-second" not in [bucket["Name"] for bucket in client(stack, "s3").list_buckets()["Buckets"]]


def test_a_port_taken_by_others_is_avoided_and_the_new_one_remembered(second):
    """A service whose port somebody took while it was down gets another one, and keeps that one from then on."""
    second.up(["aws"])
    first_port = second.ports()["aws"]
    second.down()
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", first_port))
        stranger.listen()
        second.up(["aws"])
        second_port = second.ports()["aws"]
    assert second_port != first_port
    second.restart("aws")
    assert second.ports()["aws"] == second_port


def test_a_pid_that_belongs_to_another_process_is_not_touched(second):
    """`down` leaves a process alone that has a recorded pid but did not start when ours did."""
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        record = processes.Process(stranger.pid, "ticks 1")
        write_whole(second.state.record("kafka"), json.dumps(asdict(record)))
        assert second.down() == []
        assert stranger.poll() is None
        assert second.process("kafka") is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_killed_service_starts_again_on_its_port_with_its_data(second):
    """After kill -9 the local AWS has its bucket, object, table and item again, at the same address."""
    second.up(["aws"])
    port = second.ports()["aws"]
    s3, glue, dynamodb = (client(second, name) for name in ("s3", "glue", "dynamodb"))
    s3.create_bucket(Bucket="kept-empty")
    s3.create_bucket(Bucket="kept")
    s3.put_object(Bucket="kept", Key="a/b.txt", Body=b"content")
    glue.create_database(DatabaseInput={"Name": "kept"})
    dynamodb.create_table(
        TableName="kept", BillingMode="PAY_PER_REQUEST", KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    )  # fmt: skip
    dynamodb.put_item(TableName="kept", Item={"id": {"S": "1"}})
    time.sleep(2)  # longer than the moment after which a change is saved
    second.kill("aws")
    second.up(["aws"])
    assert second.ports()["aws"] == port
    assert {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]} == {"kept", "kept-empty"}
    assert s3.get_object(Bucket="kept", Key="a/b.txt")["Body"].read() == b"content"
    assert glue.get_database(Name="kept")["Database"]["Name"] == "kept"
    assert dynamodb.get_item(TableName="kept", Key={"id": {"S": "1"}})["Item"] == {"id": {"S": "1"}}


def test_topics_survive_down_and_kill_and_wipe_deletes_them(second):
    """Kafka has its topics again after `down` and after kill -9; `down --wipe` leaves nothing of the stack's data."""
    from kafka.admin import KafkaAdminClient, NewTopic

    def admin() -> KafkaAdminClient:
        return KafkaAdminClient(bootstrap_servers=second.environment()["KAFKA_BOOTSTRAP_SERVERS"])

    second.up(["kafka"])
    admin().create_topics([NewTopic("kept", num_partitions=3, replication_factor=1)])
    second.restart("kafka")
    assert "kept" in admin().list_topics()
    second.kill("kafka")
    second.up(["kafka"])
    assert "kept" in admin().list_topics()
    stranger = second.state.folder / "not-the-stacks.txt"
    stranger.write_text("mine")
    second.down(wipe=True)
    assert sorted(path.name for path in second.state.folder.iterdir()) == ["lock", "not-the-stacks.txt"]


def test_a_suspended_service_is_stopped_all_the_same(second):
    """`down` ends a process that cannot answer."""
    second.up(["aws"])
    process = second.process("aws")
    process.send(signal.SIGSTOP)
    assert second.down() == ["aws"]
    assert not process.is_alive()


# --- the command line


def test_run_returns_the_commands_exit_code_with_the_settings_in_its_environment(stack):
    """`run` gives the command the stack's settings, takes away the user's own AWS profile, and returns its exit code."""
    script = (
        "import os, sys; e = os.environ; assert 'AWS_PROFILE' not in e; assert e['S3_BUCKET']; "
        "assert e['AWS_REGION'] == e['AWS_DEFAULT_REGION'] == 'us-east-1'; print(e['KAFKA_BOOTSTRAP_SERVERS']); sys.exit(7)"
    )
    done = local(stack.state.folder, "run", sys.executable, "-c", script, AWS_PROFILE="production")
    assert done.returncode == 7, done.stderr
    assert done.stdout.strip() == stack.environment()["KAFKA_BOOTSTRAP_SERVERS"]


def test_run_passes_signals_on(stack):
    """A signal to `run` is a signal to the command."""
    environment = os.environ | {"LOCAL_STACK_DIR": str(stack.state.folder)}
    script = "import signal, sys; signal.signal(15, lambda *_: sys.exit(9)); print('ready', flush=True); signal.pause()"
    command = [sys.executable, "-m", "local", "run", "--", sys.executable, "-c", script]
    process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 9
    process.stdout.close()


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        ([], 2), (["up", "--only", "nothing"], 2), (["run"], 2), (["run", "--only", "aws", "no-such-command"], 127),
        (["--help"], 0), (["up", "--help"], 0),
    ],
)  # fmt: skip
def test_exit_codes(stack, arguments, exit_code):
    """Wrong use exits 2, a command that does not exist 127 as in a shell, help 0."""
    assert local(stack.state.folder, *arguments).returncode == exit_code


def test_env_prints_lines_for_a_shell(stack):
    """`env` prints what a shell can evaluate."""
    done = local(stack.state.folder, "env")
    shell = subprocess.run(["sh", "-c", f"{done.stdout}\necho $AWS_ENDPOINT_URL"], capture_output=True, text=True, check=True)
    assert shell.stdout.strip() == stack.environment()["AWS_ENDPOINT_URL"]


def test_a_service_that_dies_at_start_is_reported_with_its_log(second):
    """A broker that cannot start makes `up` exit 1 with one message that holds its last words and its log's place."""
    data = second.state.data("kafka") / "data"
    data.mkdir()
    (data / "meta.properties").write_text("version=1\ncluster.id=somebody-elses\nnode.id=99\n")
    done = local(second.state.folder, "up", "--only", "kafka")
    assert done.returncode == 1
    assert "Apache Kafka 4.3.1 ended while it was starting" in done.stderr
    assert str(second.state.log("kafka")) in done.stderr
    assert "Traceback" not in done.stderr
    assert second.process("kafka") is None


def test_without_a_network_the_first_start_says_so(second, tmp_path):
    """With nothing in the cache and no network, `up` exits 1 and says that the first start needs the internet."""
    unreachable = "http://127.0.0.1:9"
    done = local(
        second.state.folder, "up", "--only", "kafka", XDG_CACHE_HOME=str(tmp_path / "cache"),
        HTTPS_PROXY=unreachable, https_proxy=unreachable,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Could not download Apache Kafka 4.3.1" in done.stderr
    assert "The first start needs the internet" in done.stderr
    assert "Traceback" not in done.stderr


def test_another_ministack_is_refused():
    """The launcher says why it works with one version of ministack only."""
    from local.ministack_launcher import MINISTACK_VERSION, check_version

    check_version(MINISTACK_VERSION)
    with pytest.raises(StackError, match=r"ministack 1\.6\.0 is installed.*replaces functions inside ministack"):
        check_version("1.6.0")


# --- Athena


def test_select_returns_values_and_types_as_athena_does(athena):
    """Values come as Athena's texts, a NULL without any, and columns with Athena's type names."""
    query_id = athena.run(
        "SELECT 1 AS i, BIGINT '2' AS b, 1.5e10 AS d, true AS t, CAST(NULL AS varchar) AS n, DATE '2024-01-02' AS day, "
        "TIMESTAMP '2024-01-02 00:00:00' AS at, CAST(1.5 AS decimal(10,2)) AS m, 'x' AS s, ARRAY[1, 2] AS a;"
    )["QueryExecutionId"]
    result = athena.api.get_query_results(QueryExecutionId=query_id)["ResultSet"]
    types = {column["Name"]: column["Type"] for column in result["ResultSetMetadata"]["ColumnInfo"]}
    assert types == {
        "i": "integer", "b": "bigint", "d": "double", "t": "boolean", "n": "varchar", "day": "date", "at": "timestamp",
        "m": "decimal", "s": "varchar", "a": "array",
    }  # fmt: skip
    header, row = result["Rows"]
    assert [value["VarCharValue"] for value in header["Data"]] == list(types)
    assert [value.get("VarCharValue") for value in row["Data"]] == [
        "1", "2", "1.5E10", "true", None, "2024-01-02", "2024-01-02 00:00:00.000", "1.50", "x", "[1, 2]",
    ]  # fmt: skip


def test_the_result_object_lies_under_the_enforced_output_location(athena):
    """The workgroup's location wins over the caller's, and the object is `<location>/<id>.csv`."""
    execution = athena.run("SELECT 1 AS a, 'x' AS b", ResultConfiguration={"OutputLocation": f"s3://{athena.bucket}/mine/"})
    place = f"{athena.output}{execution['QueryExecutionId']}.csv"
    assert execution["ResultConfiguration"]["OutputLocation"] == place
    body = athena.s3.get_object(Bucket=athena.bucket, Key=f"enforced/{execution['QueryExecutionId']}.csv")["Body"].read()
    assert body == b'"a","b"\n"1","x"\n'


def test_pages_hold_as_many_rows_as_asked_for(athena):
    """MaxResults counts the header among the first page's rows, and the pages together are the whole result."""
    query_id = athena.run("SELECT x FROM UNNEST(sequence(1, 25)) AS t(x) ORDER BY x")["QueryExecutionId"]
    pages = athena.api.get_paginator("get_query_results").paginate(QueryExecutionId=query_id, PaginationConfig={"PageSize": 10})
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
    assert athena.rows("SELECT symbol, price, dt FROM prices WHERE dt = '2024-01-03'") == [["AAPL", "185.5", "2024-01-03"]]
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
        Configuration={"ResultConfiguration": {"OutputLocation": athena.output}, "BytesScannedCutoffPerQuery": 10_000_000},
    )
    execution = athena.wait(athena.start("SELECT max(a + b + c + d) FROM wide", WorkGroup=f"{athena.workgroup}-small"))
    assert execution["Status"]["State"] == "CANCELLED"
    assert "Bytes scanned limit was exceeded" in execution["Status"]["StateChangeReason"]


def test_a_stopped_query_ends_in_trino_too(athena, stack):
    """StopQueryExecution makes the query CANCELLED and Trino stops working on it."""
    marker = f"/* {uuid.uuid4().hex} */"
    long_sql = f"SELECT count(*) {marker} FROM UNNEST(sequence(1, 10000)) a(x), UNNEST(sequence(1, 10000)) b(y), UNNEST(sequence(1, 1000)) c(z)"
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
        body = gzip.compress(f'{{"symbol":"AAPL","close":185,"day":"{day}"}}\n{{"symbol":"IBM","close":160.5}}\n'.encode())
        athena.s3.put_object(Bucket=athena.bucket, Key=f"raw/bars/dt={day}/part.json.gz", Body=body)
    crawled = f"{athena.database}_crawled"
    athena.glue.create_crawler(
        Name=athena.database, Role="arn:aws:iam::000000000000:role/crawler", DatabaseName=crawled,
        Targets={"S3Targets": [{"Path": f"s3://{athena.bucket}/raw/"}]},
    )  # fmt: skip
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
        ("symbol", "string"), ("close", "double"), ("day", "string"),
    ]  # fmt: skip
    assert "emulated" in table["Parameters"]["comment"]
    partitions = athena.glue.get_partitions(DatabaseName=crawled, TableName="bars")["Partitions"]
    assert sorted(partition["Values"] for partition in partitions) == [["2024-01-02"], ["2024-01-03"]]
    assert athena.rows(f"SELECT symbol, sum(close) AS c FROM {crawled}.bars GROUP BY symbol ORDER BY symbol") == [
        ["AAPL", "370.0"], ["IBM", "321.0"],
    ]  # fmt: skip


def test_tables_and_views_survive_down_and_up(stack, athena):
    """After a restart of the local AWS in good order, views and named queries are there and are read on the same port."""
    athena.run("CREATE OR REPLACE VIEW kept AS SELECT 42 AS answer")
    athena.api.create_named_query(Name="kept", Database=athena.database, QueryString="SELECT 1", WorkGroup=athena.workgroup)
    stack.restart("aws")
    assert athena.rows("SELECT answer FROM kept") == [["42"]]
    assert athena.api.list_named_queries(WorkGroup=athena.workgroup)["NamedQueryIds"]
    assert read_json(stack.state.ports_file) == stack.ports()
