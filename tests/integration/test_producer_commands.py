"""What every command of producer.py has, and simulate, as a user runs them on the embedded stack."""

from collections.abc import Callable
from itertools import pairwise

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
    assert "goes on with this one" in done.stdout
    bars = [decode(Bar, value) for value in committed_values(settings, settings.kafka_topic_bars)]
    assert [(bar.symbol, bar.time, bar.interval) for bar in bars] == [
        ("SIM:A", "2023-02-28 14:30:00.000", "30m"),
        ("SIM:A", "2023-02-28 15:00:00.000", "30m"),
    ]


def test_a_second_run_without_a_seed_goes_on(run: Callable, settings: Settings) -> None:
    """Without a seed the next run's prices go on from the last run's, bars behind its last bar; --restart begins anew.
    No simulated record has a ticker that is traded.
    """
    for _ in range(2):
        assert run("producer.py", "simulate", "--bars", "1d", "--count", "16").returncode == 0
        assert run("producer.py", "simulate", "--rate", "4000", "--count", "800").returncode == 0
    bars = [decode(Bar, value) for value in committed_values(settings, settings.kafka_topic_bars)]
    ticks = [decode(Tick, value) for value in committed_values(settings, settings.kafka_topic_ticks)]
    assert {record.symbol for record in (*bars, *ticks)} == {f"SIM{number}" for number in range(1, 9)}
    for symbol in {bar.symbol for bar in bars}:
        days = sorted((bar for bar in bars if bar.symbol == symbol), key=lambda bar: bar.time)
        assert len({bar.time for bar in days}) == 4
        assert all(after.open == before.close for before, after in pairwise(days))
        trades = sorted((tick for tick in ticks if tick.symbol == symbol), key=lambda tick: tick.time)
        assert all(abs(after.price / before.price - 1) < 0.02 for before, after in pairwise(trades))
    before = len(bars)
    assert run("producer.py", "simulate", "--bars", "1d", "--count", "8", "--restart").returncode == 0
    again = [decode(Bar, value) for value in committed_values(settings, settings.kafka_topic_bars)]
    assert len(again) == before + 8
    first = {(bar.symbol, bar.time) for bar in bars}
    assert {(bar.symbol, bar.time) for bar in again} == first


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
