"""Start, look at and stop the services together: what the command line and the tests use."""

import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from local import StackError, aws_emulator, downloads, kafka_broker, ports, processes, trino_server
from local.processes import Process
from local.service import Service
from local.state import State, default_folder, read_json

# In the order of starting: the slowest first, so that the others start while it does.
SERVICES: dict[str, Service] = {
    service.name: service for service in (trino_server.SERVICE, aws_emulator.SERVICE, kafka_broker.SERVICE)
}
# Somebody may take a port between our look at it and the server's; three in a row would be something else.
START_ATTEMPTS = 3
PORT_TAKEN = re.compile(r"already in use|failed to bind", re.IGNORECASE)
LOG_TAIL_BYTES = 20_000
LAST_LINES_SHOWN = 5
BUCKET = "stock-market-data"


@dataclass(frozen=True)
class ServiceStatus:
    name: str
    title: str
    pid: int | None
    is_ready: bool
    address: str
    log: Path
    detail: str


class Stack:
    """One embedded stack, whose data, logs and ports live in one folder.

        stack = Stack(Path(".local/test"))
        stack.up()                       # or stack.up(["kafka", "aws"]), which starts in a third of the time
        subprocess.run([...], env=os.environ | stack.environment())
        stack.kill("kafka"); stack.up(["kafka"])       # kill -9, then again on the same port with the same data
        stack.down()

    All methods are safe to call from several processes at a time: `up` and `down` take turns by a file lock.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.state = State((folder or default_folder()).resolve())

    def up(self, names: Iterable[str] | None = None) -> None:
        """Start what is not running of the named services (all by default) and return when each of them answers."""
        wanted = _services(names)
        for service in wanted:
            if service.product:
                downloads.ensure(service.product)
        with self.state.locked():
            self.state.check_free_space()
            for attempt in range(1, START_ATTEMPTS + 1):
                starting = self._start_missing(wanted)
                failures = self._wait_ready(starting)
                if not failures:
                    return
                if attempt == START_ATTEMPTS or not all(self._port_was_taken(service) for service in failures):
                    raise StackError("\n".join(failures.values()))

    def down(self, names: Iterable[str] | None = None, *, wipe: bool = False) -> list[str]:
        """Stop the named services (all by default) and return the names of those that ran; `wipe` deletes all data."""
        if wipe and names is not None:
            raise ValueError("wipe deletes the data of all services, so it takes no names")
        if not self.state.folder.exists():
            return []
        with self.state.locked():
            found = {service.name: processes.running(self.state, service.name) for service in _services(names)}
            processes.stop([process for process in found.values() if process])
            for name in found:
                self.state.record(name).unlink(missing_ok=True)
            if wipe:
                self.state.wipe(list(SERVICES))
        return [name for name, process in found.items() if process]

    def restart(self, name: str) -> None:
        """Stop one service in good order and start it again on the same port with the same data."""
        self.down([name])
        self.up([name])

    def kill(self, name: str) -> None:
        """kill -9, as a fault test wants it; `up([name])` starts the service again with the same data."""
        process = self.process(name)
        if process is None:
            raise StackError(f"{name} is not running")
        process.send(signal.SIGKILL)
        processes.wait_ended([process], processes.STOP_TIMEOUT_SECONDS)

    def process(self, name: str) -> Process | None:
        """The process that runs a service, with its `pid` and `send(signal)`; None when it is down."""
        return processes.running(self.state, SERVICES[name].name)

    def ports(self) -> dict[str, int]:
        """The ports that listeners have, or had when they last ran: kafka, kafka_controller, aws, trino."""
        return read_json(self.state.ports_file)

    def environment(self) -> dict[str, str]:
        """What a program needs to use this stack instead of a real cluster and AWS."""
        known = self.ports()
        if not known:
            raise StackError("The stack has never been started here; run `python -m local up`.")
        no_proxy = ",".join(
            filter(None, [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), "127.0.0.1,localhost"])
        )
        return {
            "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{known['kafka']}",
            "AWS_ENDPOINT_URL": aws_emulator.endpoint(known),
            "AWS_ACCESS_KEY_ID": aws_emulator.TEST_KEY,
            "AWS_SECRET_ACCESS_KEY": aws_emulator.TEST_KEY,
            "AWS_REGION": aws_emulator.REGION,
            "AWS_DEFAULT_REGION": aws_emulator.REGION,
            "S3_BUCKET": BUCKET,
            # A proxy named in the user's shell cannot reach our loopback.
            "NO_PROXY": no_proxy,
            "no_proxy": no_proxy,
        }

    # Settings that would win over the ones above and lead to somebody's real account.
    unset = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_ENDPOINT_URL_S3")

    def status(self) -> list[ServiceStatus]:
        known = self.ports()
        rows = []
        for service in SERVICES.values():
            process = self.process(service.name)
            address = f"127.0.0.1:{known[service.listeners[0]]}" if process else ""
            rows.append(
                ServiceStatus(
                    service.name,
                    service.title,
                    process.pid if process else None,
                    bool(process) and service.is_ready(self.state, known),
                    address,
                    self.state.log(service.name),
                    service.detail(self.state) if process else "",
                )
            )
        return rows

    def _start_missing(self, wanted: list[Service]) -> list[tuple[Service, Process]]:
        """Choose ports and start what is down; return all that is wanted.

        A running service that was told a port of another one which has changed since is started anew, wanted or not.
        """
        alive = {name: processes.running(self.state, name) for name in SERVICES}
        kept = [listener for name, process in alive.items() if process for listener in SERVICES[name].listeners]
        chosen = ports.choose_ports(self.state, kept)
        up = []
        for service in SERVICES.values():
            process = alive[service.name]
            is_stale = process is not None and process.ports != service.ports_used(chosen)
            if service not in wanted and not is_stale:
                continue
            if is_stale:
                processes.stop([process])
            if process is None or is_stale:
                print(f"Starting {service.title} …", file=sys.stderr)
                process = self._start(service, chosen)
            up.append((service, process))
        return up

    def _start(self, service: Service, chosen: dict[str, int]) -> Process:
        installation = downloads.ensure(service.product) if service.product else None
        command = service.command(self.state, chosen, installation)
        environment = service.environment(self.state, chosen)
        return processes.start(self.state, service.name, command, environment, service.ports_used(chosen))

    def _wait_ready(self, starting: list[tuple[Service, Process]]) -> dict[Service, str]:
        """Wait until every service answers; return a message for each one that died or took too long."""
        known = self.ports()
        began = time.monotonic()
        waiting, failures = dict(starting), {}
        while waiting:
            for service, process in list(waiting.items()):
                seconds = time.monotonic() - began
                log = self.state.log(service.name)
                if not process.is_alive():
                    failures[service] = (
                        f"{service.title} ended while it was starting. {self._last_words(service)}\nSee {log}"
                    )
                elif seconds > service.start_timeout_seconds:
                    processes.stop([process])
                    failures[service] = (
                        f"{service.title} did not answer within {seconds:.0f} s and was stopped. See {log}"
                    )
                elif not service.is_ready(self.state, known):
                    continue
                del waiting[service]
            time.sleep(0.1)
        return failures

    def _port_was_taken(self, service: Service) -> bool:
        return bool(PORT_TAKEN.search(self._log_since_start(service)))

    def _last_words(self, service: Service) -> str:
        lines = [line.strip()[:300] for line in self._log_since_start(service).splitlines() if line.strip(" =\t")]
        return "Its last words:\n" + "\n".join(f"    {line}" for line in lines[-LAST_LINES_SHOWN:])

    def _log_since_start(self, service: Service) -> str:
        with contextlib.suppress(FileNotFoundError), self.state.log(service.name).open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
            return log.read().decode(errors="replace").rpartition("--- starting ")[2]
        return ""


def _services(names: Iterable[str] | None) -> list[Service]:
    chosen = set(SERVICES if names is None else names)
    unknown = chosen - set(SERVICES)
    if unknown:
        raise StackError(f"Unknown service: {', '.join(sorted(unknown))}. There are: {', '.join(sorted(SERVICES))}.")
    return [service for service in SERVICES.values() if service.name in chosen]
