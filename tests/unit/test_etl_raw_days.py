"""etl/raw_days.py: which raw days a run reads, and where the watermark goes. S3 is a dictionary here: only its listing
counts.
"""

from datetime import UTC, date, datetime, timedelta

import pytest

from etl import raw_days
from etl.raw_days import RawDays

TODAY = date(2026, 6, 30)
NOW = datetime(2026, 6, 30, 12, tzinfo=UTC)


class Listing:
    """The one call that raw_days makes of S3."""

    def __init__(self, days: dict[str, datetime], objects: dict[str, datetime] | None = None) -> None:
        self._objects = {f"raw/bars/dt={day}/object": modified for day, modified in days.items()} | (objects or {})

    def get_paginator(self, _name: str) -> "Listing":
        return self

    def paginate(self, *, Bucket: str, Prefix: str, Delimiter: str = "") -> list[dict]:  # noqa: N803 - S3's names
        found = {key: modified for key, modified in self._objects.items() if key.startswith(Prefix)}
        if Delimiter:
            return [{"CommonPrefixes": [{"Prefix": key.rpartition("/")[0] + "/"} for key in found]}]
        return [
            {"Contents": [{"Key": key, "LastModified": modified, "ETag": '"e"'} for key, modified in found.items()]}
        ]


def find(
    days: dict[str, datetime],
    watermark: str = "2026-06-20",
    *,
    last_run: datetime | None = NOW + timedelta(hours=1),
    whole_days: bool = False,
    by_month: bool = False,
    today: date = TODAY,
    first_day: str = "0001-01-01",
) -> RawDays:
    return raw_days.find(
        Listing(days),
        "b",
        "raw/bars/",
        watermark=watermark,
        last_run=last_run,
        today=today,
        late_days=1,
        by_month=by_month,
        whole_days=whole_days,
        first_day=first_day,
    )


def test_days_from_the_watermark_on() -> None:
    """A run reads the days from the watermark on, and the watermark goes to the day before the newest."""
    found = find(dict.fromkeys(["2026-06-10", "2026-06-20", "2026-06-30"], NOW))
    assert (found.days, found.watermark) == (["2026-06-20", "2026-06-30"], "2026-06-29")


def test_watermark_waits_for_a_consumer_that_is_down() -> None:
    """The watermark does not pass the newest day landed: what waits in Kafka belongs to the days after it."""
    assert find({"2026-06-21": NOW}).watermark == "2026-06-20"
    assert find({"2026-06-25": NOW}).watermark == "2026-06-24"


def test_watermark_never_goes_back_by_itself() -> None:
    """Fewer days than before do not lower the watermark."""
    assert find({"2026-06-01": NOW}).watermark == "2026-06-20"
    assert find({}).watermark == "2026-06-20"


def test_folders_of_the_future_do_not_move_it() -> None:
    """A folder of a day to come, by a producer whose clock is wrong, does not move the watermark past yesterday."""
    assert find({"2027-01-01": NOW}).watermark == "2026-06-29"


def test_late_objects_are_found() -> None:
    """A day before the watermark that got an object since the last run is read again, and one that did not is not."""
    run = NOW - timedelta(days=1)
    found = find({"2026-06-10": NOW, "2026-06-11": run - timedelta(hours=1), "2026-06-25": run}, last_run=run)
    assert found.days == ["2026-06-10", "2026-06-25"]


def test_first_run_reads_what_landed_behind_the_watermark() -> None:
    """Before the first run everything is new, whenever it landed: also what came for a day before the watermark of the
    set-up.
    """
    days = {"2026-06-10": NOW - timedelta(days=20), "2026-06-25": NOW}
    assert find(days, last_run=None).days == ["2026-06-10", "2026-06-25"]
    assert find(days, last_run=None, first_day="2026-06-15").days == ["2026-06-25"]


def test_what_is_noted_as_read() -> None:
    """The newest batches since the watermark are noted. Those before it are not, for an object that landed between two
    looks could be left out; a partition without newer records keeps what the run before noted, while it has objects.
    """

    def name(partition: int, start: int) -> str:
        return f"t-{partition}-{start:020}-{start + 5:020}.json.gz"

    objects = {f"raw/bars/dt=2026-06-25/{name(0, 40)}": NOW}
    objects |= {f"raw/bars/dt=2026-06-10/{name(partition, 20)}": NOW for partition in (0, 1, 2)}
    found = raw_days.find(
        Listing({}, objects),
        "b",
        "raw/bars/",
        watermark="2026-06-20",
        last_run=NOW,
        today=TODAY,
        late_days=1,
        by_month=False,
        whole_days=False,
        read_before={"t-0": 10, "t-1": 15, "gone-0": 7},
    )
    assert found.read_before == {"t-1": 15, "t-0": 40}


def test_upload_that_began_before_the_last_run_is_found() -> None:
    """S3 dates an object by the beginning of its upload, so a little before the last run counts as since."""
    assert find({"2026-06-10": NOW - timedelta(seconds=60)}, last_run=NOW).days == ["2026-06-10"]


@pytest.mark.parametrize(
    ("newest", "days"), [("2026-06-30", ["2026-06-20", "2026-06-28"]), ("2026-06-28", ["2026-06-20"])]
)
def test_whole_days_only(newest: str, days: list[str]) -> None:
    """A table without a key takes days that are over only, those before the new watermark."""
    assert find(dict.fromkeys(["2026-06-20", "2026-06-28", newest], NOW), whole_days=True).days == days


def test_listing_tells_a_new_object() -> None:
    """Two runs over the same objects have the same listing, one object more changes it."""
    days = {"2026-06-20": NOW}
    assert find(days).listing == find(days).listing
    assert find(days).listing != find(days | {"2026-06-21": NOW}).listing


@pytest.mark.parametrize(("today", "watermark"), [(date(2026, 6, 1), "2026-05-01"), (date(2026, 6, 15), "2026-06-01")])
def test_folders_of_months(today: date, watermark: str) -> None:
    """A month's folder, named by its first day, is read until the month is over and late records have had their
    time.
    """
    found = find(dict.fromkeys(["2026-05-01", "2026-06-01"], NOW), "2026-05-01", by_month=True, today=today)
    assert (found.days, found.watermark) == (["2026-05-01", "2026-06-01"], watermark)
