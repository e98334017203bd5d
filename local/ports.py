"""Which port each listener gets: the one it had, else its usual one, else the next free one."""

import itertools
import json
import socket
from collections.abc import Iterable

from local import StackError
from local.state import State, read_json, write_whole

# The ports people know these services by. The next candidates lie ten apart, so that two listeners never compete, and
# all of them below 32768, where the kernel takes the ports of outgoing connections from.
USUAL_PORTS = {"kafka": 9092, "kafka_controller": 9093, "aws": 4566, "trino": 8080}
CANDIDATES_PER_LISTENER = 500


def is_free(port: int) -> bool:
    """Return whether a server could listen on this loopback port now, and nothing answers there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            return False
    with socket.socket() as probe:
        # As servers do, so that a port that was just closed counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def choose_ports(state: State, kept: Iterable[str]) -> dict[str, int]:
    """Give every listener a port and remember it; listeners in `kept` are up and keep theirs."""
    remembered = read_json(state.ports_file)
    kept_names = set(kept) & set(remembered)
    ports = {name: remembered[name] for name in kept_names}
    for name, usual in USUAL_PORTS.items():
        if name in kept_names:
            continue
        candidates = itertools.chain([remembered[name]] if name in remembered else [], range(usual, 32768, 10))
        free = (
            port
            for port in itertools.islice(candidates, CANDIDATES_PER_LISTENER)
            if port not in ports.values() and is_free(port)
        )
        ports[name] = next(free, 0)
        if not ports[name]:
            raise StackError(
                f"No free port for {name} on 127.0.0.1 (tried {usual}, {usual + 10}, …); stop what uses them."
            )
    if ports != remembered:
        write_whole(state.ports_file, json.dumps(ports, indent=2))
    return ports
