"""The door of the sources: what producer.py sees of a file, an API, a live feed or a simulation.

A source yields batches of records by topic, each with its position once the batch is sent. Records and position go
into one transaction, so a run that was killed continues behind its last committed batch. The rate, gaps, fills and
duplicates are the source's own business.

Each module of pipeline/sources/commands is a command of producer.py: a `Command`, with the sources behind it.
"""

import logging
from abc import ABC, abstractmethod
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from pipeline import records
from pipeline.records import InvalidRecord, Record
from pipeline.settings import ServiceError, Settings
from pipeline.sources.pacing import Clock

log = logging.getLogger(__name__)

BATCH_RECORDS = 10_000

Position = dict[str, Any]  # what a checkpoint holds; names that begin with an underscore are the stream's own


class Unusable(ServiceError):
    """A source of which nothing can be sent; the text is a sentence for whoever started it. Other sources go on."""


@dataclass(frozen=True)
class Batch:
    """Records by topic, and by checkpoint key the positions that are true once they are sent."""

    records: Mapping[str, Sequence[Record]]
    positions: Mapping[str, Position]


class Source(ABC):
    """One run of one source. Use it as a context: a file or a connection is open inside it."""

    name: str  # for messages
    keys: tuple[str, ...]  # its checkpoint keys; options that change its records are part of them
    topics: tuple[str, ...]
    failure = ""  # why the run is to exit with 1; empty when all went well

    @property
    def identity(self) -> tuple[str, ...]:
        """What no other run shares; the transactional id derives from it."""
        return self.keys

    def __enter__(self) -> Self:
        """Open it. Raises Unusable."""
        return self

    def __exit__(self, *_: object) -> None:  # noqa: B027 - most sources hold nothing open
        """Close it."""

    @abstractmethod
    def batches(self, position_of: Callable[[str], Position | None]) -> Iterator[Batch]:
        """Yield what is new since the positions under the keys, and return when there is no more or the clock says to
        stop. A batch has been sent when the next one is asked for.
        """

    def summary(self) -> str:
        """Return what the user is told at the end, in one or more lines; empty for nothing."""
        return ""


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command of producer.py. `sources` opens nothing: producer.py enters one source after another."""

    summary: str
    more: str = ""
    examples: tuple[str, ...]
    add_options: Callable[[ArgumentParser], None]
    required: Callable[[Namespace], list[str]] = lambda _: []  # the settings that it cannot do without
    sources: Callable[[Settings, Namespace, Clock], Iterable[Source]]
    fills_gaps: bool = False  # whether it needs to know, as `gaps` of the options, what is missing in the lake


def is_valid(record: Record) -> bool:
    """Return whether the record keeps to its definition. One that does not is logged in full: there is nowhere to send
    it.
    """
    try:
        records.encode(record)
    except InvalidRecord as error:
        log.error("record refused", extra={"reason": str(error), "record": repr(record)})  # noqa: TRY400 - the reason says it all
        return False
    return True
