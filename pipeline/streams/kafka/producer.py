"""Kafka: connecting, topics, and producing in transactions.

tests/unit/test_architecture.py names the few files that import `kafka`.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Self

import msgspec
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka import errors as kafka_errors
from kafka.partitioner.default import murmur2

from pipeline import records
from pipeline.records import Record
from pipeline.settings import ServiceError, Settings
from pipeline.streams.kafka import encoder as record_batches

log = logging.getLogger(__name__)


def connection(settings: Settings) -> dict:
    """What every client needs to reach the cluster."""
    options = {
        "bootstrap_servers": [server.strip() for server in settings.kafka_bootstrap_servers.split(",")],
        "security_protocol": settings.kafka_security_protocol,
        "bootstrap_timeout_ms": 15_000,
    }
    if settings.kafka_sasl_mechanism == "AWS_MSK_IAM":
        # kafka-python signs with botocore's default session, which knows the region by this name only.
        os.environ.setdefault("AWS_DEFAULT_REGION", settings.aws_region)
    optional = {
        "sasl_mechanism": settings.kafka_sasl_mechanism,
        "sasl_plain_username": settings.kafka_sasl_username,
        "sasl_plain_password": settings.kafka_sasl_password,
        "ssl_cafile": settings.kafka_ssl_cafile,
        "ssl_certfile": settings.kafka_ssl_certfile,
        "ssl_keyfile": settings.kafka_ssl_keyfile,
    }
    return options | {option: value for option, value in optional.items() if value}


@contextmanager
def reaching(settings: Settings) -> Iterator[None]:
    """Turn Kafka's exceptions into a ServiceError that names the setting to look at."""
    servers = settings.kafka_bootstrap_servers
    try:
        yield
    except kafka_errors.SaslAuthenticationFailedError as error:
        raise ServiceError(
            f"KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME or KAFKA_SASL_PASSWORD: {servers} refused them"
        ) from error
    except kafka_errors.AuthorizationError as error:
        raise ServiceError(
            f"KAFKA_SASL_USERNAME={settings.kafka_sasl_username} is not allowed to do this: {error}"
        ) from error
    except (kafka_errors.KafkaConnectionError, kafka_errors.KafkaTimeoutError) as error:
        # kafka-python hides a refused password while it bootstraps.
        secrets = ", KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD right" if settings.kafka_sasl_mechanism else ""
        raise ServiceError(
            f"KAFKA_BOOTSTRAP_SERVERS={servers}: no answer ({error or type(error).__name__}); is the broker up, its advertised "
            f"listener reachable from here{secrets}, and KAFKA_SECURITY_PROTOCOL={settings.kafka_security_protocol} what it speaks?"
        ) from error
    except kafka_errors.KafkaError as error:
        raise ServiceError(f"KAFKA_BOOTSTRAP_SERVERS={servers}: {type(error).__name__}: {error}"[:1_000]) from error


def ensure_topics(settings: Settings, names: list[str], *, compacted: bool = False) -> None:
    """Create the topics that do not exist; existing ones are left as they are."""
    with reaching(settings), KafkaAdminClient(**connection(settings)) as admin:
        missing = sorted(set(names) - set(admin.list_topics()))
        if not missing:
            return
        # A compacted topic has one partition: it is read whole at every start, in one order.
        options = {"num_partitions": 1 if compacted else settings.kafka_partitions, "replication_factor": -1}
        if compacted:
            # Kafka compacts closed segments only, and its default closes one at 1 GB: too much to read at a start.
            options["configs"] = {
                "cleanup.policy": "compact",
                "segment.bytes": str(16 << 20),
                "min.cleanable.dirty.ratio": "0.1",
            }
        try:
            admin.create_topics(dict.fromkeys(missing, options), wait_for_metadata=True)
        except kafka_errors.TopicAlreadyExistsError:
            return  # Another producer started at the same moment.
        log.info("topics created", extra={"topics": ",".join(missing), "partitions": options["num_partitions"]})


