"""What all tests share: one embedded stack for the whole run, and names that no two tests have in common."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import hypothesis
import pytest
from stack_client import client

from local.stack import Stack
from pipeline.settings import Settings, load_settings

ROOT = Path(__file__).parent.parent
# A shell starts what it runs in the background deaf to Ctrl-C, and the processes of the tests would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
SHARED_DATA = ROOT.parent / "shared/data"
# How long an example takes says what else the machine does.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


STATE = Path(os.environ.get("LOCAL_STACK_DIR", ROOT / ".local"))
# One stack a run of pytest, named after the process that began it; the workers of xdist inherit the name.
RUN_PID = os.environ.setdefault("STOCK_TEST_RUN_PID", str(os.getpid()))
TEST_STACK = STATE / f"test-{RUN_PID}"


def pytest_sessionstart(session: pytest.Session) -> None:
    """Stop what a run that was killed has left running."""
    if not hasattr(session.config, "workerinput"):
        for folder in STATE.glob("test-*"):
            if not Path("/proc", folder.name.removeprefix("test-")).exists():
                remove(folder)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Stop the stack when all tests are over, by the process that all workers report to."""
    if not hasattr(session.config, "workerinput"):
        remove(TEST_STACK)


def remove(folder: Path) -> None:
    """Stop a stack and delete what it held."""
    Stack(folder).down(wipe=True)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def stack() -> Stack:
    """Kafka, the local AWS and Trino on ports of their own, for all tests of a run that hurt none of them."""
    shared = Stack(TEST_STACK)
    shared.up()
    return shared


@pytest.fixture(scope="module")
def private_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that the tests of one file may kill, freeze and restart; such a file has it as its `stack`."""
    own = Stack(tmp_path_factory.mktemp("stack"))
    own.up()
    yield own
    own.down(wipe=True)


@pytest.fixture(scope="module")
def bucket(stack: Stack) -> str:
    """The bucket of the tests."""
    name = stack.environment()["S3_BUCKET"]
    s3 = client(stack, "s3")
    with suppress(s3.exceptions.BucketAlreadyOwnedByYou, s3.exceptions.BucketAlreadyExists):
        s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def environment(stack: Stack, bucket: str) -> dict[str, str]:
    """A user's environment on the embedded stack, with topics, group, prefix and tables that are this test's own."""
    own = uuid.uuid4().hex[:8]
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in {s.upper() for s in Settings.__dataclass_fields__}
    }
    for name in stack.unset:
        kept.pop(name, None)
    return (
        kept
        | stack.environment()
        | {
            "KAFKA_TOPIC_BARS": f"bars_{own}",
            "KAFKA_TOPIC_TICKS": f"ticks_{own}",
            "KAFKA_TOPIC_NEWS": f"news_{own}",
            "KAFKA_TOPIC_ACTIONS": f"actions_{own}",
            "KAFKA_TOPIC_CHECKPOINTS": f"checkpoints_{own}",
            "KAFKA_GROUP": f"group_{own}",
            "KAFKA_SESSION_TIMEOUT_MS": "6000",
            "S3_BUCKET": bucket,
            "S3_PREFIX": f"test_{own}",
            "GLUE_DATABASE": f"database_{own}",
            "ATHENA_WORKGROUP": f"workgroup_{own}",
            "DYNAMODB_TABLE": f"table_{own}",
            "PYTHONUNBUFFERED": "1",
        }
    )


@pytest.fixture
def credentials(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's AWS credentials also for what a test calls in this process."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, environment[name])


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    """The settings that a script started with `environment` has."""
    return load_settings(environ=environment, config_file="/dev/null")


@pytest.fixture
def run(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess]:
    """Run a script or module of the project as a user would, to its end: run("consumer.py", "--until-caught-up")."""

    def run_script(*arguments: str, timeout_seconds: float = 120, **changes: str) -> subprocess.CompletedProcess:
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=ROOT,
            env=environment | {"PYTHONFAULTHANDLER": "1"} | changes,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            stdout, stderr = process.communicate(timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # shows where every thread is
            stdout, stderr = process.communicate()
            pytest.fail(
                f"{' '.join(map(str, arguments))} did not end in {timeout_seconds} s:\n{stdout}\n{stderr}",
                pytrace=False,
            )
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    return run_script


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen]]:
    """Start a script that runs on; whatever is still running at the end of the test is killed. Output goes to
    `.log_path`.
    """
    started: list[subprocess.Popen] = []

    def start_script(*arguments: str, **changes: str) -> subprocess.Popen:
        log_path = tmp_path / f"{Path(arguments[0]).stem}-{len(started)}.log"
        with log_path.open("w") as log:
            process = subprocess.Popen(
                [sys.executable, *map(str, arguments)],
                cwd=ROOT,
                env=environment | changes,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        process.log_path = log_path
        started.append(process)
        return process

    yield start_script
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.fixture
def s3(stack: Stack) -> object:
    """A client of the embedded S3."""
    return client(stack, "s3")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real price files kept beside the project; a test that needs them is skipped where they are absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the shared price files (../shared/data) are not here")
    return SHARED_DATA


@pytest.fixture
def unused_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
