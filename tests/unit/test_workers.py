"""Several processes of one script, started by another one as a user starts it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = """
import os, sys, time
from pipeline import terminal
from pipeline.process import workers
from pipeline.settings import ServiceError

def work(number):
    if number == {failing}:
        raise ServiceError("SOME_SETTING: of worker 1")
    with terminal.stop_signals() as is_stopping:
        os.write(1, b"started %d\\n" % number)
        while not is_stopping():
            time.sleep(0.01)
    os.write(1, b"stopped %d\\n" % number)
    return 0

if __name__ == "__main__":
    sys.exit(workers.run(work, 3))
"""


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts the script; nothing of it is left behind."""
    started = []

    def start(failing: int | None = None) -> subprocess.Popen:
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", SCRIPT.format(failing=failing)],
                cwd=ROOT,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_reaches_all(start: Callable[..., subprocess.Popen], number: signal.Signals) -> None:
    """A signal to the first process alone lets every worker finish, and the exit code is 0."""
    process = start()
    started = sorted(process.stdout.readline() for _ in range(3))
    assert started == [f"started {number}\n" for number in range(3)]
    process.send_signal(number)
    out, errors = process.communicate(timeout=30)
    assert sorted(out.splitlines()) == [f"stopped {number}" for number in range(3)]
    assert process.returncode == 0, errors


def test_one_that_fails_stops_the_others(start: Callable[..., subprocess.Popen]) -> None:
    """A worker's error is told once, without a traceback; the others finish, and the exit code is 1."""
    process = start(failing=1)
    out, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert errors == "error: SOME_SETTING: of worker 1\n"
    assert out.count("stopped") == out.count("started") == 2


def test_a_worker_that_is_killed_is_a_failure(start: Callable[..., subprocess.Popen]) -> None:
    """When one worker dies the rest stop, and the exit code says so."""
    process = start()
    for _ in range(3):
        process.stdout.readline()
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        pytest.skip("only Linux tells the children of a process")
    os.kill(int(children.read_text().split()[1]), signal.SIGKILL)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert out.count("stopped") == 2
