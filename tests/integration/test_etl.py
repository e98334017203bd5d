"""The ETL by Athena: what it publishes, what it costs, and what a crash or a rival at any point leaves behind."""

import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from curated_lake import closes, item, objects
from raw_objects import TODAY, bar, curate, land, parameters_of, set_up, settings_of, table_of

from etl import publish
from local.stack import Stack
from pipeline import aws
from pipeline.athena.client import Athena
from pipeline.records import Tick
from pipeline.settings import Settings

NOW = datetime.now(UTC)
YESTERDAY = TODAY - timedelta(days=1)


@pytest.fixture
def lake(stack: Stack, bucket: str) -> Settings:
    return settings_of(stack, bucket)


def test_view_is_the_same_before_and_after(lake: Settings) -> None:
    """Before, between and after runs the view has the latest record of every key, and the ETL only changes where it
    comes from.
    """
    land(
        lake,
        "bars",
        [bar("A", "2025-01-06", 1.0), bar("A", "2025-02-06", 2.0), bar("B", "2025-02-06", 3.0)],
        day=YESTERDAY - timedelta(days=2),
    )
    set_up(lake)
    first = {"A 2025-01-06": 1.0, "A 2025-02-06": 2.0, "B 2025-02-06": 3.0}
    assert closes(lake) == first
    done = curate(lake, now=NOW, run="one")
    assert done.partitions == 2
    assert closes(lake) == closes(lake, "curated_bars") == first
    land(
        lake,
        "bars",
        [bar("A", "2025-02-06", 2.5, ingested_at="2026-02-01 00:00:00.000"), bar("C", "2025-02-07", 4.0)],
        start=10,
    )
    second = first | {"A 2025-02-06": 2.5, "C 2025-02-07": 4.0}
    assert (closes(lake), closes(lake, "curated_bars")) == (second, first)
    again = curate(lake, now=NOW, run="two")
    assert closes(lake) == closes(lake, "curated_bars") == second
    assert again.watermark == YESTERDAY.isoformat()
    assert f"dt >= '{YESTERDAY}'" in stored_sql(lake)
    assert set_up(lake) == []


def stored_sql(settings: Settings) -> str:
    return base64.b64decode(table_of(settings, "bars")["ViewOriginalText"].split()[3]).decode()


def test_nothing_new_is_not_done_again(lake: Settings) -> None:
    """A run over the objects of the run before writes nothing."""
    land(lake, "bars", [bar("A", "2025-01-06", 1.0)])
    set_up(lake)
    assert curate(lake, now=NOW, run="one").partitions == 1
    before = objects(lake, "curated/bars/")
    assert curate(lake, now=NOW, run="two").why_not == "nothing new since the last run"
    assert objects(lake, "curated/bars/") == before


def test_only_touched_months_are_written(lake: Settings) -> None:
    """The cost of a run grows with what is new: months without new records keep their files."""
    land(lake, "bars", [bar("A", f"2025-{month:02}-03", 1.0) for month in range(1, 13)], day=TODAY - timedelta(days=5))
    land(lake, "bars", [bar("A", "2025-12-04", 1.0)], start=50)
    set_up(lake)
    # As if the objects had been there for a while: those of the last two minutes are read again, for uploads take time.
    later = datetime.now(UTC) + timedelta(minutes=5)
    assert curate(lake, now=later, run="one").partitions == 12
    land(lake, "bars", [bar("A", "2025-07-04", 2.0)], start=100)
    assert curate(lake, now=later, run="two").partitions == 2
    assert len(objects(lake, "curated/bars/run=two")) == 2


def test_more_than_a_hundred_partitions_are_written_in_slices(lake: Settings) -> None:
    """Athena writes 100 partitions in one statement at most; 130 months come out whole."""
    bars = [bar("A", f"{2010 + month // 12}-{1 + month % 12:02}-05", float(month)) for month in range(130)]
    land(lake, "bars", bars)
    set_up(lake)
    assert curate(lake, now=NOW, run="one").partitions == 130
    assert sorted(closes(lake, "curated_bars").values()) == [float(month) for month in range(130)]


def test_late_objects_come_with_the_next_run(lake: Settings) -> None:
    """An object that lands in a day before the watermark is found by the next run."""
    land(lake, "bars", [bar("A", "2025-01-06", 1.0)], day=TODAY - timedelta(days=6))
    land(lake, "bars", [bar("A", "2025-01-07", 2.0)], start=1)
    set_up(lake)
    curate(lake, now=NOW, run="one")
    land(lake, "bars", [bar("A", "2025-01-08", 3.0)], day=TODAY - timedelta(days=5), start=2)
    curate(lake, now=NOW, run="two")
    assert closes(lake)["A 2025-01-08"] == 3.0


