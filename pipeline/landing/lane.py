"""The landing of one partition, as a state machine that does no input or output of its own.

    reading  ──(due)──▶  closed  ──(plan committed)──▶  uploading  ──(all objects taken, end committed)──▶  reading

While a batch uploads the next one is read, and may be closed; its plan then goes in the same commit that ends the
first, for the end of one batch is the start of the next. A lane that is given with a plan in its commit begins by
reading exactly the plan's offsets and uploading them as the plan says. A lane that is revoked is thrown away whole.

A lane into DynamoDB has no plan: its writes may be repeated in other batches, so a closed batch goes straight on and
only ends are committed. They carry a word that is no plan, so that no landing in S3 can go on in the same group by
mistake.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.landing.plan import Buffer, Layout, Limits, Plan, UnreadablePlan, read_plan

UNPLANNED = "dynamodb"


class Upload(Protocol):
    """What consumer.py gets from its thread pool."""

    def ready(self) -> bool: ...
    def get(self) -> Any: ...


@dataclass
class Closed:
    """A batch whose offsets are fixed."""

    plan: Plan
    blocks: list
    bytes: int


@dataclass
class Lane:
    """One partition on its way into the lake."""

    topic: str
    partition: int
    layout: Layout
    buffer: Buffer
    is_planned: bool = True
    found: Plan | None = None  # a predecessor's plan that is being read again
    closed: Closed | None = None  # its plan is not known to be committed
    uploading: Closed | None = None  # its plan is committed, or it needs none
    upload: Upload | None = None

    @classmethod
    def begin(cls, topic: str, partition: int, layout: Layout, offset: int, metadata: str) -> "Lane":
        """A lane at the group's committed offset; raises batch.UnreadablePlan."""
        return cls(topic, partition, layout, Buffer(offset), found=read_plan(topic, partition, offset, metadata))

    @classmethod
    def begin_unplanned(cls, topic: str, partition: int, layout: Layout, offset: int, metadata: str) -> "Lane":
        """A lane whose writes may be repeated in any batches; raises batch.UnreadablePlan where others commit."""
        if metadata not in ("", UNPLANNED):
            raise UnreadablePlan(
                f"{topic}-{partition} at {offset}: {metadata!r} was committed by a landing in S3, or another program"
            )
        return cls(topic, partition, layout, Buffer(offset), is_planned=False)

    @property
    def bytes(self) -> int:
        """What this lane keeps in memory, in bytes of record values."""
        return self.buffer.bytes + sum(batch.bytes for batch in (self.closed, self.uploading) if batch)

    @property
    def is_idle(self) -> bool:
        """Nothing read, nothing under way."""
        return not (self.buffer.blocks or self.found or self.closed or self.uploading)

    def close(self, limits: Limits, position: int, now: float, *, at_once: bool = False) -> None:
        """Fix the next batch if one is due, or if there is anything and `at_once` is set. `position` is what is read
        next.
        """
        if self.found:
            # Exactly the plan's offsets, whatever today's limits are. It is committed already, so it goes straight on.
            if position >= self.found.end:
                self.uploading = _closed(self.found, self.buffer.cut_before(self.found.end, now))
                self.found = None
            return
        if self.closed or not (self.buffer.is_due(limits, now) or (at_once and self.buffer.blocks)):
            return
        start = self.buffer.start
        end, blocks = self.buffer.cut(limits, position, now)
        self.closed = _closed(Plan(self.topic, self.partition, start, end, self.layout), blocks)
        if not self.is_planned and not self.uploading:
            self.uploading, self.closed = self.closed, None

    @property
    def is_uploaded(self) -> bool:
        return self.upload is not None and self.upload.ready()

    def commit_wanted(self) -> tuple[int, str] | None:
        """The offset and metadata that this lane wants committed now."""
        if self.uploading and not self.is_uploaded:
            return None
        if self.closed and self.is_planned:
            return self.closed.plan.start, self.closed.plan.metadata()
        if self.uploading:
            return self.uploading.plan.end, "" if self.is_planned else UNPLANNED
        return None

    def committed(self) -> Plan | None:
        """Go on after what commit_wanted asked for was committed; the plan of the batch that this completes, if any."""
        completed = self.uploading.plan if self.uploading else None
        self.uploading, self.closed, self.upload = self.closed, None, None
        return completed


def _closed(plan: Plan, blocks: list) -> Closed:
    return Closed(plan, blocks, sum(block.bytes for block in blocks))


def to_pause(lanes: dict[Any, Lane], most_bytes: int) -> set[Any]:
    """The partitions that must not be read on: their next batch waits for the one before it, or memory is used up. A
    found plan is always read to its end, for nothing else can free what it holds.
    """
    is_memory_full = held_bytes(lanes) >= most_bytes
    return {
        partition
        for partition, lane in lanes.items()
        if not lane.found and (is_memory_full or (lane.closed and lane.uploading))
    }


def held_bytes(lanes: dict[Any, Lane]) -> int:
    """What all lanes keep in memory, in bytes of record values."""
    return sum(lane.bytes for lane in lanes.values())
