"""kill -9 of the producer at random instants: a read_committed reader sees every record once."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from committed import committed_values, has_committed

from pipeline.records import Bar, Tick, decode
from pipeline.settings import Settings

KILLS = int(os.environ.get("KILLS", "8"))
ROWS = int(os.environ.get("KILL_ROWS", "200000" if KILLS >= 50 else "40000"))


def _killed_until_done(start: Callable, arguments: list[str], kills: int, longest_seconds: float) -> tuple[int, int]:
    """Start the command again and again and kill it; returns the kills, and how many of them found it at work."""
    killed = 0
    random_ = random.Random(4)
    while killed < kills:
        process = start(*arguments)
        time.sleep(random_.uniform(0.3, longest_seconds))
        if process.poll() is not None:
            return killed, process.returncode
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed += 1
    return killed, -1


@pytest.mark.slow
def test_kill_loop_of_a_replay(start: Callable, run: Callable, settings: Settings, tmp_path: Path) -> None:
    """A replay killed many times and then let finish has sent each row once; at least half of the kills hit work."""
    path = tmp_path / "big.csv"
    with path.open("w") as file:
        file.write("Date,Open,High,Low,Close,Volume,Symbol\n")
        file.writelines(
            f"{2000 + n // 12 % 20}-{1 + n % 12:02}-{1 + n // 240 % 28:02},1,2,1,2,{n},S{n // 6720}\n"
            for n in range(ROWS)
        )
    # At this rate the rows last for all the kills, and many of them come in the middle of a transaction.
    arguments = ["producer.py", "replay", str(path), "--interval", "1d", "--rate", str(ROWS / KILLS / 1.1)]
    first = start(*arguments)
    until = time.monotonic() + 60
    while not has_committed(settings, settings.kafka_topic_bars) and time.monotonic() < until:
        time.sleep(0.2)
    first.send_signal(signal.SIGKILL)
    first.wait()
    killed, _ = _killed_until_done(start, arguments, KILLS, 4.0)
    sent_before = has_committed(settings, settings.kafka_topic_bars)
    done = run("producer.py", "replay", str(path), "--interval", "1d", timeout_seconds=300)
    assert done.returncode == 0, done.stderr
    volumes = Counter(int(decode(Bar, value).volume) for value in committed_values(settings, settings.kafka_topic_bars))
    assert killed >= KILLS / 2, f"only {killed} kills before it was done"
    assert sent_before, "no kill came after a first transaction"
    assert volumes == Counter(range(ROWS))


@pytest.mark.slow
def test_kill_loop_of_a_simulation(start: Callable, run: Callable, settings: Settings) -> None:
    """A simulation with a seed, killed and started again, gives the records of one that is not disturbed."""
    arguments = ["producer.py", "simulate", "--seed", "11", "--rate", "2000", "--count", "8000", "--symbols", "A,B"]
    killed, _ = _killed_until_done(start, arguments, max(3, KILLS // 4), 2.5)
    assert run(*arguments).returncode == 0
    seen = [decode(Tick, value) for value in committed_values(settings, settings.kafka_topic_ticks)]
    assert run(*arguments, "--restart").returncode == 0
    again = [decode(Tick, value) for value in committed_values(settings, settings.kafka_topic_ticks)]
    facts = Counter((tick.symbol, tick.time, tick.price, tick.volume) for tick in seen)
    assert len(seen) == 8000
    assert killed >= 1
    assert Counter((tick.symbol, tick.time, tick.price, tick.volume) for tick in again) == facts + facts
