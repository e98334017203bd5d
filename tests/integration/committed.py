"""What a read_committed reader sees."""

from kafka import KafkaConsumer, TopicPartition

from pipeline.settings import Settings
from pipeline.topic import connection


def committed_values(settings: Settings, topic: str) -> list[bytes]:
    """The values of all committed records of a topic."""
    with KafkaConsumer(**connection(settings), isolation_level="read_committed", auto_offset_reset="earliest", enable_auto_commit=False,
                       fetch_max_wait_ms=50) as reader:
        partitions = [TopicPartition(topic, partition) for partition in reader.partitions_for_topic(topic) or ()]
        reader.assign(partitions)
        ends, values = reader.end_offsets(partitions), []
        while any(reader.position(partition) < ends[partition] for partition in partitions):
            for records in reader.poll(timeout_ms=500, max_records=20_000).values():
                values += [record.value for record in records]
    return values
