"""The bytes of a batch's objects. Pure.

Names and bytes depend on the plan and the records alone (no clock, no random, gzip time 0), so a batch that is written
again has the same objects.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress
from typing import Any

import msgspec
import numpy as np
from isal import igzip

from pipeline import records
from pipeline.landing.block import Block
from pipeline.landing.lane import Written
from pipeline.landing.plan import Layout, Plan, arrival_folder, arrival_unit_ms, event_folder, nearest_ms
from pipeline.records import Record
from pipeline.sinks.checks import check_batch
from pipeline.sinks.lake.dead_letters import dead_letter

_GZIP_LEVEL = 1


@dataclass(frozen=True)
class Object:
    """One object to put: `records` lines in it, of which all are good, or all are bad (a dead-letter object)."""

    key: str
    body: bytes
    records: int
    is_dead_letter: bool


def written(objects: list[Object]) -> Written:
    """Return what a batch of these objects comes to."""
    good = sum(an_object.records for an_object in objects if not an_object.is_dead_letter)
    everything = sum(an_object.records for an_object in objects)
    return Written(len(objects), sum(len(an_object.body) for an_object in objects), good, everything - good)


def objects_of(plan: Plan, blocks: list[Block]) -> list[Object]:
    """Return the objects of a batch, in order of their keys: one per folder, and dead letters of the records that fail
    the checks. Raise nothing, whatever the records hold.
    """
    timestamps = np.concatenate([block.timestamps for block in blocks])
    kind = records.TABLES.get(plan.layout.table)
    needs_records = kind is not None and (plan.layout.format != "json" or plan.layout.partition_time == "event")
    are_lines = [block.is_one_a_line for block in blocks]
    checked, reasons = check_batch(kind, blocks, are_lines, planned_ms=plan.planned_ms, keep=needs_records)
    if all(are_lines) and not reasons and not needs_records and (folder := _only_folder(plan.layout, timestamps)):
        # The usual case: nothing to take out, to sort or to rewrite.
        body = _compressed(plan.layout, b"".join([block.lines for block in blocks]))
        return [Object(plan.object_key(folder), body, len(timestamps), is_dead_letter=False)]
    values = [value for block in blocks for value in block.values]
    objects = []
    if reasons:
        offsets = np.concatenate([block.offsets for block in blocks])
        objects = _dead_letters(plan, reasons, values, offsets, timestamps)
        keep = [index not in reasons for index in range(len(values))]
        values, timestamps = list(compress(values, keep)), timestamps[keep]
        checked = None if checked is None else list(compress(checked, keep))
    for folder, chosen in _folders(plan.layout, timestamps, checked):
        some_records = None if checked is None else [checked[index] for index in chosen]
        body = _body(plan.layout, kind, [values[index] for index in chosen], some_records)
        objects.append(Object(plan.object_key(folder), body, len(chosen), is_dead_letter=False))
    return sorted(objects, key=lambda an_object: an_object.key)


def _only_folder(layout: Layout, timestamps: np.ndarray) -> str | None:
    """Return the folder that all records of these times of arrival go into, None if there are several."""
    first_ms, last_ms, unit_ms = int(timestamps.min()), int(timestamps.max()), arrival_unit_ms(layout.partition_by)
    return arrival_folder(layout.partition_by, first_ms) if first_ms // unit_ms == last_ms // unit_ms else None


def _folders(layout: Layout, timestamps: np.ndarray, checked: list[Any] | None) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each folder with the indices of its records."""
    if layout.partition_time == "event" and checked is not None:
        names = np.array([event_folder(layout.partition_by, record.time) for record in checked])
    else:
        names = np.array([arrival_folder(layout.partition_by, int(time)) for time in timestamps])
    for name in np.unique(names):
        yield str(name), np.flatnonzero(names == name)


def _body(layout: Layout, kind: type[Record] | None, values: list[Any], checked: list[Any] | None) -> bytes:
    if kind is None or checked is None or layout.format == "json":
        return _compressed(layout, json_lines(values))
    if layout.format == "parquet":
        from pipeline.sinks.lake import parquet  # noqa: PLC0415 - pyarrow takes as long to import as 100,000 records take to land

        return parquet.encode(kind, checked, layout.compression)
    return _compressed(layout, _csv(kind, checked))


def _compressed(layout: Layout, plain: bytes) -> bytes:
    return gzipped(plain) if layout.compression == "gzip" else plain


def gzipped(plain: bytes) -> bytes:
    """Return the same bytes for the same bytes: no clock goes into the header."""
    compressed: bytes = igzip.compress(plain, _GZIP_LEVEL, mtime=0)
    return compressed


def json_lines(values: list[bytes]) -> bytes:
    """Return one JSON value a line, as it came; only a value that was itself spread over lines is rewritten on one."""
    # The empty last value makes the last line end; adding it to the joined bytes would copy all of them, half of the
    # time here.
    lines = b"\n".join([*values, b""])
    if lines.count(b"\n") == len(values) and b"\r" not in lines:
        return lines
    return b"".join(msgspec.json.format(value, indent=-1) + b"\n" for value in values)


def _csv(kind: type[Record], checked: list[Record]) -> bytes:
    """Return a header line and a line per record; null is empty. Athena reads CSV by lines, so a line end inside a text
    becomes a space.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(column.name for column in records.columns(kind))
    plain = {True: "true", False: "false"}
    for record in checked:
        writer.writerow(
            plain[field]
            if field is True or field is False
            else " ".join(field.splitlines())
            if type(field) is str
            else field
            for field in msgspec.structs.astuple(record)
        )
    return text.getvalue().encode()


def _dead_letters(
    plan: Plan, reasons: dict[int, str], values: list[Any], offsets: np.ndarray, timestamps: np.ndarray
) -> list[Object]:
    """Return the refused records as JSON lines, always by arrival: they may have no time of their own."""
    by_folder: dict[str, list[bytes]] = {}
    for index, reason in reasons.items():
        timestamp_ms = int(timestamps[index])
        letter = dead_letter(
            plan.topic,
            plan.partition,
            int(offsets[index]),
            timestamp_ms=timestamp_ms,
            value=values[index],
            reason=reason,
        )
        by_folder.setdefault(arrival_folder("day", nearest_ms(timestamp_ms)), []).append(msgspec.json.encode(letter))
    return [
        Object(
            plan.dead_letter_key(folder),
            gzipped(json_lines(lines)),
            len(lines),
            is_dead_letter=True,
        )
        for folder, lines in by_folder.items()
    ]
