# ruff: noqa: S608 - the parts of the SQL built here are names of ours and values that `text` quotes
"""One run of the ETL for one table: choose raw days and partitions, write, publish, sweep. The caller passes the engine
that writes.

Delivery: exactly once per key. A run may die anywhere and be started again; readers see what it wrote only after
publishing. Needs only the standard library and boto3's clients, because it also runs inside Glue.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from string import Template
from typing import Any, Protocol

from etl import publish, raw_days, slices, unread
from etl.publish import CuratedState, RunNotes
from etl.raw_days import RawDays
from etl.slices import CuratedFile, Limits, PartitionValues, Portion, Slice

log = logging.getLogger(__name__)


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
    looking_up: list[list[str]] = field(default_factory=list)  # partitions whose rows depend on it and on each other
    visible: str = ""  # condition of the rows that were not taken back; empty: all

    @property
    def curated_location(self) -> str:
        """The s3:// folder of the table; every run writes into a folder of its own below it."""
        return f"s3://{self.bucket}/{self.curated_folder}"

    @property
    def cut_by(self) -> str:
        """The column that large partitions are cut by. It has to be part of the key, so that rows of one key stay
        together: an article that was changed may have another time.
        """
        return "symbol" if self.record == "news" else "time"

    def value_to_cut(self, expression: str) -> str:
        """Return the text of a value of that column, of a time its minute."""
        return expression if self.cut_by == "symbol" else f"substr(CAST({expression} AS varchar(23)), 1, 16)"

    def sql(self, *, new_table: str, curated_table: str, piece: Slice, bars: str = "") -> str:
        """Return the SELECT of a slice, from the table of the new rows and from the curated one. `bars`: the curated
        table to look closes up in.
        """
        columns = ", ".join(f'"{name}"' for name in self.curated_columns)
        return Template(self.select).substitute(
            raw=f"SELECT {columns} FROM {new_table}", curated=curated_table, touched=self._condition(piece), bars=bars
        )

    def _condition(self, piece: Slice) -> str:
        kind = "" if self.cut_by == "symbol" else "TIMESTAMP "
        seconds = "" if self.cut_by == "symbol" else ":00"
        bounds = [
            f'"{self.cut_by}" {sign} {kind}{text(bound + seconds)}'
            for sign, bound in ((">=", piece.lower), ("<", piece.upper))
            if bound
        ]
        visible = [self.visible] if self.visible else []
        return " AND ".join([f"({self.touched(piece.partitions)})", *bounds, *visible])

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
    """Athena or Spark. Places and locations are s3:// folders that end in a slash."""

    limits: Limits
    path_column: str  # the expression that names the file of a row of a curated table

    def stage(self, table: CuratedTable, days: list[str], condition: str, place: str) -> str:
        """Copy the rows of the raw days that meet the condition below `place`, typed, as Parquet: they are read several
        times. Return the name of a table over them, which is there until `unstage`.
        """

    def unstage(self, table: CuratedTable, place: str) -> None:
        """Forget that table; the files stay."""

    def curated(self, table: CuratedTable, partitions: list[PartitionValues]) -> str:
        """Return the name of a table over the curated rows of some partitions at least."""

    def looked_up(self, table: CuratedTable) -> str:
        """Return the name of a table over all curated rows of the record that the table looks up."""

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a SELECT."""

    def write(self, table: CuratedTable, selects: list[str], place: str) -> dict[PartitionValues, str]:
        """Write the rows of the SELECTs, one after the other, below `place`; return where each partition is."""


@dataclass(frozen=True)
class RunOutcome:
    """What a run did for one table."""

    record: str
    days: list[str]
    partitions: int
    watermark: str
    removed: int = 0
    why_not: str = ""

    @property
    def line(self) -> str:
        """What it did, for a terminal or a log."""
        done = self.why_not or f"{_counted(len(self.days), 'raw day')} into {_counted(self.partitions, 'partition')}"
        swept = f", {_counted(self.removed, 'superseded file')} removed" if self.removed else ""
        return f"{self.record + ' ':<6}{done}{swept}; watermark {self.watermark}"


class Curation:
    """One run. `run` is its name, part of every folder that it makes: letters, digits and _ only. `scope`: which raw
    rows to read, as a condition, in place of those that no run has read.
    """

    def __init__(
        self, engine: Engine, *, s3: Any, glue: Any, athena: Any, run: str, now: datetime, scope: str = ""
    ) -> None:
        self._engine, self._s3, self._glue, self._athena, self._run, self._now = engine, s3, glue, athena, run, now
        self._scope = scope

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
        locations = self._write(table, found, folder)
        superseded = publish.partition_locations(self._glue, before, locations)
        folders = [folder, *superseded.values()]
        notes.write(self._run, self._now, folders)
        publish.publish(self._glue, before, locations, run=self._run, state=state)
        notes.write(self._run, self._now, folders, published_at=self._now)
        return len(locations)

    def _write(self, table: CuratedTable, found: RawDays, folder: str) -> dict[PartitionValues, str]:
        """Write what the raw rows touch into folders that begin with `folder`; return where each partition is."""
        stage = f"{folder}_new/"
        locations: dict[PartitionValues, str] = {}
        try:
            new = self._engine.stage(table, found.days, self._scope or _unread(table, found), stage)
            bars = self._engine.looked_up(table) if table.looks_up else ""
            for number, (portion, curated) in enumerate(self._portions(table, new)):
                place = f"{folder}_{number}/"
                names = {"new_table": new, "curated_table": curated, "bars": bars}
                selects = [table.sql(piece=piece, **names) for piece in portion.slices]
                written = self._engine.write(table, selects, place)
                for address in portion.kept:
                    self._copy(address, next(iter(written.values())))
                locations |= written
        finally:
            self._engine.unstage(table, stage)
        publish.remove_below(self._s3, stage)
        return locations

    def _portions(self, table: CuratedTable, new: str) -> Iterator[tuple[Portion, str]]:
        """Yield what to write, with the name of the table of the curated rows: small partitions together, then the
        large ones one by one.
        """
        arrived = self._counts(table, new, "true")
        touched = sorted({*arrived, *self._looking_up(table)})
        if not touched:
            return
        # A tick has no key: its day is written again from the raw rows alone.
        merges = table.record != "ticks"
        curated = self._engine.curated(table, touched)
        before = self._counts(table, curated, table.touched(touched)) if merges else {}
        limits = self._engine.limits
        rows = {each: (arrived.get(each, 0), before.get(each, 0)) for each in touched}
        # Rows that depend on another table are all written again.
        large = {each for each in touched if not table.looks_up and slices.needs_cutting(*rows[each], limits)}
        small = {each: sum(rows[each]) for each in touched if each not in large}
        for portion in slices.together(small, limits):
            yield portion, curated
        for values in sorted(large):
            condition = table.touched([values])
            old = self._histogram(table, curated, condition) if values in before else {}
            files = self._files(table, curated, condition) if values in before else []
            yield slices.cut(values, self._histogram(table, new, condition), old, files, limits), curated

    def _looking_up(self, table: CuratedTable) -> list[PartitionValues]:
        """The partitions that are there whose rows may be other ones now, though nothing new came for them."""
        published = publish.begin(self._glue, table.database, f"curated_{table.record}")
        return list(publish.partition_locations(self._glue, published, [tuple(each) for each in table.looking_up]))

    def _counts(self, table: CuratedTable, name: str, condition: str) -> dict[PartitionValues, int]:
        columns = ", ".join(f'"{column}"' for column in table.partition_columns)
        rows = self._engine.rows(f"SELECT {columns}, count(*) AS n FROM {name} WHERE {condition} GROUP BY {columns}")
        return {tuple(row[:-1]): int(row[-1]) for row in rows}

    def _histogram(self, table: CuratedTable, name: str, condition: str) -> slices.Rows:
        value = table.value_to_cut(f'"{table.cut_by}"')
        rows = self._engine.rows(f"SELECT {value} AS v, count(*) AS n FROM {name} WHERE {condition} GROUP BY {value}")
        return {row[0]: int(row[1]) for row in rows}

    def _files(self, table: CuratedTable, name: str, condition: str) -> list[CuratedFile]:
        path = self._engine.path_column
        first, last = (table.value_to_cut(f'{of}("{table.cut_by}")') for of in ("min", "max"))
        rows = self._engine.rows(
            f"SELECT {path} AS file, {first} AS first_value, {last} AS last_value, count(*) AS n "
            f"FROM {name} WHERE {condition} GROUP BY {path}"
        )
        return [CuratedFile(row[0], row[1], row[2], int(row[3])) for row in rows]

    def _copy(self, address: str, location: str) -> None:
        """Copy a file inside S3, without reading it."""
        from_bucket, key = publish.bucket_and_key(address)
        to_bucket, prefix = publish.bucket_and_key(location)
        name = key.rpartition("/")[2]
        # boto3's own copy in parts, for files beyond the 5 GB that one request takes.
        self._s3.copy({"Bucket": from_bucket, "Key": key}, to_bucket, f"{prefix}{name}")

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


def _unread(table: CuratedTable, found: RawDays) -> str:
    """The condition of the objects that no run has read. A tick has no key: its day is written again as a whole."""
    if table.record == "ticks":
        return "true"
    folder = f"s3://{table.bucket}/{table.raw_folder}"
    return unread.condition_in_days(folder, found.days, found.skipped_before, has_hours=table.has_hours)


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


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
