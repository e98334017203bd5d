"""The one module that reaches private parts of kafka-python, behind one gate.

The gate is open for the tested version alone, which requirements.txt pins. In any other version, and with
KAFKA_PYTHON_PRIVATE_PARTS=off in the environment (for tests and emergencies), every function here steps aside: it does
without, by public means, or answers that its caller has to. One log line says so. Nothing but speed depends on
private parts: records decoded and sent ten times faster, a quicker start, an earlier end of what cannot succeed.

For a new version of kafka-python: read what each function here touches, run the tests of tests/unit/test_blocks.py,
test_encoder.py, test_transport.py and tests/integration/test_without_private_parts.py, then change TESTED_VERSION and
requirements.txt together.
"""

# ruff: noqa: SLF001 - this is what the module is for; nowhere else does it hold

import itertools
import logging
import os
import re
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from typing import Any

import kafka
import kafka.net.manager
import kafka.protocol.parser
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka import errors as kafka_errors
from kafka.consumer.fetcher import ConsumerRecord, Fetcher
from kafka.future import Future
from kafka.net.transport import KafkaTCPTransport
from kafka.producer.producer_batch import ProducerBatch
from kafka.protocol.consumer import OffsetForLeaderEpochRequest
from kafka.protocol.metadata import MetadataRequest
from kafka.record import MemoryRecords
from kafka.record.abc import ABCRecordBatch
from kafka.record.default_records import DefaultRecord, DefaultRecordBatch
from kafka.record.memory_records import MemoryRecordsBuilder

from pipeline.landing.block import Block
from pipeline.landing.positions import Partition
from pipeline.streams.kafka import decoder
from pipeline.streams.kafka.decompression import TooLarge, decompress
from pipeline.streams.kafka.encoder import EncodedBatch
from pipeline.streams.kafka.transport import BUFFER_BYTES, Frame

log = logging.getLogger(__name__)

TESTED_VERSION = "3.0.12"
SWITCH = "KAFKA_PYTHON_PRIVATE_PARTS"
# The longest that a producer which was given up may go on trying: its delivery.timeout.ms is two minutes.
_GIVEN_UP_SECONDS = 150
_ANSWER_MS = 5_000


@cache
def is_open() -> bool:
    """Whether private parts may be used; logs once why not."""
    if os.environ.get(SWITCH, "").lower() != "off" and kafka.__version__ == TESTED_VERSION:
        return True
    log.warning(
        "kafka-python's private parts are not used: slower, and as correct",
        extra={"version": kafka.__version__, "tested": TESTED_VERSION, SWITCH: os.environ.get(SWITCH, "on")},
    )
    return False


# What a consumer needs


def read_in_blocks(consumer: KafkaConsumer) -> bool:
    """Let a consumer without deserializers decode by blocks, before its first poll, and read from its sockets in bulk.

    False when it stays with kafka-python's own ways; `decoder.poll` returns the same records either way. Connections
    without TLS that this process opens from now on read in bulk, whichever client they belong to.
    """
    if not is_open():
        return False
    consumer._fetcher.__class__ = BlockFetcher  # adds methods and no state
    kafka.net.manager.KafkaTCPTransport = BulkTransport
    kafka.protocol.parser.KafkaBytes = Frame
    return True


def ask_for_metadata_again_after(consumer: KafkaConsumer, retry_ms: int) -> None:
    """Let the consumer ask for metadata again after so many milliseconds.

    kafka-python 3.0.12 does not pass `retry_backoff_ms` on to what asks for metadata. Its default there delays the
    first question, and the one after subscribing so much that a member joins before it has the answer, and for it a
    second time. Without private parts a start takes that much longer.
    """
    if is_open():
        consumer._cluster.config["retry_backoff_ms"] = retry_ms


def request_to_join(consumer: KafkaConsumer) -> bool:
    """Ask for the group to be joined until it has been. False when that cannot be asked for."""
    if is_open():
        consumer._coordinator.request_rejoin()
    return is_open()


