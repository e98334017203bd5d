"""The consumer killed, stopped, frozen and joined by others: every record is in exactly one object."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from subprocess import CompletedProcess, Popen

import pytest
from aws_proxy import HOLD, HOLD_ANSWER, PASS, aws_proxy
from counting import assert_exactly_once, etags, in_lake, in_topic, keys, produce, wait_for

from pipeline.landing.positions import Partition
from pipeline.settings import Settings
from pipeline.streams.kafka.reader import standings

# `make test` runs a few rounds of the random loops, `make faults` a hundred.
KILLS = int(os.environ.get("KILLS", "8"))

Run = Callable[..., CompletedProcess]
Start = Callable[..., Popen]


def finish(run: Run, *arguments: str, **changes: str) -> None:
    """Land the rest, then let the product's own check look at all of it."""
    done = run("consumer.py", "--until-caught-up", *arguments, **changes)
    assert done.returncode == 0, done.stderr
    verified = run("consumer.py", "verify", "--deep")
    assert verified.returncode == 0, verified.stdout[-1500:] + verified.stderr[-1500:]


def test_kill_before_the_plan(start: Start, run: Run, s3: object, settings: Settings) -> None:
    """A consumer killed while it only holds records has changed nothing, and its successor lands them."""
    produce(settings, 5_000)
    process = start("consumer.py", "--flush-seconds", "600", KAFKA_INSTANCE="a")
    wait_for(lambda: f"{settings.kafka_topic_bars}-0" in process.log_path.read_text(), 90, process)
    time.sleep(1)
    process.kill()
    assert keys(s3, settings) == []
    finish(run, KAFKA_INSTANCE="a")
    assert_exactly_once(s3, settings, at_least=5_000)


@pytest.mark.parametrize(
    ("name", "held_write", "how"),
    [
        ("after the plan, before the upload", 0, HOLD),
        ("between two uploads of one batch", 2, HOLD),
        ("after the upload, before its end is committed", 3, HOLD_ANSWER),
    ],
    ids=lambda value: str(value).replace(" ", "-"),
)
def test_kill_inside_a_batch(
    name: str,
    held_write: int,
    how: str,
    start: Start,
    run: Run,
    s3: object,
    settings: Settings,
    environment: dict[str, str],
) -> None:
    """A consumer killed at any step of a batch leaves a plan, and its successor repeats it to the byte, whatever came
    since.
    """
    produce(settings, 5_000)
    with aws_proxy(environment["AWS_ENDPOINT_URL"], lambda number, *_: how if number == held_write else PASS) as proxy:
        # Folders by the records' own days, so that a batch has several objects; one upload at a time, so that they are
        # in order.
        process = start(
            "consumer.py",
            "--flush-seconds",
            "0.5",
            "--partition-time",
            "event",
            "--uploads",
            "1",
            AWS_ENDPOINT_URL=proxy.url,
            KAFKA_INSTANCE="a",
        )
        assert proxy.holding.wait(90), process.log_path.read_text()
        process.kill()
        process.wait()
        plans = [s.committed.metadata for s in standings(settings, [settings.kafka_topic_bars]).values() if s.committed]
        assert any(plans), "no plan was committed, so nothing was tested"
    produce(settings, 1_000, first=5_000)
    again = run("consumer.py", "--until-caught-up", "--partition-time", "event", KAFKA_INSTANCE="a")
    assert "repeating a batch" in again.stderr
    finish(run, "--partition-time", "event", KAFKA_INSTANCE="a")
    assert_exactly_once(s3, settings, at_least=6_000)


