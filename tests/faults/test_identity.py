"""Commits lost, topics made anew, logs cut, names taken: nothing is overwritten, nothing is there twice or missing."""

import itertools
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from subprocess import CompletedProcess, Popen

import pytest
from aws_proxy import HOLD, PASS, aws_proxy
from counting import assert_exactly_once, etags, in_lake, in_topic, produce, wait_for
from kafka import KafkaAdminClient, TopicPartition

import consumer
from pipeline.landing.plan import read_object_key, read_plan
from pipeline.landing.positions import Committed, Partition
from pipeline.settings import ServiceError, Settings
from pipeline.sinks.lake.sink import Lake
from pipeline.streams.kafka import reader
from pipeline.streams.kafka.connection import connection, ensure_topics
from pipeline.streams.kafka.producer import AcknowledgedProducer

Run = Callable[..., CompletedProcess]
Start = Callable[..., Popen]


def lose_commits(settings: Settings) -> None:
    """The group's offsets are gone, as after their expiry. Waits until the broker has put out the killed members."""

    def are_gone() -> bool:
        with KafkaAdminClient(**connection(settings)) as admin:
            admin.delete_groups([settings.kafka_group])
        found = reader.standings(settings, [settings.kafka_topic_bars]).values()
        return all(standing.committed is None for standing in found)

    wait_for(are_gone, 60)


def remake(settings: Settings) -> None:
    """The topic of bars is deleted and made anew."""
    with KafkaAdminClient(**connection(settings)) as admin:
        admin.delete_topics([settings.kafka_topic_bars])

        def is_gone() -> bool:
            return settings.kafka_topic_bars not in admin.list_topics()

        wait_for(is_gone, 60)
    # Kafka deletes the group's offsets of the topic a moment later.
    time.sleep(1)
    ensure_topics(settings, [settings.kafka_topic_bars])


def test_expired_commits_land_nothing_twice(run: Run, s3: object, settings: Settings) -> None:
    """A group whose commits expired goes on behind what is in the lake, whatever the limits of its batches are now."""
    produce(settings, 1_000)
    assert run("consumer.py", "--until-caught-up").returncode == 0
    lose_commits(settings)
    produce(settings, 500, first=1_000)
    again = run("consumer.py", "--until-caught-up", "--flush-records", "77")
    assert again.returncode == 0, again.stderr
    assert "going on behind what is in the lake" in again.stderr
    assert "records=500" in again.stderr
    assert_exactly_once(s3, settings, at_least=1_500)
    assert run("consumer.py", "verify", "--deep").returncode == 0


def test_a_hole_behind_what_was_landed(run: Run, s3: object, settings: Settings) -> None:
    """Commits gone, and retention took records that were not landed: exit 1 with the offsets, and nothing is landed."""
    produce(settings, 1_000)
    assert run("consumer.py", "--until-caught-up").returncode == 0
    lose_commits(settings)
    before = etags(s3, settings)
    produce(settings, 1_000, first=1_000)
    ends = {
        partition: max(int(key.rsplit("-", 2)[1]) for key in before if f"{partition}-" in key)
        for partition in reader.standings(settings, [settings.kafka_topic_bars])
    }
    with KafkaAdminClient(**connection(settings)) as admin:
        admin.delete_records({TopicPartition(*partition): end + 25 for partition, end in ends.items()})
    stopped = run("consumer.py", "--until-caught-up")
    assert stopped.returncode == 1, stopped.stderr
    told = [f"its next record is {end}, and the topic's oldest is {end + 25}" for end in ends.values()]
    assert any(one in stopped.stderr for one in told), stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert etags(s3, settings) == before