class Producer:
    """Sends records and checkpoints in one transaction: a read_committed reader sees all of it or nothing.

    Delivery: exactly once from the source, if the source can go on from its checkpoint. `producer_id` is the
    transactional id: a second producer with the same id fences the first, whose next `send` raises ServiceError. A
    broker that is away is waited for, for at most `kafka_wait_seconds`; after a lost answer the checkpoint in Kafka
    says whether the transaction was committed. Those of `topics` that do not exist are created.
    """

    def __init__(self, settings: Settings, producer_id: str, topics: Sequence[str] = ()) -> None:
        if topics:
            ensure_topics(settings, list(topics))
        ensure_topics(settings, [settings.kafka_topic_checkpoints], compacted=True)
        self._settings, self._producer_id = settings, producer_id
        self._partitions: dict[tuple[str, str], TopicPartition] = {}
        self._is_fast = record_batches.is_supported()
        with reaching(settings):
            self._connect()

    def checkpoint(self, key: str) -> dict | None:
        """The last committed checkpoint of this key. Those that begin with an underscore are the producer's own fields."""
        return msgspec.json.decode(self._checkpoints[key]) if self._checkpoints.get(key) else None

    def forget(self, key: str) -> None:
        """Remove a checkpoint, so that its source begins again."""
        if self.checkpoint(key):
            self._in_transaction({}, {key: None})

    def send(self, batches: Mapping[str, Sequence[Record]], checkpoints: Mapping[str, dict]) -> int:
        """One transaction: the records of each topic, and the checkpoints that say they were sent (at least one).

        Returns how many records were sent, when they are committed. Raises records.InvalidRecord before anything is
        sent.
        """
        pairs = {
            topic: [(record.symbol, records.encode(record)) for record in batch] for topic, batch in batches.items()
        }
        # The count makes each checkpoint differ from the one before: after a lost answer that tells the two apart.
        counts = {key: (self.checkpoint(key) or {}).get("_transaction", 0) + 1 for key in checkpoints}
        self._in_transaction(
            pairs,
            {key: msgspec.json.encode({**state, "_transaction": counts[key]}) for key, state in checkpoints.items()},
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
                cause = self._producer._transaction_manager.last_error or error
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
        futures = []
        for topic, batch in pairs.items():
            futures += self._append_fast(topic, batch) if self._is_fast else self._append(topic, batch)
        for key, value in checkpoints.items():
            futures.append(
                self._producer.send(self._settings.kafka_topic_checkpoints, value, key.encode(), partition=0)
            )
        self._patiently(self._producer.flush)
        # kafka-python commits a transaction of which a batch has expired, so every result is looked at first.
        if failures := [reason for future in futures if (reason := record_batches.failure(future))]:
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

    def _append_fast(self, topic: str, batch: list[tuple[str, bytes]]) -> list:
        lanes: dict[TopicPartition, list[tuple[bytes, bytes]]] = {}
        lane_of = {}
        for symbol, value in batch:
            if symbol not in lane_of:
                lane_of[symbol] = lanes.setdefault(self._partition(topic, symbol), []), symbol.encode()
            lane, key = lane_of[symbol]
            lane.append((key, value))
        return [
            future
            for partition, lane in lanes.items()
            for future in record_batches.append(self._producer, partition, lane)
        ]

    def _append(self, topic: str, batch: list[tuple[str, bytes]]) -> list:
        return [
            self._producer.send(topic, value, symbol.encode(), partition=self._partition(topic, symbol).partition)
            for symbol, value in batch
        ]

    def _partition(self, topic: str, symbol: str) -> TopicPartition:
        """Kafka's default choice, remembered: hashing the same few symbols again costs a sixth of sending a record."""
        chosen = self._partitions.get((topic, symbol))
        if chosen is None:
            count = len(self._producer.partitions_for(topic))
            chosen = self._partitions[topic, symbol] = TopicPartition(
                topic, (murmur2(symbol.encode()) & 0x7FFFFFFF) % count
            )
        return chosen

    def _connect(self) -> None:
        self._producer = KafkaProducer(
            **connection(self._settings),
            transactional_id=self._producer_id,
            transaction_timeout_ms=_TRANSACTION_SECONDS * 1000,
            batch_size=record_batches.BATCH_BYTES,
            linger_ms=5,
            max_block_ms=_ANSWER_SECONDS * 1000,
            metrics_enabled=False,
            # A transaction that follows another at once is told to wait some milliseconds, not the 100 of the default.
            retry_backoff_ms=10,
            reconnect_backoff_max_ms=1000,
        )
        self._producer.init_transactions()
        # Read after init_transactions: by then the broker has ended what a killed predecessor left open.
        self._checkpoints = _read_checkpoints(self._settings)

    def _recover(self, cause: Exception, checkpoints: Mapping[str, bytes | None], give_up: float) -> bool:
        """Connect anew, and say whether the transaction in hand had been committed after all."""
        known = {key: self._checkpoints.get(key) for key in checkpoints}
        while True:
            self._abandon()
            left = give_up - time.monotonic()
            log.warning("waiting for the broker", extra={"cause": repr(cause), "seconds_left": round(left)})
            try:
                with reaching(self._settings) if left <= 0 else nullcontext():
                    self._connect()
                    break
            except kafka_errors.KafkaError as error:
                cause = error
                time.sleep(1)
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
        self._producer._sender.force_close()

    def close(self) -> None:
        self._producer.close(timeout=_ANSWER_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind:
            self._abandon()
        else:
            self.close()


# Longer, and the coordinator aborts it: a killed producer holds up read_committed readers no longer than this.
_TRANSACTION_SECONDS = 60
_ANSWER_SECONDS, _SAY_SECONDS = 20, 2
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


def _read_checkpoints(settings: Settings) -> dict[str, bytes | None]:
    """The latest committed value of every key.

    Read up to the end of the log, not of what is committed: behind another producer's open transaction may be a
    checkpoint of ours, which is not visible until that transaction has ended, by itself or by its timeout.
    """
    found, give_up = {}, time.monotonic() + 2 * _TRANSACTION_SECONDS
    options = {"auto_offset_reset": "earliest", "enable_auto_commit": False, "fetch_max_wait_ms": 50}
    partition = TopicPartition(settings.kafka_topic_checkpoints, 0)
    with KafkaConsumer(**connection(settings), **options) as at_end:
        end = at_end.end_offsets([partition])[partition]
    with KafkaConsumer(**connection(settings), **options, isolation_level="read_committed") as reader:
        reader.assign([partition])
        while reader.position(partition) < end:
            if time.monotonic() > give_up:
                raise ServiceError(
                    f"KAFKA_TOPIC_CHECKPOINTS={partition.topic}: another producer's transaction does not end"
                )
            for record in reader.poll(timeout_ms=500, max_records=10_000).get(partition, []):
                found[record.key.decode()] = record.value
    return found
