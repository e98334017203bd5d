"""The embedded stack does what it promises: on loopback only, exact about processes and ports, and Athena by Trino."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from stack_client import client

from local import StackError, processes
from local.stack import Stack
from local.state import write_whole

ROOT = Path(__file__).resolve().parents[2]


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
        ports["kafka"]: "kafka",
        ports["kafka_controller"]: "kafka",
        ports["aws"]: "aws",
        ports["trino"]: "trino",
    }


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
        TableName="kept",
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    )
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
    """`run` gives the command the stack's settings, takes away the user's AWS profile, and returns its exit code."""
    script = (
        "import os, sys; e = os.environ; assert 'AWS_PROFILE' not in e; assert e['S3_BUCKET']; "
        "assert e['AWS_REGION'] == e['AWS_DEFAULT_REGION'] == 'us-east-1'; "
        "print(e['KAFKA_BOOTSTRAP_SERVERS']); sys.exit(7)"
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
        ([], 2),
        (["up", "--only", "nothing"], 2),
        (["run"], 2),
        (["run", "--only", "aws", "no-such-command"], 127),
        (["--help"], 0),
        (["up", "--help"], 0),
    ],
)
def test_exit_codes(stack, arguments, exit_code):
    """Wrong use exits 2, a command that does not exist 127 as in a shell, help 0."""
    assert local(stack.state.folder, *arguments).returncode == exit_code


def test_env_prints_lines_for_a_shell(stack):
    """`env` prints what a shell can evaluate."""
    done = local(stack.state.folder, "env")
    shell = subprocess.run(
        ["sh", "-c", f"{done.stdout}\necho $AWS_ENDPOINT_URL"], capture_output=True, text=True, check=True
    )
    assert shell.stdout.strip() == stack.environment()["AWS_ENDPOINT_URL"]


@pytest.mark.parametrize("spelling", [["-n", "1"], ["--lines", "1"]])
def test_logs_shows_the_end_of_a_log(stack, spelling):
    """`logs` prints as many of a service's last lines as it is told."""
    last = stack.state.log("aws").read_text().splitlines()[-1]
    done = local(stack.state.folder, "logs", "aws", *spelling)
    assert done.stdout.splitlines() == [last]


@pytest.mark.parametrize("spelling", ["-f", "--follow"])
def test_logs_follows_what_is_added(second, spelling):
    """`logs --follow` goes on printing what a service writes."""
    log = second.state.log("kafka")
    log.write_text("first\n")
    environment = os.environ | {"LOCAL_STACK_DIR": str(second.state.folder)}
    command = [sys.executable, "-m", "local", "logs", "kafka", spelling]
    process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "first\n"
    with log.open("a") as more:
        more.write("second\n")
    assert process.stdout.readline() == "second\n"
    process.terminate()
    process.wait(timeout=20)
    process.stdout.close()


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
        second.state.folder,
        "up",
        "--only",
        "kafka",
        XDG_CACHE_HOME=str(tmp_path / "cache"),
        HTTPS_PROXY=unreachable,
        https_proxy=unreachable,
    )
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
