"""Blocks for tests that need no Kafka."""

import numpy as np

from pipeline.landing.block import Block
from pipeline.landing.positions import Partition


def block(values: list[bytes | None], first_offset: int = 0, timestamp_ms: int | list[int] = 0, step: int = 1) -> Block:
    """A block of these values at offsets first, first + step, ..."""
    times = timestamp_ms if isinstance(timestamp_ms, list) else [timestamp_ms] * len(values)
    offsets = first_offset + step * np.arange(len(values), dtype=np.int64)
    return Block.of(Partition("t", 0), offsets, np.array(times, np.int64), values, "stock")
