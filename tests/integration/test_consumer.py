"""consumer.py as a user runs it, on the embedded stack."""

import json
import re
import signal
import socket
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from subprocess import CompletedProcess, Popen

import pytest
from counting import assert_exactly_once, bars, in_lake, keys, produce, wait_for
from kafka import KafkaProducer
from stack_client import client

from local.stack import Stack
from pipeline.settings import Settings
from pipeline.sinks.lake import verify
from pipeline.streams.kafka import producer as topic

Run = Callable[..., CompletedProcess]
Start = Callable[..., Popen]


def test_until_caught_up_twice(run: Run, s3: object, settings: Settings) -> None:
    """A second run lands nothing again, and a third lands only what came since."""
    produce(settings, 5_000)
    first = run("consumer.py", "--until-caught-up")
    assert first.returncode == 0, first.stderr
    assert "records=5000" in first.stderr
    before = keys(s3, settings)
    assert "records=0" in run("consumer.py", "--until-caught-up").stderr
    assert keys(s3, settings) == before
    produce(settings, 7, first=5_000)
    assert "records=7" in run("consumer.py", "--until-caught-up").stderr
    assert_exactly_once(s3, settings, at_least=5_007)
    checked = run("consumer.py", "verify", "--deep")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "0 problems; checked: names, content and topic" in checked.stdout


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        ([], r"raw/bars/dt=\d{4}-\d\d-\d\d/bars_\w+-\d-\d{20}-\d{20}-[0-9a-f]{8}\.json\.gz"),
        (["--partition-by", "hour"], r"raw/bars/dt=\d{4}-\d\d-\d\d/hour=\d\d/.*\.json\.gz"),
        (["--format", "csv", "--partition-by", "month"], r"raw/bars/dt=\d{4}-\d\d-01/.*\.csv\.gz"),
        (["--format", "parquet", "--partition-time", "event"], r"raw/bars/dt=2023-11-1[45]/.*\.parquet"),
        (["--compression", "none"], r"raw/bars/.*\.json"),
    ],
    ids=str,
)
def test_formats_and_folders(arguments: list[str], pattern: str, run: Run, s3: object, settings: Settings) -> None:
    """Every format and folder layout holds all records, and verify --deep reads each of them."""
    produce(settings, 900)
    done = run("consumer.py", "--until-caught-up", *arguments)
    assert done.returncode == 0, done.stderr
    made = keys(s3, settings)
    assert made
    assert all(re.fullmatch(settings.s3_root + pattern, key) for key in made), made
    contents = [verify.content(key, s3.get_object(Bucket=settings.s3_bucket, Key=key)["Body"].read()) for key in made]
    assert sum(map(len, contents)) == 900
    checked = run("consumer.py", "verify", "--deep")
    assert checked.returncode == 0, checked.stdout


def test_one_object_per_event_on_request(run: Run, s3: object, settings: Settings) -> None:
    """--flush-records 1 gives the layout of one object per event, exactly once as well."""
    produce(settings, 40)
    done = run("consumer.py", "--until-caught-up", "--flush-records", "1")
    assert done.returncode == 0, done.stderr
    assert len(keys(s3, settings)) == 40
    assert_exactly_once(s3, settings, at_least=40)