def test_what_lands_behind_the_watermark_is_seen_at_once(lake: Settings) -> None:
    """A bar and an article that land for a day which the watermark has passed are in the views before the next run, and
    after it; what the run before has read is not read again for that.
    """
    many = [bar(f"S{number}", "2025-01-06", float(number), company=f"Company {number}") for number in range(3000)]
    (raw,) = land(lake, "bars", many, day=TODAY - timedelta(days=4))
    land(lake, "bars", [bar("A", "2025-01-07", 2.0)], start=3000)
    land(lake, "news", [item("A", "first")])
    set_up(lake)
    assert curate(lake, now=NOW, run="one").watermark == YESTERDAY.isoformat()
    curate(lake, "news", now=NOW, run="one")
    assert set_up(lake) == []
    total = 'SELECT count(*) AS bars, sum("close") AS total FROM bars'
    before = Athena(lake).run(total)
    late = [bar("A", "2025-01-08", 3.0), bar("S1", "2025-01-06", 9.0, ingested_at="2026-02-01 00:00:00.000")]
    land(lake, "bars", late, day=TODAY - timedelta(days=4), start=3001)
    land(lake, "news", [item("B", "late")], day=TODAY - timedelta(days=6), start=1)
    after = Athena(lake).run(total)
    assert (before.rows["bars"][0], after.rows["bars"][0]) == (3001, 3002)
    assert after.rows["total"][0] == before.rows["total"][0] + 3.0 + 8.0
    size = aws.client(lake, "s3").head_object(Bucket=lake.s3_bucket, Key=raw)["ContentLength"]
    assert after.scanned_bytes < before.scanned_bytes + size / 2
    assert Athena(lake).query("SELECT symbol FROM news ORDER BY symbol")["symbol"].tolist() == ["A", "B"]
    curate(lake, now=NOW, run="two")
    assert Athena(lake).query(total).equals(after.rows)
    assert closes(lake) == closes(lake, "curated_bars")


def test_topic_that_was_made_anew(lake: Settings) -> None:
    """Objects of two generations of a topic, with the same offsets, and of a version without: tables, view and ETL have
    the records of all, also of those that land behind the watermark.
    """
    late = TODAY - timedelta(days=3)
    for number, generation in enumerate(("", "a" * 32, "b" * 32)):
        day = (late, TODAY, TODAY)[number]
        land(lake, "bars", [bar(f"S{number}", "2025-01-06", 1.0)], day=day, generation=generation)
        land(lake, "bars", [bar(f"T{number}", "2025-01-06", 1.0)], day=TODAY, start=5, generation=generation)
    set_up(lake)
    expected = {f"{letter}{number} 2025-01-06": 1.0 for letter in "ST" for number in range(3)}
    assert closes(lake) == expected
    curate(lake, now=NOW, run="one")
    assert closes(lake) == closes(lake, "curated_bars") == expected
    land(lake, "bars", [bar("LATE", "2025-01-06", 2.0)], day=late, start=9, generation="b" * 32)
    assert closes(lake) == expected | {"LATE 2025-01-06": 2.0}
    assert Athena(lake).query("SELECT count(*) AS n FROM raw_bars WHERE dt >= '2026-01-01'")["n"][0] == 7


def test_topic_that_was_made_anew_between_two_runs(lake: Settings) -> None:
    """A run reads no object again that an older one has read, and still all of a topic whose offsets began again."""
    land(lake, "bars", [bar("A", "2025-01-06", 1.0)], start=5000, generation="a" * 32)
    land(lake, "bars", [bar("B", "2025-02-06", 1.0)], start=6000, generation="a" * 32)
    set_up(lake)
    # As if these had been there for a while: uploads of the last two minutes before a run may have been under way.
    curate(lake, now=datetime.now(UTC) + timedelta(minutes=5), run="one")
    land(lake, "bars", [bar("C", "2025-03-06", 1.0)], start=7000, generation="a" * 32)
    # The newest batch of the run before, and what came since.
    assert curate(lake, now=datetime.now(UTC), run="two").partitions == 2
    land(lake, "bars", [bar("D", "2025-04-06", 1.0)], start=0, generation="b" * 32)
    curate(lake, now=datetime.now(UTC), run="three")
    assert list(closes(lake, "curated_bars")) == ["A 2025-01-06", "B 2025-02-06", "C 2025-03-06", "D 2025-04-06"]


