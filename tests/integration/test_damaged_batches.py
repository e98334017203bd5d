"""Record batches that cannot be read, in a real topic: what precedes them lands, and the stop says where and how on."""

import gzip
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess, Popen

import pytest
import zstandard
from counting import bars, in_lake
from encoded_batches import build_compressed_batch
from kafka import KafkaAdminClient
from kafka.protocol.producer import ProduceRequest
from kafka.record.util import encode_varint

from pipeline.landing.positions import Committed, Partition
from pipeline.settings import ServiceError, Settings
from pipeline.streams.kafka import reader
from pipeline.streams.kafka.connection import connection, ensure_topics
from pipeline.streams.kafka.decompression import GZIP, ZSTD
from pipeline.streams.kafka.member import Member
from pipeline.streams.kafka.producer import Producer

Run = Callable[..., CompletedProcess]
Start = Callable[..., Popen]
RECORDS = 10
MEGABYTE = bytes(1 << 20)


@pytest.fixture
def one(settings: Settings, environment: dict[str, str]) -> Settings:
    """Settings whose topics have one partition."""
    environment["KAFKA_PARTITIONS"] = "1"
    ensure_topics(replace(settings, kafka_partitions=1), [settings.kafka_topic_bars])
    return replace(settings, kafka_partitions=1)


def send(settings: Settings, first: int, count: int) -> None:
    with Producer(settings, f"p{first}") as producer:
        producer.send({settings.kafka_topic_bars: bars(first, count)}, {"test": {"row": first + count}})


def bomb(kind: int, megabytes: int) -> bytes:
    """A batch of ten records, whose values are as many megabytes of zeros each: right in every respect."""
    compressor = zstandard.ZstdCompressor().compressobj() if kind == ZSTD else None
    body = bytearray()

    def put(data: bytes) -> None:
        body.extend(compressor.compress(data) if compressor else data)

    def varint(number: int) -> bytes:
        encoded = bytearray()
        encode_varint(number, encoded.append)
        return bytes(encoded)

    for number in range(RECORDS):
        head = b"\0" + varint(0) + varint(number) + varint(-1) + varint(megabytes << 20)
        put(varint(len(head) + (megabytes << 20) + 1) + head)
        for _ in range(megabytes):
            put(MEGABYTE)
        put(b"\0")
    payload = bytes(body) + compressor.flush() if compressor else gzip.compress(bytes(body), 1)
    return build_compressed_batch(payload, RECORDS, 0, RECORDS - 1, compression=kind)


def put_batch(settings: Settings, batch: bytes) -> None:
    """Send one batch as it is."""
    topic = ProduceRequest.TopicProduceData
    data = topic(
        name=settings.kafka_topic_bars,
        partition_data=[topic.PartitionProduceData(index=0, records=batch)],
    )
    request = ProduceRequest(transactional_id=None, acks=-1, timeout_ms=60_000, topic_data=[data], max_version=9)
    with KafkaAdminClient(**connection(settings)) as admin:
        answer = admin._manager.run(lambda: admin._manager.send(request))
    assert answer.responses[0].partition_responses[0].error_code == 0, answer


def memory_kb(pid: int) -> int:
    """The most memory that the process has had; what wait4 tells begins with that of the process which forked it."""
    with suppress(OSError):
        if found := re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text()):
            return int(found[1])
    return 0


@pytest.mark.parametrize(("kind", "megabytes"), [(GZIP, 20), (ZSTD, 400)], ids=["gzip", "zstd"])
def test_a_compression_bomb(*, kind: int, megabytes: int, one: Settings, start: Start, run: Run, s3: object) -> None:
    """A batch of 200 MB or 4 GB takes no more memory than the bound; the way out that is named leaves out it alone."""
    send(one, 0, 100)
    partition = Partition(one.kafka_topic_bars, 0)
    at = reader.standings(one, [one.kafka_topic_bars])[partition].end
    put_batch(one, bomb(kind, megabytes))
    send(one, 100, 100)
    for _ in range(2):
        landing = start("consumer.py", "--flush-seconds", "1")
        most_kb = 0
        while landing.poll() is None:
            most_kb = max(most_kb, memory_kb(landing.pid))
            time.sleep(0.02)
        said = landing.log_path.read_text()
        assert landing.returncode == 1, said
        # The transaction's marker before it is no record.
        assert re.search(rf"{partition} at offset ({at - 1}|{at}): the records from there on cannot be read", said), (
            said
        )
        assert f"the batch of the offsets {at} to {at + RECORDS - 1} decompresses to more than" in said
        assert "Traceback" not in said
        assert 0 < most_kb < 900 * 1024
        assert sum(in_lake(s3, one).values()) == 100
    reader.commit(one, {partition: Committed(at + RECORDS, "")})
    assert run("consumer.py", "--until-caught-up").returncode == 0
    assert sum(in_lake(s3, one).values()) == 200


def test_damage_that_the_joining_poll_meets(one: Settings) -> None:
    """A poll long enough to join the group and to fetch finds a bomb at the group's commit; the member stops there."""
    send(one, 0, 100)
    partition = Partition(one.kafka_topic_bars, 0)
    at = reader.standings(one, [one.kafka_topic_bars])[partition].end
    put_batch(one, bomb(GZIP, 20))
    reader.commit(one, {partition: Committed(at, "")})

    def poll_and_start(member: Member, rounds: int) -> None:
        for _ in range(rounds):
            for given, standing in member.poll(3_000).given.items():
                member.start_at(given, standing.committed.offset)
            member.pause(set())

    with Member(one, [one.kafka_topic_bars]) as member, pytest.raises(ServiceError, match=f"{partition} at offset"):
        poll_and_start(member, rounds=10)
