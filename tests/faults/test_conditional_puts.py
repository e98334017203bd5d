"""Objects that are there already, and S3 refusing for good: nothing is overwritten, and nothing waits for ever."""

import itertools
import time
from collections.abc import Callable
from subprocess import CompletedProcess, Popen
from urllib.parse import unquote

import pytest
from aws_proxy import CUT, HOLD, LOSE, PASS, Decision, S3Refusal, aws_proxy
from counting import assert_exactly_once, etags, keys, produce
from stack_client import client

from local.stack import Stack
from pipeline.settings import Settings

Run = Callable[..., CompletedProcess]
Start = Callable[..., Popen]


def test_an_object_of_the_same_name_stays(
    start: Start, run: Run, s3: object, settings: Settings, environment: dict[str, str]
) -> None:
    """An object that another program put under a name of a committed plan is not overwritten: exit 1 with the key."""
    produce(settings, 500)
    with aws_proxy(environment["AWS_ENDPOINT_URL"], lambda *_: HOLD) as proxy:
        process = start("consumer.py", "--flush-seconds", "0.5", "--uploads", "1", AWS_ENDPOINT_URL=proxy.url)
        assert proxy.holding.wait(90), process.log_path.read_text()
        process.kill()
        process.wait()
        proxy.cuts_held = True
        key = unquote(proxy.writes[0][0].split("/", 2)[2].split("?")[0])
    s3.put_object(Bucket=settings.s3_bucket, Key=key, Body=b"of another program")
    before = etags(s3, settings)
    stopped = run("consumer.py", "--until-caught-up")
    assert stopped.returncode == 1, stopped.stderr
    assert f"{key} is there already, put by another program" in stopped.stderr
    assert "Nothing was overwritten" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    after = etags(s3, settings)
    assert {name: after[name] for name in before} == before
    s3.delete_object(Bucket=settings.s3_bucket, Key=key)
    assert run("consumer.py", "--until-caught-up").returncode == 0
    assert_exactly_once(s3, settings, at_least=500)


@pytest.mark.parametrize(
    "fault", [S3Refusal("ConditionalRequestConflict", 409), LOSE, S3Refusal("OperationAborted", 409)]
)
def test_conflicts_and_lost_answers(
    fault: Decision, run: Run, s3: object, settings: Settings, environment: dict[str, str]
) -> None:
    """A 409 is tried again, and an object whose answer was lost is found to be this batch's."""
    produce(settings, 2_000)
    faults = itertools.cycle([fault, PASS])
    with aws_proxy(environment["AWS_ENDPOINT_URL"], lambda *_: next(faults)) as proxy:
        arguments = ("--until-caught-up", "--flush-records", "300", "--uploads", "1")
        done = run("consumer.py", *arguments, AWS_ENDPOINT_URL=proxy.url)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("upload failed, trying again") >= 4
    assert_exactly_once(s3, settings, at_least=2_000)
    assert run("consumer.py", "verify", "--deep").returncode == 0


def test_a_store_without_conditions(run: Run, s3: object, settings: Settings, environment: dict[str, str]) -> None:
    """A store that knows no conditional puts is found out at the start and told; everything lands once all the same."""
    produce(settings, 1_000)
    with aws_proxy(environment["AWS_ENDPOINT_URL"], lambda *_: PASS) as proxy:
        proxy.ignores_conditions = True
        done = run("consumer.py", "--until-caught-up", AWS_ENDPOINT_URL=proxy.url)
    assert done.returncode == 0, done.stderr
    assert "the store knows no conditional puts" in done.stderr
    for key in keys(s3, settings):
        if key.endswith(".condition_probe"):
            s3.delete_object(Bucket=settings.s3_bucket, Key=key)
    assert_exactly_once(s3, settings, at_least=1_000)


def test_the_question_leaves_nothing_behind(run: Run, s3: object, settings: Settings) -> None:
    """Asking a store that knows conditional puts writes no object."""
    produce(settings, 10)
    done = run("consumer.py", "--until-caught-up")
    assert (done.returncode, "conditional" in done.stderr) == (0, False)
    assert not [key for key in keys(s3, settings) if "probe" in key]


