"""Which raw objects before the watermark count as unread. What the views make of it: tests/integration/test_etl.py."""

import re

from etl import unread
from etl.unread import Earliest, Newest

FOLDER = "s3://lake/raw/bars/"


def starts(*names: str) -> dict[str, int]:
    newest = Newest()
    newest.note_all(f"raw/bars/dt=2026-06-10/{name}" for name in names)
    return newest.starts()


def name(start: int, partition: int = 0, topic: str = "stock_bars", generation: str = "") -> str:
    return f"{topic}-{partition}-{start:020}-{start + 10:020}{generation}.json.gz"


def condition(read_before: dict[str, int], **changes: object) -> str:
    given = {"watermark": "2026-06-20", "first_day": "2026-01-01", "has_hours": False, "by_month": False}
    return unread.condition(FOLDER, read_before=read_before, **given | changes)


def is_read(sql: str, path: str) -> bool:
    """Whether the condition leaves a path out."""
    ranges = re.findall(r'"\$path" >= \'(.*?)\' AND "\$path" < \'(.*?)\'', sql)
    return any(first <= path < last for first, last in ranges)


def test_newest_batch_of_each_partition() -> None:
    """The newest start of each partition counts, in any order; topics may have hyphens; others' objects say nothing."""
    found = starts(name(20), name(0), name(500, 1), name(7, 0, "a-b-2"), "stock_market_0.json", "part-0001.parquet")
    assert found == {"stock_bars-0": 20, "stock_bars-1": 500, "a-b-2-0": 7}


def test_topic_that_was_made_anew() -> None:
    """Of two generations of a topic, whose offsets begin again, the lesser start holds: rather read twice than left
    out.
    """
    assert starts(name(5000), name(40, generation="-0a1b2c3d"), name(10, generation="-0a1b2c3d")) == {
        "stock_bars-0": 40
    }


def test_objects_of_the_newest_batch_and_later_are_unread() -> None:
    """Objects that start before the newest batch are left out in each day of the week before the watermark; the newest
    batch, later ones, and those of a new partition are not.
    """
    sql = condition({"stock_bars-0": 100})
    for day in ("2026-06-13", "2026-06-19"):
        folder = f"{FOLDER}dt={day}/"
        assert is_read(sql, folder + name(0))
        assert is_read(sql, folder + name(99, generation="-0a1b2c3d"))
        assert not is_read(sql, folder + name(100))
        assert not is_read(sql, folder + name(0, 1))
        assert not is_read(sql, folder + "another_writer.json")
    assert "dt >= '2026-06-13' AND dt < '2026-06-20'" in sql
    assert "2026-06-12" not in sql


def test_text_of_the_view_stays_small() -> None:
    """Many partitions, or hours, shorten the time that is looked back, down to nothing."""
    many = {f"stock_bars-{number}": 10 for number in range(100)}
    assert condition(many).count("NOT (") == 100
    assert condition({f"stock_bars-{number}": 10 for number in range(20)}).count("NOT (") == 140
    assert condition({"stock_bars-0": 1}, has_hours=True).count("NOT (") == 5 * 24
    assert condition({f"t-{number}": 1 for number in range(32)}, has_hours=True) == ""


def test_nothing_to_look_for() -> None:
    """Before the first run, and where the table begins at the watermark, there is no condition."""
    assert condition({}) == ""
    assert condition({"stock_bars-0": 1}, first_day="2026-06-20") == ""


def test_folders_of_months() -> None:
    """With folders of months it is the month before."""
    sql = condition({"stock_bars-0": 100}, watermark="2026-06-01", by_month=True)
    assert is_read(sql, f"{FOLDER}dt=2026-05-01/" + name(0))
    assert sql.count("NOT (") == 1


def test_days_of_a_run_without_what_was_read() -> None:
    """A run leaves out what older ones have read in each of its days, and everything else it reads."""
    sql = unread.condition_in_days(FOLDER, ["2026-06-10", "2026-06-11"], {"stock_bars-0": 100}, has_hours=False)
    assert is_read(sql, f"{FOLDER}dt=2026-06-11/{name(99)}")
    assert not is_read(sql, f"{FOLDER}dt=2026-06-11/{name(100)}")
    assert not is_read(sql, f"{FOLDER}dt=2026-06-12/{name(0)}")
    many = [f"2026-06-{day:02}" for day in range(1, 8)]
    assert unread.condition_in_days(FOLDER, many, {"stock_bars-0": 100}, has_hours=True) == "true"
    assert unread.condition_in_days(FOLDER, many, {}, has_hours=False) == "true"


def test_what_begins_again_is_not_left_out() -> None:
    """A partition of which something new starts before what was read, as after a topic was made anew, is read whole."""
    earliest = Earliest()
    for key in (name(500), name(7, 1, generation="-0a1b2c3d"), "part-0001.parquet"):
        earliest.note(f"raw/bars/dt=2026-06-10/{key}")
    before = {"stock_bars-0": 500, "stock_bars-1": 20, "stock_bars-2": 30}
    assert earliest.not_before(before) == {"stock_bars-0": 500, "stock_bars-2": 30}
