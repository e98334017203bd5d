"""Reaching the Kafka cluster: what every client needs, what its errors mean, and the topics."""

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors

from pipeline.landing.positions import Partition
from pipeline.settings import ServiceError, Settings

log = logging.getLogger(__name__)

# A consumer that reads without a group, and must not skip what it was not told to skip.
READER: dict[str, Any] = {
    "isolation_level": "read_committed",
    "auto_offset_reset": "none",
    "enable_auto_commit": False,
    "fetch_max_wait_ms": 50,
    "allow_auto_create_topics": False,
}

# The group has gone on without this member, or is about to.
MOVED_ON = (
    kafka_errors.CommitFailedError,
    kafka_errors.RebalanceInProgressError,
    kafka_errors.IllegalGenerationError,
    kafka_errors.UnknownMemberIdError,
)


def connection(settings: Settings) -> dict[str, Any]:
    """What every client needs to reach the cluster."""
    options: dict[str, Any] = {
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
            f"KAFKA_BOOTSTRAP_SERVERS={servers}: no answer ({error or type(error).__name__}); is the broker up, its "
            f"advertised listener reachable from here{secrets}, and "
            f"KAFKA_SECURITY_PROTOCOL={settings.kafka_security_protocol} what it speaks?"
        ) from error
    except kafka_errors.KafkaError as error:
        raise ServiceError(f"KAFKA_BOOTSTRAP_SERVERS={servers}: {type(error).__name__}: {error}"[:1_000]) from error


def ensure_topics(settings: Settings, names: Iterable[str], *, compacted: bool = False) -> None:
    """Create the topics that do not exist; leave existing ones as they are. Raises ServiceError."""
    with reaching(settings), KafkaAdminClient(**connection(settings)) as admin:
        missing = sorted(set(names) - set(admin.list_topics()))
        if not missing:
            return
        # A compacted topic has one partition: it is read whole at every start, in one order.
        options: dict[str, Any] = {
            "num_partitions": 1 if compacted else settings.kafka_partitions,
            "replication_factor": -1,
        }
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


def partitions_of(consumer: KafkaConsumer, topics: Iterable[str]) -> list[Partition]:
    """All partitions of those of the topics that exist, in order of topic and number."""
    return [
        Partition(topic, number) for topic in topics for number in sorted(consumer.partitions_for_topic(topic) or ())
    ]


def of_kafka(partition: Partition) -> TopicPartition:
    """The same partition as kafka-python wants it: equal, and of its own class."""
    return TopicPartition(*partition)
