"""Publishing what an ETL run wrote: the one place where a curated table and its view change.

A run writes files into a folder of its own, run=<id>/, which nobody reads. Publishing points the partitions of the
curated table there, one call per hundred, and then moves the view's watermark. A reader sees a partition's old files or
its new ones, never a mixture, for a partition has one location. What can go wrong:

- A crash before the swap leaves the old table. A crash during it leaves some partitions old, some new, and the old
  watermark, with which the view also reads from the raw days all that the new ones hold. The next run does the whole
  work again.
- Two runs at once. Publishing begins and ends with an update of the table under its version (Glue refuses it when the
  version has moved). The run that loses the first publishes nothing. The run that loses the second cannot tell whose
  partitions are there, and moves the watermark back to where it began, so that the next run reads everything again.

Needs only the standard library and boto3's clients, because it also runs inside Glue.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

_Item = TypeVar("_Item")

WATERMARK, LAST_RUN, LISTING, PUBLISHING = "etl.watermark", "etl.last_run", "etl.listing", "etl.publishing"
# What etl/unread.py notes, as JSON.
READ_BEFORE = "etl.read_before"
# The hash of a view's definition, kept as its parameter: Athena rewrites the SQL, so the text cannot be compared.
VIEW_DEFINITION = "definition"
PARTITIONS_PER_CALL = 100
# A query that began before a swap may read the old files for as long as Athena lets a query run, half an hour.
GRACE = timedelta(hours=1)
# A run that did not publish for this long is dead.
LONGEST_RUN = timedelta(days=1)
_TABLE_INPUT = (
    "Name",
    "Description",
    "Owner",
    "Retention",
    "StorageDescriptor",
    "PartitionKeys",
    "ViewOriginalText",
    "ViewExpandedText",
    "TableType",
    "Parameters",
)


class PublishFailed(RuntimeError):
    """AWS refused a part of the publishing; the text says which."""


class PublishConflict(PublishFailed):
    """Another run published, or the table's definition changed, since this run began."""


@dataclass(frozen=True)
class CuratedState:
    """A curated table as it was when a run began."""

    database: str
    name: str
    version: str
    definition: dict[str, Any]

    @property
    def parameters(self) -> dict[str, str]:
        """The table's parameters; the ETL keeps its state in some of them."""
        parameters: dict[str, str] = self.definition.get("Parameters", {})
        return parameters

    @property
    def watermark(self) -> str:
        """The first raw day that the view reads, YYYY-MM-DD."""
        # Without one, every raw day counts as new.
        return self.parameters.get(WATERMARK, "0001-01-01")

    @property
    def last_run(self) -> datetime | None:
        """When the last run that published began; None before the first."""
        return datetime.fromisoformat(self.parameters[LAST_RUN]) if LAST_RUN in self.parameters else None


def begin(glue: Any, database: str, name: str) -> CuratedState:
    """Return the table's state, with the version that publishing will insist on."""
    found = glue.get_table(DatabaseName=database, Name=name)["Table"]
    return CuratedState(database, name, found.get("VersionId", ""), table_input(found))


