"""What of one series (a symbol's bars, a symbol's news) was sent, and so what is still to be asked for. Pure.

The state is a checkpoint: ranges of time that are done, a checksum of each record of the last days, so that a late
correction is told from the same bar seen again, and the days that were asked for and had nothing. Times are the
records' texts, which sort as they are.
"""

import base64
import zlib
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from pipeline.records import Bar, Record, time_text


class Progress:
    """Read from a checkpoint, changed by `sent`, written back as `state`."""

    def __init__(self, state: Mapping[str, Any] | None, *, revise: timedelta) -> None:
        state = state or {}
        self._done: list[list[str]] = [
            list(r) for r in state.get("done", ())
        ]  # ascending, apart from each other, both ends included
        self._recent: dict[str, list[Any]] = unpacked(state.get("recent", ""))  # identity: time and checksum
        self._recent_since: str = state.get("recent_since", "")  # all records sent from this time on are in `recent`
        self._empty = empty_days(state)
        self._revise = revise

    @property
    def state(self) -> dict[str, Any]:
        state = {"done": self._done, "recent": packed(self._recent), "recent_since": self._recent_since}
        listed = {symbol: sorted(days) for symbol, days in self._empty.items() if days}
        return state | ({"empty": packed(listed)} if listed else {})

    @property
    def last(self) -> str | None:
        """The greatest time that is done."""
        return self._done[-1][1] if self._done else None

    def is_done(self, time: str) -> bool:
        """Return whether a time lies in what is done."""
        return any(first <= time <= last for first, last in self._done)

    def settle(self, symbol: str, days: Iterable[str], seen: Collection[str]) -> bool:
        """Note that all of some days (YYYY-MM-DD) was asked for, and on which of them a record was seen. Return whether
        that is news.
        """
        before = self._empty.get(symbol, set())
        now = (before | set(days)) - set(seen)
        self._empty[symbol] = now
        return now != before

    def was_empty(self, symbol: str, day: str) -> bool:
        """Return whether a day of a symbol was asked for, and had nothing."""
        return day in self._empty.get(symbol, ())

    def empty_parts(self, start: str, end: str) -> list[tuple[str, str]]:
        """Return the part of [start, end] from the first to the last day in what is done that had nothing, if any."""
        times = [f"{day} 00:00:00.000" for days in self._empty.values() for day in days]
        within = sorted(time for time in times if start <= time <= end and self.is_done(time))
        return [(within[0], min(f"{within[-1][:10]} 23:59:59.999", end))] if within else []

    def missing(self, start: str, end: str) -> list[tuple[str, str]]:
        """Return the parts of [start, end] to ask for: what is not done, and the last days again."""
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
        """Return whether the record was not sent, or is not what was sent."""
        if self._recent_since and record.time >= self._recent_since:
            return self._recent.get(identity, ("", None))[1] != checksum(record)
        return not self.is_done(record.time)

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


def empty_days(state: Mapping[str, Any]) -> dict[str, set[str]]:
    """Return by symbol the days (YYYY-MM-DD) of a checkpoint that were asked for, and had nothing."""
    return {symbol: set(days) for symbol, days in unpacked(state.get("empty", "")).items()}


def sent_days(state: Mapping[str, Any]) -> dict[str, set[str]]:
    """Return by symbol the days (YYYY-MM-DD) that a back-fill's checkpoint has as sent."""
    return {symbol: set(days) for symbol, days in unpacked(state.get("sent", "")).items()}


def packed(value: Mapping[str, Any]) -> str:
    """Return what a checkpoint holds of a mapping. Three days of every US stock are 0.4 MB: they have to fit into a
    message of Kafka's 1 MB.
    """
    return base64.b64encode(zlib.compress(msgspec.json.encode(value))).decode()


def unpacked(text: str) -> dict[str, Any]:
    """Return the mapping that a checkpoint holds; none for an empty text."""
    found: dict[str, Any] = msgspec.json.decode(zlib.decompress(base64.b64decode(text))) if text else {}
    return found


def earlier(time: str, by: timedelta) -> str:
    """Return the time, moved back."""
    return time_text(datetime.fromisoformat(time) - by)


def checksum(record: Record) -> int:
    """Return a checksum of what the record says, whenever it was read. Prices that did not change are no news because
    they are adjusted up to a later day.
    """
    left_out = {"ingested_at", "source", "adjusted_to"} if isinstance(record, Bar) else {"ingested_at", "source"}
    fields = [getattr(record, name) for name in record.__struct_fields__ if name not in left_out]
    return zlib.crc32(msgspec.json.encode(fields))


class SentMinutes:
    """Which minute bars a live stream has sent lately, so that what REST fills in is not sent again.

    The state that goes into a checkpoint has the symbols of the last two minutes: a restart fills from the last one on.
    """

    def __init__(self, state: Mapping[str, Any] | None) -> None:
        self._sent: dict[str, dict[str, int | None]] = {
            time: dict.fromkeys(symbols) for time, symbols in (state or {}).items()
        }

    @property
    def state(self) -> dict[str, Any]:
        return {time: list(self._sent[time]) for time in sorted(self._sent)[-2:]}

    @property
    def last(self) -> str | None:
        return max(self._sent, default=None)

    def has(self, bar: Bar) -> bool:
        """Return whether a bar of this symbol and minute was sent."""
        return bar.symbol in self._sent.get(bar.time, ())

    def is_new(self, bar: Bar) -> bool:
        """Return whether the bar was not sent, or says something else than what was sent."""
        return not self.has(bar) or self._sent[bar.time][bar.symbol] not in (None, checksum(bar))

    def add(self, bars: Iterable[Bar]) -> None:
        """Note bars as sent."""
        for bar in bars:
            self._sent.setdefault(bar.time, {})[bar.symbol] = checksum(bar)

    def forget(self, *, but_minutes: int) -> None:
        """Keep the last minutes only."""
        for time in sorted(self._sent)[:-but_minutes]:
            del self._sent[time]
