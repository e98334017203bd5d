"""What the Kafka cluster says of itself: its brokers' addresses, its topics, and who is in a group."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from uuid import UUID

from kafka import KafkaAdminClient
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType

from pipeline.settings import Settings
from pipeline.streams.kafka import compatibility
from pipeline.streams.kafka.connection import connection, reaching


class Cluster:
    """Questions to the cluster; nothing is changed. Any of them may raise ServiceError."""

    def __init__(self, settings: Settings, admin: KafkaAdminClient) -> None:
        self._settings, self._admin = settings, admin

    def advertised(self) -> list[tuple[int, str, int]]:
        """Return id, host and port of each broker, as clients are told to connect to it.

        They come from the answer of the bootstrap server, as far as possible: a broker may not be reachable at the
        address that is in question.
        """
        return compatibility.advertised_brokers(self._admin)

    def partitions(self) -> dict[str, int]:
        """Return how many partitions each topic has."""
        with reaching(self._settings):
            names = self._admin.list_topics()
            found = self._admin.describe_topics(names) if names else []
            return {topic["name"]: len(topic["partitions"]) for topic in found}

    def members(self) -> list[str]:
        """Return who is in the settings' group now; of a group that does not exist, nobody."""
        group = self._settings.kafka_group
        with reaching(self._settings):
            if group not in {found["group_id"] for found in self._admin.list_groups()}:
                return []
            described = self._admin.describe_groups([group])[group]
            return [f"{member['client_id']} on {member['client_host'].lstrip('/')}" for member in described["members"]]

    def offsets_retention_minutes(self) -> int | None:
        """Return how long the offsets of a group without members are kept; None where no broker says it."""
        brokers = [ConfigResource(ConfigResourceType.BROKER, str(node)) for node, _, _ in self.advertised()[:1]]
        with reaching(self._settings):
            found = self._admin.describe_configs(brokers, config_filter="all") if brokers else {}
        for described in (named for of_type in found.values() for named in of_type.values()):
            if text := described.get("offsets.retention.minutes", {}).get("value"):
                return int(text)
        return None


def topic_ids(settings: Settings, topics: Iterable[str]) -> dict[str, str | None]:
    """Ask a broker for the ids of topics, 32 hex digits; None where it has none. Raises Kafka's error for a topic."""
    with KafkaAdminClient(**connection(settings)) as admin:
        described = admin.describe_topics(sorted(topics))
    for topic in described:
        if code := topic["error_code"]:
            raise kafka_errors.for_code(code)(topic["name"])
    ids = {topic["name"]: UUID(str(topic["topic_id"])) if topic.get("topic_id") else None for topic in described}
    return {name: found.hex if found and found.int else None for name, found in ids.items()}


@contextmanager
def connected(settings: Settings) -> Iterator[Cluster]:
    """Connect, and close at the end. Raises ServiceError when there is no answer, or the login is refused."""
    with reaching(settings):
        admin = KafkaAdminClient(**connection(settings))
    with admin:
        yield Cluster(settings, admin)
