"""The processes of a soak: consumers with what they were told, their children, and what a process keeps in memory."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

from counting import wait_for

PATIENCE_SECONDS = 120


def tree(pid: int) -> Iterator[int]:
    """Yield the process and its children, as systemd or Docker would stop them together."""
    yield pid
    with suppress(FileNotFoundError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield from tree(int(child))


def send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def resident_over(pid: int, seconds: float, check: Callable[[], None]) -> list[int]:
    """Return what the process keeps in memory, in bytes, four times a second; `check` is called as often."""
    found, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        check()
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        found.append(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:")))
        time.sleep(0.25)
    return found


@dataclass
class Consumer:
    """A consumer.py that was started, with as many workers."""

    name: str
    process: Popen
    workers: int

    @property
    def log(self) -> str:
        return self.process.log_path.read_text()

    @property
    def children(self) -> list[int]:
        return list(tree(self.process.pid))[1:]

    def wait_joined(self) -> None:
        """Wait until it, or each of its workers, is a member of the group: from then on it listens to signals."""
        wait_for(lambda: self.log.count("rebalance") >= self.workers, PATIENCE_SECONDS, self.process)

    def kill(self) -> None:
        send(list(tree(self.process.pid)), signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """SIGTERM, after which it has to end with 0. It has 10 s for it; the rest is for a machine that is busy."""
        self.wait_joined()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE_SECONDS)
        assert code == 0, f"{self.name} ended with {code} after SIGTERM:\n{self.log[-3000:]}"

    def assert_runs(self) -> None:
        code = self.process.poll()
        assert code is None, f"{self.name} ended by itself with {code}:\n{self.log[-3000:]}"
