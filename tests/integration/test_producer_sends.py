"""The transactional producer against a real broker: once, in order, fenced, and through an outage of the broker."""

import threading
import time
from collections import Counter
from dataclasses import replace

import pytest
from committed import committed_values, wait_until_settled
from kafka import KafkaConsumer

from local.stack import Stack
from pipeline.records import Bar, InvalidRecord, decode
from pipeline.settings import ServiceError, Settings
from pipeline.streams.kafka.connection import connection, ensure_topics
from pipeline.streams.kafka.producer import Producer


@pytest.fixture(scope="module")
def stack(private_stack: Stack) -> Stack:
    """A stack whose broker may be killed."""
    return private_stack


def bars(start: int, count: int, symbols: int = 5) -> list[Bar]:
    """Bars whose volume is their number."""
    return [
        Bar(
            symbol=f"S{n % symbols}",
            time="2024-01-02 00:00:00.000",
            interval="1d",
            open=1.0,
            high=2.0,
            low=1.0,
            close=2.0,
            volume=float(n),
            source="test",
            ingested_at="2024-01-03 00:00:00.000",
        )
        for n in range(start, start + count)
    ]


def volumes(settings: Settings) -> Counter:
    return Counter(int(decode(Bar, value).volume) for value in committed_values(settings, settings.kafka_topic_bars))


@pytest.fixture
def topic(settings: Settings) -> str:
    ensure_topics(settings, [settings.kafka_topic_bars])
    return settings.kafka_topic_bars


def test_records_and_checkpoint_are_committed_together(settings: Settings, topic: str) -> None:
    """What was sent is read back whole and in order by symbol, in the partition that Kafka's own partitioner would
    choose.
    """
    with Producer(settings, "once") as producer:
        assert producer.position("file") is None
        assert producer.send({topic: bars(0, 12_000)}, {"file": {"row": 12_000}}) == 12_000
    with Producer(settings, "once") as producer:
        assert producer.position("file")["row"] == 12_000
    with KafkaConsumer(
        **connection(settings), isolation_level="read_committed", auto_offset_reset="earliest", enable_auto_commit=False
    ) as reader:
        ends, found = wait_until_settled(settings, topic), {}
        reader.assign(list(ends))
        while any(reader.position(partition) < end for partition, end in ends.items()):
            for partition, records in reader.poll(timeout_ms=500).items():
                for record in records:
                    found.setdefault(record.key, []).append(
                        (partition.partition, int(decode(Bar, record.value).volume))
                    )
    for key, places in found.items():
        assert len({partition for partition, _ in places}) == 1
        assert [number for _, number in places] == list(range(int(key[1:]), 12_000, 5))
    assert sum(map(len, found.values())) == 12_000


def test_stock_and_fast_sending_agree(settings: Settings, topic: str) -> None:
    """kafka-python's send() and our own batches put the same records in the same partitions."""
    with Producer(settings, "fast") as producer:
        producer.send({topic: bars(0, 300)}, {"k": {}})
        producer._is_fast = False
        producer.send({topic: bars(0, 300)}, {"k": {}})
        assert not [key for key in producer._partitions if key[0] != topic]
    assert volumes(settings) == Counter([*range(300), *range(300)])


def test_long_values_and_large_batches(settings: Settings, topic: str) -> None:
    """Values of more bytes than one-byte lengths can hold, and more than a batch holds, arrive as they were."""
    many = bars(0, 3000, symbols=1)
    for number, record in enumerate(many):
        record.company = "x" * (number % 700)
    with Producer(settings, "long") as producer:
        producer.send({topic: many}, {"k": {}})
    assert volumes(settings) == Counter(range(3000))


def test_an_invalid_record_sends_nothing(settings: Settings, topic: str) -> None:
    """A record that breaks its definition is refused before its transaction begins, and the producer works on."""
    bad = bars(0, 1)[0]
    bad.high = float("nan")
    with Producer(settings, "strict") as producer:
        with pytest.raises(InvalidRecord, match="high"):
            producer.send({topic: [*bars(0, 5), bad]}, {"k": {"row": 1}})
        producer.send({topic: bars(5, 5)}, {"k": {"row": 2}})
    assert volumes(settings) == Counter(range(5, 10))


