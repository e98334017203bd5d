"""Which topic a partition's offsets belong to, asked of a real broker: remade topics and late answers."""

import time
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest
from kafka import KafkaAdminClient
from kafka import errors as kafka_errors
from landed import bars, wait_for

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


def test_a_member_does_not_read_across_a_remade_topic(one: Settings) -> None:
    """What a member reads where it stood in the old topic is told apart at the next commit round, before it is kept."""
    send(one, 0, 100)
    with Member(one, [one.kafka_topic_bars]) as reading:
        found = []
        wait_for(lambda: found.extend(polled(reading)) or len(found) == 100, 60, pause=False)
        partition = Partition(one.kafka_topic_bars, 0)
        assert reading.commit({partition: Committed(101, "")})
        remake(one)
        send(one, 0, 250)
        with pytest.raises(ServiceError, match=r"was deleted and made anew .* Nothing of the new topic was landed"):
            wait_for(lambda: polled(reading) and reading.generations([one.kafka_topic_bars]) and False, 30, pause=False)


def test_a_poll_finds_a_remade_topic(one: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member that reads nothing from a remade topic, and so has nothing to commit, stops as well."""
    send(one, 0, 10)
    monkeypatch.setattr(member, "_LOOK_EVERY_SECONDS", 0.5)
    with Member(one, [one.kafka_topic_bars]) as reading:
        wait_for(lambda: polled(reading) and reading.is_settled, 60, pause=False)
        remake(one)
        with pytest.raises(ServiceError, match=r"was deleted and made anew|no longer in the topic"):
            wait_for(lambda: polled(reading) and False, 30, pause=False)


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
