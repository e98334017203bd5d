"""The whole way with every private part of kafka-python switched off: slower, and exactly once all the same."""

import csv
import signal
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess, Popen

import pytest
from counting import assert_exactly_once, keys, produce, wait_for

from pipeline.settings import ServiceError, Settings
from pipeline.streams.kafka import cluster, compatibility
from pipeline.streams.kafka.member import Member
from pipeline.streams.kafka.producer import Producer

Run = Callable[..., CompletedProcess]
Start = Callable[..., Popen]
OFF = {compatibility.SWITCH: "off"}
STEPS_ASIDE = "kafka-python's private parts are not used"
ROWS = 6_000


@pytest.fixture
def shut(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate shut in this process too."""
    monkeypatch.setenv(compatibility.SWITCH, "off")
    compatibility.is_open.cache_clear()
    yield
    monkeypatch.undo()
    compatibility.is_open.cache_clear()


def prices(path: Path, first: int, count: int) -> Path:
    """A CSV of minute bars, no two alike."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["symbol", "time", "open", "high", "low", "close", "volume"])
        for n in range(first, first + count):
            day, minute = divmod(n, 1440)
            time = f"2024-01-{1 + day:02} {minute // 60:02}:{minute % 60:02}:00"
            writer.writerow([f"S{n % 8}", time, 1, 2, 0.5, 1.5, n])
    return path


def test_replay_land_and_rebalance(run: Run, start: Start, s3: object, settings: Settings, tmp_path: Path) -> None:
    """A CSV is replayed and landed by two consumers, of which one joins and leaves: nothing is missing, nothing is
    twice, and verify --deep finds the same.
    """
    replayed = run("producer.py", "replay", str(prices(tmp_path / "a.csv", 0, ROWS)), "--interval", "1m", **OFF)
    assert (replayed.returncode, STEPS_ASIDE in replayed.stderr) == (0, True), replayed.stderr
    staying = start("consumer.py", "--flush-seconds", "0.5", "--flush-records", "200", **OFF)
    wait_for(lambda: keys(s3, settings), 60, staying)
    joining = start("consumer.py", "--flush-seconds", "0.5", "--flush-records", "200", **OFF)
    wait_for(lambda: f"assigned={settings.kafka_topic_bars}" in joining.log_path.read_text(), 60, joining)
    more = run("producer.py", "replay", str(prices(tmp_path / "b.csv", ROWS, ROWS)), "--interval", "1m", **OFF)
    assert more.returncode == 0, more.stderr
    joining.send_signal(signal.SIGTERM)
    assert joining.wait(30) == 0, joining.log_path.read_text()
    wait_for(lambda: staying.log_path.read_text().count("assigned=") >= 3, 60, staying)
    staying.send_signal(signal.SIGTERM)
    assert staying.wait(30) == 0, staying.log_path.read_text()
    last = run("consumer.py", "--until-caught-up", **OFF)
    assert last.returncode == 0, last.stderr
    assert_exactly_once(s3, settings, at_least=2 * ROWS)
    verified = run("consumer.py", "verify", "--deep", **OFF)
    assert verified.returncode == 0, verified.stdout
    for log in (staying.log_path.read_text(), joining.log_path.read_text(), last.stderr, verified.stderr):
        assert log.count(STEPS_ASIDE) == 1


@pytest.mark.usefixtures("shut")
def test_a_member_that_lost_its_group_joins_again(settings: Settings) -> None:
    """A rebalance that kafka-python forgets to finish ends by leaving and joining again after a session's time."""
    produce(settings, 100)
    with Member(settings, [settings.kafka_topic_bars]) as member:
        wait_for(lambda: member.poll(100).given, 60, pause=False)
        for _ in range(3):
            member._consumer._coordinator._assignment_snapshot = {"another": {0}}
            wait_for(lambda: member.poll(2).revoked, 60, pause=False)
            wait_for(lambda: member.poll(2).given, 60, pause=False)


@pytest.mark.usefixtures("shut")
def test_a_fenced_producer_says_so(settings: Settings) -> None:
    """A producer that another one has taken over stops with the same words, and does not disturb the other."""
    with Producer(settings, "same", [settings.kafka_topic_bars]) as first:
        first.send({}, {"k": {"row": 1}})
        with Producer(settings, "same") as second:
            with pytest.raises(ServiceError, match="another producer with the id 'same' has taken over"):
                first.send({}, {"k": {"row": 2}})
            assert second.position("k")["row"] == 1
            second.send({}, {"k": {"row": 3}})
    with Producer(settings, "same") as third:
        assert third.position("k")["row"] == 3


@pytest.mark.usefixtures("shut")
def test_a_producer_given_up_is_fenced(settings: Settings) -> None:
    """What a producer that was given up still sends has no effect beside its successor."""
    first = Producer(settings, "left", [settings.kafka_topic_bars])
    first._producer.begin_transaction()
    first._producer.send(settings.kafka_topic_checkpoints, b'{"row":9}', b"k", partition=0)
    first._abandon()
    with Producer(settings, "left") as second:
        assert second.position("k") is None
        second.send({}, {"k": {"row": 1}})
    with Producer(settings, "left") as third:
        assert third.position("k")["row"] == 1


@pytest.mark.usefixtures("shut")
def test_the_brokers_addresses_are_asked_for(settings: Settings) -> None:
    """The doctor has the addresses that clients are told to connect to."""
    with cluster.connected(settings) as asked:
        addresses = [f"{host}:{port}" for _, host, port in asked.advertised()]
    assert addresses == settings.kafka_bootstrap_servers.split(",")
