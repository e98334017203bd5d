"""Records that no sink can keep: each is a dead letter with a reason, neighbours land, the views stay readable."""

import gzip
import json
from collections.abc import Callable
from subprocess import CompletedProcess
from typing import Any

import pytest
from counting import bars, keys
from kafka import KafkaAdminClient, KafkaProducer
from raw_objects import set_up
from table_contents import client, items

from pipeline import records
from pipeline.athena.client import Athena
from pipeline.settings import Settings
from pipeline.sinks.dynamodb.table import PriceTable
from pipeline.streams.kafka.connection import connection

Run = Callable[..., CompletedProcess]
GOOD = records.encode(bars(0, 1)[0])
DEEP = b"[" * 50_000 + b"]" * 50_000
POISON = {
    "bigint": GOOD.replace(b'"source"', b'"trades":9223372036854775808,"source"'),
    "double": GOOD.replace(b"1.5", b"1" + b"0" * 400),
    "repeated key": GOOD.replace(b'"open"', b'"open":1.1,"open"'),
    "nesting": GOOD.replace(b'"AAPL"', DEEP),
    "nesting of an unknown field": GOOD.replace(b'"open"', b'"x":' + DEEP + b',"open"'),
    "surrogate": GOOD.replace(b'"AAPL"', b'"\\ud800"'),
    "no UTF-8": GOOD.replace(b'"AAPL"', b'"\xff"'),
    "escape sequence in the symbol": GOOD.replace(b'"AAPL"', b'"\\u001b[2J"'),
    "year 0": GOOD.replace(b"2023-11-14", b"0000-11-14"),
    "year 9999": GOOD.replace(b"2023-11-14", b"9999-12-31"),
    "ingested in the future": GOOD.replace(b"2026-01-01", b"2150-01-01"),
}
TIMESTAMPS = [253_402_300_800_000, 2**62]  # the years 10000 and 146 million


@pytest.fixture
def poisoned(credentials: None, settings: Settings) -> int:
    """Good records with every kind of poison between them in one partition; how many are good."""
    # Kafka 4 refuses timestamps an hour ahead by itself, and older brokers do not.
    config = {"message.timestamp.after.max.ms": str(2**63 - 1)}
    with KafkaAdminClient(**connection(settings)) as admin:
        topic = {"num_partitions": 1, "replication_factor": -1, "configs": config}
        admin.create_topics({settings.kafka_topic_bars: topic}, wait_for_metadata=True)
    good = 0
    with KafkaProducer(**connection(settings)) as producer:
        for number, value in enumerate(POISON.values()):
            producer.send(settings.kafka_topic_bars, records.encode(bars(number, 1)[0]))
            producer.send(settings.kafka_topic_bars, value)
            good += 1
        for timestamp_ms in TIMESTAMPS:
            producer.send(settings.kafka_topic_bars, GOOD, timestamp_ms=timestamp_ms)
        producer.send(settings.kafka_topic_bars, records.encode(bars(good, 1)[0]))
        producer.flush()
    return good + 1


@pytest.mark.parametrize("form", ["json", "csv", "parquet"])
def test_the_views_stay_readable(form: str, poisoned: int, run: Run, s3: Any, settings: Settings) -> None:
    """In every format all good records are in the view, each once, and all others are dead letters with a reason."""
    done = run("consumer.py", "--until-caught-up", "--format", form)
    assert done.returncode == 0, done.stderr
    assert f"bad_records={len(POISON) + len(TIMESTAMPS)}" in done.stderr
    letters = [
        json.loads(line)
        for key in keys(s3, settings, "dead_letter/")
        for line in gzip.decompress(s3.get_object(Bucket=settings.s3_bucket, Key=key)["Body"].read()).splitlines()
    ]
    assert len(letters) == len(POISON) + len(TIMESTAMPS)
    assert all(letter["reason"] for letter in letters)
    assert run("consumer.py", "verify", "--deep").returncode == 0
    set_up(settings)
    rows = Athena(settings).query("SELECT symbol, time, volume, trades FROM bars ORDER BY volume")
    assert rows["volume"].tolist() == [float(number) for number in range(poisoned)]


def test_the_dynamodb_route(poisoned: int, run: Run, environment: dict[str, str], settings: Settings) -> None:
    """The same into DynamoDB: good records are items, all others dead letters; and so is what an item cannot
    hold: 400 KB, a key of 2 KB, a number beyond its range.
    """
    too_much = [
        GOOD.replace(b'"test"', b'"' + b"x" * 450_000 + b'"'),
        GOOD.replace(b'"AAPL"', b'"' + b"A" * 3_000 + b'"'),
        GOOD.replace(b"2.0", b"1e200"),
    ]
    with KafkaProducer(**connection(settings)) as producer:
        for value in too_much:
            producer.send(settings.kafka_topic_bars, value).get(30)
    PriceTable(settings).create()
    done = run("consumer.py", "--sink", "dynamodb", "--until-caught-up")
    assert done.returncode == 0, done.stderr
    assert f"bad_records={len(POISON) + len(TIMESTAMPS) + len(too_much)}" in done.stderr, done.stderr
    found = items(client(environment), settings)
    assert len(found) == poisoned


@pytest.mark.usefixtures("poisoned")
def test_the_future_does_not_win(run: Run, settings: Settings) -> None:
    """A bar whose ingested_at is in 2150 is refused, so the view shows the bar that came in time."""
    assert run("consumer.py", "--until-caught-up").returncode == 0
    set_up(settings)
    first = bars(0, 1)[0]
    rows = Athena(settings).query(f"SELECT ingested_at FROM bars WHERE symbol = '{first.symbol}' AND volume = 0")
    assert [str(time)[:4] for time in rows["ingested_at"]] == ["2026"]