@pytest.mark.parametrize(
    ("code", "status", "told"),
    [
        ("ExpiredToken", 400, "AWS credentials"),
        ("KeyTooLongError", 400, "S3_PREFIX"),
        ("InvalidArgument", 400, "S3_BUCKET="),
        ("InvalidStorageClass", 400, "S3_STORAGE_CLASS"),
        ("KMS.DisabledException", 400, "S3_KMS_KEY_ID"),
        ("MethodNotAllowed", 405, "S3_BUCKET="),
        ("NotImplemented", 501, "S3_BUCKET="),
    ],
)
def test_refusals_end(
    code: str, status: int, told: str, run: Run, s3: object, settings: Settings, environment: dict[str, str]
) -> None:
    """What no waiting mends ends the consumer with 1 and the setting's name within seconds; the batch is completed by
    the next start.
    """
    produce(settings, 200)
    with aws_proxy(environment["AWS_ENDPOINT_URL"], lambda *_: S3Refusal(code, status)) as proxy:
        refused = run("consumer.py", "--until-caught-up", AWS_ENDPOINT_URL=proxy.url)
    assert refused.returncode == 1, refused.stderr
    assert told in refused.stderr
    assert code in refused.stderr
    assert "--abandon-plan" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert run("consumer.py", "--until-caught-up").returncode == 0
    assert_exactly_once(s3, settings, at_least=200)


def test_waiting_ends_under_cron(run: Run, s3: object, settings: Settings, environment: dict[str, str]) -> None:
    """With --until-caught-up an S3 that stays away ends the consumer with 1 after S3_WAIT_SECONDS."""
    produce(settings, 200)
    with aws_proxy(environment["AWS_ENDPOINT_URL"], lambda *_: CUT) as proxy:
        began = time.monotonic()
        stopped = run("consumer.py", "--until-caught-up", AWS_ENDPOINT_URL=proxy.url, S3_WAIT_SECONDS="3")
        assert time.monotonic() - began < 60
    assert (stopped.returncode, "S3_WAIT_SECONDS=3" in stopped.stderr) == (1, True), stopped.stderr
    assert run("consumer.py", "--until-caught-up").returncode == 0
    assert_exactly_once(s3, settings, at_least=200)


def test_bucket_and_rights_are_checked_before_the_first_plan(run: Run, s3: object, settings: Settings) -> None:
    """Without the bucket the consumer ends with 1 and its name, and has committed nothing."""
    produce(settings, 200)
    refused = run("consumer.py", "--until-caught-up", S3_BUCKET="no-such-bucket-here")
    assert (refused.returncode, "S3_BUCKET=no-such-bucket-here" in refused.stderr) == (1, True), refused.stderr
    assert "is the name right?" in refused.stderr
    assert "0 problems" in run("consumer.py", "verify").stdout
    again = run("consumer.py", "--until-caught-up")
    assert (again.returncode, "repeating a batch" in again.stderr) == (0, False)
    assert_exactly_once(s3, settings, at_least=200)


def test_a_prefix_that_makes_keys_too_long(run: Run, settings: Settings) -> None:
    """A prefix and a topic whose objects' keys S3 would refuse are told before anything is planned."""
    name = "t" * 240
    from kafka import KafkaProducer

    from pipeline.streams.kafka.connection import connection, ensure_topics

    ensure_topics(settings, [name])
    with KafkaProducer(**connection(settings)) as producer:
        producer.send(name, b"{}").get(30)
    refused = run("consumer.py", "--until-caught-up", "--topics", name, S3_PREFIX="p" * 500)
    assert (refused.returncode, "S3_PREFIX: with it and the topic" in refused.stderr) == (1, True), refused.stderr


def test_a_plan_into_a_bucket_that_is_gone(
    start: Start, run: Run, s3: object, stack: Stack, settings: Settings, environment: dict[str, str]
) -> None:
    """A plan that cannot be carried out stops the consumer with the way out; --abandon-plan says what it gives up, and
    everything lands in the new bucket.
    """
    produce(settings, 500)
    gone = f"gone-{settings.kafka_group.replace('_', '-')}"
    client(stack, "s3").create_bucket(Bucket=gone)
    with aws_proxy(environment["AWS_ENDPOINT_URL"], lambda *_: HOLD) as proxy:
        process = start("consumer.py", "--flush-seconds", "0.5", AWS_ENDPOINT_URL=proxy.url, S3_BUCKET=gone)
        assert proxy.holding.wait(90), process.log_path.read_text()
        process.kill()
        process.wait()
        proxy.cuts_held = True
    s3.delete_bucket(Bucket=gone)
    stopped = run("consumer.py", "--until-caught-up")
    assert stopped.returncode == 1, stopped.stderr
    assert f"S3_BUCKET={gone}" in stopped.stderr
    assert f"committed for s3://{gone}/{settings.s3_root} of earlier settings" in stopped.stderr
    assert "--abandon-plan" in stopped.stderr
    checked = run("consumer.py", "verify")
    assert (checked.returncode, f"are planned for s3://{gone}/" in checked.stdout) == (1, True), checked.stdout
    done = run("consumer.py", "--until-caught-up", "--abandon-plan")
    assert done.returncode == 0, done.stderr
    assert "plan given up" in done.stderr
    assert f"bucket={gone}" in done.stderr
    assert_exactly_once(s3, settings, at_least=500)
    assert run("consumer.py", "verify", "--deep").returncode == 0
