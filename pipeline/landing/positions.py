"""Where a partition of a stream and its group stand. An offset says which record is next."""

from dataclasses import dataclass, field
from typing import NamedTuple


class Partition(NamedTuple):
    """One partition of a topic. Equal to kafka-python's TopicPartition, and a key to the same entries of a dict."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


@dataclass(frozen=True)
class Committed:
    """Where the group stands in a partition. `metadata` is the text that was committed with the offset.

    `epoch` is that of the partition's leader when it took the record before the offset, as far as the stream knows; it
    is the stream's own, and says nothing of whether two commits are the same.
    """

    offset: int
    metadata: str
    epoch: int = field(default=-1, compare=False)


@dataclass(frozen=True)
class Standing:
    """Where a partition, and the group in it, stand.

    Records have the offsets from `oldest` up to `end`. `committed` is None without a commit of the group: before its
    first, and after its offsets expired. `generation` is the topic's id, 32 hex digits: the offsets of a topic that was
    deleted and made anew mean other records. None on brokers that have no ids (Kafka before 2.8). `cut` is where the
    log was cut off below the commit, as by a disk that was lost, though it may have grown beyond it since: records from
    there on are not those that the commit has counted. None if it was not, or nobody knows.
    """

    oldest: int
    end: int
    committed: Committed | None
    generation: str | None = None
    cut: int | None = None
