"""Which records of a batch may be kept, and why the others may not. Pure.

Whatever bytes a record has, it is one or the other: what cannot be decoded, placed or written is refused here, with a
reason, before a sink begins to write.
"""

from typing import Any

import msgspec
import numpy as np

from pipeline import records
from pipeline.landing.block import Block
from pipeline.landing.plan import FIRST_MS, LAST_MS, nearest_ms
from pipeline.records import LAST_TIME, InvalidRecord, Record

_DAY_MS = 86_400_000


def check_batch(
    kind: type[Record] | None, blocks: list[Block], are_lines: list[bool], *, planned_ms: int, keep: bool
) -> tuple[list[Any] | None, dict[int, str]]:
    """Return the decoded records if they are to be kept, None in the place of a bad one, and the reason of each bad one
    by its index. Records of unknown topics (no `kind`) need only be JSON.

    `are_lines` says of each block whether every value is on a line of its own. Block by block: records that are only
    checked are gone before the next block's are made, which is faster too.
    """
    kept: list[Any] = []
    reasons: dict[int, str] = {}
    index = 0
    # Nearly always all of them have, and asking once is cheaper than asking each block.
    all_have_folders = _have_folders(np.concatenate([block.timestamps for block in blocks]))
    for block, is_lines in zip(blocks, are_lines, strict=True):
        decoded: list[Any] | None = None
        if kind is not None and is_lines and (all_have_folders or _have_folders(block.timestamps)):
            decoded = records.decode_lines(
                kind, block.lines, len(block), latest_ingestion=_latest_ingestion(planned_ms)
            )
        if decoded is None:
            decoded = []
            for value, timestamp_ms in zip(block.values, block.timestamps.tolist(), strict=True):
                record, reason = check_one(kind, value, timestamp_ms, planned_ms=planned_ms)
                decoded.append(record)
                if reason:
                    reasons[index + len(decoded) - 1] = reason
        if keep:
            kept += decoded
        index += len(block)
    return (kept if keep else None), reasons


def check_one(kind: type[Record] | None, value: bytes | None, timestamp_ms: int, *, planned_ms: int) -> tuple[Any, str]:
    """Return the record, or None and the reason why it is none."""
    if value is None:
        return None, "value: is null"
    if not FIRST_MS <= timestamp_ms <= LAST_MS:
        return None, f"Kafka's timestamp: {timestamp_ms} ms since 1970 is not in the years 1970 to {records.LAST_YEAR}"
    try:
        if kind is not None:
            latest = _latest_ingestion(planned_ms, timestamp_ms)
            return records.decode(kind, value, latest_ingestion=latest), ""
        value.decode()
        if b"\n" in value or b"\r" in value:
            msgspec.json.format(value, indent=-1)  # it has to be put on one line
        return msgspec.json.decode(value, type=msgspec.Raw), ""
    except (InvalidRecord, msgspec.DecodeError, UnicodeDecodeError) as error:
        return None, str(error)
    except RecursionError:
        return None, "JSON is nested too deeply"


def _have_folders(timestamps: np.ndarray) -> bool:
    return bool(timestamps.min() >= FIRST_MS and timestamps.max() <= LAST_MS)


def _latest_ingestion(planned_ms: int, timestamp_ms: int = FIRST_MS) -> str:
    """Return the latest ingested_at that is no mistake: a day after the batch was planned, or the record came to Kafka.

    Of the records of one key the greatest wins, so one in the far future would win for ever. A batch that is repeated
    has the time of its plan; a plan of version 1 has none, and no bound.
    """
    return records.time_text_ms(nearest_ms(max(planned_ms, timestamp_ms) + _DAY_MS)) if planned_ms else LAST_TIME
