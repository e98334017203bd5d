"""One run of the ETL for one table: choose raw days and partitions, write, publish, sweep. The caller passes the engine
that writes.

Delivery: exactly once per key. A run may die anywhere and be started again; readers see what it wrote only after
publishing. Needs only the standard library and boto3's clients, because it also runs inside Glue.
"""

import json
import logging
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from string import Template
from typing import Any, Protocol

from etl import publish, raw_days, unread
from etl.publish import CuratedState, RunNotes
from etl.raw_days import RawDays

log = logging.getLogger(__name__)

PartitionValues = tuple[str, ...]  # of the partition columns, in their order


@dataclass(frozen=True, kw_only=True)
class CuratedTable:
    """What a run has to know about a table. glue_setup.py uploads it beside the job's script, and passes it to the
    Athena engine.
    """

    record: str  # bars, ticks, news or actions
    database: str
    workgroup: str
    bucket: str
    # Folders of the bucket, ending in a slash.
    raw_folder: str
    curated_folder: str
    run_notes_folder: str
    first_day: str  # first day of the raw table, YYYY-MM-DD
    late_days: int
    partition_time: str  # arrival or event
    by_month: bool  # raw folders are months, named by their first day
    format: str  # of the raw objects: json, csv or parquet
    partition_columns: list[str]
    raw_columns: dict[str, str]  # name to type, as the raw objects have them
    curated_columns: dict[str, str]
    select: str  # with $raw, $curated and $touched
    raw_select: str  # with $table and $condition
    view: str  # with $watermark and $late
    has_hours: bool  # raw folders of a day hold folders of hours
    looks_up: str = ""  # the record whose curated table the SELECT also reads, as $bars
    looking_up: list[str] = field(default_factory=list)  # the partition whose rows depend on what it reads there

    @property
    def curated_location(self) -> str:
        """The s3:// folder of the table; every run writes into a folder of its own below it."""
        return f"s3://{self.bucket}/{self.curated_folder}"

    def sql(
        self,
        *,
        raw_table: str,
        condition: str,
        curated_table: str,
        partitions: list[PartitionValues],
        bars: str = "",
    ) -> str:
        """Return the SELECT of the new rows of some partitions. `bars`: the curated table to look closes up in."""
        return Template(self.select).substitute(
            raw=self.raw_rows(raw_table, condition), curated=curated_table, touched=self.touched(partitions), bars=bars
        )

    def raw_rows(self, raw_table: str, condition: str) -> str:
        """Return the SELECT of typed columns from the raw table."""
        return Template(self.raw_select).substitute(table=raw_table, condition=condition)

    def view_sql(self, state: dict[str, str]) -> str:
        """Return the query of the view for a state of the ETL: the curated table's parameters."""
        watermark = state.get(publish.WATERMARK, self.first_day)
        return Template(self.view).substitute(watermark=watermark, late=self._late_rows(watermark, state))

    def _late_rows(self, watermark: str, state: dict[str, str]) -> str:
        """What landed behind the watermark since the last run. Not for ticks: without a key, a row that the next run
        has just copied would be there twice until the view follows. Folders of the event's day are all read anyway.
        """
        if self.record == "ticks" or self.partition_time == "event":
            return ""
        condition = unread.condition(
            f"s3://{self.bucket}/{self.raw_folder}",
            watermark=watermark,
            first_day=self.first_day,
            read_before=json.loads(state.get(publish.READ_BEFORE, "{}")),
            has_hours=self.has_hours,
            by_month=self.by_month,
        )
        table = f'"{self.database}"."raw_{self.record}"'
        return f"\n  UNION ALL\n  {self.raw_rows(table, condition)}" if condition else ""

    def touched(self, partitions: list[PartitionValues]) -> str:
        """Return the condition that names partitions. Those that differ in the last value only go together, so that an
        engine can skip the others.
        """
        together: dict[PartitionValues, list[str]] = {}
        for values in partitions:
            together.setdefault(values[:-1], []).append(values[-1])
        names = [f'"{name}"' for name in self.partition_columns]
        conditions = []
        for first, lasts in together.items():
            equal = [f"{name} = {text(value)}" for name, value in zip(names[:-1], first, strict=True)]
            conditions.append(" AND ".join([*equal, is_one_of(names[-1], lasts)]))
        return " OR ".join(f"({condition})" for condition in conditions)


class Engine(Protocol):
    """Athena or Spark. `days`: the raw days to read. Places and locations are s3:// folders that end in a slash."""

    partitions_per_write: int

    def touched(self, table: CuratedTable, days: list[str]) -> list[PartitionValues]: ...
    def write(
        self, table: CuratedTable, days: list[str], partitions: list[PartitionValues], place: str
    ) -> dict[PartitionValues, str]: ...


@dataclass(frozen=True)
class RunOutcome:
    """What a run did for one table."""

    record: str
    days: list[str]
    partitions: int
    watermark: str
    removed: int = 0
    why_not: str = ""


