"""Which topic a partition's offsets belong to, asked of a real broker: remade topics and late answers."""

import time
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest
from counting import bars, wait_for
from kafka import KafkaAdminClient
from kafka import errors as kafka_errors

from pipeline.landing.positions import Committed, Partition
from pipeline.settings import ServiceError, Settings
from pipeline.streams.kafka import compatibility, member, reader
from pipeline.streams.kafka.connection import connection, ensure_topics, of_kafka
from pipeline.streams.kafka.member import Member
from pipeline.streams.kafka.producer import Producer


@pytest.fixture(params=["on", "off"], ids=["private parts", "public parts"])
def one(settings: Settings, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Settings whose topics have one partition; with kafka-python's private parts, and without."""
    monkeypatch.setenv(compatibility.SWITCH, request.param)
    compatibility.is_open.cache_clear()
    yield replace(settings, kafka_partitions=1)
    monkeypatch.undo()
    compatibility.is_open.cache_clear()


def send(settings: Settings, first: int, count: int) -> None:
    ensure_topics(settings, [settings.kafka_topic_bars])
    with Producer(settings, uuid.uuid4().hex) as producer:
        producer.send({settings.kafka_topic_bars: bars(first, count)}, {"test": {"row": first + count}})


def remake(settings: Settings) -> None:
    """Delete the topic, and make another one of the same name."""
    with KafkaAdminClient(**connection(settings)) as admin:
        admin.delete_topics([settings.kafka_topic_bars])

        def is_made() -> bool:
            try:
                admin.create_topics({settings.kafka_topic_bars: {"num_partitions": 1, "replication_factor": 1}})
            except kafka_errors.TopicAlreadyExistsError:
                return False
            return True

        wait_for(is_made, 30)


def polled(reading: Member) -> list[int]:
    """The offsets that one poll brings; what is given is started at its beginning."""
    found = reading.poll(100)
    for partition in found.given:
        reading.start_at(partition, 0)
    return [int(offset) for blocks in found.blocks.values() for block in blocks for offset in block.offsets]


def test_a_remade_topic_is_another_generation(one: Settings) -> None:
    """Each topic of a name has an id of its own, and both ways of asking give the same one."""
    send(one, 0, 10)
    partition = Partition(one.kafka_topic_bars, 0)
    before = reader.standings(one, [one.kafka_topic_bars])[partition]
    assert (before.oldest, before.end, before.committed) == (0, 11, None)
    assert len(before.generation) == 32
    int(before.generation, 16)
    with Member(one, [one.kafka_topic_bars]) as reading:
        wait_for(lambda: reading.poll(100).given, 60, pause=False)
        assert reading.generations([one.kafka_topic_bars]) == {one.kafka_topic_bars: before.generation}
        assert reading.generations(["another"]) == {}
    remake(one)
    send(one, 0, 10)
    after = reader.standings(one, [one.kafka_topic_bars])[partition]
    assert after.generation not in (before.generation, None)


def told_of_another(reading: Member, topic: str, before: str | None) -> bool:
    """One round of a consumer: whether it was told that the topic is another, by an error or by its new standing.

    Nothing that was read of the new topic may pass for the old one.
    """
    try:
        found = reading.poll(100)
        if found.given:
            return {standing.generation for standing in found.given.values()} != {before}
        passed = reading.generations([topic])
    except ServiceError as error:
        return "was deleted and made anew" in str(error)
    assert not (passed and found.blocks)
    return False


@pytest.mark.parametrize("more", [5, 250], ids=["shorter", "longer"])
def test_a_member_does_not_read_across_a_remade_topic(one: Settings, more: int) -> None:
    """Whether a remade topic has records where a member stands or not: it is told before any of them is kept."""
    send(one, 0, 100)
    topic, found = one.kafka_topic_bars, []
    before = reader.standings(one, [topic])[Partition(topic, 0)].generation
    with Member(one, [topic]) as reading:
        wait_for(lambda: found.extend(polled(reading)) or len(found) == 100, 60, pause=False)
        assert reading.commit({Partition(topic, 0): Committed(101, "")})
        remake(one)
        send(one, 0, more)
        wait_for(lambda: told_of_another(reading, topic, before), 60, pause=False)


def test_a_poll_finds_a_remade_topic(one: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member that reads nothing of a remade topic, and so has nothing to commit, is told as well."""
    send(one, 0, 10)
    topic = one.kafka_topic_bars
    before = reader.standings(one, [topic])[Partition(topic, 0)].generation
    monkeypatch.setattr(member, "_LOOK_EVERY_SECONDS", 0.5)
    with Member(one, [topic]) as reading:
        wait_for(lambda: polled(reading) and reading.is_settled, 60, pause=False)
        remake(one)
        wait_for(lambda: told_of_another(reading, topic, before), 60, pause=False)


def test_a_late_answer_is_not_taken_for_a_new_one(one: Settings) -> None:
    """A committed offset whose answer nobody waited for is asked anew when the partition is given the next time."""
    two = replace(one, kafka_partitions=2)
    send(two, 0, 100)
    topic, partition = two.kafka_topic_bars, Partition(two.kafka_topic_bars, 0)
    reader.commit(two, {partition: Committed(10, "")})
    with Member(two, [topic]) as reading:
        wait_for(lambda: polled(reading) or reading.is_settled, 60, pause=False)
        for milliseconds in range(20):
            try:
                reading._consumer.committed(of_kafka(partition), timeout_ms=milliseconds % 3)
            except kafka_errors.KafkaTimeoutError:
                break
        else:
            pytest.fail("every question was answered at once")
        time.sleep(1)
        assert reading.commit({partition: Committed(20, "")})
        reading._rejoin()
        given = {}
        wait_for(lambda: given.update(reading.poll(100).given) or given, 60, pause=False)
        assert given[partition].committed == Committed(20, "")