def table_input(table: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a table that Glue takes back."""
    return {field: table[field] for field in _TABLE_INPUT if table.get(field)}


def publish(
    glue: Any,
    table: CuratedState,
    locations: dict[tuple[str, ...], str],
    *,
    run: str,
    state: dict[str, str],
) -> None:
    """Point each partition (its values) at its new location, and set the state: parameters of the table, the watermark
    among them. Raises PublishConflict.
    """
    claimed = _update(glue, table, table.version, table.parameters | {PUBLISHING: run})
    if claimed is None:
        raise PublishConflict(
            f"{table.name}: another run published meanwhile, so this one published nothing; run the ETL again"
        )
    point(glue, table, locations)
    done = {name: value for name, value in table.parameters.items() if name != PUBLISHING}
    done |= state
    if _update(glue, table, claimed, done) is None:
        _move_back(glue, table)
        raise PublishConflict(
            f"{table.name}: another run published at the same time; nothing is lost, run the ETL again"
        )


def point(glue: Any, table: CuratedState, locations: dict[tuple[str, ...], str]) -> None:
    """Create or update the partitions. Raises PublishFailed: both calls answer errors per partition, neither raises."""
    existing = partition_locations(glue, table, locations)
    inputs = {
        values: _partition(table, values, location)
        for values, location in locations.items()
        if existing.get(values) != location
    }
    new = [given for values, given in inputs.items() if values not in existing]
    moved = [
        {"PartitionValueList": list(values), "PartitionInput": given}
        for values, given in inputs.items()
        if values in existing
    ]
    address = {"DatabaseName": table.database, "TableName": table.name}
    for some in _chunks(new, PARTITIONS_PER_CALL):
        _check(glue.batch_create_partition(**address, PartitionInputList=some))
    for some in _chunks(moved, PARTITIONS_PER_CALL):
        _check(glue.batch_update_partition(**address, Entries=some))


def partition_locations(
    glue: Any, table: CuratedState, wanted: Iterable[tuple[str, ...]]
) -> dict[tuple[str, ...], str]:
    """Return where the wanted partitions are now, without those that do not exist."""
    found: dict[tuple[str, ...], str] = {}
    for some in _chunks(list(wanted), 1000):
        asked = [{"Values": list(values)} for values in some]
        while asked:
            answer = glue.batch_get_partition(DatabaseName=table.database, TableName=table.name, PartitionsToGet=asked)
            found |= {
                tuple(partition["Values"]): partition["StorageDescriptor"]["Location"]
                for partition in answer["Partitions"]
            }
            # Keys that do not exist are among the unprocessed; as long as anything came, the others may come next time.
            asked = answer.get("UnprocessedKeys", []) if answer["Partitions"] else []
    return found


def _partition(table: CuratedState, values: tuple[str, ...], location: str) -> dict[str, Any]:
    return {"Values": list(values), "StorageDescriptor": table.definition["StorageDescriptor"] | {"Location": location}}


def _check(answer: dict[str, Any]) -> None:
    if errors := answer.get("Errors"):
        first = errors[0].get("ErrorDetail", {})
        raise PublishFailed(
            f"{len(errors)} partitions were not published: {first.get('ErrorCode')} {first.get('ErrorMessage')}"
        )


def _update(glue: Any, table: CuratedState, version: str, parameters: dict[str, str]) -> str | None:
    """Set the table's parameters if it still has `version`; its version after that, None if it had another one."""
    try:
        glue.update_table(
            DatabaseName=table.database,
            TableInput=table.definition | {"Parameters": parameters},
            VersionId=version,
            SkipArchive=True,
        )
    except glue.exceptions.ConcurrentModificationException:
        return None
    now = glue.get_table(DatabaseName=table.database, Name=table.name)["Table"]
    # Between the update and this look another run may have claimed the table: its mark tells.
    return now.get("VersionId", "") if now["Parameters"].get(PUBLISHING) == parameters.get(PUBLISHING) else None


def _move_back(glue: Any, table: CuratedState) -> None:
    """Set the watermark, and what counts as read, back to where this run began, whoever moved it."""
    while True:
        now = begin(glue, table.database, table.name)
        kept = {name: value for name, value in now.parameters.items() if name not in (LAST_RUN, LISTING, READ_BEFORE)}
        before = {name: table.parameters[name] for name in (LAST_RUN, READ_BEFORE) if name in table.parameters}
        parameters = kept | before | {WATERMARK: min(table.watermark, now.watermark)}
        if _update(glue, now, now.version, parameters) is not None:
            return


# --- the view


def replace_view(glue: Any, athena: Any, *, database: str, workgroup: str, name: str, sql: str) -> None:
    """Make the view, and keep the hash of its definition with it. Raises PublishFailed."""
    statement = f'CREATE OR REPLACE VIEW "{database}"."{name}" AS\n{sql}'
    query = athena.start_query_execution(
        QueryString=statement, WorkGroup=workgroup, QueryExecutionContext={"Database": database}
    )
    # A loop and no library for it: this runs inside Glue, with the standard library alone.
    while (status := _status(athena, query["QueryExecutionId"]))["State"] in ("QUEUED", "RUNNING"):
        time.sleep(0.1)
    if status["State"] != "SUCCEEDED":
        raise PublishFailed(f"view {name}: {status.get('StateChangeReason', status['State'])}")
    view = glue.get_table(DatabaseName=database, Name=name)["Table"]
    marked = table_input(view) | {"Parameters": view.get("Parameters", {}) | {VIEW_DEFINITION: view_mark(sql, view)}}
    glue.update_table(DatabaseName=database, TableInput=marked, SkipArchive=True)


def view_mark(sql: str, view: dict[str, Any]) -> str:
    """Return what tells a view of this definition from any other, and from one that was changed by hand since."""
    stored = view.get("ViewOriginalText") or ""
    return hashlib.sha256(f"{sql}\n{stored}".encode()).hexdigest()


def _status(athena: Any, query_id: str) -> dict[str, Any]:
    status: dict[str, Any] = athena.get_query_execution(QueryExecutionId=query_id)["QueryExecution"]["Status"]
    return status


# --- what is left behind


@dataclass(frozen=True)
class RunNotes:
    """Notes of the runs, an object per run, by which later runs remove what it left behind: the files that it
    superseded, or, when it died, its own.
    """

    s3: Any
    bucket: str
    prefix: str  # of the notes: a folder, ending in a slash

    def write(self, run: str, started_at: datetime, folders: list[str], published_at: datetime | None = None) -> None:
        """Write a run's note. `folders`: s3:// folders of the run's files, and of those that it superseded."""
        note = {
            "started_at": started_at.isoformat(),
            "folders": folders,
            "published_at": published_at and published_at.isoformat(),
        }
        self.s3.put_object(Bucket=self.bucket, Key=f"{self.prefix}{run}.json", Body=json.dumps(note).encode())

    def sweep(self, glue: Any, table: CuratedState, now: datetime) -> int:
        """Remove the files of finished and of dead runs that no partition points at; return how many objects."""
        due = [(key, note) for key, note in self._notes() if _is_over(note, now)]
        if not due:
            return 0
        in_use = set(_locations(glue, table))
        removed = 0
        for key, note in due:
            for folder in note["folders"]:
                removed += self._remove(folder, in_use)
            self.s3.delete_object(Bucket=self.bucket, Key=key)
        return removed

    def _notes(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for key in self._keys(self.prefix):
            yield key, json.loads(self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read())

    def _remove(self, folder: str, in_use: set[str]) -> int:
        return remove_below(self.s3, folder, in_use)

    def _keys(self, prefix: str) -> list[str]:
        return _keys_below(self.s3, self.bucket, prefix)


def remove_below(s3: Any, address: str, in_use: Iterable[str] = ()) -> int:
    """Delete the objects whose s3:// address begins like this, but those in folders in use; return how many."""
    bucket, prefix = bucket_and_key(address)
    keys = [key for key in _keys_below(s3, bucket, prefix) if f"s3://{bucket}/{key.rpartition('/')[0]}/" not in in_use]
    for some in _chunks(keys, 1000):
        s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in some], "Quiet": True})
    return len(keys)


def bucket_and_key(address: str) -> tuple[str, str]:
    """Return the bucket and the key of an s3:// address."""
    bucket, _, key = address.partition("://")[2].partition("/")
    return bucket, key


def _keys_below(s3: Any, bucket: str, prefix: str) -> list[str]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [found["Key"] for page in pages for found in page.get("Contents", [])]


def _is_over(note: dict[str, Any], now: datetime) -> bool:
    if note["published_at"]:
        return now - datetime.fromisoformat(note["published_at"]) > GRACE
    return now - datetime.fromisoformat(note["started_at"]) > LONGEST_RUN


def _locations(glue: Any, table: CuratedState) -> Iterator[str]:
    pages = glue.get_paginator("get_partitions").paginate(
        DatabaseName=table.database, TableName=table.name, ExcludeColumnSchema=True
    )
    for page in pages:
        for partition in page["Partitions"]:
            yield partition["StorageDescriptor"]["Location"].rstrip("/") + "/"


def all_locations(glue: Any, table: CuratedState) -> list[str]:
    """Return the s3:// folders of all partitions of a table, as they are published now."""
    return sorted(_locations(glue, table))


def _chunks(items: list[_Item], size: int) -> Iterator[list[_Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
