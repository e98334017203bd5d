"""The broker away, frozen or without the records; bad records; changed settings; another group; tests of tests."""

import io
import json
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess, Popen

import pyarrow.parquet as pq
import pytest
from aws_proxy import HOLD, HOLD_ANSWER, PASS, aws_proxy
from committed import wait_until_settled
from counting import assert_exactly_once, bars, in_lake, in_topic, keys, produce, wait_for
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from local.stack import Stack
from pipeline import records
from pipeline.settings import Settings
from pipeline.streams.kafka import producer as topic
from pipeline.streams.kafka.reader import standings

Run = Callable[..., CompletedProcess]
Start = Callable[..., Popen]
MUTANTS = str(Path(__file__).with_name("mutants.py"))


@pytest.fixture(scope="module")
def stack(private_stack: Stack) -> Stack:
    """A stack whose broker may be killed and frozen."""
    return private_stack


def test_broker_killed_and_restarted(stack: Stack, start: Start, s3: object, settings: Settings) -> None:
    """A consumer goes on by itself after the broker was killed and came back, and lands everything once."""
    produce(settings, 3_000)
    process = start("consumer.py", "--flush-seconds", "0.3", "--flush-records", "300")
    wait_for(lambda: keys(s3, settings), 90, process)
    wait_until_settled(settings, settings.kafka_topic_bars)
    stack.kill("kafka")
    time.sleep(2)
    stack.up(["kafka"])
    produce(settings, 3_000, first=3_000)
    wait_for(lambda: in_lake(s3, settings) == in_topic(settings), 90, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0, process.log_path.read_text()
    assert_exactly_once(s3, settings, at_least=6_000)


def test_broker_frozen_when_missing_topics_are_looked_for(
    stack: Stack, start: Start, s3: object, settings: Settings
) -> None:
    """A consumer that misses a topic looks for it every ten seconds, and a broker that is frozen then does not
    end it.
    """
    produce(settings, 1_000)
    process = start("consumer.py", "--flush-seconds", "0.3", KAFKA_TOPIC_NEWS=f"absent_{settings.kafka_topic_news}")
    wait_for(lambda: keys(s3, settings), 90, process)
    assert "topics not there yet" in process.log_path.read_text()
    wait_until_settled(settings, settings.kafka_topic_bars)
    stack.process("kafka").send(signal.SIGSTOP)
    time.sleep(25)  # a look every 10 s, a request for 10 s
    stack.process("kafka").send(signal.SIGCONT)
    produce(settings, 1_000, first=1_000)
    wait_for(lambda: in_lake(s3, settings) == in_topic(settings), 90, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0, process.log_path.read_text()
    assert_exactly_once(s3, settings, at_least=2_000)


@pytest.mark.parametrize("instance", ["", "static"], ids=["dynamic", "static"])
def test_commits_without_an_answer(
    *, instance: str, stack: Stack, start: Start, run: Run, s3: object, settings: Settings
) -> None:
    """A broker that freezes for longer than a commit waits leaves commits unanswered; the member joins again, under its
    static name too, and nothing is missing and nothing twice.
    """
    produce(settings, 1_000)
    changes = {"KAFKA_SESSION_TIMEOUT_MS": "30000", "KAFKA_INSTANCE": instance}
    process = start("consumer.py", "--flush-seconds", "0.1", "--flush-records", "50", **changes)
    wait_for(lambda: keys(s3, settings), 90, process)
    produced = 1_000
    rounds = 0
    # A freeze that meets no request changes nothing; then it is done again.
    while rounds < 3 or ("commit unanswered" not in process.log_path.read_text() and rounds < 10):
        rounds += 1
        produce(settings, 5_000, first=produced)
        produced += 5_000
        time.sleep(0.2)
        stack.process("kafka").send(signal.SIGSTOP)
        time.sleep(6.5)
        stack.process("kafka").send(signal.SIGCONT)
        time.sleep(2)
    wait_for(lambda: sum(in_lake(s3, settings).values()) >= produced, 120, process)
    assert "commit unanswered" in process.log_path.read_text()
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0, process.log_path.read_text()
    assert run("consumer.py", "--until-caught-up", **changes).returncode == 0
    assert_exactly_once(s3, settings, at_least=produced)


def test_poison_records(run: Run, s3: object, settings: Settings) -> None:
    """Whatever bytes a topic holds, the good records land, the bad ones lie in the dead letters, and the stream goes
    on.
    """
    good = records.encode(bars(0, 1)[0])
    poison = [
        b"",
        b"\x00\xff",
        b"not json",
        b"{}",
        b"null",
        b"[1]",
        None,
        good.replace(b"1.5", b"NaN"),
        good.replace(b"1.5", b"1e999"),
        good.replace(b'"source"', b'"extra":1,"source"'),
        good.replace(b"1.5", b'"1.5"'),
        good.replace(b"2.0", b"-2.0"),
        good[:-1],
        b"x" * 900_000,
        good.replace(b'"test"', b'"' + b"y" * 900_000 + b'"')[:-2],
        "né".encode("latin-1"),
    ]
    big = good.replace(b'"test"', b'"' + b"y" * 900_000 + b'"')
    topic.ensure_topics(settings, list(settings.topics))
    with KafkaProducer(**topic.connection(settings), max_request_size=2_000_000) as producer:
        for value in [good, *poison, big, good]:
            producer.send(settings.kafka_topic_bars, value, b"AAPL").get(10)
    done = run("consumer.py", "--until-caught-up")
    assert done.returncode == 0, done.stderr
    assert f"bad_records={len(poison)}" in done.stderr
    letters = [json.loads(line) for key in keys(s3, settings, "dead_letter/") for line in _lines(s3, settings, key)]
    assert [letter["offset"] for letter in letters] == list(range(1, len(poison) + 1))
    assert all(letter["reason"] for letter in letters)
    landed = [line for key in keys(s3, settings, "raw/") for line in _lines(s3, settings, key)]
    assert sorted(landed) == sorted([good, big, good])
    assert run("consumer.py", "verify", "--deep").returncode == 0


def _lines(s3: object, settings: Settings, key: str) -> list[bytes]:
    from pipeline.sinks.lake.verify import content

    return content(key, s3.get_object(Bucket=settings.s3_bucket, Key=key)["Body"].read())


def test_too_many_bad_records(run: Run, settings: Settings) -> None:
    """--max-bad ends the consumer with 1 once more records are bad, and they are kept in the dead letters."""
    topic.ensure_topics(settings, list(settings.topics))
    with KafkaProducer(**topic.connection(settings)) as producer:
        for _ in range(5):
            producer.send(settings.kafka_topic_bars, b"bad", b"k").get(10)
    assert run("consumer.py", "--until-caught-up", "--max-bad", "5").returncode == 0
    with KafkaProducer(**topic.connection(settings)) as producer:
        for _ in range(5):
            producer.send(settings.kafka_topic_bars, b"bad", b"k").get(10)
    stopped = run("consumer.py", "--until-caught-up", "--max-bad", "4")
    assert stopped.returncode == 1
    assert "5 bad records are in dead_letter/" in stopped.stderr


def test_records_deleted_by_retention(run: Run, s3: object, settings: Settings) -> None:
    """When retention has deleted records that were not landed, the consumer stops loudly and lands nothing behind the
    hole.
    """
    produce(settings, 1_000)
    assert run("consumer.py", "--until-caught-up").returncode == 0
    before = keys(s3, settings)
    produce(settings, 1_000, first=1_000)
    with KafkaAdminClient(**topic.connection(settings)) as admin:
        found = standings(settings, [settings.kafka_topic_bars])
        admin.delete_records(
            {TopicPartition(*p): s.committed.offset + 10 for p, s in found.items() if s.end > s.oldest}
        )
    stopped = run("consumer.py", "--until-caught-up")
    assert stopped.returncode == 1
    assert f"KAFKA_GROUP={settings.kafka_group}, {settings.kafka_topic_bars}-" in stopped.stderr
    assert "retention deleted what is between before it was landed" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert keys(s3, settings) == before


def test_settings_changed_between_crash_and_restart(
    start: Start, run: Run, s3: object, settings: Settings, environment: dict[str, str]
) -> None:
    """A batch that was under way is completed as it was planned, whatever the settings are now; later ones follow the
    new.
    """
    produce(settings, 2_000)
    with aws_proxy(environment["AWS_ENDPOINT_URL"], lambda number, *_: HOLD_ANSWER if number == 0 else PASS) as proxy:
        process = start(
            "consumer.py", "--flush-seconds", "0.5", "--uploads", "1", AWS_ENDPOINT_URL=proxy.url, KAFKA_INSTANCE="a"
        )
        assert proxy.holding.wait(90)
        process.kill()
        process.wait()
    produce(settings, 1_000, first=2_000)
    other = settings.s3_prefix + "/other"
    again = run(
        "consumer.py",
        "--until-caught-up",
        "--format",
        "parquet",
        "--partition-by",
        "month",
        "--partition-time",
        "event",
        S3_PREFIX=other,
        KAFKA_INSTANCE="a",
    )
    assert again.returncode == 0, again.stderr
    every = keys(s3, settings)
    planned = [key for key in every if key.endswith(".json.gz")]
    later = [key for key in every if key.endswith(".parquet")]
    assert planned
    assert later
    assert not [key for key in planned if "/other/" in key]
    assert all("/other/raw/bars/dt=2023-11-01/" in key for key in later)
    found = Counter(json.loads(line)["volume"] for key in planned for line in _lines(s3, settings, key))
    for key in later:
        rows = pq.read_table(io.BytesIO(s3.get_object(Bucket=settings.s3_bucket, Key=key)["Body"].read()))
        found.update(rows["volume"].to_pylist())
    assert found == Counter(float(number) for number in range(3_000))


def test_two_groups_on_one_prefix(run: Run, s3: object, settings: Settings) -> None:
    """A second group is told that another has landed the topic under the same prefix, and lands nothing; where an
    earlier version did, verify tells it.
    """
    produce(settings, 1_000)
    assert run("consumer.py", "--until-caught-up", "--flush-records", "100").returncode == 0
    assert run("consumer.py", "verify").returncode == 0
    before = keys(s3, settings)
    second = ("--until-caught-up", "--group", settings.kafka_group + "_b", "--flush-records", "70")
    refused = run("consumer.py", *second)
    assert refused.returncode == 1
    assert f"{settings.kafka_group} has landed the topic up to" in refused.stderr
    assert keys(s3, settings) == before
    assert run(MUTANTS, "no_witness", *second).returncode == 0
    verified = run("consumer.py", "verify")
    assert verified.returncode == 1
    assert "do two groups share this prefix?" in verified.stdout


def test_verify_finds_what_is_missing_or_changed(run: Run, s3: object, settings: Settings) -> None:
    """verify fails when an object is gone, and --deep when one has lost a record or belongs to no batch."""
    produce(settings, 2_000)
    assert run("consumer.py", "--until-caught-up", "--flush-records", "100").returncode == 0
    every = [key for key in keys(s3, settings) if f"{settings.kafka_topic_bars}-1-" in key]
    assert len(every) >= 3
    kept = s3.get_object(Bucket=settings.s3_bucket, Key=every[1])
    body, metadata = kept["Body"].read(), kept["Metadata"]
    s3.delete_object(Bucket=settings.s3_bucket, Key=every[1])
    gone = run("consumer.py", "verify")
    assert (gone.returncode, "are in no object" in gone.stdout) == (1, True)
    import gzip

    changed = gzip.compress(b"\n".join(gzip.decompress(body).splitlines()[1:]) + b"\n")
    s3.put_object(Bucket=settings.s3_bucket, Key=every[1], Body=changed, Metadata=metadata)
    assert run("consumer.py", "verify").returncode == 0, "names alone cannot tell"
    deep = run("consumer.py", "verify", "--deep")
    assert (deep.returncode, "were put" in deep.stdout, "differs from the topic's records" in deep.stdout) == (
        1,
        True,
        True,
    )
    s3.put_object(Bucket=settings.s3_bucket, Key=every[1], Body=body, Metadata=metadata)
    assert run("consumer.py", "verify", "--deep").returncode == 0


def has_read_everything(log: str) -> bool:
    """Whether a line of the log says that nothing is left to read."""
    return any(re.search(r" landing .* lag=(\S+:0 ?)+$", line) for line in log.splitlines())


@pytest.mark.parametrize(
    ("mutant", "how", "symptom"),
    [
        ("no_plan", HOLD_ANSWER, r"missing \[\], twice \[b"),
        ("end_before_upload", HOLD, r"missing \[b"),
        ("no_seek", None, r"missing \[b"),
    ],
)
def test_the_tests_have_teeth(
    mutant: str,
    how: str | None,
    symptom: str,
    start: Start,
    run: Run,
    s3: object,
    settings: Settings,
    environment: dict[str, str],
) -> None:
    """A consumer without the plan commit, with the end committed first, or without the seek, is caught by the same
    counting.
    """
    produce(settings, 3_000)
    with aws_proxy(environment["AWS_ENDPOINT_URL"], lambda number, *_: how if number == 0 and how else PASS) as proxy:
        process = start(
            MUTANTS, mutant, "--flush-seconds", "0.5" if how else "600", AWS_ENDPOINT_URL=proxy.url, KAFKA_INSTANCE="a"
        )
        if how:
            assert proxy.holding.wait(90), process.log_path.read_text()
        else:
            # Another member joins and leaves: the partitions come back to this one, whose buffer was dropped.
            # Its line of every ten seconds says when everything is read.
            wait_for(lambda: has_read_everything(process.log_path.read_text()), 90, process)
            joining = start("consumer.py", "--flush-seconds", "600")
            wait_for(lambda: "assigned=" in joining.log_path.read_text(), 90, joining)
            joining.send_signal(signal.SIGTERM)
            joining.wait(15)
            wait_for(lambda: process.log_path.read_text().count("rebalance") >= 3, 90, process)
            produce(settings, 1_000, first=4_000)
            lines = len(process.log_path.read_text())
            wait_for(lambda: has_read_everything(process.log_path.read_text()[lines:]), 90, process)
            process.send_signal(signal.SIGTERM)
            process.wait(15)
        process.kill()
        process.wait()
    produce(settings, 1_000, first=3_000)
    assert run(MUTANTS, mutant, "--until-caught-up", KAFKA_INSTANCE="a").returncode == 0
    with pytest.raises(AssertionError, match=symptom):
        assert_exactly_once(s3, settings, at_least=4_000)
