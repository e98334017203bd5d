"""The door of a stream: what producing, landing and reading need of Kafka, or of another log of partitions.

A stream carries records in topics of numbered partitions; an offset says which record of a partition is next. A folder
beside this file is one kind of stream. Nothing of its client library leaves it: partitions are
landing.positions.Partition, records landing.block.Block, and errors settings.ServiceError, which names the setting to
look at. Every method may raise that.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from pipeline.landing.block import Block
from pipeline.landing.positions import Committed, Partition, Standing
from pipeline.records import Record
from pipeline.settings import Settings

# Where a source stands, as the source itself writes it: what JSON can hold. Names that begin with an underscore are
# the stream's own.
Position = Mapping[str, Any]


class Producer(Protocol):
    """Sends records, and with them the positions of their sources, in transactions.

    Delivery: exactly once from the source, if the source can go on from its position.
    """

    def position(self, key: str) -> dict[str, Any] | None:
        """Return the last committed position under a key; None if there is none."""

    def forget(self, key: str) -> None:
        """Remove the position under a key, so that its source begins again."""

    def send(self, batches: Mapping[str, Sequence[Record]], positions: Mapping[str, Position]) -> int:
        """Commit the records of each topic and the positions by key (at least one) together; all of it or nothing.

        Return how many records were sent. Raises records.InvalidRecord before anything is sent.
        """

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close; after an exception at once, whatever is unsent."""


@dataclass
class Polled:
    """What one poll brought. Everything buffered of a revoked or given partition must be dropped first.

    Nothing is read of a partition that was given before `Member.start_at` says from where.
    """

    revoked: set[Partition] = field(default_factory=set)
    given: dict[Partition, Standing] = field(default_factory=dict)
    blocks: dict[Partition, list[Block]] = field(default_factory=dict)


class Member(Protocol):
    """A member of the settings' group, which reads the partitions that the group gives it, and commits its own offsets.

    Transactions that were aborted or are still open are not read.
    """

    def poll(self, timeout_ms: int) -> Polled:
        """Wait at most this long for records, a revocation or an assignment.

        Raises ServiceError when the stream no longer holds the record to read next.
        """

    def start_at(self, partition: Partition, offset: int) -> None:
        """Read a partition that was given from this offset on. If it was taken away since, the next poll says so."""

    def generations(self, topics: Iterable[str]) -> dict[str, str | None]:
        """Ask now which generations the topics of this member's partitions have; leave out what gets no answer.

        To be called after reading and before what was read is put anywhere: if it answers, all records read so far are
        of the generations that their partitions were given with. Raises ServiceError if a topic was made anew since.
        """

    def commit(self, offsets: Mapping[Partition, Committed]) -> bool:
        """Commit offsets and metadata together.

        False when that did not happen, or nobody knows whether it did: all partitions are then given up and given
        anew, and what is stored by that time says how to go on.
        """

    def pause(self, wanted: set[Partition]) -> None:
        """Stop reading exactly these partitions; the others go on."""

    def position(self, partition: Partition) -> int:
        """Return the offset behind everything that the last poll returned, or passed over, of a partition given."""

    def lag(self, partition: Partition) -> int | None:
        """Return how many records there are from the position to the partition's end; None while that is unknown."""

    def end_offsets(self, topics: Iterable[str]) -> dict[Partition, int]:
        """Return, per partition of topics that exist, the offset behind the last record that can be read now."""

    def existing(self, topics: Iterable[str]) -> list[str]:
        """Return those of the topics that exist."""

    @property
    def is_settled(self) -> bool:
        """Whether the group has given this member its partitions, be it none, and all of them were started.

        Not so between a revocation and the assignment after it: having no partitions then says nothing.
        """

    def others_have_committed(self, ends: Mapping[Partition, int]) -> bool:
        """Whether the group has committed up to these offsets wherever this member has no part in it."""

    def close(self) -> None:
        """Leave the group, if this is no static member, and commit nothing."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class Reader(Protocol):
    """Reading without a group: nobody else is disturbed, and only `commit` commits. A module may be one."""

    def standings(self, settings: Settings, topics: Iterable[str]) -> dict[Partition, Standing]:
        """Return where the partitions of those of the topics that exist, and the settings' group in them, stand."""

    def read_range(self, settings: Settings, partition: Partition, start: int, end: int) -> list[Block]:
        """Return the blocks of the offsets [start, end), without aborted transactions."""

    def hidden_since(self, settings: Settings, ends: Mapping[Partition, int]) -> dict[Partition, int]:
        """Return where an open transaction hides what is behind these ends: when the first record there came.

        Times are milliseconds since 1970, UTC.
        """

    def tail(self, settings: Settings, topic: str, *, last: int = 0) -> Iterator[list[bytes | None]]:
        """Follow a topic from `last` records of each partition before its end; yield the values of each poll.

        An empty list comes at least once a second. Delivery: none is promised.
        """

    def commit(self, settings: Settings, offsets: Mapping[Partition, Committed]) -> None:
        """Commit these offsets for the settings' group. Raises ServiceError while the group has members."""
