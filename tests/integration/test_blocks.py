"""Blocks from a real broker, beside what kafka-python reads of the same topic."""

import itertools
import time
import uuid
from collections.abc import Iterator

import pytest
from committed import wait_until_settled
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition

from local.stack import Stack
from pipeline.landing.block import Block
from pipeline.settings import Settings
from pipeline.streams.kafka import decoder
from pipeline.streams.kafka.compatibility import BulkTransport, read_in_blocks

DRAIN_SECONDS = 60


@pytest.fixture
def servers(stack: Stack) -> str:
    return stack.environment()["KAFKA_BOOTSTRAP_SERVERS"]


@pytest.fixture
def topic(servers: str) -> Iterator[str]:
    """A topic of two partitions, gone after the test."""
    name = f"blocks_{uuid.uuid4().hex[:8]}"
    with KafkaAdminClient(bootstrap_servers=servers) as admin:
        admin.create_topics({name: {"num_partitions": 2, "replication_factor": 1}}, wait_for_metadata=True)
        yield name
        admin.delete_topics([name])


def consumer(servers: str, topic: str, *, stock: bool, **options: object) -> KafkaConsumer:
    """A consumer of both partitions, from their beginnings."""
    made = KafkaConsumer(
        bootstrap_servers=servers,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=50,
        **{"isolation_level": "read_committed"} | options,
    )
    assert stock or read_in_blocks(made)
    made.assign([TopicPartition(topic, 0), TopicPartition(topic, 1)])
    made.seek_to_beginning()
    return made


def drain(reader: KafkaConsumer) -> tuple[dict[TopicPartition, list[Block]], dict[TopicPartition, int]]:
    """All blocks up to the end of each partition, and the positions there."""
    ends, deadline = reader.end_offsets(list(reader.assignment())), time.monotonic() + DRAIN_SECONDS
    found = {partition: [] for partition in ends}
    while any(reader.position(partition) < end for partition, end in ends.items()):
        assert time.monotonic() < deadline, "the end was not reached"
        for partition, polled in decoder.poll(reader, 500).items():
            found[partition] += polled
    return found, {partition: reader.position(partition) for partition in ends}


def rows(found: list[Block]) -> list[tuple]:
    return [
        row
        for block in found
        for row in zip(block.offsets.tolist(), block.timestamps.tolist(), block.values, strict=True)
    ]


def produce(settings: Settings, topic: str, compression: str | None) -> tuple[dict[int, list[bytes | None]], int]:
    """Transactions of every size and a partition each, every third aborted; waits until their markers are there.
    Returns the committed values and how many were aborted.
    """
    committed, aborted, number = {0: [], 1: []}, 0, itertools.count()
    producer = KafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        transactional_id=uuid.uuid4().hex,
        compression_type=compression,
        batch_size=64 * 1024,
        linger_ms=20,
    )
    producer.init_transactions()
    for round_, count in enumerate((1000, 700, 5, 300, 1, 900)):
        producer.begin_transaction()
        for partition in (0, 1):
            values = [
                None if (n := next(number)) % 97 == 0 else b'{"n":%d,"text":"%s"}' % (n, b"x" * (n % 60))
                for _ in range(count)
            ]
            for value in values:
                headers = [("trace", b"1")] if round_ == 3 else None
                key = b"AAPL" if partition or value is None else None
                producer.send(topic, value, key=key, partition=partition, headers=headers)
            if round_ % 3 == 1:
                aborted += count
            else:
                committed[partition] += values
        producer.flush()
        producer.abort_transaction() if round_ % 3 == 1 else producer.commit_transaction()
    producer.close()
    wait_until_settled(settings, topic)
    return committed, aborted


@pytest.mark.parametrize("compression", [None, "gzip", "snappy", "lz4", "zstd"])
def test_transactions_with_aborts(settings: Settings, servers: str, topic: str, compression: str | None) -> None:
    """Of every codec, exactly the committed records, equal to what kafka-python reads, most of them decoded fast."""
    committed, aborted = produce(settings, topic, compression)
    with consumer(servers, topic, stock=True) as reader:
        expected, expected_positions = drain(reader)
    with consumer(servers, topic, stock=False) as reader:
        found, positions = drain(reader)
        assert {type(connection.transport) for connection in reader._manager._conns.values()} == {BulkTransport}
    assert aborted == 2 * (700 + 1)
    assert positions == expected_positions
    for partition, values in committed.items():
        blocks_found = found[TopicPartition(topic, partition)]
        assert [value for _, _, value in rows(blocks_found)] == values
        assert rows(blocks_found) == rows(expected[TopicPartition(topic, partition)])
        assert sum(len(block) for block in blocks_found if block.decoder == "numpy") > len(values) / 2
        assert "stock" in {block.decoder for block in blocks_found}