def topic_ids(consumer: KafkaConsumer, partitions: Iterable[Partition]) -> dict[str, str | None] | None:
    """Ask the partitions' leaders for the ids of their topics, 32 hex digits; None where they have none.

    None for all of it when they cannot be asked. Raises Kafka's error of a leader or a topic.
    """
    if not is_open():
        return None
    manager, asked = consumer._manager, defaultdict[int, set[str]](set)
    for partition in partitions:
        asked[_leader(consumer, partition)].add(partition.topic)
    found: dict[str, str | None] = {}
    for leader, topics in asked.items():
        request = MetadataRequest(
            topics=[MetadataRequest.MetadataRequestTopic(name=topic) for topic in sorted(topics)],
            allow_auto_topic_creation=False,
            include_cluster_authorized_operations=False,
            include_topic_authorized_operations=False,
        )
        answer = manager.run(manager.send, request, leader, _ANSWER_MS)
        for topic in answer.topics:
            if topic.error_code:
                raise kafka_errors.for_code(topic.error_code)(topic.name)
            answered = topic.topic_id.hex if topic.topic_id is not None and topic.topic_id.int else None
            if found.setdefault(topic.name, answered) != answered:
                raise kafka_errors.LeaderNotAvailableError(f"{topic.name}: its brokers disagree about its id")
    return found


def epoch_before(consumer: KafkaConsumer, partition: Partition, position: int) -> int:
    """Return the leader's epoch of what was read before the consumer's position; -1 if nothing was, or nobody knows."""
    state = consumer._subscription.assignment.get(TopicPartition(*partition)) if is_open() else None
    at = state.position if state is not None else None
    return int(at.leader_epoch) if at is not None and at.offset == position and at.leader_epoch is not None else -1


def ends_of_epochs(consumer: KafkaConsumer, epochs: Mapping[Partition, int]) -> dict[Partition, int]:
    """Ask the partitions' leaders for the offset behind the last record of these epochs, or of the next older there is.

    Leaves out what they do not know, and everything when they cannot be asked.
    """
    if not is_open():
        return {}
    manager, found = consumer._manager, {}
    wanted = OffsetForLeaderEpochRequest.OffsetForLeaderTopic
    for partition, epoch in epochs.items():
        one = wanted.OffsetForLeaderPartition(
            partition=partition.partition, current_leader_epoch=-1, leader_epoch=epoch
        )
        request = OffsetForLeaderEpochRequest(replica_id=-1, topics=[wanted(topic=partition.topic, partitions=[one])])
        answer = manager.run(manager.send, request, _leader(consumer, partition), _ANSWER_MS)
        answered = answer.topics[0].partitions[0]
        if answered.error_code:
            raise kafka_errors.for_code(answered.error_code)(str(partition))
        if answered.end_offset >= 0:
            found[partition] = answered.end_offset
    return found


def _leader(consumer: KafkaConsumer, partition: Partition) -> int:
    leader: int | None = consumer._manager.cluster.leader_for_partition(TopicPartition(*partition))
    if leader is None or leader < 0:
        raise kafka_errors.LeaderNotAvailableError(str(partition))
    return leader


def forget_late_answers(consumer: KafkaConsumer) -> bool:
    """Let the consumer ask anew for committed offsets. False when that cannot be had.

    kafka-python 3.0.12 keeps a question that was given up, and its answer, however old, for whoever asks it next.
    """
    if is_open():
        consumer._coordinator._offset_fetch_futures.clear()
    return is_open()


class BlockFetcher(Fetcher):  # type: ignore[misc] # kafka-python has no types
    """kafka-python's fetcher, whose records are blocks."""

    def _append(self, drained: Any, part: Any, max_records: int, update_offsets: bool) -> int:  # noqa: ARG002
        """Take one batch, and answer how many records it has: kafka-python calls again until it has enough of them."""
        try:
            taken = super()._append(drained, part, 1, update_offsets)
        except Exception:
            # kafka-python 3.0.12 would keep the broken data and loop for ever in the next poll. Without it, the next
            # poll fetches again from the position, which is behind the last record returned.
            part.drain()
            raise
        if not taken:
            return 0
        value = drained[part.topic_partition][-1].value
        return len(value) if type(value) is Block else 1

    class PartitionRecords(Fetcher.PartitionRecords):  # type: ignore[misc] # kafka-python has no types
        """What one fetch brought of one partition."""

        def _unpack_records(
            self, tp: TopicPartition, records: MemoryRecords, *deserializers: object
        ) -> Iterator[ConsumerRecord]:
            found: Iterator[ConsumerRecord] = super()._unpack_records(tp, _Batches(records, tp), *deserializers)
            return found

        def _maybe_skip_record(self, record: ConsumerRecord) -> bool:
            """Asked until it says no: a fetch in the middle of a batch brings the whole batch, whose start is cut off
            here.
            """
            block = record.value
            if type(block) is not Block:
                return bool(super()._maybe_skip_record(record))
            return not block.drop_before(self.fetch_offset)