@pytest.mark.parametrize("arguments", [(), ("--partition-time", "event")], ids=["arrival", "event"])
def test_a_topic_made_anew(arguments: tuple[str, ...], run: Run, s3: object, settings: Settings) -> None:
    """Other records under the same topic and offsets: the consumer stops and says so; --from-beginning lands them
    beside the old ones, of which none is overwritten.
    """
    produce(settings, 1_000)
    assert run("consumer.py", "--until-caught-up", *arguments).returncode == 0
    old, before = in_topic(settings), etags(s3, settings)
    remake(settings)
    produce(settings, 1_000, first=5_000)
    stopped = run("consumer.py", "--until-caught-up", *arguments)
    assert (stopped.returncode, "made anew" in stopped.stderr, "--from-beginning" in stopped.stderr) == (1, True, True)
    assert etags(s3, settings) == before
    begun = run("consumer.py", "--until-caught-up", "--from-beginning", *arguments)
    assert begun.returncode == 0, begun.stderr
    after = etags(s3, settings)
    assert {key: after.get(key) for key in before} == before
    assert in_lake(s3, settings) == old + in_topic(settings)
    assert sum(in_lake(s3, settings).values()) == 2_000
    again = run("consumer.py", "--until-caught-up", "--from-beginning", *arguments)
    assert (again.returncode, "S3_PREFIX" in again.stderr) == (1, True), "it would land the same topic twice"
    assert run("consumer.py", "--until-caught-up", *arguments).returncode == 0
    verified = run("consumer.py", "verify", "--deep")
    assert verified.returncode == 0, verified.stdout


def test_a_new_group_on_a_new_topic_below_an_old_lake(run: Run, s3: object, settings: Settings) -> None:
    """A fresh cluster below an old bucket, with a group of another name: the old records stay, the new ones land."""
    produce(settings, 1_000)
    assert run("consumer.py", "--until-caught-up").returncode == 0
    old = in_topic(settings)
    remake(settings)
    produce(settings, 1_000, first=5_000)
    other = ("--group", settings.kafka_group + "_b")
    stopped = run("consumer.py", "--until-caught-up", *other)
    assert (stopped.returncode, "made anew" in stopped.stderr) == (1, True), stopped.stderr
    assert run("consumer.py", "--until-caught-up", "--from-beginning", *other).returncode == 0
    assert in_lake(s3, settings) == old + in_topic(settings)


def test_a_topic_made_anew_under_a_running_consumer(start: Start, run: Run, s3: object, settings: Settings) -> None:
    """A running consumer stops with exit code 1 when its topic is made anew, instead of skipping the first records."""
    produce(settings, 1_000)
    process = start("consumer.py", "--flush-seconds", "0.5")
    wait_for(lambda: sum(in_lake(s3, settings).values()) == 1_000, 60, process)
    old = in_topic(settings)
    remake(settings)
    produce(settings, 1_500, first=5_000)
    assert process.wait(60) == 1, process.log_path.read_text()
    assert "made anew" in process.log_path.read_text()
    begun = run("consumer.py", "--until-caught-up", "--from-beginning")
    assert begun.returncode == 0, begun.stderr
    assert in_lake(s3, settings) == old + in_topic(settings)


def test_a_commit_beyond_the_end(run: Run, s3: object, settings: Settings) -> None:
    """A commit beyond the log's end, as after a lost disk, is exit 1 with the cure, and not "caught up"."""
    produce(settings, 1_000)
    assert run("consumer.py", "--until-caught-up").returncode == 0
    found = reader.standings(settings, [settings.kafka_topic_bars])
    reader.commit(settings, {p: Committed(s.end + 400, "") for p, s in found.items()})
    stopped = run("consumer.py", "--until-caught-up")
    assert (stopped.returncode, "the topic ends at" in stopped.stderr) == (1, True), stopped.stderr
    assert "Traceback" not in stopped.stderr


@pytest.mark.parametrize("put", [0, 1, 2, 3])
def test_a_batch_under_way_whose_plan_is_lost(
    put: int, start: Start, run: Run, s3: object, settings: Settings, environment: dict[str, str]
) -> None:
    """Killed with some of a batch's objects put, and the commits lost: the batch is completed by the plan in its
    objects, though batches would be cut otherwise now.
    """
    one = replace(settings, kafka_partitions=1)
    produce(one, 6_000)
    with aws_proxy(environment["AWS_ENDPOINT_URL"], lambda number, *_: HOLD if number == put else PASS) as proxy:
        arguments = ("--partition-time", "event", "--flush-seconds", "0.5", "--uploads", "1")
        process = start("consumer.py", *arguments, AWS_ENDPOINT_URL=proxy.url)
        assert proxy.holding.wait(90), process.log_path.read_text()
        process.kill()
        process.wait()
        proxy.cuts_held = True
    before = etags(s3, settings)
    assert len(before) == put
    lose_commits(settings)
    produce(one, 500, first=6_000)
    again = run("consumer.py", "--until-caught-up", "--partition-time", "event", "--flush-records", "33")
    assert again.returncode == 0, again.stderr
    after = etags(s3, settings)
    assert {key: after.get(key) for key in before} == before
    assert_exactly_once(s3, settings, at_least=6_500)
    verified = run("consumer.py", "verify", "--deep")
    assert verified.returncode == 0, verified.stdout


