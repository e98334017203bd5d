"""Producing to Kafka in transactions: a stream.Producer. Positions are records of a compacted topic."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import msgspec
from kafka import KafkaProducer
from kafka import errors as kafka_errors
from kafka.future import Future
from kafka.partitioner.default import murmur2
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_fixed

from pipeline import records
from pipeline.landing.positions import Partition
from pipeline.records import Record
from pipeline.settings import ServiceError, Settings
from pipeline.streams.kafka import compatibility
from pipeline.streams.kafka.checkpoints import read_committed
from pipeline.streams.kafka.connection import connection, ensure_topics, reaching
from pipeline.streams.kafka.encoder import BATCH_BYTES, encode
from pipeline.streams.stream import Position

log = logging.getLogger(__name__)

# Longer, and the coordinator aborts it: a killed producer holds up read_committed readers no longer than this.
_TRANSACTION_SECONDS = 60
_ANSWER_SECONDS, _SAY_SECONDS, _LONGEST_SEND_SECONDS = 20, 2, 60
_FENCED = (kafka_errors.ProducerFencedError, kafka_errors.InvalidProducerEpochError)
# The transaction is lost, the producer is not: it was aborted by the coordinator, or the client has lost track of it.
_LOST = (
    kafka_errors.InvalidTxnStateError,
    kafka_errors.TransactionAbortedError,
    kafka_errors.TransactionAbortableError,
    kafka_errors.OutOfOrderSequenceNumberError,
    kafka_errors.UnknownProducerIdError,
    kafka_errors.IllegalStateError,
)


class Producer:
    """Sends records and positions in one transaction: a read_committed reader sees all of it or nothing.

    Delivery: exactly once from the source, if the source can go on from its position. `producer_id` is the
    transactional id: a second producer with the same id fences the first, whose next `send` raises ServiceError. A
    broker that is away is waited for, for at most `kafka_wait_seconds`; after a lost answer the position in Kafka
    says whether the transaction was committed. Those of `topics` that do not exist are created.
    """

    def __init__(self, settings: Settings, producer_id: str, topics: Sequence[str] = ()) -> None:
        if topics:
            ensure_topics(settings, topics)
        ensure_topics(settings, [settings.kafka_topic_checkpoints], compacted=True)
        self._settings, self._producer_id = settings, producer_id
        self._partitions: dict[tuple[str, str], Partition] = {}
        self._is_fast = compatibility.is_open()
        with reaching(settings):
            self._connect()

    def position(self, key: str) -> dict[str, Any] | None:
        """Return the last committed position under this key. Names that begin with an underscore are the producer's."""
        committed = self._checkpoints.get(key)
        return msgspec.json.decode(committed, type=dict[str, Any]) if committed else None

    def forget(self, key: str) -> None:
        """Remove a position, so that its source begins again."""
        if self.position(key):
            self._in_transaction({}, {key: None})

    def send(self, batches: Mapping[str, Sequence[Record]], positions: Mapping[str, Position]) -> int:
        """Commit the records of each topic, and the positions that say they were sent (at least one), together.

        Returns how many records were sent, when they are committed. Raises records.InvalidRecord before anything is
        sent.
        """
        pairs = {
            topic: [(record.symbol, records.encode(record)) for record in batch] for topic, batch in batches.items()
        }
        # The count makes each position differ from the one before: after a lost answer that tells the two apart.
        counts = {key: (self.position(key) or {}).get("_transaction", 0) + 1 for key in positions}
        self._in_transaction(
            pairs,
            {key: msgspec.json.encode({**state, "_transaction": counts[key]}) for key, state in positions.items()},
        )
        return sum(map(len, pairs.values()))

    def _in_transaction(
        self, pairs: Mapping[str, list[tuple[str, bytes]]], checkpoints: Mapping[str, bytes | None]
    ) -> None:
        """Try until it is committed, or until another producer has taken over, or the wait is too long."""
        give_up = time.monotonic() + self._settings.kafka_wait_seconds
        is_committed = False
        while not is_committed:
            began = time.monotonic()
            try:
                self._try_transaction(pairs, checkpoints)
                is_committed = True
            except kafka_errors.KafkaError as error:
                cause = compatibility.cause(self._producer, error)
                # The coordinator ends a transaction that takes too long in the same way as one that was taken over.
                is_in_time = time.monotonic() - began < _TRANSACTION_SECONDS
                if isinstance(cause, _FENCED) and is_in_time:
                    raise self._taken_over() from error
                if not isinstance(cause, (kafka_errors.RetriableError, *_FENCED, *_LOST)) or time.monotonic() > give_up:
                    with reaching(self._settings):
                        raise cause from error
                is_committed = self._recover(cause, checkpoints, give_up)
        self._checkpoints.update(checkpoints)

    def _try_transaction(
        self, pairs: Mapping[str, list[tuple[str, bytes]]], checkpoints: Mapping[str, bytes | None]
    ) -> None:
        self._producer.begin_transaction()
        futures: list[Future] = []
        for topic, batch in pairs.items():
            futures += self._append_fast(topic, batch) if self._is_fast else self._append(topic, batch)
        for key, value in checkpoints.items():
            futures.append(
                self._producer.send(self._settings.kafka_topic_checkpoints, value, key.encode(), partition=0)
            )
        self._patiently(self._producer.flush)
        # kafka-python commits a transaction of which a batch has expired, so every result is looked at first.
        if failures := [reason for future in futures if (reason := failure(future))]:
            raise failures[0]
        self._patiently(self._producer.commit_transaction)

    def _patiently(self, call: Callable[[], None]) -> None:
        """Run a call of the client, which may wait for ever, and say that it waits; raises KafkaTimeoutError and leaves
        it behind.
        """
        outcome: list[BaseException | None] = []

        def run() -> None:
            try:
                call()
                outcome.append(None)
            except kafka_errors.KafkaError as error:
                outcome.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        longest = min(_ANSWER_SECONDS, self._settings.kafka_wait_seconds)
        for waited in range(0, longest, _SAY_SECONDS):
            thread.join(_SAY_SECONDS)
            if outcome:
                break
            log.warning(
                "no answer from the broker yet",
                extra={"servers": self._settings.kafka_bootstrap_servers, "seconds": waited + _SAY_SECONDS},
            )
        if not outcome:
            raise kafka_errors.KafkaTimeoutError(f"no answer in {longest} seconds")
        if outcome[0]:
            raise outcome[0]

    def _append_fast(self, topic: str, batch: list[tuple[str, bytes]]) -> list[Future]:
        lanes: dict[Partition, list[tuple[bytes, bytes]]] = {}
        lane_of = {}
        for symbol, value in batch:
            if symbol not in lane_of:
                lane_of[symbol] = lanes.setdefault(self._partition(topic, symbol), []), symbol.encode()
            lane, key = lane_of[symbol]
            lane.append((key, value))
        now_ms = int(time.time() * 1000)
        return [
            future
            for partition, lane in lanes.items()
            for future in compatibility.append(self._producer, partition, encode(lane, now_ms))
        ]

    def _append(self, topic: str, batch: list[tuple[str, bytes]]) -> list[Future]:
        return [
            self._producer.send(topic, value, symbol.encode(), partition=self._partition(topic, symbol).partition)
            for symbol, value in batch
        ]

    def _partition(self, topic: str, symbol: str) -> Partition:
        """Kafka's default choice, remembered: hashing the same few symbols again costs a sixth of sending a record."""
        chosen = self._partitions.get((topic, symbol))
        if chosen is None:
            count = len(self._producer.partitions_for(topic))
            chosen = self._partitions[topic, symbol] = Partition(topic, (murmur2(symbol.encode()) & 0x7FFFFFFF) % count)
        return chosen

    def _connect(self) -> None:
        self._producer = KafkaProducer(
            **connection(self._settings),
            transactional_id=self._producer_id,
            transaction_timeout_ms=_TRANSACTION_SECONDS * 1000,
            batch_size=BATCH_BYTES,
            linger_ms=5,
            max_block_ms=_ANSWER_SECONDS * 1000,
            metrics_enabled=False,
            # A transaction that follows another at once is told to wait some milliseconds, not the 100 of the default.
            retry_backoff_ms=10,
            reconnect_backoff_max_ms=1000,
        )
        self._producer.init_transactions()
        # Read after init_transactions: by then the broker has ended what a killed predecessor left open.
        self._checkpoints = read_committed(self._settings)

    def _recover(self, cause: Exception, checkpoints: Mapping[str, bytes | None], give_up: float) -> bool:
        """Connect anew, and say whether the transaction in hand had been committed after all."""
        known = {key: self._checkpoints.get(key) for key in checkpoints}

        def say(reason: object) -> None:
            left = round(give_up - time.monotonic())
            log.warning("waiting for the broker", extra={"cause": repr(reason), "seconds_left": left})

        def say_again(state: RetryCallState) -> None:
            say(state.outcome and state.outcome.exception())

        def connect_anew() -> None:
            self._abandon()
            self._connect()

        say(cause)
        with reaching(self._settings):
            Retrying(
                retry=retry_if_exception_type(kafka_errors.KafkaError),
                wait=wait_fixed(1),
                stop=lambda _: time.monotonic() >= give_up,
                before_sleep=say_again,
                sleep=time.sleep,
                reraise=True,
            )(connect_anew)
        found = {key: self._checkpoints.get(key) for key in checkpoints}
        if found not in (known, dict(checkpoints)):
            raise self._taken_over()
        return found == checkpoints

    def _taken_over(self) -> ServiceError:
        return ServiceError(
            f"another producer with the id {self._producer_id!r} has taken over; this one stops. What it has sent is "
            "complete up to its last checkpoint, and the other one goes on from there"
        )

    def _abandon(self) -> None:
        """Close at once. What is left unsent belongs to a transaction that is sent again as a whole."""
        compatibility.give_up(self._producer)

    def close(self) -> None:
        self._producer.close(timeout=_ANSWER_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind:
            self._abandon()
        else:
            self.close()


def failure(future: Future) -> Exception | None:
    """Why a batch, or a record of send(), is not in the topic; None when it is."""
    if not future.is_done:
        # kafka-python splits a batch that the broker finds too large, and forgets the first one's future.
        return _error(
            kafka_errors.MessageSizeTooLargeError(f"the topic's max.message.bytes is less than {BATCH_BYTES}")
        )
    if future.failed():
        return _error(future.exception)
    reasons = future.value[2] if isinstance(future.value, tuple) and len(future.value) == 3 else None
    return _error(reasons(0)) if reasons else None


def _error(found: Any) -> Exception | None:
    return found if isinstance(found, Exception) else None


class AcknowledgedProducer:
    """Sends single records outside of transactions.

    Delivery: at least once. `send` returns when all replicas have the record; one that is sent again is there twice.
    """

    def __init__(self, settings: Settings, topics: Sequence[str]) -> None:
        """Connect, and create those of the topics that do not exist. Raises ServiceError."""
        ensure_topics(settings, topics)
        self._settings = settings
        with reaching(settings):
            self._producer = KafkaProducer(**connection(settings), acks="all", linger_ms=5)

    def send(self, topic: str, key: bytes, value: bytes) -> None:
        """Send one record, from any thread. Raises ServiceError after a minute without an answer."""
        with reaching(self._settings):
            self._producer.send(topic, value, key).get(timeout=_LONGEST_SEND_SECONDS)

    def close(self) -> None:
        self._producer.close(timeout=2)