def test_a_repeated_batch_has_the_same_names_and_bytes(
    start: Start, run: Run, s3: object, settings: Settings, environment: dict[str, str]
) -> None:
    """What a consumer had put of a batch when it was killed has the same names and ETags after its successor repeated
    the batch, with other limits and another format in its settings; and the objects that were missing are added.
    """
    produce(settings, 5_000)
    with aws_proxy(environment["AWS_ENDPOINT_URL"], lambda number, *_: HOLD if number == 2 else PASS) as proxy:
        process = start(
            "consumer.py",
            "--flush-seconds",
            "0.5",
            "--partition-time",
            "event",
            "--uploads",
            "1",
            AWS_ENDPOINT_URL=proxy.url,
            KAFKA_INSTANCE="a",
        )
        assert proxy.holding.wait(90), process.log_path.read_text()
        process.kill()
        process.wait()
    before = etags(s3, settings)
    assert len(before) >= 1
    # A second later the bytes would differ if any clock went into them.
    time.sleep(1.1)
    again = run("consumer.py", "--until-caught-up", "--flush-records", "70", "--format", "csv", KAFKA_INSTANCE="a")
    assert again.returncode == 0, again.stderr
    assert "repeating a batch" in again.stderr
    after = etags(s3, settings)
    assert {key: after.get(key) for key in before} == before
    planned = [key for key in after if key.endswith(".json.gz")]
    assert len(planned) > len(before), "the batch had no more objects, so nothing was completed"
    assert run("consumer.py", "verify", "--deep").returncode == 0


def test_random_kills(start: Start, run: Run, s3: object, settings: Settings, environment: dict[str, str]) -> None:
    """Killed at random instants while records keep arriving and S3 is slow, the consumers land every record once."""
    chance = random.Random(20_240_613)
    produce(settings, 1_000)
    produced, stop = [1_000], threading.Event()

    def keep_producing() -> None:
        while not stop.is_set():
            produce(settings, 500, first=produced[0])
            produced[0] += 500

    def slowly(*_: object) -> str:
        time.sleep(chance.uniform(0, 0.3))
        return PASS

    producer = threading.Thread(target=keep_producing)
    producer.start()
    repeated = 0
    try:
        with aws_proxy(environment["AWS_ENDPOINT_URL"], slowly) as proxy:
            kills = 0
            # On a slow machine fewer kills meet a batch under way; then there are more of them.
            while kills < KILLS or (repeated < KILLS // 4 and kills < 4 * KILLS):
                kills += 1
                process = start(
                    "consumer.py",
                    "--flush-seconds",
                    "0.2",
                    "--flush-records",
                    "400",
                    "--partition-time",
                    "event",
                    AWS_ENDPOINT_URL=proxy.url,
                    KAFKA_INSTANCE="a",
                )
                # Some are killed while they start, some once they have partitions, most once they write.
                written, goes_on = len(proxy.writes), chance.random()
                if goes_on < 0.8:
                    wait_for(lambda p=process: "rebalance" in p.log_path.read_text(), 90, process)
                if goes_on < 0.5:
                    wait_for(lambda w=written: len(proxy.writes) > w, 90, process)
                time.sleep(chance.uniform(0.0, 1.5))
                process.kill()
                process.wait()
                repeated += process.log_path.read_text().count("repeating a batch")
    finally:
        stop.set()
        producer.join()
    finish(run, "--partition-time", "event", KAFKA_INSTANCE="a")
    assert repeated >= KILLS // 4, "too few kills met a batch under way"
    assert_exactly_once(s3, settings, at_least=produced[0])


def test_sigterm_finishes_the_batch_in_hand(
    start: Start, run: Run, s3: object, settings: Settings, environment: dict[str, str]
) -> None:
    """SIGTERM in the middle of an upload ends the consumer with 0 within 10 s, with all it had read landed: the next
    start finds no batch under way.
    """
    produce(settings, 5_000)

    def slowly(*_: object) -> str:
        time.sleep(0.5)
        return PASS

    with aws_proxy(environment["AWS_ENDPOINT_URL"], slowly) as proxy:
        process = start("consumer.py", "--flush-records", "1000", AWS_ENDPOINT_URL=proxy.url)
        wait_for(lambda: proxy.writes, 90, process)
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert process.wait(15) == 0
        assert time.monotonic() - began < 10
    assert "uploads under way" not in process.log_path.read_text()
    # What it had not read at that moment is left to the next start.
    assert sum(in_lake(s3, settings).values()) >= 1_000
    again = run("consumer.py", "--until-caught-up")
    assert (again.returncode, "repeating a batch" in again.stderr) == (0, False), again.stderr
    finish(run)
    assert_exactly_once(s3, settings, at_least=5_000)


def test_sigterm_while_s3_is_away(
    start: Start, run: Run, s3: object, settings: Settings, environment: dict[str, str]
) -> None:
    """With an upload that hangs, SIGTERM still ends the consumer with 0 within 10 s; the next start completes the
    batch.
    """
    produce(settings, 2_000)
    with aws_proxy(environment["AWS_ENDPOINT_URL"], lambda *_: HOLD) as proxy:
        process = start("consumer.py", "--flush-seconds", "0.5", AWS_ENDPOINT_URL=proxy.url)
        assert proxy.holding.wait(90)
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert process.wait(20) == 0, process.log_path.read_text()
        assert time.monotonic() - began < 10
    finish(run)
    assert_exactly_once(s3, settings, at_least=2_000)


def test_zombie_changes_nothing(
    start: Start, run: Run, s3: object, settings: Settings, environment: dict[str, str]
) -> None:
    """A consumer frozen in the middle of an upload beyond its session, and thawed after another took over, changes
    nothing.
    """
    produce(settings, 3_000)
    with aws_proxy(environment["AWS_ENDPOINT_URL"], lambda number, *_: HOLD if number == 0 else PASS) as proxy:
        zombie = start("consumer.py", "--flush-seconds", "0.5", AWS_ENDPOINT_URL=proxy.url)
        assert proxy.holding.wait(90), zombie.log_path.read_text()
        zombie.send_signal(signal.SIGSTOP)
        successor = start("consumer.py", "--flush-seconds", "0.5")
        wait_for(lambda: in_lake(s3, settings) == in_topic(settings), 90, successor)
        produce(settings, 1_000, first=3_000)
        wait_for(lambda: sum(in_lake(s3, settings).values()) == 4_000, 60, successor)
        zombie.send_signal(signal.SIGCONT)
        proxy.released.set()
        produce(settings, 1_000, first=4_000)
        wait_for(lambda: zombie.log_path.read_text().count("rebalance") > 1, 60, zombie)
        wait_for(lambda: sum(in_lake(s3, settings).values()) >= 5_000, 60)
        for process in (zombie, successor):
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) == 0
    finish(run)
    assert_exactly_once(s3, settings, at_least=5_000)


