"""The S3 side of the landing: the bytes of a batch's objects, and putting them.

Delivery: exactly once together with the plan commits of consumer.py. Names and bytes depend on the plan and the records
alone (no clock, no random, gzip time 0), so putting a batch again changes nothing.
"""

import base64
import csv
import io
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress
from urllib.parse import urlencode

import msgspec
import numpy as np
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError
from isal import igzip

from pipeline import aws, records
from pipeline.landing import plan as batch
from pipeline.landing.plan import Plan
from pipeline.settings import ServiceError, Settings

log = logging.getLogger(__name__)

_GZIP_LEVEL = 1
# A refusal that no repetition mends, and the setting to look at.
_FINAL_CODES = frozenset(
    {
        "AccessDenied",
        "NoSuchBucket",
        "InvalidBucketName",
        "AllAccessDisabled",
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "PermanentRedirect",
        "AccountProblem",
        "InvalidStorageClass",
        "KMS.NotFoundException",
        "KMS.DisabledException",
        "InvalidTag",
    }
)


@dataclass(frozen=True)
class Object:
    """One object to put: `records` lines in it, of which all are good, or all are bad (a dead-letter object)."""

    key: str
    body: bytes
    records: int
    is_dead_letter: bool


@dataclass(frozen=True)
class Landed:
    """What a batch came to, without its bytes."""

    objects: int
    bytes: int
    records: int
    bad: int

    @classmethod
    def of(cls, objects: list[Object]) -> "Landed":
        good = sum(an_object.records for an_object in objects if not an_object.is_dead_letter)
        everything = sum(an_object.records for an_object in objects)
        return cls(len(objects), sum(len(an_object.body) for an_object in objects), good, everything - good)


class DeadLetter(msgspec.Struct, kw_only=True):
    """A record that broke its definition, with where it was and why it was refused."""

    topic: str
    partition: int
    offset: int
    time: str
    reason: str
    encoding: str  # text, base64 (the value is not UTF-8), or null (there was no value)
    value: str


def objects_of(plan: Plan, blocks: list) -> list[Object]:
    """The objects of a batch, in order of their keys: one per folder, and dead letters of the records that fail the
    checks.
    """
    timestamps = np.concatenate([block.timestamps for block in blocks])
    kind = records.TABLES.get(plan.layout.table)
    needs_records = kind is not None and (plan.layout.format != "json" or plan.layout.partition_time == "event")
    are_lines = [block.is_one_a_line for block in blocks]
    checked, reasons = _check(kind, blocks, are_lines, keep=needs_records)
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
        checked = list(compress(checked, keep)) if needs_records else None
    for folder, chosen in _folders(plan.layout, timestamps, checked):
        some_records = None if checked is None else [checked[index] for index in chosen]
        body = _body(plan.layout, kind, [values[index] for index in chosen], some_records)
        objects.append(Object(plan.object_key(folder), body, len(chosen), is_dead_letter=False))
    return sorted(objects, key=lambda an_object: an_object.key)


def _check(
    kind: type[records.Record] | None, blocks: list, are_lines: list[bool], *, keep: bool
) -> tuple[list | None, dict[int, str]]:
    """The decoded records if they are to be kept, and the reason per index of a bad one. Records of unknown topics need
    only be JSON. Block by block: records that are only checked are gone before the next block's are made, which is
    faster too.
    """
    kept, reasons, index = [], {}, 0
    for block, is_lines in zip(blocks, are_lines, strict=True):
        decoded = records.decode_lines(kind, block.lines, len(block)) if kind is not None and is_lines else None
        if decoded is None:
            decoded = []
            for value in block.values:
                record, reason = _check_one(kind, value)
                decoded.append(record)
                if reason:
                    reasons[index + len(decoded) - 1] = reason
        if keep:
            kept += decoded
        index += len(block)
    return (kept if keep else None), reasons


def _check_one(kind: type[records.Record] | None, value: bytes | None) -> tuple[records.Record | None, str]:
    """The record, or the reason why it is none."""
    if value is None:
        return None, "value: is null"
    try:
        return (records.decode(kind, value) if kind else msgspec.json.decode(value, type=msgspec.Raw)), ""
    except (records.InvalidRecord, msgspec.DecodeError, UnicodeDecodeError) as error:
        return None, str(error)


def _only_folder(layout: batch.Layout, timestamps: np.ndarray) -> str | None:
    """The folder that all records of these times of arrival go into, None if there are several."""
    units = timestamps // batch.arrival_unit_ms(layout.partition_by)
    return batch.arrival_folder(layout.partition_by, int(timestamps[0])) if units.min() == units.max() else None


def _folders(layout: batch.Layout, timestamps: np.ndarray, checked: list | None) -> Iterator[tuple[str, np.ndarray]]:
    """Each folder with the indices of its records."""
    if layout.partition_time == "event" and checked is not None:
        names = np.array([batch.event_folder(layout.partition_by, record.time) for record in checked])
    else:
        names = np.array([batch.arrival_folder(layout.partition_by, int(time)) for time in timestamps])
    for name in np.unique(names):
        yield str(name), np.flatnonzero(names == name)


