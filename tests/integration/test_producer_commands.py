"""What every command of producer.py has, and simulate, as a user runs them on the embedded stack."""

from collections.abc import Callable

import pytest
from committed import committed_values

from pipeline.records import Bar, Tick, decode
from pipeline.settings import Settings


def test_simulate_counts_and_holds_its_rate(run: Callable, settings: Settings) -> None:
    """As many ticks as asked for, and the same ones for the same seed, which are not sent again."""
    done = run("producer.py", "simulate", "--seed", "5", "--rate", "500", "--count", "3000", "--symbols", "A,B")
    assert done.returncode == 0, done.stderr
    ticks = [decode(Tick, value) for value in committed_values(settings, settings.kafka_topic_ticks)]
    assert len(ticks) == 3000
    assert run(
        "producer.py", "simulate", "--seed", "5", "--rate", "500", "--count", "3000", "--symbols", "A,B"
    ).stdout.startswith("seed 5: sent 0")


def test_simulated_bars_begin_where_they_are_told(run: Callable, settings: Settings) -> None:
    """--start sets the first bar's day, --bars the length; without a seed the one that was drawn is shown."""
    arguments = ["--bars", "30m", "--start", "2023-03-01", "--count", "2", "--symbols", "A"]
    done = run("producer.py", "simulate", *arguments)
    assert done.returncode == 0, done.stderr
    assert "go on with --seed" in done.stdout
    bars = [decode(Bar, value) for value in committed_values(settings, settings.kafka_topic_bars)]
    assert [(bar.time, bar.interval) for bar in bars] == [
        ("2023-02-28 14:30:00.000", "30m"),
        ("2023-02-28 15:00:00.000", "30m"),
    ]


def test_a_simulation_resumes_from_its_own_start_only(run: Callable, settings: Settings) -> None:
    """The same seed with another --start is refused, not continued with the old one; --restart begins it anew."""
    arguments = ["simulate", "--seed", "3", "--bars", "1d", "--count", "1", "--symbols", "A"]
    assert run("producer.py", *arguments, "--start", "2023-03-01").returncode == 0
    other = run("producer.py", *arguments, "--start", "2023-03-08")
    assert other.returncode == 1
    assert "was begun at 2023-03-01 00:00:00.000" in other.stderr
    assert run("producer.py", *arguments, "--start", "2023-03-08", "--restart").returncode == 0
    bars = [decode(Bar, value) for value in committed_values(settings, settings.kafka_topic_bars)]
    assert sorted(bar.time[:10] for bar in bars) == ["2023-02-28", "2023-03-07"]


@pytest.mark.parametrize("command", ["replay", "poll", "stream", "simulate", "news", "actions"])
def test_help_shows_examples(run: Callable, command: str) -> None:
    """Each command's help shows an example to copy."""
    shown = run("producer.py", command, "--help")
    assert shown.returncode == 0
    assert f"python producer.py {command} " in shown.stdout
