"""Start, find and stop our own processes, and never touch a pid that the system gave to another one."""

import contextlib
import json
import os
import signal
import subprocess
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from local import StackError
from local.state import State, read_json, write_whole

STOP_TIMEOUT_SECONDS = 30
LOG_KEPT_BYTES = 10_000_000


@dataclass(frozen=True)
class Process:
    """A process we started: its pid, the moment it started (which a reused pid does not share), and the ports it was
    told.
    """

    pid: int
    started: str
    ports: dict[str, int] = field(default_factory=dict)

    def is_alive(self) -> bool:
        _reap(self.pid)
        return start_moment(self.pid) == self.started

    def send(self, signal_number: int) -> None:
        """Signal the process if it still is ours."""
        if self.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal_number)


def start_moment(pid: int) -> str | None:
    """Return when the process started, in the system's own words; None when there is none, or only a zombie.

    On Linux field 22 of /proc/PID/stat, in clock ticks since boot (man 5 proc_pid_stat); elsewhere `ps`. A killed
    process is a zombie as soon as its first thread has ended, while the others may still hold its ports; field 20
    counts them.
    """
    if Path("/proc/self/stat").exists():
        try:
            # The second field is the command's name in parentheses and may hold spaces and parentheses itself.
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        has_ended = fields[0] in "ZX" and int(fields[17]) <= 1
        return None if has_ended else f"ticks {fields[19]}"
    answer = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    status, _, moment = answer.stdout.strip().partition(" ")
    return None if not moment or status.startswith("Z") else moment.strip()


def start(
    state: State, service: str, command: list[str], environment: dict[str, str], ports: dict[str, int]
) -> Process:
    """Start a process in its own session, so that the terminal's Ctrl-C and hang-up do not reach it."""
    log = state.log(service)
    if log.exists() and log.stat().st_size > LOG_KEPT_BYTES:
        log.replace(log.with_suffix(".log.1"))
    with log.open("ab") as output:
        output.write(f"\n--- starting {service} at {time.strftime('%Y-%m-%d %H:%M:%S %z')} ---\n".encode())
        output.flush()
        try:
            child = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=state.data(service),
                start_new_session=True,
            )
        except OSError as error:
            raise StackError(f"Could not start {service}: {error}") from error
    # Only the pid is kept. Telling the object so keeps Python from warning that its child still runs.
    child.returncode = 0
    process = Process(child.pid, start_moment(child.pid) or "ended at once", ports)
    write_whole(state.record(service), json.dumps(asdict(process)))
    return process


def running(state: State, service: str) -> Process | None:
    """Return the process that runs a service, if this stack started it and it is still the same process."""
    recorded = read_json(state.record(service))
    if not recorded:
        return None
    process = Process(**recorded)
    return process if process.is_alive() else None


def stop(processes: list[Process], timeout_seconds: float = STOP_TIMEOUT_SECONDS) -> None:
    """Ask all processes to end, wait a bounded time, then kill those that are left."""
    for process in processes:
        process.send(signal.SIGTERM)
        process.send(signal.SIGCONT)  # a process that a test has suspended could not hear the first
    if not wait_ended(processes, timeout_seconds):
        for process in processes:
            process.send(signal.SIGKILL)
        wait_ended(processes, timeout_seconds)


def wait_ended(processes: list[Process], timeout_seconds: float) -> bool:
    """Wait until all have ended; return whether they did in time."""
    deadline = time.monotonic() + timeout_seconds
    while any([process.is_alive() for process in processes]):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _reap(pid: int) -> None:
    """A dead child stays a zombie until its parent asks; when we are not its parent, there is nothing to ask."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
