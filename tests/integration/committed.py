"""What a read_committed reader sees."""

from kafka import KafkaConsumer, TopicPartition

from pipeline.settings import Settings
from pipeline.topic import connection


def committed_values(settings: Settings, topic: str) -> list[bytes]:
    """The values of all committed records of a topic; waits until no transaction is open in what is there now."""
    options = {**connection(settings), "auto_offset_reset": "earliest", "enable_auto_commit": False, "fetch_max_wait_ms": 50}
    with KafkaConsumer(**options) as at_end:
        partitions = [TopicPartition(topic, partition) for partition in at_end.partitions_for_topic(topic)]
        ends = at_end.end_offsets(partitions)
    with KafkaConsumer(**options, isolation_level="read_committed") as reader:
        reader.assign(partitions)
        values = []
        while any(reader.position(partition) < ends[partition] for partition in partitions):
            for records in reader.poll(timeout_ms=500, max_records=20_000).values():
                values += [record.value for record in records]
    return values


def has_committed(settings: Settings, topic: str) -> bool:
    """Whether a read_committed reader can see anything of the topic now; does not wait for an open transaction."""
    with KafkaConsumer(**connection(settings), isolation_level="read_committed") as reader:
        partitions = [TopicPartition(topic, partition) for partition in reader.partitions_for_topic(topic) or ()]
        return any(reader.end_offsets(partitions).values())
