"""Which offsets make a batch, and what its objects are called. Pure: no clock, no network.

A batch is the range of offsets [start, end) of one partition. Its plan says where and how it lands. The group commits
the plan before it uploads anything, so that whoever finds the plan again writes the same bytes under the same names.
"""

import re
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import Any, Literal

import msgspec

from pipeline import bucket
from pipeline.landing.positions import Committed, Partition

Format = Literal["json", "csv", "parquet"]
PartitionBy = Literal["day", "hour", "month"]
PartitionTime = Literal["arrival", "event"]

_PLAN_VERSIONS = (1, 2)
_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_EPOCH = date(1970, 1, 1)
# Timestamps that have a folder: the years 1970 to 2199.
FIRST_MS, LAST_MS = 0, 7_258_118_400_000 - 1
SHORT_GENERATION = 8  # digits of it in the names of objects
_NAME = re.compile(r"(.+)-(\d+)-(\d{20})-(\d{20})(?:-([0-9a-f]{8}))?\.(?:json|csv|parquet)(?:\.gz)?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the records of a topic land, and in which form."""

    bucket: str
    root: str  # the prefix of the lake inside the bucket: empty, or ending in a slash
    table: str  # folder below raw/: bars, ticks, news, actions, or the topic's own name
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
    """A batch to land: offsets [start, end) of one partition, and the layout of that moment.

    `generation` says which topic of this name the offsets belong to (32 hexadecimal digits; empty where the brokers do
    not tell), `planned_ms` when the plan was made (ms since 1970; 0 in plans of version 1, which have neither).
    """

    topic: str
    partition: int
    start: int
    end: int
    layout: Layout
    generation: str = ""
    planned_ms: int = 0

    def metadata(self) -> str:
        """The text in the offset commit; well under the broker's limit of 4 KB."""
        fields: dict[str, Any] = {"v": 1, "end": self.end}
        if self.generation or self.planned_ms:
            fields = {"v": 2, "id": self.generation, "at": self.planned_ms, "end": self.end}
        return msgspec.json.encode(fields | asdict(self.layout)).decode()

    @property
    def committed(self) -> Committed:
        """What the group commits as this plan."""
        return Committed(self.start, self.metadata())

    def object_key(self, folder: str) -> str:
        """The key of the batch's object in this folder, such as dt=2024-01-02."""
        return f"{bucket.raw_folder(self.layout.root, self.layout.table)}{folder}/{self._name}.{self.layout.extension}"

    def dead_letter_key(self, folder: str) -> str:
        """The key of the batch's dead letters in this folder."""
        return f"{bucket.dead_letter_folder(self.layout.root, self.topic)}{folder}/{self._name}.json.gz"

    @property
    def _name(self) -> str:
        name = f"{self.topic}-{self.partition}-{self.start:020}-{self.end:020}"
        return f"{name}-{self.generation[:SHORT_GENERATION]}" if self.generation else name


def longest_key(partition: Partition, layout: Layout) -> int:
    """Return the length in bytes of the longest key that an object of this partition and layout may have."""
    plan = Plan(*partition, 0, 1, layout, generation="0" * 32)
    folder = "dt=2024-01-02/hour=00"
    return max(len(plan.object_key(folder).encode()), len(plan.dead_letter_key(folder).encode()))


class UnreadablePlan(ValueError):
    """Commit metadata that is no plan of ours: another program, or a later version, uses this group."""


def read_plan(partition: Partition, committed: Committed) -> Plan | None:
    """Return the plan in a commit's metadata, None if there is none. Raise UnreadablePlan for anything else."""
    if not committed.metadata:
        return None
    place = f"{partition} at {committed.offset}: {committed.metadata!r}"
    try:
        fields = msgspec.json.decode(committed.metadata, type=dict)
        version = fields.pop("v")
        generation = fields.pop("id") if version == 2 else ""
        if version == 2 and not fields:
            return None  # the mark of an end
        end, planned_ms = fields.pop("end"), fields.pop("at") if version == 2 else 0
        layout = msgspec.convert(fields, Layout)
    except (msgspec.MsgspecError, KeyError) as error:
        raise UnreadablePlan(f"{place} is not a plan ({error})") from None
    if version not in _PLAN_VERSIONS or not isinstance(end, int) or end <= committed.offset:
        raise UnreadablePlan(f"{place} is not a plan of a version that this program knows")
    return Plan(*partition, committed.offset, end, layout, generation, planned_ms)


def reached_by(partition: Partition, committed: Committed) -> int:
    """Return the end of the plan in a commit, or the commit's offset if there is no plan."""
    try:
        plan = read_plan(partition, committed)
    except UnreadablePlan:
        plan = None
    return plan.end if plan else committed.offset


def end_mark(generation: str, sink: str = "") -> str:
    """Return what is committed with the end of a batch: of which generation it is. `sink` is the word of a sink without
    plans, so that no other goes on in its place.
    """
    fields = {"v": 2, "id": generation} | ({"sink": sink} if sink else {})
    return msgspec.json.encode(fields).decode() if generation else sink


def is_end_mark(metadata: str, sink: str) -> bool:
    """Whether a commit's metadata are the mark of an end that this sink without plans may go on from."""
    return metadata in ("", sink) or metadata in {end_mark(generation_of(metadata), word) for word in ("", sink)}


def generation_of(metadata: str) -> str:
    """Return the generation that a commit was made in; empty if it does not say, as one of kafka-consumer-groups.sh."""
    try:
        return str(msgspec.json.decode(metadata, type=dict).get("id", "")) if metadata.startswith("{") else ""
    except msgspec.MsgspecError:
        return ""


def nearest_ms(timestamp_ms: int) -> int:
    """Return the timestamp, or the nearest one that has a folder."""
    return min(max(timestamp_ms, FIRST_MS), LAST_MS)


def arrival_folder(partition_by: PartitionBy, timestamp_ms: int) -> str:
    """Return the folder of a Kafka timestamp (ms since 1970, UTC). A month's folder is its first day, a date too."""
    day = _EPOCH + timedelta(days=timestamp_ms // _DAY_MS)
    if partition_by == "month":
        day = day.replace(day=1)
    if partition_by == "hour":
        return f"dt={day.isoformat()}/hour={timestamp_ms // _HOUR_MS % 24:02}"
    return f"dt={day.isoformat()}"


def arrival_unit_ms(partition_by: PartitionBy) -> int:
    """Return how many ms share a folder at least: timestamps with the same quotient by it do."""
    return _HOUR_MS if partition_by == "hour" else _DAY_MS


def event_folder(partition_by: PartitionBy, time: str) -> str:
    """Return the folder of a record's own time, YYYY-MM-DD HH:MM:SS.SSS."""
    if partition_by == "month":
        return f"dt={time[:7]}-01"
    if partition_by == "hour":
        return f"dt={time[:10]}/hour={time[11:13]}"
    return f"dt={time[:10]}"


@dataclass(frozen=True)
class ObjectName:
    """What an object's key says about it. `generation` is the first eight digits of its plan's, or empty; `bytes` the
    object's size where it was listed.
    """

    key: str
    topic: str
    partition: int
    start: int
    end: int
    generation: str = ""
    bytes: int = 0


def read_object_key(key: str) -> ObjectName | None:
    """Return the range in an object's key, None for an object of another writer."""
    match = _NAME.fullmatch(key.rsplit("/", 1)[-1])
    if match is None:
        return None
    return ObjectName(key, match[1], int(match[2]), int(match[3]), int(match[4]), match[5] or "")
