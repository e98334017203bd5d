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
    """Where a partition and the group in it stand. `committed` is None before the group's first commit."""

    oldest: int
    end: int
    committed: Committed | None
