"""The DynamoDB route killed, throttled and refused: every record is an item, and never an older one than was there."""

import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from subprocess import CompletedProcess, Popen
from typing import Any

import msgspec
import pytest
from aws_proxy import CUT, HOLD, LOSE, PASS, Decision, Refusal, aws_proxy
from counting import bars, in_topic, produce, wait_for
from table_contents import assert_all_there, client, items, volumes

from pipeline.settings import Settings
from pipeline.sinks.dynamodb.table import PriceTable
from pipeline.streams.kafka import producer as topic
from pipeline.streams.kafka.reader import standings

# `make test` runs a few rounds of the random loops, `make faults` a hundred.
KILLS = int(os.environ.get("KILLS", "8"))

Run = Callable[..., CompletedProcess]
Start = Callable[..., Popen]
LAND = ("consumer.py", "--sink", "dynamodb")


@pytest.fixture
def table(credentials: None, environment: dict[str, str], settings: Settings) -> Any:
    """A client; the table is there."""
    PriceTable(settings).create()
    return client(environment)


def after_the_check(decision: Decision) -> Callable[..., Decision]:
    """The first call, which describes the table, is handed on."""
    return lambda number, *_: decision if number else PASS


def of_the_route(settings: Settings) -> Settings:
    """The settings with the group that the route makes of them."""
    return replace(settings, kafka_group=f"{settings.kafka_group}_dynamodb")