def test_a_value_that_is_too_large_is_told(settings: Settings, topic: str) -> None:
    """A record larger than the broker takes ends in an error that says so, not in a wait or a loss."""
    large = bars(0, 1)
    large[0].company = "x" * 2_000_000
    with pytest.raises(ServiceError, match="MessageSizeTooLarge"), Producer(settings, "large") as producer:
        producer.send({topic: large}, {"k": {"row": 1}})
    with Producer(settings, "large") as producer:
        assert producer.position("k") is None


def test_forget_begins_again(settings: Settings, topic: str) -> None:
    """A forgotten checkpoint is gone for the next producer too; others stay."""
    with Producer(settings, "forgetful") as producer:
        producer.send({topic: bars(0, 1)}, {"a": {"row": 1}, "b": {"row": 2}})
        producer.forget("a")
        assert producer.position("a") is None
    with Producer(settings, "forgetful") as producer:
        assert producer.position("a") is None
        assert producer.position("b")["row"] == 2


def test_a_checkpoint_behind_an_open_transaction_is_waited_for(settings: Settings, topic: str) -> None:
    """Another producer's open transaction hides what is committed behind it; the checkpoint is read when it has ended,
    not an older one.
    """
    with Producer(settings, "mine") as mine, Producer(settings, "slow") as slow:
        mine.send({topic: bars(0, 1)}, {"k": {"row": 1}})
        slow._producer.begin_transaction()
        slow._producer.send(settings.kafka_topic_checkpoints, b"{}", b"other", partition=0).get(10)
        mine.send({topic: bars(1, 1)}, {"k": {"row": 2}})
        ending = threading.Timer(2, slow._producer.abort_transaction)
        ending.start()
        with Producer(settings, "mine") as again:
            assert again.position("k")["row"] == 2
        ending.join()
        mine._abandon()


def test_second_producer_fences_the_first(settings: Settings, topic: str) -> None:
    """The first stops with a message that says why, in a transaction or between two; the second is not disturbed."""
    with Producer(settings, "same-id") as second_to_come:
        second_to_come.send({topic: bars(0, 10)}, {"k": {"row": 10}})
        with Producer(settings, "same-id") as second:
            with pytest.raises(ServiceError, match="another producer with the id 'same-id' has taken over"):
                second_to_come.send({topic: bars(10, 10)}, {"k": {"row": 20}})
            assert second.position("k")["row"] == 10
            second.send({topic: bars(10, 10)}, {"k": {"row": 20}})
    assert volumes(settings) == Counter(range(20))


def test_broker_that_is_away_is_waited_for(
    settings: Settings, topic: str, stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    """Killed in the middle of a transaction and started again, the broker ends with every record once, and the wait was
    told.
    """

    def restart() -> None:
        time.sleep(3)
        stack.up(["kafka"])

    restarting = threading.Thread(target=restart)

    def kill_and_flush() -> None:
        producer._producer.flush = flush
        stack.kill("kafka")
        restarting.start()
        flush()

    # A broker that comes back has much to look through on a busy machine; that the wait ends is the next test's matter.
    with Producer(replace(settings, kafka_wait_seconds=400), "patient") as producer:
        for number in range(20):
            producer.send({topic: bars(number * 500, 500)}, {"k": {"row": number}})
        wait_until_settled(settings, topic)
        wait_until_settled(settings, settings.kafka_topic_checkpoints)
        flush, producer._producer.flush = producer._producer.flush, kill_and_flush
        for number in range(20, 40):
            producer.send({topic: bars(number * 500, 500)}, {"k": {"row": number}})
    restarting.join()
    assert "no answer from the broker yet" in caplog.text
    assert volumes(settings) == Counter(range(20_000))


def test_waiting_for_the_broker_is_bounded(settings: Settings, topic: str, stack: Stack) -> None:
    """A broker that stays away ends in an error that names the setting, after about the time that is allowed."""
    producer = Producer(replace(settings, kafka_wait_seconds=3), "bounded")
    producer.send({topic: bars(0, 10)}, {"k": {"row": 10}})
    wait_until_settled(settings, topic)
    wait_until_settled(settings, settings.kafka_topic_checkpoints)
    stack.kill("kafka")
    began = time.monotonic()
    try:
        with pytest.raises(ServiceError, match="KAFKA_BOOTSTRAP_SERVERS"):
            producer.send({topic: bars(10, 10)}, {"k": {"row": 20}})
        assert time.monotonic() - began < 40
    finally:
        stack.up(["kafka"])
        producer._abandon()
    assert volumes(settings) == Counter(range(10))
