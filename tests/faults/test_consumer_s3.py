"""S3 refusing, cutting, losing answers or being away: the consumer waits, and every record is in exactly one object."""

import itertools
import re
import signal
import threading
import time
import urllib.request
from collections.abc import Callable
from subprocess import CompletedProcess, Popen

import pytest
from aws_proxy import CUT, LOSE, PASS, aws_proxy
from counting import assert_exactly_once, keys, produce, wait_for

from pipeline.settings import Settings

Run = Callable[..., CompletedProcess]
Start = Callable[..., Popen]


@pytest.mark.parametrize("fault", [400, 429, 500, 503, CUT, LOSE])
def test_a_fault_at_every_call(
    fault: int | str, run: Run, s3: object, settings: Settings, environment: dict[str, str]
) -> None:
    """With every call to S3 failing once before it succeeds, the run ends with 0 and nothing is missing or twice."""
    produce(settings, 3_000)
    failed: set[str] = set()

    def once(_number: int, _method: str, path: str) -> int | str:
        if path in failed:
            return PASS
        failed.add(path)
        return fault

    with aws_proxy(environment["AWS_ENDPOINT_URL"], once) as proxy:
        done = run("consumer.py", "--until-caught-up", "--flush-records", "500", AWS_ENDPOINT_URL=proxy.url)
    assert done.returncode == 0, done.stderr
    assert len(failed) >= 6
    assert done.stderr.count("upload failed, trying again") == len(failed)
    assert_exactly_once(s3, settings, at_least=3_000)


def test_s3_away_for_longer_than_the_poll_interval(
    start: Start, s3: object, settings: Settings, environment: dict[str, str]
) -> None:
    """While S3 is away longer than max.poll.interval the consumer keeps its partitions, and lands everything
    afterwards.
    """
    produce(settings, 2_000)
    produced = 2_000
    is_back = threading.Event()
    with aws_proxy(environment["AWS_ENDPOINT_URL"], lambda *_: PASS if is_back.is_set() else CUT) as proxy:
        process = start(
            "consumer.py",
            "--flush-seconds",
            "0.3",
            "--flush-records",
            "200",
            AWS_ENDPOINT_URL=proxy.url,
            KAFKA_MAX_POLL_INTERVAL_MS="6000",
            KAFKA_SESSION_TIMEOUT_MS="6000",
        )
        wait_for(lambda: "upload failed" in process.log_path.read_text(), 90, process)
        at_first = process.log_path.read_text().count("rebalance")
        away_until = time.monotonic() + 14
        while time.monotonic() < away_until:
            produce(settings, 200, first=produced)
            produced += 200
        assert keys(s3, settings) == []
        is_back.set()
        wait_for(lambda: sum(count for _, count in _lines(s3, settings)) >= produced, 90, process)
        log = process.log_path.read_text()
        process.terminate()
        assert process.wait(15) == 0
    assert log.count("rebalance") == at_first, "the group put the member out"
    assert log.count("upload failed") >= 4
    assert_exactly_once(s3, settings, at_least=produced)


def _lines(s3: object, settings: Settings) -> list[tuple[str, int]]:
    metadata = ((key, s3.head_object(Bucket=settings.s3_bucket, Key=key)["Metadata"]) for key in keys(s3, settings))
    return [(key, int(found["records"])) for key, found in metadata]


def test_denied_access_stops_with_the_setting(run: Run, settings: Settings, environment: dict[str, str]) -> None:
    """A refusal that no waiting mends ends the consumer with 1 and the name of the setting; the batch is completed
    later.
    """
    produce(settings, 500)
    with aws_proxy(environment["AWS_ENDPOINT_URL"], lambda *_: 403) as proxy:
        refused = run("consumer.py", "--until-caught-up", AWS_ENDPOINT_URL=proxy.url)
    assert refused.returncode == 1
    assert "S3_BUCKET=" in refused.stderr
    assert "AccessDenied" in refused.stderr
    assert "Traceback" not in refused.stderr
    again = run("consumer.py", "--until-caught-up")
    assert again.returncode == 0
    assert "repeating a batch" in again.stderr


def test_random_faults(run: Run, s3: object, settings: Settings, environment: dict[str, str]) -> None:
    """With two of three calls failing in changing ways, three runs land everything once."""
    faults = itertools.cycle([LOSE, 503, PASS, CUT, 500, PASS, LOSE, LOSE, PASS, 429])
    with aws_proxy(environment["AWS_ENDPOINT_URL"], lambda *_: next(faults)) as proxy:
        for number in range(3):
            produce(settings, 700, first=700 * number)
            done = run(
                "consumer.py",
                "--until-caught-up",
                "--flush-records",
                "100",
                "--partition-time",
                "event",
                AWS_ENDPOINT_URL=proxy.url,
            )
            assert done.returncode == 0, done.stderr
        assert len(proxy.writes) > 60
    assert run("consumer.py", "verify", "--deep").returncode == 0
    assert_exactly_once(s3, settings, at_least=2_100)


def test_an_outage_is_seen_and_a_stop_says_what_is_left(
    start: Callable, run: Callable, s3: object, settings: Settings, environment: dict[str, str], unused_port: int
) -> None:
    """While S3 is away the log and the metrics say so, with the records that wait; Ctrl-C before --until-caught-up is
    reached exits 1 and says what the next start does.
    """
    produce(settings, 400)
    with aws_proxy(
        environment["AWS_ENDPOINT_URL"], lambda _number, _method, path: PASS if "probe" in path else CUT
    ) as proxy:
        arguments = ("--until-caught-up", "--metrics-port", str(unused_port))
        process = start("consumer.py", *arguments, AWS_ENDPOINT_URL=proxy.url)
        until = time.monotonic() + 60
        while "nothing can be written now" not in (log := process.log_path.read_text()):
            assert time.monotonic() < until, log
            time.sleep(0.2)
        with urllib.request.urlopen(f"http://127.0.0.1:{unused_port}/metrics") as answer:
            metrics = answer.read().decode()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 1
    log = process.log_path.read_text()
    assert re.search(r"nothing can be written now .* unlanded=400 failing_seconds=\d+", log)
    assert sum(map(float, re.findall(r"^stock_unlanded_records\{.*\} (\S+)", metrics, re.MULTILINE))) == 400
    assert float(re.search(r"^stock_sink_failing_seconds (\S+)", metrics, re.MULTILINE)[1]) > 0
    assert "--until-caught-up: stopped before everything was landed" in log
    assert run("consumer.py", "--until-caught-up").returncode == 0
    assert_exactly_once(s3, settings, at_least=400)