def test_clock_of_the_future_does_not_win_for_ever(lake: Settings) -> None:
    """A bar whose ingested_at is years ahead counts as ingested when it arrived: a later correction replaces it, in the
    view and by the ETL.
    """
    arrived = TODAY - timedelta(days=6)
    wrong = bar("A", "2025-01-06", 1.0, ingested_at="2099-01-01 00:00:00.000")
    land(lake, "bars", [wrong, bar("B", "2025-01-06", 1.0)], day=arrived)
    right = f"{TODAY - timedelta(days=1)} 12:00:00.000"
    land(lake, "bars", [bar("A", "2025-01-06", 2.0, ingested_at=right)], start=2)
    set_up(lake)
    assert closes(lake) == {"A 2025-01-06": 2.0, "B 2025-01-06": 1.0}
    curate(lake, now=NOW, run="one")
    assert closes(lake) == closes(lake, "curated_bars") == {"A 2025-01-06": 2.0, "B 2025-01-06": 1.0}


def test_ticks_are_copied_once(lake: Settings) -> None:
    """Two equal ticks stay two, before and after the day goes from raw to curated."""
    tick = Tick(
        symbol="A",
        time="2026-01-05 10:00:00.000",
        price=1.0,
        volume=2.0,
        source="s",
        ingested_at="2026-01-05 10:00:01.000",
    )
    for number, day in enumerate((3, 2, 0)):
        land(lake, "ticks", [tick, tick], day=TODAY - timedelta(days=day), start=2 * number)
    set_up(lake)
    count = "SELECT count(*) AS ticks FROM ticks"
    assert Athena(lake).query(count)["ticks"][0] == 6
    done = curate(lake, "ticks", now=NOW, run="one")
    assert done.days == [(TODAY - timedelta(days=3)).isoformat(), (TODAY - timedelta(days=2)).isoformat()]
    assert Athena(lake).query(count)["ticks"][0] == 6
    assert Athena(lake).query("SELECT count(*) AS ticks FROM curated_ticks")["ticks"][0] == 4


def test_news_by_article_and_symbol(lake: Settings) -> None:
    """An article that was changed is one row per symbol, the one ingested last."""

    land(lake, "news", [item("A", "old", 6), item("B", "other", 6), item("A", "new", 7)])
    set_up(lake)
    curate(lake, "news", now=NOW, run="one")
    rows = Athena(lake).query("SELECT symbol, title FROM curated_news ORDER BY symbol")
    assert rows.to_numpy().tolist() == [["A", "new"], ["B", "other"]]


def test_days_can_be_asked_for(lake: Settings) -> None:
    """--from and --to read exactly these raw days again, and leave the watermark."""
    for number in range(4):
        land(
            lake,
            "bars",
            [bar("A", f"2025-01-0{number + 1}", float(number))],
            day=TODAY - timedelta(days=number),
            start=number,
        )
    set_up(lake)
    before = parameters_of(lake, "bars")[publish.WATERMARK]
    day = (TODAY - timedelta(days=2)).isoformat()
    done = curate(lake, now=NOW, run="one", only_days=(day, day))
    assert (done.days, done.watermark) == ([day], before)
    assert list(closes(lake, "curated_bars")) == ["A 2025-01-03"]
    # What such a run did not look at is read by the next one, also where it lies behind the watermark.
    land(lake, "bars", [bar("A", "2025-01-09", 9.0)], day=TODAY - timedelta(days=5), start=9)
    curate(lake, now=NOW, run="two")
    land(lake, "bars", [bar("A", "2025-01-10", 9.0)], day=TODAY - timedelta(days=5), start=10)
    curate(lake, now=datetime.now(UTC) + timedelta(minutes=5), run="three", only_days=(day, day))
    curate(lake, now=NOW, run="four")
    assert "A 2025-01-10" in closes(lake, "curated_bars")


def test_command_line(run: Callable, settings: Settings) -> None:
    """`python glue_setup.py etl` says what it did per table; before a set-up it says what is missing."""
    missing = run("glue_setup.py", "etl")
    assert missing.returncode == 1
    assert "python glue_setup.py" in missing.stderr
    land(settings, "bars", [bar("A", "2025-01-06", 1.0)])
    assert run("glue_setup.py").returncode == 0
    done = run("glue_setup.py", "etl")
    assert done.returncode == 0, done.stderr
    assert "bars  1 raw day into 1 partition;" in done.stdout
    assert "nothing new" in run("glue_setup.py", "etl").stdout
    assert run("glue_setup.py", "etl", "--from", "yesterday").returncode == 2
