"""The soak: everything that the fault tests do one by one, at random times, for as long as one likes.

    make soak                                                                    half an hour
    SOAK_SECONDS=600 SOAK_SEED=7 python -m pytest -s tests/faults/test_soak.py   the same kinds of events as before
    SOAK_EVENTS=kill_consumer,change_weather …                                   only these kinds
    SOAK_MUTANT=no_plan …                                                        must fail: a consumer of mutants.py

The seed decides which events come in which order, and what they do; how far everything has come by then is the
machine's affair, so a seed that has failed need not fail again.
"""

import os
import random
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable
from subprocess import CompletedProcess, Popen

import pytest
from aws_proxy import PASS, aws_proxy
from soak_counts import Account
from soak_events import DECK, RATE, Soak
from soak_processes import send, tree

from local.stack import Stack
from pipeline.settings import Settings, load_settings

SECONDS = int(os.environ.get("SOAK_SECONDS", "180"))
SEED = int(os.environ.get("SOAK_SEED") or random.SystemRandom().randrange(1_000_000))
ONLY = [kind for kind in os.environ.get("SOAK_EVENTS", "").split(",") if kind]
MUTANT = os.environ.get("SOAK_MUTANT", "")
QUIET_SECONDS = max(45, SECONDS // 10)
# Between the second and the last third of the quiet stretch. A record held by mistake would be 200 bytes; at 5,000 a
# second that is a megabyte a second.
MOST_GROWTH_BYTES = 8 * 1024 * 1024
SYMBOLS = ",".join(f"S{number:02}" for number in range(100))
IN_LOGS = {
    "rebalances": " rebalance ",
    "batches repeated": "repeating a batch",
    "uploads tried again": "upload failed, trying again",
    "commits unanswered": "commit unanswered",
    "went on behind the lake": "going on behind what is in the lake",
    "topics found made anew": "made anew",
}


@pytest.fixture(scope="module")
def stack(private_stack: Stack) -> Stack:
    """A stack whose broker may be killed and frozen; nobody asks its Trino anything."""
    private_stack.down(["trino"])
    return private_stack


@pytest.fixture
def environment(environment: dict[str, str]) -> dict[str, str]:
    """The tests' environment, with more tickers than it takes to give every partition some."""
    return environment | {"SYMBOLS": SYMBOLS}


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    """The settings that a script started with `environment` has."""
    return load_settings(environ=environment, config_file="/dev/null")


@pytest.mark.slow
@pytest.mark.timeout(1_200 + 4 * SECONDS)
@pytest.mark.skipif("SOAK_SECONDS" not in os.environ, reason="takes minutes: `make soak` runs it")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds workers and their memory in /proc")
def test_soak(
    stack: Stack,
    start: Callable[..., Popen],
    run: Callable[..., CompletedProcess],
    s3: object,
    settings: Settings,
    environment: dict[str, str],
) -> None:
    """Whatever happens to consumers, producer, broker, S3, group and topic while 5,000 ticks a second arrive, each is
    in the lake once at the end, and a consumer's memory stays as it is.
    """
    print(f"\nSOAK_SEED={SEED} SOAK_SECONDS={SECONDS}")
    with aws_proxy(environment["AWS_ENDPOINT_URL"], lambda *_: PASS) as proxy:
        soak = Soak(SEED, stack, settings, proxy, Account(s3, settings), start, run, mutant=MUTANT)
        try:
            soak.begin()
            soak.events(SECONDS - QUIET_SECONDS, ONLY)
            soak.land_everything()
            resident = soak.quiet_stretch(QUIET_SECONDS)
            soak.land_everything()
        finally:
            report(soak)
            send([pid for consumer in soak.consumers for pid in tree(consumer.process.pid)], signal.SIGKILL)
    assert_flat(soak, resident)
    if not ONLY:
        assert_worked(soak)


def report(soak: Soak) -> None:
    """Print how often what happened, and count what only the logs know."""
    logs = "".join(path.read_text() for path in soak.logs)
    soak.counts.update({name: len(re.findall(text, logs)) for name, text in IN_LOGS.items()})
    soak.counts["ticks sent"] = soak.account.sent.count
    soak.counts["objects in the lake"] = len(soak.account.etags)
    soak.counts["consumers started"] = len(soak.logs)
    print(f"SOAK_SEED={soak.seed}")
    for name, count in sorted(soak.counts.items()):
        print(f"    {name:<32}{count:>12,}")


def assert_flat(soak: Soak, resident: list[int]) -> None:
    """The greatest memory of the last third of the quiet stretch is that of the second third, but for a little."""
    third = len(resident) // 3
    middle, last = max(resident[third : 2 * third]), max(resident[2 * third :])
    soak.say(f"memory: {max(resident[:third]) >> 20} MB, {middle >> 20} MB, {last >> 20} MB")
    assert last <= middle + MOST_GROWTH_BYTES


def assert_worked(soak: Soak) -> None:
    """Enough was sent, and enough has gone wrong, that this says something."""
    counts, minutes = Counter(soak.counts), SECONDS / 60
    assert all(counts[kind] for kind in DECK)
    # A fifth of the rate: the producer rests while the broker is away, and while the topic is counted and made anew.
    assert counts["ticks sent"] >= RATE * SECONDS / 5
    assert counts["kill_consumer"] >= minutes
    assert counts["rebalances"] >= 10 * minutes
    assert counts["batches repeated"] >= minutes
    assert counts["uploads tried again"] >= 5 * minutes