class _Batches(MemoryRecords):  # type: ignore[misc] # kafka-python has no types
    """What one fetch brought of one partition, as batches that yield blocks."""

    def __init__(self, records: MemoryRecords, partition: TopicPartition) -> None:
        super().__init__(records._buffer)
        self._partition = Partition(*partition)

    def next_batch(self) -> ABCRecordBatch | None:
        data = self._next_slice
        if data is None or len(data) < DefaultRecordBatch.HEADER_STRUCT.size or data[self.MAGIC_OFFSET] != 2:
            return super().next_batch()
        self._cache_next()
        return _BlockBatch(data, self._partition)


class _BlockBatch(DefaultRecordBatch):  # type: ignore[misc] # kafka-python has no types
    """A batch whose iteration yields one record, the block; all else is kafka-python's own."""

    _pos: int
    _decompressed: bool

    def __init__(self, data: memoryview, partition: Partition) -> None:
        super().__init__(data[: self.HEADER_STRUCT.size])
        # Of bytes, unlike the bytearray that kafka-python has here, a slice is a value without another copy.
        self._buffer: bytes | bytearray = bytes(data)
        self._partition = partition

    def __iter__(self) -> Iterator[DefaultRecord]:
        """One record, whose value is the block; none where compaction emptied the batch."""
        self._maybe_uncompress()
        block, error = decoder.decode(self._partition, self._opened()), None
        if block is None:
            records: list[Any] = []
            self._buffer = bytearray(self._buffer)  # as kafka-python has it, so that its errors read the same
            try:
                records.extend(map(next, itertools.repeat(self)))
            except Exception as caught:  # noqa: BLE001 - raised below: kafka-python, too, returns the records before it first
                error = caught
            block = decoder.gather(self._partition, records) if records else None
        if block:
            # Of this record kafka-python uses the offset, behind which it sets the position, and the value.
            yield DefaultRecord(
                self.size_in_bytes, int(block.offsets[-1]), int(block.timestamps[-1]), 0, None, block, []
            )
        if error:
            raise error

    def _maybe_uncompress(self) -> None:
        """Decompress within a bound, where kafka-python has none."""
        if not self._decompressed and self.compression_type != self.CODEC_NONE:
            try:
                opened = decompress(self.compression_type, memoryview(self._buffer)[self._pos :])
            except TooLarge as error:
                raise kafka_errors.CorruptRecordError(
                    f"the batch of the offsets {self.base_offset} to {self.last_offset} {error}"
                ) from None
            except Exception:  # noqa: BLE001 - kafka-python's own way says below, in its own words, what is wrong
                opened = None
            if opened is not None:
                self._buffer, self._pos, self._decompressed = opened, 0, True
        super()._maybe_uncompress()

    def _opened(self) -> decoder.OpenedBatch:
        return decoder.OpenedBatch(
            data=bytes(self._buffer),  # the same object, unless it was decompressed
            first=self._pos,
            records=self.records_count,
            base_offset=self.base_offset,
            first_timestamp=self.first_timestamp,
            append_time=self.max_timestamp if self.timestamp_type == self.LOG_APPEND_TIME else None,
        )