def test_read_uncommitted(settings: Settings, servers: str, topic: str) -> None:
    """Without read_committed the aborted records are there too, and the markers between them never."""
    committed, aborted = produce(settings, topic, "lz4")
    with consumer(servers, topic, stock=True, isolation_level="read_uncommitted") as reader:
        expected, _ = drain(reader)
    with consumer(servers, topic, stock=False, isolation_level="read_uncommitted") as reader:
        found, _ = drain(reader)
    assert {partition: rows(polled) for partition, polled in found.items()} == {
        p: rows(polled) for p, polled in expected.items()
    }
    assert sum(len(rows(polled)) for polled in found.values()) == sum(map(len, committed.values())) + aborted


def test_seek_into_a_batch(settings: Settings, servers: str, topic: str) -> None:
    """A seek to the middle of a batch, forwards and back, returns exactly the records from there on, and moves the
    position.
    """
    committed, _ = produce(settings, topic, "zstd")
    partition = TopicPartition(topic, 0)
    with consumer(servers, topic, stock=False) as reader:
        reader.assign([partition])
        for start in (517, 3, 999):
            reader.seek(partition, start)
            found = []
            while len(found) < 200:
                polled = decoder.poll(reader, 1000, max_records=50).get(partition, [])
                found += rows(polled)
                if polled:
                    assert reader.position(partition) >= found[-1][0] + 1
            assert found[0][0] == start
            assert [value for _, _, value in found] == committed[0][start : start + len(found)]


def test_compacted_topic(servers: str) -> None:
    """After compaction batches have gaps: the same records and end position as kafka-python's."""
    name = f"compacted_{uuid.uuid4().hex[:8]}"
    configs = {
        "cleanup.policy": "compact",
        "min.cleanable.dirty.ratio": "0.01",
        "segment.ms": "500",
        "min.compaction.lag.ms": "0",
        "max.compaction.lag.ms": "500",
    }
    with KafkaAdminClient(bootstrap_servers=servers) as admin:
        admin.create_topics(
            {name: {"num_partitions": 2, "replication_factor": 1, "configs": configs}}, wait_for_metadata=True
        )
        try:
            sent = send_until_compacted(servers, name)
            results = []
            for stock in (True, False):
                with consumer(servers, name, stock=stock) as reader:
                    found, positions = drain(reader)
                    results.append(({partition: rows(polled) for partition, polled in found.items()}, positions))
        finally:
            admin.delete_topics([name])
    assert results[0] == results[1]
    offsets = [offset for offset, _, _ in results[1][0][TopicPartition(name, 0)]]
    gaps = sum(later - earlier > 1 for earlier, later in itertools.pairwise(offsets))
    assert len(offsets) < sent
    assert gaps > 900, "no gaps inside batches: nothing was tried"
    assert "numpy" in {block.decoder for block in found[TopicPartition(name, 0)]}


def send_until_compacted(servers: str, topic: str) -> int:
    """Send keys again and again until the broker has removed some; returns how many were sent."""
    sent, deadline = 0, time.monotonic() + DRAIN_SECONDS
    while time.monotonic() < deadline:
        with KafkaProducer(bootstrap_servers=servers, batch_size=64 * 1024, linger_ms=20) as producer:
            for n in range(2000):
                # Every second key is sent once: it stays, between those that are replaced.
                producer.send(topic, b'{"sent":%d}' % sent, key=b"%d" % n if n % 2 else b"once %d" % sent, partition=0)
                sent += 1
        time.sleep(1)
        with consumer(servers, topic, stock=True) as reader:
            found, _ = drain(reader)
        if sum(len(block) for polled in found.values() for block in polled) < sent:
            return sent
    pytest.fail("the broker did not compact")
