"""What the fault tests count: what a topic holds, and what the lake holds of it."""

import gzip
import time
from collections import Counter
from collections.abc import Callable
from subprocess import Popen

import msgspec
from committed import committed_values

from pipeline import records
from pipeline.records import Bar
from pipeline.settings import Settings
from pipeline.streams.kafka import producer as topic

SYMBOLS = ("AAPL", "AMZN", "GOOG", "META", "MSFT", "NFLX", "NVDA", "TSLA")


def bars(first: int, count: int) -> list[Bar]:
    """Bars that no two of have the same value: the number is in the volume."""
    return [
        Bar(
            symbol=SYMBOLS[number % len(SYMBOLS)],
            time=records.time_text_ms(1_700_000_000_000 + 60_000 * number),
            interval="1m",
            open=1.0,
            high=2.0,
            low=0.5,
            close=1.5,
            volume=float(number),
            source="test",
            ingested_at="2026-01-01 00:00:00.000",
        )
        for number in range(first, first + count)
    ]


def produce(settings: Settings, count: int, first: int = 0) -> None:
    """Send `count` bars in one transaction."""
    topic.ensure_topics(settings, list(settings.topics))
    with topic.Producer(settings, f"{settings.kafka_topic_bars}-{first}") as producer:
        producer.send({settings.kafka_topic_bars: bars(first, count)}, {"test": {"row": first + count}})


def in_topic(settings: Settings, name: str | None = None) -> Counter:
    """Every value that a read_committed reader sees in the topic, counted."""
    return Counter(committed_values(settings, name or settings.kafka_topic_bars))


def keys(s3: object, settings: Settings, folder: str = "") -> list[str]:
    """The keys of all objects of this test's prefix."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=settings.s3_bucket, Prefix=settings.s3_root + folder)
    return [item["Key"] for page in pages for item in page.get("Contents", [])]


def etags(s3: object, settings: Settings) -> dict[str, str]:
    """The ETag of every object of this test's prefix, which is the MD5 of its bytes."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=settings.s3_bucket, Prefix=settings.s3_root)
    return {item["Key"]: item["ETag"] for page in pages for item in page.get("Contents", [])}


def in_lake(s3: object, settings: Settings) -> Counter:
    """Every record in the JSON objects and the dead letters of this test's prefix, counted by value."""
    found: Counter = Counter()
    for key in keys(s3, settings):
        lines = gzip.decompress(s3.get_object(Bucket=settings.s3_bucket, Key=key)["Body"].read()).splitlines()
        found.update(
            msgspec.json.decode(line)["value"].encode() if "/dead_letter/" in f"/{key}" else line for line in lines
        )
    return found


def assert_exactly_once(s3: object, settings: Settings, at_least: int) -> None:
    """Every record of the topic is in exactly one object, and a minimum of work was done."""
    expected, landed = in_topic(settings), in_lake(s3, settings)
    assert sum(expected.values()) >= at_least
    missing, twice = expected - landed, landed - expected
    assert (sum(missing.values()), sum(twice.values())) == (0, 0), (
        f"missing {list(missing)[:3]}, twice {list(twice)[:3]}"
    )


def wait_for(
    condition: Callable[[], object], seconds: float, process: Popen | None = None, *, pause: bool = True
) -> None:
    """Wait until the condition holds; fails with the process's output when it ends, or the time is over, before."""
    deadline = time.monotonic() + seconds
    asked = time.monotonic()
    while not condition():
        output = process.log_path.read_text()[-2000:] if process else ""
        assert process is None or process.poll() is None, f"it ended with {process.returncode}: {output}"
        assert time.monotonic() < deadline, f"not within {seconds} s: {output}"
        # A condition that reads the whole lake must not be what the lake is busy with.
        if pause:
            time.sleep(max(0.02, time.monotonic() - asked))
        asked = time.monotonic()
