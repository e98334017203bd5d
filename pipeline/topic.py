"""Kafka: connecting, topics, and producing in transactions.

This file, group.py (consuming) and blocks.py (fast decoding) are the only ones that import `kafka`.
"""

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Self

import msgspec
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka import errors as kafka_errors
from kafka.partitioner.default import murmur2

from pipeline import records
from pipeline.settings import ServiceError, Settings

log = logging.getLogger(__name__)

# A batch holds about 1,300 bars. Large batches are what makes both sides fast: one checksum, one header, one numpy decode.
_BATCH_BYTES = 256 * 1024


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
        raise ServiceError(f"KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME or KAFKA_SASL_PASSWORD: {servers} refused them") from error
    except kafka_errors.AuthorizationError as error:
        raise ServiceError(f"KAFKA_SASL_USERNAME={settings.kafka_sasl_username} is not allowed to do this: {error}") from error
    except (kafka_errors.KafkaConnectionError, kafka_errors.KafkaTimeoutError) as error:
        raise ServiceError(
            f"KAFKA_BOOTSTRAP_SERVERS={servers}: no answer ({error or type(error).__name__}); is the broker up, its advertised "
            f"listener reachable from here, and KAFKA_SECURITY_PROTOCOL={settings.kafka_security_protocol} what it speaks?"
        ) from error


def ensure_topics(settings: Settings, names: list[str], *, compacted: bool = False) -> None:
    """Create the topics that do not exist; existing ones are left as they are."""
    with reaching(settings), KafkaAdminClient(**connection(settings)) as admin:
        missing = sorted(set(names) - set(admin.list_topics()))
        if not missing:
            return
        # A compacted topic has one partition: it is read whole at every start, in one order.
        options = {"num_partitions": 1 if compacted else settings.kafka_partitions, "replication_factor": -1}
        if compacted:
            options["configs"] = {"cleanup.policy": "compact"}
        try:
            admin.create_topics(dict.fromkeys(missing, options), wait_for_metadata=True)
        except kafka_errors.TopicAlreadyExistsError:
            return  # Another producer started at the same moment.
        log.info("topics created", extra={"topics": ",".join(missing), "partitions": options["num_partitions"]})


class Producer:
    """Sends records and a checkpoint in one transaction: a read_committed reader sees both or neither.

    Delivery: exactly once from the source, if the source can go on from the checkpoint. `producer_id` is the transactional id:
    a second producer with the same id fences the first.
    """

    def __init__(self, settings: Settings, producer_id: str) -> None:
        ensure_topics(settings, [settings.kafka_topic_checkpoints], compacted=True)
        self._settings = settings
        self._partitions: dict[tuple[str, bytes], int] = {}
        with reaching(settings):
            self._producer = KafkaProducer(
                **connection(settings), transactional_id=producer_id, batch_size=_BATCH_BYTES, linger_ms=50
            )
            self._producer.init_transactions()

    def checkpoint(self, key: str) -> dict | None:
        """The last committed checkpoint of this key.

        Asked after init_transactions, so a transaction that a killed predecessor left open has been ended by the broker.
        """
        options = {"isolation_level": "read_committed", "auto_offset_reset": "earliest", "enable_auto_commit": False}
        found = None
        with reaching(self._settings), KafkaConsumer(**connection(self._settings), **options) as reader:
            partition = TopicPartition(self._settings.kafka_topic_checkpoints, 0)
            reader.assign([partition])
            end = reader.end_offsets([partition])[partition]
            while reader.position(partition) < end:
                for record in reader.poll(timeout_ms=1000).get(partition, []):
                    if record.key == key.encode():
                        found = msgspec.json.decode(record.value) if record.value else None
        return found

    def send_all(self, topic: str, batch: Iterable[records.Record], key: str, checkpoint: dict) -> int:
        """One transaction: the records, then the checkpoint that says they were sent. Returns how many were sent."""
        sent = 0
        with reaching(self._settings):
            self._producer.begin_transaction()
            for record in batch:
                symbol = records.key(record)
                self._producer.send(topic, records.encode(record), symbol, partition=self._partition(topic, symbol))
                sent += 1
            self._producer.send(self._settings.kafka_topic_checkpoints, msgspec.json.encode(checkpoint), key.encode())
            self._producer.commit_transaction()
        return sent

    def _partition(self, topic: str, symbol: bytes) -> int:
        """Kafka's default choice, remembered: hashing the same few symbols again costs a sixth of sending a record."""
        chosen = self._partitions.get((topic, symbol))
        if chosen is None:
            count = len(self._producer.partitions_for(topic))
            chosen = self._partitions[topic, symbol] = (murmur2(symbol) & 0x7FFFFFFF) % count
        return chosen

    def close(self) -> None:
        self._producer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
