"""A member of a group on a real broker, while the group moves under its feet."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from subprocess import Popen

import pytest
from committed import wait_until_settled
from counting import in_topic, produce, wait_for

from pipeline.landing.positions import Committed, Partition
from pipeline.settings import Settings
from pipeline.streams.kafka.connection import ensure_topics
from pipeline.streams.kafka.member import Member
from pipeline.streams.kafka.reader import standings
from pipeline.streams.stream import Polled

# Without a pause, as consumer.py polls: kafka-python drops a join that ends while nobody does.
poll_until = partial(wait_for, seconds=60, pause=False)


@pytest.fixture
def member(settings: Settings) -> Iterator[Member]:
    """A member that was given all partitions of a topic with records, and has read none of them."""
    produce(settings, 400)
    wait_until_settled(settings, settings.kafka_topic_bars)
    with Member(settings, [settings.kafka_topic_bars]) as made:
        poll_until(lambda: started(made, made.poll(100)).given)
        yield made


def started(member: Member, polled: Polled) -> Polled:
    """What was polled, and all that was given started where the group stands."""
    for partition, standing in polled.given.items():
        member.start_at(partition, standing.committed.offset if standing.committed else standing.oldest)
    return polled


def read_all(member: Member, settings: Settings) -> dict[Partition, int]:
    """Poll to the end; gives how many records came of each partition."""
    counts: dict[Partition, int] = {}
    ends = member.end_offsets([settings.kafka_topic_bars])

    def is_at_end() -> bool:
        polled = started(member, member.poll(100))
        for partition in polled.revoked:
            counts.pop(partition, None)
        for partition, found in polled.blocks.items():
            counts[partition] = counts.get(partition, 0) + sum(map(len, found))
        return member.is_settled and all(member.position(partition) == end for partition, end in ends.items())

    poll_until(is_at_end)
    return counts


def moved_during(member: Member, change: Callable[[], None]) -> Polled:
    """A poll in which the group's thread moves the member while positions are read, as it may at any time."""
    stock = member._consumer.position

    def position(partition: Partition, **options: object) -> int:
        member._consumer.position = stock
        change()
        return 0  # what kafka-python answers of a partition that was given anew: the committed offset

    member._consumer.position = position
    return started(member, member.poll(100))


def test_positions_are_behind_control_records(member: Member, settings: Settings) -> None:
    """At the end the position is that of the broker, behind the transaction's marker, which is no record."""
    counts = read_all(member, settings)
    assert sum(counts.values()) == sum(in_topic(settings).values()) == 400
    assert all(member.position(partition) == counts[partition] + 1 for partition in counts)


def test_moved_while_positions_are_read(member: Member, settings: Settings) -> None:
    """Partitions taken and given again in the middle of a poll are begun anew; nothing read before counts."""
    read_all(member, settings)
    partitions = member._consumer.assignment()

    def rebalance() -> None:
        member._assignment.on_partitions_revoked(partitions)
        member._assignment.on_partitions_assigned(partitions)

    polled = moved_during(member, rebalance)
    assert polled.revoked == set(polled.given) == partitions
    assert not polled.blocks
    assert all(member.position(partition) == polled.given[partition].oldest == 0 for partition in partitions)
    assert sum(read_all(member, settings).values()) == 400


def test_commits_of_before_are_not_made(member: Member, settings: Settings) -> None:
    """What a member meant to commit before it was moved is not committed after, though the group would take it."""
    read_all(member, settings)
    partitions = member._consumer.assignment()
    assert member.commit({partition: Committed(1, "") for partition in partitions})
    member._assignment.on_partitions_revoked(partitions)
    member._assignment.on_partitions_assigned(partitions)
    assert not member.commit({partition: Committed(2, "") for partition in partitions})
    found = standings(settings, [settings.kafka_topic_bars])
    assert {partition: found[partition].committed.offset for partition in partitions} == dict.fromkeys(partitions, 1)


def test_a_member_without_an_assignment_is_asked_about_lag(member: Member, settings: Settings) -> None:
    """Between an unanswered commit and the next poll there are no partitions: the lag is unknown, which is no error."""
    partitions = list(read_all(member, settings))
    assert {member.lag(partition) for partition in partitions} == {0}
    member._rejoin()
    assert {member.lag(partition) for partition in partitions} == {None}
    member.pause(set(partitions))


def test_the_others_are_asked_about_their_partitions(member: Member, settings: Settings) -> None:
    """The group has come to the ends when every partition that is not this member's is committed there, or has nothing
    in it.
    """
    ends = member.end_offsets([settings.kafka_topic_bars])
    assert member.others_have_committed(ends)
    partitions = sorted(member._positions)
    member.commit({partitions[0]: Committed(ends[partitions[0]], "")})
    del member._positions[partitions[0]]
    assert member.others_have_committed(ends)
    del member._positions[partitions[1]]
    assert not member.others_have_committed(ends)
    assert member.others_have_committed({**ends, partitions[1]: 0})


def test_a_rebalance_that_outlasts_a_poll_is_finished(member: Member) -> None:
    """A member that joins anew because metadata changed gets its partitions, however short the polls are."""
    for _ in range(5):
        member._consumer._coordinator._assignment_snapshot = {"another": {0}}
        poll_until(lambda: started(member, member.poll(2)).revoked)
        poll_until(lambda: member.is_settled or started(member, member.poll(2)).given)


def test_a_member_without_partitions_says_so(
    settings: Settings, environment: dict[str, str], start: Callable[..., Popen]
) -> None:
    """Of more members than partitions, those that are given nothing have joined as well, and their log says it."""
    environment["KAFKA_PARTITIONS"] = "1"
    ensure_topics(replace(settings, kafka_partitions=1), [settings.kafka_topic_bars])
    members = [start("consumer.py", "--topics", settings.kafka_topic_bars) for _ in range(2)]
    for process in members:
        wait_for(lambda p=process: "rebalance" in p.log_path.read_text(), 60, process)
