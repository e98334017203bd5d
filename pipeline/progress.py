"""What of one series (a symbol's bars, a symbol's news) has been sent, and so what is still to be asked for. Pure.

The state is a checkpoint: ranges of time that are done, and a checksum of each record of the last days, so that a late correction
is told from the same bar seen again. Times are the records' texts, which sort as they are.
"""

import zlib
from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec

from pipeline.records import Record, time_text


class Progress:
    """Read from a checkpoint, changed by `sent`, written back as `state`."""

    def __init__(self, state: dict | None, *, revise: timedelta) -> None:
        state = state or {}
        self._done: list[list[str]] = [list(r) for r in state.get("done", ())]  # ascending, apart from each other, both ends included
        self._recent: dict[str, list] = dict(state.get("recent", {}))  # identity: time and checksum
        self._recent_since: str = state.get("recent_since", "")  # all records sent from this time on are in `recent`
        self._revise = revise

    @property
    def state(self) -> dict:
        return {"done": self._done, "recent": self._recent, "recent_since": self._recent_since}

    @property
    def last(self) -> str | None:
        """The greatest time that is done."""
        return self._done[-1][1] if self._done else None

    def missing(self, start: str, end: str) -> list[tuple[str, str]]:
        """The parts of [start, end] to ask for: what is not done, and the last days again."""
        parts, at = [], start
        for first, last in self._done:
            if at < first:
                parts.append((at, min(first, end)))
            at = max(at, last)
        if self._done:
            at = max(start, min(at, earlier(self._done[-1][1], self._revise)))
        if at <= end:
            parts.append((at, end))
        return [(a, b) for a, b in parts if a <= end]

    def is_new(self, identity: str, record: Record) -> bool:
        """Whether the record was not sent, or is not what was sent."""
        if self._recent_since and record.time >= self._recent_since:
            return self._recent.get(identity, ("", None))[1] != checksum(record)
        return not any(first <= record.time <= last for first, last in self._done)

    def has(self, identity: str) -> bool:
        """Whether a record of the last days was sent, whatever it said."""
        return identity in self._recent

    def sent(self, records: Iterable[tuple[str, Record]], start: str, end: str) -> None:
        """Note records (with their identities) as sent, and [start, end] as done."""
        self._recent |= {identity: [record.time, checksum(record)] for identity, record in records}
        merged: list[list[str]] = []
        for first, last in sorted([*self._done, [start, end]]):
            if merged and first <= merged[-1][1]:
                merged[-1][1] = max(merged[-1][1], last)
            else:
                merged.append([first, last])
        self._done = merged
        # Records of an older range may be missing in `recent`, so it never reaches back further than it did.
        since = max(self._recent_since, earlier(merged[-1][1], self._revise), merged[-1][0])
        self._recent_since = since
        self._recent = {identity: kept for identity, kept in self._recent.items() if kept[0] >= since}


def earlier(time: str, by: timedelta) -> str:
    return time_text(datetime.fromisoformat(time) - by)


def checksum(record: Record) -> int:
    """Of what the record says; when it was read does not count."""
    fields = [getattr(record, name) for name in record.__struct_fields__ if name not in ("ingested_at", "source")]
    return zlib.crc32(msgspec.json.encode(fields))