def _body(layout: batch.Layout, kind: type[records.Record] | None, values: list[bytes], checked: list | None) -> bytes:
    if layout.format == "parquet" and kind is not None:
        from pipeline.sinks.lake import parquet

        return parquet.encode(kind, checked, layout.compression)
    return _compressed(
        layout, _csv(kind, checked) if layout.format == "csv" and kind is not None else json_lines(values)
    )


def _compressed(layout: batch.Layout, plain: bytes) -> bytes:
    return igzip.compress(plain, _GZIP_LEVEL, mtime=0) if layout.compression == "gzip" else plain


def json_lines(values: list[bytes]) -> bytes:
    """One JSON value a line, as it came; only a value that was itself spread over lines is rewritten on one."""
    # The empty last value makes the last line end; adding it to the joined bytes would copy all of them, half of the
    # time here.
    lines = b"\n".join([*values, b""])
    if lines.count(b"\n") == len(values) and b"\r" not in lines:
        return lines
    return b"".join(msgspec.json.format(value, indent=-1) + b"\n" for value in values)


def _csv(kind: type[records.Record], checked: list[records.Record]) -> bytes:
    """A header line and a line a record; null is empty. Athena reads CSV by lines, so a line end inside a text becomes
    a space.
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
    plan: Plan, reasons: dict[int, str], values: list[bytes | None], offsets: np.ndarray, timestamps: np.ndarray
) -> list[Object]:
    """The refused records as JSON lines, always by arrival: they may have no time of their own."""
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
        by_folder.setdefault(batch.arrival_folder("day", timestamp_ms), []).append(msgspec.json.encode(letter))
    return [
        Object(
            plan.dead_letter_key(folder),
            igzip.compress(json_lines(lines), _GZIP_LEVEL, mtime=0),
            len(lines),
            is_dead_letter=True,
        )
        for folder, lines in by_folder.items()
    ]


def dead_letter(
    topic: str, partition: int, offset: int, *, timestamp_ms: int, value: bytes | None, reason: str
) -> DeadLetter:
    """What is kept of a refused record; a value that is not UTF-8 is kept as base64."""
    encoding, text = "null", ""
    if value is not None:
        try:
            encoding, text = "text", value.decode()
        except UnicodeDecodeError:
            encoding, text = "base64", base64.b64encode(value).decode()
    return DeadLetter(
        topic=topic,
        partition=partition,
        offset=offset,
        time=records.time_text_ms(timestamp_ms),
        reason=reason,
        encoding=encoding,
        value=text,
    )


class Lake:
    """Puts objects into the bucket, again and again until S3 takes them; safe to use from many threads.

    Delivery: at least once by itself. Every repetition writes the same bytes under the same name, and consumer.py moves
    the group on only after all objects of a batch were taken, which together is exactly once.
    """

    def __init__(self, settings: Settings, *, threads: int) -> None:
        self._group = settings.kafka_group
        self._s3 = aws.client(settings, "s3", attempts=1, pool_connections=threads)
        wanted = {
            "ServerSideEncryption": settings.s3_encryption,
            "SSEKMSKeyId": settings.s3_kms_key_id,
            "StorageClass": settings.s3_storage_class,
            "Tagging": urlencode(dict(tag.split("=", 1) for tag in settings.s3_tags.split(",") if tag)),
        }
        self._options = {name: value for name, value in wanted.items() if value}
        self._stopped = threading.Event()

    def put(self, plan: Plan, an_object: Object) -> None:
        """Put one object; waits and tries again for as long as S3 is away. Raises ServiceError for what no waiting
        mends, and Stopped after stop().
        """
        wait_seconds = 0.2
        while True:
            try:
                self._s3.put_object(
                    Bucket=plan.layout.bucket,
                    Key=an_object.key,
                    Body=an_object.body,
                    # What verify needs: names alone do not prove the content.
                    Metadata={"records": str(an_object.records), "group": self._group, "plan": plan.metadata()},
                    ContentType=_content_type(an_object.key),
                    **self._options,
                )
            except (NoCredentialsError, ParamValidationError) as error:
                raise ServiceError(f"S3_BUCKET={plan.layout.bucket}: {error}") from error
            except (ClientError, BotoCoreError) as error:
                if isinstance(error, ClientError) and aws.error_code(error) in _FINAL_CODES:
                    raise ServiceError(f"S3_BUCKET={plan.layout.bucket}: {error}") from error
                log.warning(
                    "upload failed, trying again",
                    extra={"key": an_object.key, "error": str(error), "wait_seconds": wait_seconds},
                )
            else:
                return
            if self._stopped.wait(wait_seconds):
                raise Stopped
            wait_seconds = min(wait_seconds * 2, 10.0)

    def stop(self) -> None:
        """Give up uploads that are waiting for S3; their plans are committed, so the next start completes them."""
        self._stopped.set()


def _content_type(key: str) -> str:
    """No Content-Encoding for .gz: a client that undoes it by itself would break the name's promise."""
    types = {
        "gz": "application/gzip",
        "json": "application/x-ndjson",
        "csv": "text/csv",
        "parquet": "application/vnd.apache.parquet",
    }
    return types[key.rsplit(".", 1)[-1]]


class Stopped(RuntimeError):
    """An upload that was given up because the consumer stops."""