class BulkTransport(KafkaTCPTransport):  # type: ignore[misc] # kafka-python has no types
    """kafka-python's transport, receiving large answers in place and the rest in a buffer of its own.

    kafka-python 3.0.12 asks the socket for 4 KB again and again and lets go of Python's lock each time, so that other
    threads at work stretch the reading of a fetch, and copies what it got four times before it is decoded.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._received = memoryview(bytearray(BUFFER_BYTES))

    def _sock_recv(self) -> tuple[memoryview, kafka_errors.KafkaConnectionError | None]:
        """What has arrived, valid until the next call, or the error that ends the connection. Called when there is
        something.
        """
        frame: Any = self._protocol.parser._rbuffer if self._protocol else None
        is_long = type(frame) is Frame and len(frame.rest) >= BUFFER_BYTES
        room: memoryview = frame.rest if is_long else self._received
        try:
            count = self._sock.recv_into(room)
        except (BlockingIOError, InterruptedError):
            return room[:0], None
        except Exception as error:  # noqa: BLE001 - as in kafka-python: whatever it is, it ends the connection
            return room[:0], kafka_errors.KafkaConnectionError(error)
        return room[:count], None if count else kafka_errors.KafkaConnectionError("socket disconnected")


# What a producer needs


def append(producer: KafkaProducer, partition: Partition, batches: Iterable[EncodedBatch]) -> list[Future]:
    """Hand encoded batches to a producer that is in a transaction, as if send() had filled them. Returns a future each.

    Only for an open gate. Producer ids, sequence numbers, checksums, retries and transactions stay kafka-python's.
    """
    of_kafka = TopicPartition(*partition)
    # What send() does first: the transaction has to hold the partition before anything is sent to it.
    producer._transaction_manager.maybe_add_partition_to_transaction(of_kafka)
    accumulator, futures = producer._accumulator, []
    for encoded in batches:
        batch = ProducerBatch(of_kafka, _filled(encoded))
        del encoded  # its memory is used for the next
        with accumulator._tp_lock(of_kafka):
            accumulator._batches[of_kafka].append(batch)
            accumulator._incomplete.add(batch)
        futures.append(batch.produce_future)
    producer._sender.wakeup()
    return futures


def _filled(encoded: EncodedBatch) -> MemoryRecordsBuilder:
    # A builder of no size counts as full, so that the sender does not wait for more.
    records = MemoryRecordsBuilder(2, 0, batch_size=0)
    builder = records._builder
    builder._buffer += encoded.body
    builder._first_timestamp = builder._max_timestamp = encoded.timestamp_ms
    builder._last_offset, builder._num_records = encoded.records - 1, encoded.records
    records._next_offset = encoded.records
    return records


def cause(producer: KafkaProducer, error: Exception) -> Exception:
    """What the producer's transaction failed of, where the error itself names no cause.

    Without private parts it is read from the error's text. Where that says nothing it is the error itself, which is
    nothing to try again after.
    """
    if is_open():
        found: Exception = producer._transaction_manager.last_error or error
        return found
    if type(error) is not kafka_errors.KafkaError:
        return error
    named = [getattr(kafka_errors, name, None) for name in re.findall(r"\b[A-Z]\w*Error\b", str(error))]
    kinds: list[type[Exception]] = [kind for kind in named if kind not in (None, kafka_errors.KafkaError)]
    return kinds[-1](str(error)) if kinds else error


def give_up(producer: KafkaProducer) -> None:
    """Close a producer at once, unsent batches and all.

    The public close(0) waits for what cannot be sent. So without private parts it is closed beside, and goes on trying
    for at most as long as a batch may wait. What it still sends changes nothing: the next producer with its id fences
    it, and looks at what was committed only then.
    """
    if is_open():
        producer._sender.force_close()
        return

    def close() -> None:
        with suppress(kafka_errors.KafkaError):
            producer.close(timeout=_GIVEN_UP_SECONDS)

    threading.Thread(target=close, daemon=True).start()


# What the doctor needs


def advertised_brokers(admin: KafkaAdminClient) -> list[tuple[int, str, int]]:
    """Id, host and port of each broker, as the bootstrap server told them.

    Without private parts the cluster has to be asked once more, at one of those addresses; empty when that fails.
    """
    if is_open():
        # Before the first answer the client knows the bootstrap servers only, under names of its own.
        known = [b for b in admin._manager.cluster.brokers() if not str(b.node_id).startswith("bootstrap")]
        return sorted((broker.node_id, broker.host, broker.port) for broker in known)
    try:
        described = admin.describe_cluster()["brokers"]
    except kafka_errors.KafkaError:
        return []
    return sorted((broker["broker_id"], broker["host"], broker["port"]) for broker in described)
