"""Raw objects in days before the watermark that no ETL run has read: the views read them at once.

Batches of a partition of a topic land one after the other, and an object's name holds the first offset of its batch:
`<topic>-<partition>-<start>-<end>[-<generation>].<extension>`. So a run first notes for each partition the start
of the newest batch, and then looks for what it has to read. Objects that start earlier were there by then, and are
curated; the views leave them out by ranges of "$path", which keeps Athena from opening them, and read what is left.

Needs only the standard library, because it also runs inside Glue.
"""

import re
from collections.abc import Iterable
from datetime import date, timedelta

# Kafka keeps records for a week by default: what lands later than that is there after the next run.
LOOK_BACK_DAYS = 7
# Each folder and partition needs a range of about 200 characters in the view's text. Queries of a view with 140 took no
# longer than with none; 400 did not work on the embedded Athena.
MOST_RANGES = 140
_NAME = re.compile(r"(.+-\d+)-(\d{20})-\d{20}(?:-([0-9a-f]{8}))?\.\w+(?:\.gz)?", re.ASCII)


class Newest:
    """Collects the start of the newest batch of each partition from objects' keys."""

    def __init__(self) -> None:
        self._starts: dict[tuple[str, str], int] = {}

    def note_all(self, keys: Iterable[str]) -> None:
        """Take keys into account; those of other writers say nothing."""
        for key in keys:
            if name := _NAME.fullmatch(key.rpartition("/")[2]):
                place = (name[1], name[3] or "")
                self._starts[place] = max(self._starts.get(place, 0), int(name[2]))

    def starts(self) -> dict[str, int]:
        """Return `<topic>-<partition>` to the start. A topic that was made anew has several generations, whose offsets
        begin again: the least holds for all, since the views may read twice and must not leave out.
        """
        found: dict[str, int] = {}
        for (partition, _generation), start in self._starts.items():
            found[partition] = min(found.get(partition, start), start)
        return dict(sorted(found.items()))


class Earliest:
    """Collects the start of the earliest of some objects of each partition. A topic that was made anew begins again,
    so what is new may start before what was read.
    """

    def __init__(self) -> None:
        self._starts: dict[str, int] = {}

    def note(self, key: str) -> None:
        """Take a key into account; those of other writers say nothing."""
        if name := _NAME.fullmatch(key.rpartition("/")[2]):
            self._starts[name[1]] = min(self._starts.get(name[1], int(name[2])), int(name[2]))

    def not_before(self, starts: dict[str, int]) -> dict[str, int]:
        """Return the starts of the partitions of which no collected object starts earlier."""
        return {partition: start for partition, start in starts.items() if self._starts.get(partition, start) >= start}


def condition(
    folder: str, *, watermark: str, first_day: str, read_before: dict[str, int], has_hours: bool, by_month: bool
) -> str:
    """Return the condition of the unread objects before the watermark, empty where there is nothing to look for.

    `folder`: of the raw table, s3:// with a slash at its end. `read_before`: as `Newest.starts` gave it.
    """
    hours = _hours(has_hours=has_hours)
    count = min(LOOK_BACK_DAYS, MOST_RANGES // (len(hours) * max(len(read_before), 1)))
    days = [day for day in _days_before(watermark, count, by_month=by_month) if day >= first_day]
    if not days or not read_before:
        return ""
    places = [f"{folder}dt={day}/{hour}" for day in days for hour in hours]
    return "\n    AND ".join([f"dt >= '{days[0]}' AND dt < '{watermark}'", *_not_read(places, read_before)])


def condition_in_days(folder: str, days: list[str], read_before: dict[str, int], *, has_hours: bool) -> str:
    """Return the condition of the unread objects of some days; `true`, which is all of them, where there are too many
    ranges.
    """
    places = [f"{folder}dt={day}/{hour}" for day in days for hour in _hours(has_hours=has_hours)]
    if len(places) * len(read_before) > MOST_RANGES:
        return "true"
    return "\n    AND ".join(_not_read(places, read_before)) or "true"


def _not_read(places: list[str], read_before: dict[str, int]) -> list[str]:
    return [
        f'NOT ("$path" >= {_text(f"{place}{partition}-")} AND "$path" < {_text(f"{place}{partition}-{start:020}")})'
        for place in places
        for partition, start in read_before.items()
    ]


def _hours(*, has_hours: bool) -> list[str]:
    return [f"hour={hour:02}/" for hour in range(24)] if has_hours else [""]


def _days_before(watermark: str, count: int, *, by_month: bool) -> Iterable[str]:
    """The folders' days, oldest first. A folder of a month is its first day, and reaches further than a week."""
    day = date.fromisoformat(watermark)
    if by_month:
        return [(day - timedelta(days=1)).replace(day=1).isoformat()] if count else []
    return [(day - timedelta(days=back)).isoformat() for back in range(count, 0, -1)]


def _text(value: str) -> str:
    """A string of SQL."""
    quoted = value.replace("'", "''")
    return f"'{quoted}'"
