"""What a read_committed reader sees."""

import time

from kafka import KafkaConsumer, TopicPartition

from pipeline.settings import Settings
from pipeline.streams.kafka.connection import connection

WAIT_SECONDS = 150  # twice as long as a transaction may stay open


def _ends(settings: Settings, topic: str, isolation_level: str) -> dict[TopicPartition, int]:
    with KafkaConsumer(**connection(settings), isolation_level=isolation_level) as reader:
        return reader.end_offsets(
            [TopicPartition(topic, partition) for partition in reader.partitions_for_topic(topic) or ()]
        )


def has_committed(settings: Settings, topic: str) -> bool:
    """Whether a read_committed reader can see anything of the topic now; does not wait for an open transaction."""
    return any(_ends(settings, topic, "read_committed").values())


def wait_until_settled(settings: Settings, topic: str) -> dict[TopicPartition, int]:
    """Wait until no transaction is open in what the topic holds now; gives its end offsets.

    To be done before a broker is killed: Kafka 4.3.1 answers a commit before it has written the markers, and a single
    broker that is killed in between may skip them when it comes back ("Couldn't find leader endpoint ... while trying
    to send transaction markers"). The transaction then hangs for ever; this fails with its partitions.
    """
    ends, deadline = _ends(settings, topic, "read_uncommitted"), time.monotonic() + WAIT_SECONDS
    while True:
        seen = _ends(settings, topic, "read_committed")
        if not (hidden := [partition for partition, end in ends.items() if seen[partition] < end]):
            return ends
        assert time.monotonic() < deadline, f"a transaction stays open: {hidden}"
        time.sleep(0.1)


def committed_values(settings: Settings, topic: str) -> list[bytes]:
    """The values of all committed records of a topic; waits until no transaction is open in what it holds now."""
    ends = wait_until_settled(settings, topic)
    options = {
        "auto_offset_reset": "earliest",
        "enable_auto_commit": False,
        "fetch_max_wait_ms": 50,
        "isolation_level": "read_committed",
    }
    with KafkaConsumer(**connection(settings), **options) as reader:
        reader.assign(list(ends))
        values, deadline = [], time.monotonic() + WAIT_SECONDS
        while behind := [partition for partition, end in ends.items() if reader.position(partition) < end]:
            assert time.monotonic() < deadline, f"the end was not reached: {behind}"
            for records in reader.poll(timeout_ms=500, max_records=20_000).values():
                values += [record.value for record in records]
    return values
