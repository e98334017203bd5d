"""The landing of one partition, as a state machine that does no input or output of its own.

    reading  ──(due)──▶  closed  ──(plan committed)──▶  uploading  ──(all written, end committed)──▶  reading

While a batch uploads the next one is read, and may be closed. Its plan then goes into the commit that ends the first,
for the end of one batch is the start of the next. A lane that finds a plan in the group's commit reads exactly the
plan's offsets and uploads them as the plan says. A lane that is revoked is thrown away whole.

A lane without plans is for a sink whose writes may be repeated in other batches: a closed batch goes straight on, and
only ends are committed. They carry a word that is no plan, so that no sink that needs plans goes on in the same group
by mistake.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.landing.block import Block
from pipeline.landing.buffer import Buffer, Limits
from pipeline.landing.plan import Layout, Plan, UnreadablePlan, end_mark, is_end_mark, read_plan
from pipeline.landing.positions import Committed, Partition

_NO_LAYOUT = Layout(bucket="", root="", table="")


@dataclass(frozen=True)
class Written:
    """What a batch came to in its sink, without its bytes."""

    objects: int
    bytes: int
    records: int
    bad: int


class Upload(Protocol):
    """A batch that a sink is writing. `get` raises what the sink has raised."""

    def ready(self) -> bool: ...
    def get(self) -> Written: ...


@dataclass
class Closed:
    """A batch whose offsets are fixed."""

    plan: Plan
    blocks: list[Block]
    bytes: int


@dataclass
class Lane:
    """One partition on its way into the sink."""

    partition: Partition
    layout: Layout
    buffer: Buffer
    generation: str = ""  # see Plan
    end_word: str = ""  # of a sink without plans
    found: Plan | None = None  # a predecessor's plan that is being read again
    closed: Closed | None = None  # its plan is not known to be committed
    uploading: Closed | None = None  # its plan is committed, or it needs none
    upload: Upload | None = None

    @classmethod
    def begin(cls, partition: Partition, layout: Layout, committed: Committed, generation: str = "") -> "Lane":
        """Return a lane at the group's commit, with the plan that is in it. Raise UnreadablePlan."""
        found = read_plan(partition, committed)
        return cls(partition, layout, Buffer(committed.offset), generation, found=found)

    @classmethod
    def begin_unplanned(cls, partition: Partition, committed: Committed, word: str, generation: str = "") -> "Lane":
        """Return a lane that needs no plans. Raise UnreadablePlan where others have committed than users of `word`."""
        if not is_end_mark(committed.metadata, word):
            raise UnreadablePlan(
                f"{partition} at {committed.offset}: {committed.metadata!r} was committed by another sink or program"
            )
        return cls(partition, _NO_LAYOUT, Buffer(committed.offset), generation, end_word=word)

    @property
    def is_planned(self) -> bool:
        return not self.end_word

    @property
    def bytes(self) -> int:
        """What this lane keeps in memory, in bytes of record values."""
        return self.buffer.bytes + sum(batch.bytes for batch in (self.closed, self.uploading) if batch)

    @property
    def records(self) -> int:
        """How many records were read and are not in the sink yet."""
        batches = [batch.blocks for batch in (self.closed, self.uploading) if batch]
        return sum(len(block) for blocks in (self.buffer.blocks, *batches) for block in blocks)

    @property
    def is_idle(self) -> bool:
        """Nothing read, nothing under way."""
        return not (self.buffer.blocks or self.found or self.closed or self.uploading)

    def close(self, limits: Limits, position: int, now: float, *, planned_ms: int = 0, at_once: bool = False) -> None:
        """Fix the next batch if one is due, or with `at_once` if there is anything. `position` is the next offset to
        read, `now` a clock's reading in seconds, `planned_ms` the time for the plan.
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
        self.closed = _closed(Plan(*self.partition, start, end, self.layout, self.generation, planned_ms), blocks)
        if not self.is_planned and not self.uploading:
            self.uploading, self.closed = self.closed, None

    @property
    def is_uploaded(self) -> bool:
        return self.upload is not None and self.upload.ready()

    @property
    def under_way(self) -> Committed | None:
        """What is committed while the batch uploads; None if none does. Committing it again changes nothing."""
        if not self.uploading:
            return None
        plan = self.uploading.plan
        return plan.committed if self.is_planned else Committed(plan.start, end_mark(self.generation, self.end_word))

    def commit_wanted(self) -> Committed | None:
        """Return what this lane wants committed now."""
        if self.uploading and not self.is_uploaded:
            return None
        if self.closed and self.is_planned:
            return self.closed.plan.committed
        if self.uploading:
            return Committed(self.uploading.plan.end, end_mark(self.generation, self.end_word))
        return None

    def written(self) -> Written | None:
        """Return what the uploaded batch came to, None if there is none. Raise what its upload has raised."""
        return self.upload.get() if self.upload else None

    def committed(self) -> Plan | None:
        """Go on after what commit_wanted asked for was committed. Return the plan of the batch that this completes."""
        completed = self.uploading.plan if self.uploading else None
        self.uploading, self.closed, self.upload = self.closed, None, None
        return completed


def _closed(plan: Plan, blocks: list[Block]) -> Closed:
    return Closed(plan, blocks, sum(block.bytes for block in blocks))


def to_pause(lanes: dict[Any, Lane], most_bytes: int) -> set[Any]:
    """Return the partitions that must not be read on: their next batch waits for the one before it, or memory is used
    up. A found plan is always read to its end, for nothing else can free what it holds.
    """
    is_memory_full = held_bytes(lanes) >= most_bytes
    return {
        partition
        for partition, lane in lanes.items()
        if not lane.found and (is_memory_full or (lane.closed and lane.uploading))
    }


def held_bytes(lanes: dict[Any, Lane]) -> int:
    """Return what all lanes keep in memory, in bytes of record values."""
    return sum(lane.bytes for lane in lanes.values())