def test_quiet_topic_is_flushed_by_the_clock(start: Start, s3: object, settings: Settings) -> None:
    """Few records land after --flush-seconds although no batch is full and nothing more arrives."""
    process = start("consumer.py", "--flush-seconds", "1")
    time.sleep(1)
    produce(settings, 3)
    wait_for(lambda: sum(in_lake(s3, settings).values()) == 3, 45, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0


def test_topics_that_are_made_later(start: Start, s3: object, settings: Settings) -> None:
    """A consumer that was started before its topics exist waits for them, and lands them from their first record."""
    process = start("consumer.py", "--flush-seconds", "0.5")
    wait_for(lambda: "topics not there yet" in process.log_path.read_text(), 20, process)
    produce(settings, 50)
    wait_for(lambda: sum(in_lake(s3, settings).values()) == 50, 90, process)
    assert "ERROR" not in process.log_path.read_text()
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0


def test_a_topic_without_a_definition(run: Run, s3: object, settings: Settings) -> None:
    """Any topic can be landed: as unchecked JSON below its own name, whatever format is asked for."""
    name = f"orders.v1_{settings.kafka_group}"
    topic.ensure_topics(settings, [name])
    with KafkaProducer(**topic.connection(settings)) as producer:
        for number in range(10):
            producer.send(name, json.dumps({"order": number}).encode())
    done = run("consumer.py", "--until-caught-up", "--topics", name, "--format", "parquet")
    assert done.returncode == 0, done.stderr
    assert all(f"/raw/{name}/" in key and key.endswith(".json.gz") for key in keys(s3, settings))
    assert sum(in_lake(s3, settings).values()) == 10
    assert run("consumer.py", "verify", "--deep", "--topic", name).returncode == 0


def test_workers_share_the_partitions(run: Run, s3: object, settings: Settings) -> None:
    """--workers lands with several processes of one group, each record once, and ends with 0."""
    produce(settings, 8_000)
    done = run("consumer.py", "--until-caught-up", "--workers", "2", KAFKA_INSTANCE="w")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("rebalance") >= 2
    assert_exactly_once(s3, settings, at_least=8_000)


def test_from_beginning(run: Run, s3: object, settings: Settings) -> None:
    """--from-beginning lands everything again below a new prefix, and is refused where the objects are already."""
    produce(settings, 500)
    assert run("consumer.py", "--until-caught-up").returncode == 0
    refused = run("consumer.py", "--until-caught-up", "--from-beginning")
    assert refused.returncode == 1
    assert "S3_PREFIX" in refused.stderr
    other = replace(settings, s3_prefix=settings.s3_prefix + "_again")
    again = run("consumer.py", "--until-caught-up", "--from-beginning", S3_PREFIX=other.s3_prefix)
    assert "records=500" in again.stderr
    assert_exactly_once(s3, other, at_least=500)


def test_aborted_transactions_are_not_landed(run: Run, s3: object, settings: Settings) -> None:
    """Records of an aborted transaction are in no object, and the ranges still follow on each other."""
    produce(settings, 300)
    with KafkaProducer(**topic.connection(settings), transactional_id=settings.kafka_group) as producer:
        producer.init_transactions()
        producer.begin_transaction()
        for number in range(100):
            producer.send(settings.kafka_topic_bars, b'{"aborted":%d}' % number, b"AAPL")
        producer.flush()
        producer.abort_transaction()
    produce(settings, 300, first=300)
    done = run("consumer.py", "--until-caught-up", "--flush-records", "50")
    assert done.returncode == 0, done.stderr
    assert "bad_records=0" in done.stderr
    assert_exactly_once(s3, settings, at_least=600)
    assert run("consumer.py", "verify", "--deep").returncode == 0


def test_object_options_from_settings(run: Run, s3: object, settings: Settings) -> None:
    """Encryption, storage class and tags of the settings are on every object."""
    produce(settings, 10)
    done = run(
        "consumer.py",
        "--until-caught-up",
        S3_ENCRYPTION="AES256",
        S3_STORAGE_CLASS="STANDARD_IA",
        S3_TAGS="team=prices,cost=42",
    )
    assert done.returncode == 0, done.stderr
    for key in keys(s3, settings):
        head = s3.head_object(Bucket=settings.s3_bucket, Key=key)
        assert (head["ServerSideEncryption"], head["StorageClass"]) == ("AES256", "STANDARD_IA")
        tags = s3.get_object_tagging(Bucket=settings.s3_bucket, Key=key)["TagSet"]
        assert {tag["Key"]: tag["Value"] for tag in tags} == {"team": "prices", "cost": "42"}


def test_encryption_with_a_key(run: Run, s3: object, stack: Stack, settings: Settings) -> None:
    """With S3_ENCRYPTION=aws:kms and a key every object is encrypted with that key, and everything lands once."""
    kms = client(stack, "kms")
    key = kms.create_key(Description=settings.kafka_group)["KeyMetadata"]["Arn"]
    produce(settings, 100)
    done = run("consumer.py", "--until-caught-up", S3_ENCRYPTION="aws:kms", S3_KMS_KEY_ID=key)
    assert done.returncode == 0, done.stderr
    made = keys(s3, settings)
    assert made
    for name in made:
        head = s3.head_object(Bucket=settings.s3_bucket, Key=name)
        assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", key)
    assert_exactly_once(s3, settings, at_least=100)
    assert run("consumer.py", "verify", "--deep").returncode == 0


def test_metrics_of_workers(start: Start, s3: object, settings: Settings) -> None:
    """With --workers each worker serves its own metrics on the next port, and together they count every record."""
    produce(settings, 4_000)
    first = two_unused_ports()
    process = start("consumer.py", "--workers", "2", "--flush-seconds", "0.3", "--metrics-port", str(first))
    # Both have partitions before any record counts, or one of them may have landed everything.
    wait_for(lambda: len(re.findall(r"assigned=\S*bars", process.log_path.read_text())) >= 2, 60, process)
    produce(settings, 4_000, first=4_000)
    wait_for(lambda: sum(in_lake(s3, settings).values()) == 8_000, 60, process)

    def counted() -> list[float]:
        texts = [
            urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
            for port in (first, first + 1)
        ]
        return [
            sum(map(float, re.findall(r"^stock_landed_records_total\{.*\} (\S+)$", text, re.MULTILINE)))
            for text in texts
        ]

    # The end of a batch is counted after its commit, which comes after its objects.
    wait_for(lambda: sum(counted()) == 8_000, 30, process)
    assert all(counted())
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0


def two_unused_ports() -> int:
    """A port of loopback that nobody listens on, nor on the next one."""
    while True:
        with socket.socket() as probe, socket.socket() as second:
            probe.bind(("127.0.0.1", 0))
            with suppress(OSError, OverflowError):
                second.bind(("127.0.0.1", probe.getsockname()[1] + 1))
                return probe.getsockname()[1]


def test_little_memory_and_a_static_member(run: Run, s3: object, settings: Settings) -> None:
    """With --buffer-bytes far below what the topic holds everything lands once; --instance names the member."""
    produce(settings, 4_000)
    done = run("consumer.py", "--until-caught-up", "--buffer-bytes", "64KB", "--instance", "a")
    assert done.returncode == 0, done.stderr
    assert_exactly_once(s3, settings, at_least=4_000)


def test_metrics_and_log_lines(start: Start, s3: object, settings: Settings, unused_port: int) -> None:
    """A running consumer serves Prometheus metrics and logs a JSON line with rate, lag and counts every ten seconds."""
    produce(settings, 2_000)
    process = start("consumer.py", "--flush-seconds", "0.3", "--metrics-port", str(unused_port), "--log-format", "json")
    wait_for(lambda: sum(in_lake(s3, settings).values()) == 2_000, 45, process)
    wait_for(lambda: '"event": "landing"' in process.log_path.read_text(), 20, process)
    metrics = urllib.request.urlopen(f"http://127.0.0.1:{unused_port}/metrics", timeout=5).read().decode()
    assert f'stock_landed_records_total{{topic="{settings.kafka_topic_bars}"}} 2000.0' in metrics
    assert "stock_lag_records{" in metrics
    line = next(
        line for line in map(json.loads, process.log_path.read_text().splitlines()) if line["event"] == "landing"
    )
    assert {"records_per_second", "records", "objects", "bytes", "bad_records", "seconds_since_commit", "lag"} <= set(
        line
    )
    assert line["records"] == 2_000
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0


@pytest.mark.parametrize(
    ("arguments", "changes", "code", "message"),
    [
        (["--flush-seconds", "0"], {}, 2, "'0' is not more than 0"),
        (["--flush-bytes", "lots"], {}, 2, "'lots' is not a size such as 64MB"),
        (["--format", "xml"], {}, 2, "invalid choice"),
        ([], {"S3_BUCKET": ""}, 2, "S3_BUCKET: is needed and empty"),
        ([], {"KAFKA_PARTITIONS": "x", "S3_BUCKET": "B"}, 2, "KAFKA_PARTITIONS: 'x'"),
        (["--topics", "no_such_topic"], {}, 1, "no topic no_such_topic"),
        ([], {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}, 1, "KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:1: no answer"),
    ],
    ids=str,
)
def test_mistakes(arguments: list[str], changes: dict[str, str], code: int, message: str, run: Run) -> None:
    """Wrong use ends with 2 and a failing service with 1, each with one message and no traceback."""
    done = run("consumer.py", *arguments, **changes)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_help_of_each_command(run: Run) -> None:
    """Every command has help with an example or its purpose."""
    assert "python consumer.py --until-caught-up" in run("consumer.py", "--help").stdout
    assert "--flush-seconds" in run("consumer.py", "land", "--help").stdout
    assert "--deep" in run("consumer.py", "verify", "--help").stdout


def test_big_records(run: Run, s3: object, settings: Settings) -> None:
    """--flush-bytes closes a batch by size, and a record near Kafka's limit is landed whole."""
    topic.ensure_topics(settings, list(settings.topics))
    with KafkaProducer(**topic.connection(settings), max_request_size=2_000_000) as producer:
        for bar in bars(0, 8):
            bar.company = "x" * 900_000
            from pipeline import records

            producer.send(settings.kafka_topic_bars, records.encode(bar), b"AAPL")
        producer.flush()
    done = run("consumer.py", "--until-caught-up", "--flush-bytes", "2MB")
    assert done.returncode == 0, done.stderr
    assert len(keys(s3, settings)) >= 2
    assert_exactly_once(s3, settings, at_least=8)