class Curation:
    """One run. `run` is its name, part of every folder that it makes: letters, digits and _ only."""

    def __init__(self, engine: Engine, *, s3: Any, glue: Any, athena: Any, run: str, now: datetime) -> None:
        self._engine, self._s3, self._glue, self._athena, self._run, self._now = engine, s3, glue, athena, run, now

    def curate(self, table: CuratedTable, only_days: tuple[str, str] | None = None) -> RunOutcome:
        """Bring one table up to date. `only_days`: the first and the last raw day to read, in place of the new ones.
        Raises PublishFailed.
        """
        before = publish.begin(self._glue, table.database, f"curated_{table.record}")
        found = self._with_looked_up(table, self._raw_days(table, before, only_days))
        notes = RunNotes(self._s3, table.bucket, table.run_notes_folder)
        why_not = _reason_to_skip(table, found, before, is_asked=only_days is not None)
        state = {publish.WATERMARK: found.watermark}
        if only_days is None:
            # A run over days that were asked for says nothing about the others.
            state[publish.LAST_RUN] = self._now.isoformat()
            state[publish.LISTING] = found.listing
            state[publish.READ_BEFORE] = json.dumps(found.read_before)
        partitions = 0 if why_not else self._curate_days(table, before, found, notes, state)
        self._replace_view(table)
        removed = notes.sweep(self._glue, before, self._now)
        log.debug(
            "curated",
            extra={"table": before.name, "days": len(found.days), "partitions": partitions, "removed": removed},
        )
        return RunOutcome(table.record, found.days, partitions, found.watermark, removed, why_not)

    def _raw_days(self, table: CuratedTable, before: CuratedState, only_days: tuple[str, str] | None) -> RawDays:
        """Folders of the event's day never close, so a run reads all of them, unless days are asked for, and leaves the
        watermark.
        """
        if only_days or table.partition_time == "event":
            first, last = only_days or (table.first_day, date.max.isoformat())
            found = raw_days.all_days(self._s3, table.bucket, table.raw_folder)
            days = [day for day in found if max(first, table.first_day) <= day <= last]
            return RawDays(days, before.watermark, raw_days.listing_of(self._s3, table.bucket, table.raw_folder, days))
        return raw_days.find(
            self._s3,
            table.bucket,
            table.raw_folder,
            watermark=before.watermark,
            last_run=before.last_run,
            today=self._now.date(),
            late_days=table.late_days,
            by_month=table.by_month,
            whole_days=table.record == "ticks",
            first_day=table.first_day,
            read_before=json.loads(before.parameters.get(publish.READ_BEFORE, "{}")),
        )

    def _with_looked_up(self, table: CuratedTable, found: RawDays) -> RawDays:
        """Count a run of the table that is looked up as news: its rows may be other ones now."""
        if not table.looks_up:
            return found
        other = publish.begin(self._glue, table.database, f"curated_{table.looks_up}").parameters
        return replace(found, listing=f"{found.listing} {other.get(publish.LISTING, '')}")

    def _curate_days(
        self, table: CuratedTable, before: CuratedState, found: RawDays, notes: RunNotes, state: dict[str, str]
    ) -> int:
        folder = f"{table.curated_location}run={self._run}"
        # Noted first, so that the files are removed one day should this run die.
        notes.write(self._run, self._now, [folder])
        partitions = self._engine.touched(table, found.days)
        looking_up = tuple(table.looking_up)
        if looking_up and publish.partition_locations(self._glue, before, [looking_up]):
            partitions = sorted({*partitions, looking_up})
        locations: dict[PartitionValues, str] = {}
        for number, start in enumerate(range(0, len(partitions), self._engine.partitions_per_write)):
            some = partitions[start : start + self._engine.partitions_per_write]
            locations |= self._engine.write(table, found.days, some, f"{folder}_{number}/")
        superseded = publish.partition_locations(self._glue, before, locations)
        folders = [folder, *superseded.values()]
        notes.write(self._run, self._now, folders)
        publish.publish(self._glue, before, locations, run=self._run, state=state)
        notes.write(self._run, self._now, folders, published_at=self._now)
        return len(locations)

    def _replace_view(self, table: CuratedTable) -> None:
        """Use the watermark that the table has now, whoever set it: a run that died after publishing left the view
        behind.
        """
        now = publish.begin(self._glue, table.database, f"curated_{table.record}")
        sql = table.view_sql(now.parameters)
        view = self._glue.get_table(DatabaseName=table.database, Name=table.record)["Table"]
        if view.get("Parameters", {}).get(publish.VIEW_DEFINITION) != publish.view_mark(sql, view):
            publish.replace_view(
                self._glue, self._athena, database=table.database, workgroup=table.workgroup, name=table.record, sql=sql
            )


def _reason_to_skip(table: CuratedTable, found: RawDays, before: CuratedState, *, is_asked: bool) -> str:
    if table.record == "ticks" and table.partition_time == "event":
        return (
            "ticks in folders of the event's day are read from the raw table: "
            "a day that never closes cannot be copied once"
        )
    if not found.days:
        return "no raw day is due"
    is_same = found.listing == before.parameters.get(publish.LISTING) and found.watermark == before.watermark
    return "nothing new since the last run" if is_same and not is_asked else ""


def is_one_of(expression: str, values: list[str]) -> str:
    """Return the condition that an expression is one of some texts."""
    return f"{expression} IN ({', '.join(map(text, values))})"


def text(value: str) -> str:
    """Return a text as a string of SQL."""
    quoted = value.replace("'", "''")
    return f"'{quoted}'"
