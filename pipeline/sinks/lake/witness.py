"""What the bucket says about where the landing of a partition has come to.

Objects' names have their range and generation, so the newest batch is found by listing; how to repeat it stands in its
objects' metadata. Cost: two requests for the folders of a topic, whatever they hold, and about one for each of the
newest folders, of which a full one takes a few more, by bisection. Older folders are looked at, by one request each,
only for a partition that has no commit and no objects in the newest; and all of them, without a commit, where folders
are by the records' own times, which do not say when a batch was landed. Nothing reads an object.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from pipeline import aws, bucket
from pipeline.landing.plan import ObjectName, read_object_key
from pipeline.landing.positions import Partition, Standing
from pipeline.landing.resume import LastBatch
from pipeline.settings import Settings

# A batch lies in the newest folder, or over midnight in two; clocks that differ may put a later one into the older. And
# two more, for folders of the newest day and month may be newer than those of its hours, if they were made otherwise.
NEWEST_FOLDERS = 5
_PAGE = 1000  # keys in an answer
_DAY = re.compile(r"dt=\d{4}-\d\d-\d\d/")
_HOUR = re.compile(r"dt=\d{4}-\d\d-\d\d/hour=\d\d/")


class Witness:
    """Looks for the newest batches of partitions in the settings' bucket and prefix. Raises botocore's errors."""

    def __init__(self, settings: Settings, *, is_by_event: bool = False) -> None:
        self._settings, self._is_by_event = settings, is_by_event
        self._s3 = aws.client(settings, "s3")
        self._agreed: set[Partition] = set()

    def last_batches(self, partition: Partition, standing: Standing) -> dict[str, LastBatch]:
        """Return the newest batch of each generation of a partition, by the generation's first digits; empty if there
        is none. A partition with a commit is looked for until `agree`: later its commits are this process's own, or
        come from another one that has looked.
        """
        has_commit = standing.committed is not None
        if has_commit and partition in self._agreed:
            return {}
        topic, root = partition.topic, self._settings.s3_root
        found: dict[str, list[ObjectName]] = defaultdict(list)
        for table in (
            bucket.raw_folder(root, self._settings.topics.get(topic, topic)),
            bucket.dead_letter_folder(root, topic),
        ):
            for name in self._newest(table, partition, standing.end, is_bounded=has_commit):
                found[name.generation].append(name)
        return {generation: last_batch(self._settings, names, self._s3) for generation, names in found.items()}

    def agree(self, partition: Partition) -> None:
        """Note that the group's commit and the bucket do not contradict each other."""
        self._agreed.add(partition)

    def _newest(self, table: str, partition: Partition, end: int, *, is_bounded: bool) -> Iterator[ObjectName]:
        """Yield the last names of the newest folders of a table; of more folders until there is one, unless bounded."""
        is_found = False
        for number, folder in enumerate(self._folders(table)):
            if number >= NEWEST_FOLDERS and (is_bounded or (is_found and not self._is_by_event)):
                return
            for name in self._last_names(folder, partition, end):
                is_found = True
                yield name

    def _folders(self, table: str) -> Iterator[str]:
        """Yield the folders of a table that hold objects, newest first."""
        days = [day for day in self._below(table) if _DAY.fullmatch(day[len(table) :])]
        for number, day in enumerate(sorted(days, reverse=True)):
            yield day
            # A month's folder has the name of its first day, and may be newer than those of later days.
            if number == 0 and (month := f"{day[:-3]}01/") != day and month in days:
                yield month
            hours = [hour for hour in self._below(day) if _HOUR.fullmatch(hour[len(table) :])]
            yield from sorted(hours, reverse=True)

    def _below(self, folder: str) -> list[str]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._settings.s3_bucket, Prefix=f"{folder}", Delimiter="/"
        )
        return [found["Prefix"] for page in pages for found in page.get("CommonPrefixes", ())]

    def _last_names(self, folder: str, partition: Partition, end: int) -> list[ObjectName]:
        """Return the last names of a partition in a folder, among them that of its newest batch there. By bisection
        between the last name that was seen and `end`, the end of the topic, as listings only go forward.
        """
        prefix, low, high = f"{folder}{partition}-", 0, end
        names, is_more = self._page(prefix, low)
        while is_more:
            low = max(names[-1].start, low)
            middle = (low + high) // 2
            # Of this few offsets all names are listed.
            if high - low <= _PAGE:
                middle = low + 1
            later, is_more_later = self._page(prefix, middle)
            if later:
                names, is_more = later, is_more_later
            elif middle == low + 1:
                return names
            else:
                high = middle
        return [name for name in names if (name.topic, name.partition) == partition]

    def _page(self, prefix: str, start: int) -> tuple[list[ObjectName], bool]:
        """Return the first names of ranges that begin at this offset or behind it, and whether there are more."""
        answer: Any = self._s3.list_objects_v2(
            Bucket=self._settings.s3_bucket, Prefix=prefix, StartAfter=f"{prefix}{start:020}", MaxKeys=_PAGE
        )
        names = [name for found in answer.get("Contents", ()) if (name := read_object_key(found["Key"]))]
        return names, bool(answer["IsTruncated"]) and bool(names)


def last_batch(settings: Settings, names: Iterable[ObjectName], s3: Any = None) -> LastBatch:
    """Return the newest batch of the objects of these names, of which there is one at least."""
    by_range: dict[tuple[int, int], set[str]] = defaultdict(set)
    for name in names:
        by_range[name.start, name.end].add(name.key)
    start, end = max(by_range)
    keys = by_range[start, end]
    client = s3 or aws.client(settings, "s3")
    metadata = client.head_object(Bucket=settings.s3_bucket, Key=min(keys))["Metadata"]
    return LastBatch(
        start,
        end,
        plan=metadata.get("plan", ""),
        objects=len(keys),
        expected=int(metadata.get("objects", 0)),
        group=metadata.get("group", ""),
    )
