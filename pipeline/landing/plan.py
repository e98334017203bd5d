"""Which offsets make a batch, and what its objects are called. Pure: no clock, no network.

A batch is the range of offsets [start, end) of one partition. Its plan says where and how it lands; the plan is
committed to Kafka before anything is uploaded, so that whoever finds it again writes the same bytes under the same
names.
"""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from typing import Literal

import msgspec
import numpy as np

Format = Literal["json", "csv", "parquet"]
PartitionBy = Literal["day", "hour", "month"]
PartitionTime = Literal["arrival", "event"]

_PLAN_VERSION = 1
_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_EPOCH = date(1970, 1, 1)
_NAME = re.compile(r"(.+)-(\d+)-(\d{20})-(\d{20})\.(?:json|csv|parquet)(?:\.gz)?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the records of a topic land, and in which form."""

    bucket: str
    root: str  # the prefix of the lake inside the bucket: empty, or ending in a slash
    table: str  # folder below raw/: bars, ticks, news, or the topic's own name
    format: Format = "json"
    compression: str = "gzip"
    partition_by: PartitionBy = "day"
    partition_time: PartitionTime = "arrival"

    @property
    def extension(self) -> str:
        if self.format == "parquet":
            return "parquet"
        return f"{self.format}.gz" if self.compression == "gzip" else self.format


@dataclass(frozen=True)
class Plan:
    """What is to be landed: offsets [start, end) of one partition, and the layout of that moment."""

    topic: str
    partition: int
    start: int
    end: int
    layout: Layout

    def metadata(self) -> str:
        """The text kept in the offset commit; well under the broker's limit of 4 KB."""
        return msgspec.json.encode({"v": _PLAN_VERSION, "end": self.end, **asdict(self.layout)}).decode()

    def object_key(self, folder: str) -> str:
        return f"{self.layout.root}raw/{self.layout.table}/{folder}/{self._name}.{self.layout.extension}"

    def dead_letter_key(self, folder: str) -> str:
        return f"{self.layout.root}dead_letter/{self.topic}/{folder}/{self._name}.json.gz"

    @property
    def _name(self) -> str:
        return f"{self.topic}-{self.partition}-{self.start:020}-{self.end:020}"


class UnreadablePlan(ValueError):
    """Commit metadata that is not a plan of ours: another program, or a later version, uses this group."""


def read_plan(topic: str, partition: int, start: int, metadata: str) -> Plan | None:
    """The plan in a commit's metadata, None if the metadata is empty; raises UnreadablePlan."""
    if not metadata:
        return None
    try:
        fields = msgspec.json.decode(metadata, type=dict)
        version, end = fields.pop("v"), fields.pop("end")
        layout = msgspec.convert(fields, Layout)
    except (msgspec.MsgspecError, KeyError) as error:
        raise UnreadablePlan(f"{topic}-{partition} at {start}: {metadata!r} is not a plan ({error})") from None
    if version != _PLAN_VERSION or not isinstance(end, int) or end <= start:
        raise UnreadablePlan(f"{topic}-{partition} at {start}: {metadata!r} is not a plan of version {_PLAN_VERSION}")
    return Plan(topic, partition, start, end, layout)


def arrival_folder(partition_by: PartitionBy, timestamp_ms: int) -> str:
    """The folder of a Kafka timestamp (ms since 1970, UTC). A month's folder is its first day, so that dt stays a date."""
    day = _EPOCH + timedelta(days=timestamp_ms // _DAY_MS)
    if partition_by == "month":
        day = day.replace(day=1)
    if partition_by == "hour":
        return f"dt={day.isoformat()}/hour={timestamp_ms // _HOUR_MS % 24:02}"
    return f"dt={day.isoformat()}"


def arrival_unit_ms(partition_by: PartitionBy) -> int:
    """Timestamps with the same quotient by this many ms share a folder."""
    return _HOUR_MS if partition_by == "hour" else _DAY_MS


def event_folder(partition_by: PartitionBy, time: str) -> str:
    """The folder of a record's own time, YYYY-MM-DD HH:MM:SS.SSS."""
    if partition_by == "month":
        return f"dt={time[:7]}-01"
    if partition_by == "hour":
        return f"dt={time[:10]}/hour={time[11:13]}"
    return f"dt={time[:10]}"


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
    blocks: list = field(default_factory=list)
    records: int = 0
    bytes: int = 0
    opened_at: float = 0.0

    def add(self, blocks: Iterable, now: float) -> None:
        """Append blocks, oldest first; `now` is the wall clock's reading in seconds, of any epoch."""
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

    def cut(self, limits: Limits, position: int, now: float) -> tuple[int, list]:
        """Take the blocks of the next batch off the front: its end and its blocks.

        `position` is where the consumer reads next. A batch that takes everything ends there, so that control records
        and compacted gaps behind its last record belong to it and the next range begins without a hole.
        """
        taken, records, size = [], 0, 0
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

    def cut_before(self, end: int, now: float) -> list:
        """Take the blocks of the offsets before `end` off the front."""
        taken = []
        while self.blocks and self.blocks[0].offsets[0] < end:
            block = self.blocks.pop(0)
            if (room := int(np.searchsorted(block.offsets, end))) < len(block):
                block, rest = block.split(room)
                self.blocks.insert(0, rest)
            taken.append(block)
        self._took(taken, end, now)
        return taken

    def _took(self, taken: list, end: int, now: float) -> None:
        self.start, self.opened_at = end, now
        self.records -= sum(map(len, taken))
        self.bytes -= sum(block.bytes for block in taken)


@dataclass(frozen=True)
class ObjectName:
    """What an object's key says about it."""

    key: str
    topic: str
    partition: int
    start: int
    end: int


def read_object_key(key: str) -> ObjectName | None:
    """The range in an object's key, or None for an object of another writer."""
    match = _NAME.fullmatch(key.rsplit("/", 1)[-1])
    return ObjectName(key, match[1], int(match[2]), int(match[3]), int(match[4])) if match else None