def test_joining_and_leaving(start: Start, run: Run, s3: object, settings: Settings) -> None:
    """While consumers join and leave every second or two, every partition advances and every record lands once."""
    chance = random.Random(7)
    produce(settings, 1_000)
    running: list[Popen] = []
    produced = 1_000
    halfway: dict[Partition, int] = {}
    for number in range(3 + KILLS):
        running.append(start("consumer.py", "--flush-seconds", "0.3"))
        produce(settings, 1_000, first=produced)
        produced += 1_000
        time.sleep(chance.uniform(0.8, 2.0))
        if number >= 2:
            leaver = running.pop(chance.randrange(len(running) - 1))
            # A process that has just started does not listen to signals yet.
            wait_for(lambda p=leaver: "rebalance" in p.log_path.read_text(), 90, leaver)
            leaver.send_signal(chance.choice([signal.SIGTERM, signal.SIGTERM, signal.SIGINT]))
            assert leaver.wait(15) == 0, leaver.log_path.read_text()
        if number == (3 + KILLS) // 2:
            halfway = committed_offsets(settings)
    # The members that are left by now go on with what the others left.
    wait_for(lambda: all(committed_offsets(settings)[p] > offset for p, offset in halfway.items()), 90)
    for process in running:
        wait_for(lambda p=process: "rebalance" in p.log_path.read_text(), 90, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0, process.log_path.read_text()
    finish(run)
    assert_exactly_once(s3, settings, at_least=produced)


def committed_offsets(settings: Settings) -> dict[Partition, int]:
    """Where the group stands in each partition that has records."""
    found = standings(settings, [settings.kafka_topic_bars])
    return {p: s.committed.offset if s.committed else 0 for p, s in found.items() if s.end}
