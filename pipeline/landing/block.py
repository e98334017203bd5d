"""What a stream hands to the landing: consecutive records of one partition, as arrays and lines instead of objects."""

import builtins
from dataclasses import dataclass
from typing import Self

import numpy as np

from pipeline.landing.positions import Partition


@dataclass(slots=True, eq=False)
class Block:
    """Consecutive records of one partition: offsets ascend, with gaps where records were compacted away. Never empty.

    offsets and timestamps (milliseconds since 1970, UTC) are int64 arrays. `lines` has all values, a line end behind
    each, and `ends` where each value ends in it: that is how most of them leave again, without an object a value.
    `nulls` are the indices of records without a value, whose line is empty. `decoder` is "numpy", or "stock" for
    kafka-python's own.
    """

    topic: str
    partition: int
    offsets: np.ndarray
    timestamps: np.ndarray
    lines: bytes
    ends: np.ndarray
    nulls: np.ndarray
    decoder: str

    @classmethod
    def of(
        cls,
        partition: Partition,
        offsets: np.ndarray,
        timestamps: np.ndarray,
        values: list[bytes | None],
        decoder: str,
    ) -> Self:
        """The block of these values, None for a record that has none."""
        nulls = np.array([index for index, value in enumerate(values) if value is None], np.int64)
        ends = np.cumsum([len(value or b"") + 1 for value in values]) - 1
        lines = b"\n".join([*(value or b"" for value in values), b""])
        return cls(*partition, offsets, timestamps, lines, ends, nulls, decoder)

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def bytes(self) -> int:
        """The length of all values together."""
        return len(self.lines) - len(self.ends)

    @property
    def values(self) -> list[builtins.bytes | None]:
        """The values one by one."""
        begins = np.append(0, self.ends[:-1] + 1)
        values: list[builtins.bytes | None] = [
            self.lines[begin:end] for begin, end in zip(begins.tolist(), self.ends.tolist(), strict=True)
        ]
        for index in self.nulls.tolist():
            values[index] = None
        return values

    @property
    def is_one_a_line(self) -> bool:
        """Whether every value is on a line of its own: no value has a line end or another control character."""
        return int(np.count_nonzero(np.frombuffer(self.lines, np.uint8) < ord(" "))) == len(self)

    def drop_before(self, offset: int) -> bool:
        """Drop the records before an offset from this block. False, and nothing dropped, if that is all of them."""
        count = int(np.searchsorted(self.offsets, offset))
        if count == len(self):
            return False
        if count:
            rest = self._part(count, len(self))
            for name in type(self).__slots__:
                setattr(self, name, getattr(rest, name))
        return True

    def split(self, count: int) -> tuple[Self, Self]:
        """The first `count` records and the rest; neither may be empty."""
        return self._part(0, count), self._part(count, len(self))

    def _part(self, first: int, last: int) -> Self:
        begin = int(self.ends[first - 1]) + 1 if first else 0
        ends = self.ends[first:last] - begin
        nulls = self.nulls[(self.nulls >= first) & (self.nulls < last)] - first
        lines = self.lines[begin : begin + int(ends[-1]) + 1]
        return type(self)(
            self.topic,
            self.partition,
            self.offsets[first:last],
            self.timestamps[first:last],
            lines,
            ends,
            nulls,
            self.decoder,
        )