def test_random_kills(start: Start, run: Run, table: Any, settings: Settings, environment: dict[str, str]) -> None:
    """Killed at random instants while records keep arriving and answers are slow or lost, consumers miss nothing."""
    chance = random.Random(20_251_121)
    produce(settings, 1_000)
    produced, stop = [1_000], threading.Event()

    def keep_producing() -> None:
        while not stop.is_set():
            produce(settings, 200, first=produced[0])
            produced[0] += 200

    def slowly(*_: object) -> str:
        time.sleep(chance.uniform(0, 0.2))
        return chance.choice([PASS, PASS, PASS, LOSE])

    producer = threading.Thread(target=keep_producing)
    producer.start()
    before = 0
    met = 0
    try:
        with aws_proxy(environment["AWS_ENDPOINT_URL"], slowly) as proxy:
            kills = 0
            # On a slow machine fewer of them have come to write; then there are more of them.
            while kills < KILLS or (met < KILLS // 2 and kills < 4 * KILLS):
                kills += 1
                process = start(*LAND, AWS_ENDPOINT_URL=proxy.url, KAFKA_INSTANCE="a")
                if chance.random() < 0.8:  # the others are killed while they start
                    wait_for(lambda p=process: "rebalance" in p.log_path.read_text(), 90, process)
                time.sleep(chance.uniform(0.0, 1.5))
                process.kill()
                process.wait()
                met, before = met + (len(proxy.writes) > before), len(proxy.writes)
    finally:
        stop.set()
        producer.join()
    done = run(*LAND, "--until-caught-up", KAFKA_INSTANCE="a")
    assert done.returncode == 0, done.stderr
    assert met >= KILLS // 2, "too few consumers had come to write"
    assert_all_there(table, settings, at_least=produced[0])


FAULTS = [
    *map(Refusal, ("ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded")),
    Refusal("InternalServerError", 500),
    503,
    CUT,
    LOSE,
]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_throttled_and_broken_calls(
    fault: Decision, run: Run, table: Any, settings: Settings, environment: dict[str, str]
) -> None:
    """With two of three calls refused, cut or unanswered everything is written in the end, and the run ends with 0."""
    produce(settings, 1_000)
    faults = itertools.cycle([fault, fault, PASS])
    with aws_proxy(environment["AWS_ENDPOINT_URL"], lambda number, *_: next(faults) if number else PASS) as proxy:
        done = run(*LAND, "--until-caught-up", AWS_ENDPOINT_URL=proxy.url)
        assert done.returncode == 0, done.stderr
        assert sum(decision != PASS for _, decision in proxy.writes) >= 10
    assert done.stderr.count("write failed, trying again") >= 10
    assert_all_there(table, settings, at_least=1_000)


def test_throttled_for_too_long(run: Run, table: Any, settings: Settings, environment: dict[str, str]) -> None:
    """Throttled beyond DYNAMODB_WAIT_SECONDS the consumer stops with 1 and the settings' names, has committed nothing,
    and the next start writes everything.
    """
    produce(settings, 500)
    with aws_proxy(
        environment["AWS_ENDPOINT_URL"], after_the_check(Refusal("ProvisionedThroughputExceededException"))
    ) as proxy:
        refused = run(*LAND, "--until-caught-up", AWS_ENDPOINT_URL=proxy.url, DYNAMODB_WAIT_SECONDS="3")
    assert (refused.returncode, "Traceback" in refused.stderr) == (1, False), refused.stderr
    assert "DYNAMODB_TABLE=" in refused.stderr
    assert "DYNAMODB_WAIT_SECONDS" in refused.stderr
    assert volumes(table, settings) == {}
    assert run(*LAND, "--until-caught-up").returncode == 0
    assert_all_there(table, settings, at_least=500)


@pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceNotFoundException"])
def test_final_refusals(code: str, run: Run, table: Any, settings: Settings, environment: dict[str, str]) -> None:
    """Denied access, or a table that is deleted meanwhile, ends the consumer at once with the setting's name; nothing
    is lost.
    """
    produce(settings, 500)
    with aws_proxy(environment["AWS_ENDPOINT_URL"], after_the_check(Refusal(code))) as proxy:
        refused = run(*LAND, "--until-caught-up", AWS_ENDPOINT_URL=proxy.url)
    assert (
        refused.returncode,
        f"DYNAMODB_TABLE={settings.dynamodb_table}" in refused.stderr,
        code in refused.stderr,
    ) == (1, True, True)
    assert "Traceback" not in refused.stderr
    assert run(*LAND, "--until-caught-up").returncode == 0
    assert_all_there(table, settings, at_least=500)


def test_zombie_changes_nothing(
    start: Start, run: Run, table: Any, settings: Settings, environment: dict[str, str]
) -> None:
    """A consumer frozen with a write on its way, and thawed after later revisions came in through another, changes none
    of them.
    """
    produce(settings, 200)
    with aws_proxy(environment["AWS_ENDPOINT_URL"], after_the_check(HOLD)) as proxy:
        zombie = start(*LAND, AWS_ENDPOINT_URL=proxy.url)
        assert proxy.holding.wait(90), zombie.log_path.read_text()
        zombie.send_signal(signal.SIGSTOP)
        later = [
            msgspec.structs.replace(bar, close=1.75, ingested_at="2026-02-01 00:00:00.000") for bar in bars(0, 200)
        ]
        with topic.Producer(settings, "later") as producer:
            producer.send({settings.kafka_topic_bars: later}, {"later": {}})
        done = run(*LAND, "--until-caught-up")
        assert done.returncode == 0, done.stderr
        revised = items(table, settings)
        assert {float(item["close"]) for item in revised.values()} == {1.75}
        writes = len(proxy.writes)
        proxy.released.set()
        zombie.send_signal(signal.SIGCONT)
        wait_for(lambda: zombie.log_path.read_text().count("rebalance") > 1, 60, zombie)
        zombie.send_signal(signal.SIGTERM)
        assert zombie.wait(15) == 0
        assert writes >= 2
    assert items(table, settings) == revised
    assert len(revised) == 200


def committed_records(settings: Settings) -> int:
    """How many offsets the group has committed as written, all partitions together."""
    found = standings(of_the_route(settings), [settings.kafka_topic_bars]).values()
    return sum(standing.committed.offset - standing.oldest for standing in found if standing.committed)


def test_sigterm_finishes_what_was_read(start: Start, run: Run, table: Any, settings: Settings) -> None:
    """SIGTERM ends the consumer with 0 within 10 s, and what it has written is committed."""
    produce(settings, 3_000)
    process = start(*LAND, "--flush-records", "100")
    wait_for(lambda: committed_records(settings) > 0, 90, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0, process.log_path.read_text()
    # The transaction's end is an offset of each partition that is no record.
    assert volumes(table, settings).total() >= committed_records(settings) - settings.kafka_partitions > 0
    assert run(*LAND, "--until-caught-up").returncode == 0
    assert volumes(table, settings).total() == sum(in_topic(settings).values()) == 3_000
