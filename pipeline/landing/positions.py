"""Where a partition of a stream and its group stand. An offset says which record is next."""

from dataclasses import dataclass
from typing import NamedTuple


class Partition(NamedTuple):
    """One partition of a topic. Equal to kafka-python's TopicPartition, and a key to the same entries of a dict."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


@dataclass(frozen=True)
class Committed:
    """Where the group stands in a partition. `metadata` is the text that was committed with the offset."""

    offset: int
    metadata: str


@dataclass(frozen=True)
class Standing:
    """Where a partition, and the group in it, stand.

    Records have the offsets from `oldest` up to `end`. `committed` is None without a commit of the group: before its
    first, and after its offsets expired. `generation` is the topic's id, 32 hex digits: the offsets of a topic that was
    deleted and made anew mean other records. None on brokers that have no ids (Kafka before 2.8).
    """

    oldest: int
    end: int
    committed: Committed | None
    generation: str | None = None
