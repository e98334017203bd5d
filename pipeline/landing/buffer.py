"""Records of one partition that wait for their batch. Pure: the clock's reading is an argument."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from pipeline.landing.block import Block


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When a batch is closed: whichever comes first. Bytes are those of the values, before compression."""

    flush_seconds: float = 60
    flush_records: int = 100_000
    flush_bytes: int = 64 * 1024 * 1024


@dataclass
class Buffer:
    """The records of one partition from `start` on that are in no batch yet."""

    start: int
    blocks: list[Block] = field(default_factory=list)
    records: int = 0
    bytes: int = 0
    opened_at: float = 0.0

    def add(self, blocks: Iterable[Block], now: float) -> None:
        """Append blocks, oldest first. `now` is a clock's reading in seconds, of any epoch."""
        for block in blocks:
            if not self.blocks:
                self.opened_at = now
            self.blocks.append(block)
            self.records += len(block)
            self.bytes += block.bytes

    def is_full(self, limits: Limits) -> bool:
        return self.records >= limits.flush_records or self.bytes >= limits.flush_bytes

    def is_due(self, limits: Limits, now: float) -> bool:
        return bool(self.blocks) and (self.is_full(limits) or now - self.opened_at >= limits.flush_seconds)

    def cut(self, limits: Limits, position: int, now: float) -> tuple[int, list[Block]]:
        """Take the blocks of the next batch off the front. Return its end and its blocks.

        `position` is where the consumer reads next. A batch that takes everything ends there, so that control records
        and compacted gaps behind its last record belong to it and the next range begins without a hole.
        """
        taken: list[Block] = []
        records = size = 0
        while self.blocks and records < limits.flush_records and size < limits.flush_bytes:
            block = self.blocks.pop(0)
            if (room := limits.flush_records - records) < len(block):
                block, rest = block.split(room)
                self.blocks.insert(0, rest)
            taken.append(block)
            records += len(block)
            size += block.bytes
        end = position if not self.blocks else int(self.blocks[0].offsets[0])
        self._took(taken, end, now)
        return end, taken

    def cut_before(self, end: int, now: float) -> list[Block]:
        """Take the blocks of the offsets before `end` off the front."""
        taken: list[Block] = []
        while self.blocks and self.blocks[0].offsets[0] < end:
            block = self.blocks.pop(0)
            if (room := int(np.searchsorted(block.offsets, end))) < len(block):
                block, rest = block.split(room)
                self.blocks.insert(0, rest)
            taken.append(block)
        self._took(taken, end, now)
        return taken

    def _took(self, taken: list[Block], end: int, now: float) -> None:
        self.start, self.opened_at = end, now
        self.records -= sum(map(len, taken))
        self.bytes -= sum(block.bytes for block in taken)
