"""Which raw days an ETL run has to read. Needs only the standard library and an S3 client: it also runs inside Glue.

Folders of raw days are days of arrival in Kafka. A record may lie in Kafka for a while before it lands, so a day may
still get objects after it is over: every run reads again the days from the watermark on, and looks a month further back
for days that got objects since the run before.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from etl.unread import Earliest, Newest

LOOK_BACK_DAYS = 30
# S3 dates an object by the beginning of its upload.
LONGEST_UPLOAD_SECONDS = 120


@dataclass(frozen=True)
class RawDays:
    """What a run reads, and the watermark that holds after it."""

    days: list[str]
    watermark: str
    listing: str  # a digest of the objects in `days`: two runs with the same one would do the same
    read_before: dict[str, int] = field(default_factory=dict)  # as etl/unread.py has it
    # The same of the run before, for partitions of topics of which nothing new begins earlier.
    skipped_before: dict[str, int] = field(default_factory=dict)


def all_days(s3: Any, bucket: str, folder: str) -> list[str]:
    """Return the days that have a folder dt=YYYY-MM-DD below `folder`, oldest first."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=folder, Delimiter="/")
    names = [found["Prefix"][len(folder) : -1] for page in pages for found in page.get("CommonPrefixes", [])]
    return sorted(name.removeprefix("dt=") for name in names if name.startswith("dt="))


def find(
    s3: Any,
    bucket: str,
    folder: str,
    *,
    watermark: str,
    last_run: datetime | None,
    today: date,
    late_days: int,
    by_month: bool,
    whole_days: bool,
    first_day: str = "0001-01-01",
    read_before: dict[str, int] | None = None,
) -> RawDays:
    """Return the days to read. `by_month`: a folder is a month, named by its first day. `whole_days`: read only folders
    that expect no more objects, because a table without a key is copied folder by folder. `read_before`: as the run
    before noted it.
    """
    days = all_days(s3, bucket, folder)
    after = _later_watermark(watermark, days, today, late_days, by_month=by_month)
    due = [day for day in days if day >= watermark and (not whole_days or day < after)]
    oldest = date.fromordinal(max(date.fromisoformat(watermark).toordinal() - LOOK_BACK_DAYS, 1)).isoformat()
    # Before the first run nothing is read: whatever lies there is late.
    since = (last_run or datetime.min.replace(tzinfo=UTC) + timedelta(days=1)) - timedelta(
        seconds=LONGEST_UPLOAD_SECONDS
    )
    # First the newest batches, then the late objects: what landed before those batches is then among these.
    newest, older, fresh, late = Newest(), Newest(), Earliest(), []
    for day in due:
        for found in _objects(s3, bucket, f"{folder}dt={day}/"):
            newest.note_all([found["Key"]])
            if found["LastModified"] >= since:
                fresh.note(found["Key"])
    for day in (day for day in days if max(oldest, first_day) <= day < watermark):
        objects = list(_objects(s3, bucket, f"{folder}dt={day}/"))
        older.note_all(found["Key"] for found in objects)
        if new := [found["Key"] for found in objects if found["LastModified"] >= since]:
            late.append(day)
            for key in new:
                fresh.note(key)
    # A partition without records since the watermark keeps what was noted when it had some.
    kept = {partition: start for partition, start in (read_before or {}).items() if partition in older.starts()}
    listing = listing_of(s3, bucket, folder, late + due)
    return RawDays(late + due, after, listing, kept | newest.starts(), fresh.not_before(read_before or {}))


def listing_of(s3: Any, bucket: str, folder: str, days: list[str]) -> str:
    """Return a digest of the objects, names and content, in the folders of `days`."""
    digest = hashlib.sha256()
    for day in days:
        for found in _objects(s3, bucket, f"{folder}dt={day}/"):
            digest.update(f"{found['Key']} {found['ETag']}\n".encode())
    return digest.hexdigest()


def _later_watermark(watermark: str, days: list[str], today: date, late_days: int, *, by_month: bool) -> str:
    """Never beyond the newest day landed: while the consumer is down, what waits in Kafka belongs to days that look
    empty.
    """
    if not days:
        return watermark
    newest = date.fromisoformat(days[-1])
    if by_month:
        newest = (newest + timedelta(days=31)).replace(day=1) - timedelta(days=1)
    after = min(newest, today) - timedelta(days=late_days)
    return max(watermark, (after.replace(day=1) if by_month else after).isoformat())


def _objects(s3: Any, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        yield from page.get("Contents", [])
