"""A log that lost its end, as by a disk, and grew again over the place where the group stands."""

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from committed import wait_until_settled
from counting import bars, in_lake, keys

from local.stack import Stack
from pipeline.landing.positions import Partition
from pipeline.settings import Settings
from pipeline.streams.kafka import reader
from pipeline.streams.kafka.connection import ensure_topics
from pipeline.streams.kafka.producer import Producer

Run = Callable[..., CompletedProcess]


@pytest.fixture(scope="module")
def stack(private_stack: Stack) -> Stack:
    """A stack whose broker's log may be cut."""
    return private_stack


def send(settings: Settings, first: int, count: int) -> None:
    with Producer(settings, f"p{first}") as producer:
        producer.send({settings.kafka_topic_bars: bars(first, count)}, {"test": {"row": first + count}})


def cut(data: Path, topic: str, offset: int) -> None:
    """Take the batches from an offset on out of a stopped broker's log, and what it noted beside of the log's end."""
    (folder,) = data.rglob(f"{topic}-0")
    log = folder / f"{0:020}.log"
    content, at = log.read_bytes(), 0
    while at < len(content):
        base, length = struct.unpack_from(">qi", content, at)
        if base >= offset:
            break
        at += 12 + length
    assert 0 < at < len(content)
    log.write_bytes(content[:at])
    for note in [*folder.glob("*index"), *folder.glob("*.snapshot")]:
        note.unlink()


@pytest.mark.parametrize("grown", [False, True], ids=["shorter than the commit", "grown beyond it"])
def test_a_cut_log_is_seen(*, grown: bool, stack: Stack, run: Run, s3: object, settings: Settings) -> None:
    """The group's standing tells where the log was cut below its commit, also when other records stand there by now."""
    one, topic = replace(settings, kafka_partitions=1), settings.kafka_topic_bars
    ensure_topics(one, [topic])
    for first in range(0, 500, 100):
        send(one, first, 100)
    assert run("consumer.py", "--until-caught-up").returncode == 0
    landed = keys(s3, settings)
    partition = Partition(topic, 0)
    before = reader.standings(one, [topic])[partition]
    assert (before.committed.offset, before.cut) == (before.end, None)
    assert before.committed.epoch >= 0
    wait_until_settled(settings, topic)
    wait_until_settled(settings, settings.kafka_topic_checkpoints)
    stack.down(["kafka"])
    cut(stack.state.folder / "kafka", topic, 303)
    stack.up(["kafka"])
    if grown:
        send(one, 1_000, 300)
    after = reader.standings(one, [topic])[partition]
    assert (after.end > before.end, after.cut) == (grown, 303)
    stopped = run("consumer.py", "--until-caught-up")
    assert stopped.returncode == 1, stopped.stderr
    assert str(partition) in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert keys(s3, settings) == landed
    assert sum(in_lake(s3, settings).values()) == 500