def test_a_commit_that_went_back(run: Run, s3: object, settings: Settings) -> None:
    """A commit that went back behind what is in the lake is found at the start: exit 1, nothing is landed twice; what
    verify --repair says it would commit, it commits when told to, and the landing goes on.
    """
    produce(settings, 1_000)
    assert run("consumer.py", "--until-caught-up", "--flush-records", "100").returncode == 0
    found = reader.standings(settings, [settings.kafka_topic_bars])
    mark = {p: s.committed.metadata for p, s in found.items()}
    reader.commit(settings, {p: Committed(100, mark[p]) for p, s in found.items() if s.end > 100})
    stopped = run("consumer.py", "--until-caught-up", "--flush-records", "77")
    assert (stopped.returncode, "would be landed twice" in stopped.stderr) == (1, True), stopped.stderr
    said = run("consumer.py", "verify", "--repair")
    assert said.returncode == 1
    assert "would commit" in said.stdout
    assert reader.standings(settings, [settings.kafka_topic_bars]) != found
    done = run("consumer.py", "verify", "--repair", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    produce(settings, 300, first=1_000)
    again = run("consumer.py", "--until-caught-up", "--flush-records", "77")
    assert (again.returncode, "records=300" in again.stderr) == (0, True), again.stderr
    assert_exactly_once(s3, settings, at_least=1_300)
    assert run("consumer.py", "verify", "--deep").returncode == 0


def test_a_worker_frozen_before_its_first_put(
    start: Start, run: Run, s3: object, settings: Settings, environment: dict[str, str]
) -> None:
    """A consumer frozen between its plan and its first put, whose commits are lost while another lands the records with
    other limits, puts nothing when it is thawed.
    """
    produce(settings, 2_000)
    with aws_proxy(environment["AWS_ENDPOINT_URL"], lambda number, *_: HOLD if number == 0 else PASS) as proxy:
        zombie = start("consumer.py", "--flush-seconds", "0.5", "--uploads", "1", AWS_ENDPOINT_URL=proxy.url)
        assert proxy.holding.wait(90), zombie.log_path.read_text()
        zombie.send_signal(signal.SIGSTOP)
        lose_commits(settings)
        done = run("consumer.py", "--until-caught-up", "--flush-records", "77")
        assert done.returncode == 0, done.stderr
        # What it had sent before it froze never arrives; what it sends now would.
        proxy.cuts_held = True
        proxy.released.set()
        zombie.send_signal(signal.SIGCONT)
        wait_for(lambda: zombie.log_path.read_text().count("rebalance") > 1 or zombie.poll() is not None, 60)
        time.sleep(1)
        zombie.kill()
        zombie.wait()
    assert_exactly_once(s3, settings, at_least=2_000)


def test_names_that_are_taken(run: Run, s3: object, settings: Settings) -> None:
    """Objects of the same names that another group or program put are not overwritten: exit 1 with both."""
    produce(settings, 500)
    assert run("consumer.py", "--until-caught-up").returncode == 0
    before = etags(s3, settings)
    other = replace(settings, kafka_group=settings.kafka_group + "_b")
    # As a tool would do it that resets a group; without a commit the second group would not even begin.
    found = reader.standings(settings, [settings.kafka_topic_bars])
    reader.commit(other, {p: Committed(s.oldest, "") for p, s in found.items()})
    refused = run("consumer.py", "--until-caught-up", KAFKA_GROUP=other.kafka_group)
    assert refused.returncode == 1
    assert "would be landed twice" in refused.stderr
    for key in before:
        s3.put_object(Bucket=settings.s3_bucket, Key=key, Body=b"of another program")
    assert Counter(etags(s3, settings).values()).total() == len(before)
    theirs = etags(s3, settings)
    lose_commits(settings)
    stopped = run("consumer.py", "--until-caught-up")
    assert stopped.returncode == 1
    assert "Traceback" not in stopped.stderr
    assert etags(s3, settings) == theirs


def test_commits_lost_again_and_again(
    start: Start, run: Run, s3: object, settings: Settings, environment: dict[str, str]
) -> None:
    """Killed in every repetition at another object, with the commits lost each time, everything is there once."""
    one = replace(settings, kafka_partitions=1)
    produce(one, 8_000)
    for put, limit in zip(itertools.count(1), (8_000, 33, 50), strict=False):
        with aws_proxy(
            environment["AWS_ENDPOINT_URL"], lambda number, *_, at=put: HOLD if number == at else PASS
        ) as proxy:
            arguments = ("--partition-time", "event", "--flush-seconds", "0.5", "--uploads", "1")
            process = start("consumer.py", *arguments, "--flush-records", str(limit), AWS_ENDPOINT_URL=proxy.url)
            assert proxy.holding.wait(90), process.log_path.read_text()
            process.kill()
            process.wait()
            proxy.cuts_held = True
        lose_commits(settings)
    again = run("consumer.py", "--until-caught-up", "--partition-time", "event")
    assert again.returncode == 0, again.stderr
    assert_exactly_once(s3, settings, at_least=8_000)


def test_a_plan_of_the_version_before(
    start: Start, run: Run, s3: object, settings: Settings, environment: dict[str, str]
) -> None:
    """A batch that was planned by the version before, which knew no generations, is completed under its names; later
    ones have the generation in theirs.
    """
    produce(settings, 2_000)
    with aws_proxy(environment["AWS_ENDPOINT_URL"], lambda *_: HOLD) as proxy:
        process = start("consumer.py", "--flush-seconds", "0.5", AWS_ENDPOINT_URL=proxy.url)
        assert proxy.holding.wait(90), process.log_path.read_text()
        process.kill()
        process.wait()
        proxy.cuts_held = True
    found = reader.standings(settings, [settings.kafka_topic_bars])
    plans = [plan for p, s in found.items() if s.committed and (plan := read_plan(p, s.committed))]
    assert plans
    old = {
        Partition(plan.topic, plan.partition): replace(plan, generation="", planned_ms=0).committed for plan in plans
    }
    wait_for(lambda: committed(settings, old), 60)
    produce(settings, 500, first=2_000)
    again = run("consumer.py", "--until-caught-up")
    assert again.returncode == 0, again.stderr
    names = [read_object_key(key) for key in etags(s3, settings)]
    assert {(n.start, n.generation) for n in names if n.start == 0 and (n.topic, n.partition) in old} == {(0, "")}
    assert any(name.generation for name in names)
    assert_exactly_once(s3, settings, at_least=2_500)
    verified = run("consumer.py", "verify", "--deep")
    assert verified.returncode == 0, verified.stdout


def committed(settings: Settings, offsets: dict[Partition, Committed]) -> bool:
    """Whether the group took these commits; not while the broker takes a killed member for a living one."""
    try:
        reader.commit(settings, offsets)
    except ServiceError:
        return False
    return True


@pytest.mark.usefixtures("credentials")
def test_a_look_at_the_lake_long_after_the_commit(run: Run, settings: Settings) -> None:
    """A consumer that slept between the group's commit and its look at the lake, while others landed more, goes on from
    the commit of now; a commit that has gone back is still refused.
    """
    produce(settings, 400)
    assert run("consumer.py", "--until-caught-up").returncode == 0
    before = reader.standings(settings, [settings.kafka_topic_bars])
    produce(settings, 400, first=400)
    assert run("consumer.py", "--until-caught-up").returncode == 0
    now = reader.standings(settings, [settings.kafka_topic_bars])
    options = {"uploads": 1, "until_caught_up": True, "format": None, "compression": None}
    options |= {"partition_by": None, "partition_time": None}
    sink = Lake(settings, options, AcknowledgedProducer)
    for partition, standing in before.items():
        lane = consumer._begin(settings, sink, partition, standing)
        assert lane.buffer.start == now[partition].committed.offset > standing.committed.offset
    reader.commit(settings, {partition: standing.committed for partition, standing in before.items()})
    sink = Lake(settings, options, AcknowledgedProducer)
    for partition, standing in before.items():
        with pytest.raises(ServiceError, match="the commit went back"):
            consumer._begin(settings, sink, partition, standing)
