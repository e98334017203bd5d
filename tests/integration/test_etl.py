"""The ETL by Athena: what it publishes, what it costs, and what a crash or a rival at any point leaves behind."""

import base64
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from raw_objects import TODAY, bar, curate, land, parameters_of, set_up, settings_of, table_of

from etl import publish
from etl.curation import CuratedTable, PartitionValues
from local.stack import Stack
from pipeline import aws, records
from pipeline.athena.client import Athena
from pipeline.records import NewsItem, Tick
from pipeline.settings import Settings
from pipeline.tables.athena_engine import AthenaEngine

NOW = datetime.now(UTC)
YESTERDAY = TODAY - timedelta(days=1)


@pytest.fixture
def lake(stack: Stack, bucket: str) -> Settings:
    return settings_of(stack, bucket)


def closes(settings: Settings, table: str = "bars") -> dict[str, float]:
    """Symbol and day to close."""
    rows = Athena(settings).query(f'SELECT symbol, date(time) AS day, "close" FROM {table} ORDER BY 1, 2')
    return {f"{row.symbol} {row.day:%Y-%m-%d}": row.close for row in rows.itertuples()}


def objects(settings: Settings, folder: str) -> list[str]:
    pages = (
        aws.client(settings, "s3")
        .get_paginator("list_objects_v2")
        .paginate(Bucket=settings.s3_bucket, Prefix=f"{settings.s3_root}{folder}")
    )
    return [found["Key"] for page in pages for found in page.get("Contents", [])]


class Interrupted(RuntimeError):
    """Stands for a kill at this point."""


class Engine(AthenaEngine):
    """Athena's, with something that happens before and after it writes."""

    def __init__(self, settings: Settings, before: Callable = lambda: None, after: Callable = lambda: None) -> None:
        super().__init__(settings)
        self._before, self._after = before, after

    def write(
        self, table: CuratedTable, days: list[str], partitions: list[PartitionValues], place: str
    ) -> dict[PartitionValues, str]:
        self._before()
        locations = super().write(table, days, partitions, place)
        self._after()
        return locations


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

    def item(symbol: str, title: str, day: int) -> NewsItem:
        return NewsItem(
            id="1",
            symbol=symbol,
            time="2026-01-05 10:00:00.000",
            title=title,
            publisher="p",
            url="u",
            source="s",
            ingested_at=f"2026-01-0{day} 00:00:00.000",
        )

    land(lake, "news", [item("A", "old", 6), item("B", "other", 6), item("A", "new", 7)])
    set_up(lake)
    curate(lake, "news", now=NOW, run="one")
    rows = Athena(lake).query("SELECT symbol, title FROM curated_news ORDER BY symbol")
    assert rows.to_numpy().tolist() == [["A", "new"], ["B", "other"]]


@pytest.mark.parametrize(
    "point", ["before writing", "after writing", "claimed", "between two swaps", "swapped", "published"]
)
def test_kill_at_any_point_loses_nothing(lake: Settings, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    """Killed at any point, the view shows the right rows at once, and the next run completes the work."""
    land(lake, "bars", [bar("A", "2025-01-06", 1.0), bar("A", "2025-02-06", 2.0)], day=YESTERDAY)
    set_up(lake)
    curate(lake, now=NOW, run="one")
    new = [bar("A", "2025-01-06", 1.5, ingested_at="2026-02-01 00:00:00.000"), bar("A", "2025-02-07", 3.0)]
    land(lake, "bars", new, start=10)
    right = {"A 2025-01-06": 1.5, "A 2025-02-06": 2.0, "A 2025-02-07": 3.0}

    def die(*_arguments: Any, **_more: Any) -> None:
        raise Interrupted

    engine = Engine(lake)
    with monkeypatch.context() as patched:
        if point == "before writing":
            engine = Engine(lake, before=die)
        elif point == "after writing":
            engine = Engine(lake, after=die)
        elif point == "claimed":
            patched.setattr(publish, "point", die)
        elif point == "between two swaps":
            whole = publish.point
            patched.setattr(
                publish,
                "point",
                lambda glue, table, places: (whole(glue, table, dict([next(iter(places.items()))])), die()),
            )
        elif point == "swapped":
            whole = publish.point
            patched.setattr(publish, "point", lambda *arguments: (whole(*arguments), die()))
        else:
            patched.setattr(publish, "replace_view", die)
        with pytest.raises(Interrupted):
            curate(lake, now=NOW, run="two", engine=engine)
    assert closes(lake) == right
    curate(lake, now=NOW, run="three")
    assert closes(lake) == closes(lake, "curated_bars") == right
    assert set_up(lake) == []
    left = [
        table["Name"] for table in aws.client(lake, "glue").get_tables(DatabaseName=lake.glue_database)["TableList"]
    ]
    assert not [name for name in left if name.startswith("curated_bars_")]


def test_rival_that_published_first_wins(lake: Settings) -> None:
    """A run that finds that another one published since it began publishes nothing, and says so."""
    land(lake, "bars", [bar("A", "2025-01-06", 1.0)])
    set_up(lake)

    def rival() -> None:
        land(lake, "bars", [bar("A", "2025-01-07", 2.0)], start=5)
        curate(lake, now=NOW, run="rival")

    with pytest.raises(publish.PublishConflict, match="another run published meanwhile"):
        curate(lake, now=NOW, run="one", engine=Engine(lake, after=rival))
    assert closes(lake, "curated_bars") == closes(lake) == {"A 2025-01-06": 1.0, "A 2025-01-07": 2.0}


def test_rival_in_the_middle_of_publishing_moves_the_watermark_back(
    lake: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is overtaken between its claim and its end cannot know whose partitions are there: the watermark goes
    back to where it began, the view stays right, and the next run puts the table right.
    """
    land(lake, "bars", [bar("A", "2025-01-06", 1.0)], day=TODAY - timedelta(days=4))
    set_up(lake)
    began_at = parameters_of(lake, "bars")[publish.WATERMARK]
    whole, overtaken = publish.point, []

    def point(glue: Any, table: Any, places: Any) -> None:
        if not overtaken:
            overtaken.append(True)
            land(lake, "bars", [bar("A", "2025-01-07", 2.0)], start=5)
            curate(lake, now=NOW, run="rival")
        whole(glue, table, places)

    with monkeypatch.context() as patched:
        patched.setattr(publish, "point", point)
        with pytest.raises(publish.PublishConflict, match="at the same time"):
            curate(lake, now=NOW, run="one")
    assert parameters_of(lake, "bars")[publish.WATERMARK] == began_at
    set_up(lake)
    assert closes(lake) == {"A 2025-01-06": 1.0, "A 2025-01-07": 2.0}
    curate(lake, now=NOW, run="next")
    assert closes(lake, "curated_bars") == closes(lake)


def test_superseded_files_go_after_a_while(lake: Settings) -> None:
    """Files that no partition points at any more stay for a reader in flight, and are removed by a run an hour
    later.
    """
    land(lake, "bars", [bar("A", "2025-01-06", 1.0)])
    set_up(lake)
    curate(lake, now=NOW, run="one")
    land(lake, "bars", [bar("A", "2025-01-07", 2.0)], start=5)
    curate(lake, now=NOW + timedelta(minutes=1), run="two")
    assert len(objects(lake, "curated/bars/run=one")) == 1
    assert curate(lake, now=NOW + timedelta(minutes=30), run="three").removed == 0
    assert curate(lake, now=NOW + timedelta(hours=2), run="four").removed == 1
    assert objects(lake, "curated/bars/run=one") == []
    assert len(closes(lake, "curated_bars")) == 2


def test_files_of_a_dead_run_go_after_a_day(lake: Settings) -> None:
    """What a run wrote and never published is removed when it is surely dead."""

    def die() -> None:
        raise Interrupted

    land(lake, "bars", [bar("A", "2025-01-06", 1.0)])
    set_up(lake)
    with pytest.raises(Interrupted):
        curate(lake, now=NOW, run="dead", engine=Engine(lake, after=die))
    assert objects(lake, "curated/bars/run=dead")
    curate(lake, now=NOW + timedelta(hours=2), run="one")
    assert objects(lake, "curated/bars/run=dead")
    curate(lake, now=NOW + timedelta(hours=25), run="two")
    assert objects(lake, "curated/bars/run=dead") == []


def test_readers_see_old_or_new_never_a_mixture(lake: Settings) -> None:
    """A reader in a loop over twenty swaps sees every month whole, in its old or its new version, and never an empty
    one.
    """
    swaps, symbols = 20, [f"S{number}" for number in range(5)]

    def version(number: int) -> list[records.Record]:
        time = f"2026-01-05 00:00:{number:02}.000"
        return [bar(symbol, "2025-01-06", float(number), ingested_at=time) for symbol in symbols]

    land(lake, "bars", version(0))
    set_up(lake)
    curate(lake, now=NOW, run="run_0")
    mixed, reads, stopped = [], [], threading.Event()

    def read() -> None:
        athena = Athena(lake)
        while not stopped.is_set():
            rows = athena.query('SELECT count(*) AS n, min("close") AS first, max("close") AS last FROM curated_bars')
            reads.append(rows["first"][0])
            if rows["n"][0] != len(symbols) or rows["first"][0] != rows["last"][0]:
                mixed.append(rows.to_dict())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(1, swaps + 1):
            land(lake, "bars", version(number), start=10 * number)
            curate(lake, now=NOW, run=f"run_{number}")
    finally:
        stopped.set()
        reader.join()
    assert mixed == []
    assert len(reads) >= swaps
    assert len(set(reads)) > swaps / 4
    assert set(closes(lake).values()) == {float(swaps)}


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


def test_command_line(run: Callable, settings: Settings) -> None:
    """`python glue_setup.py etl` says what it did per table; before a set-up it says what is missing."""
    missing = run("glue_setup.py", "etl")
    assert missing.returncode == 1
    assert "python glue_setup.py" in missing.stderr
    land(settings, "bars", [bar("A", "2025-01-06", 1.0)])
    assert run("glue_setup.py").returncode == 0
    done = run("glue_setup.py", "etl")
    assert done.returncode == 0, done.stderr
    assert "bars  1 raw days into 1 partitions" in done.stdout
    assert "nothing new" in run("glue_setup.py", "etl").stdout
    assert run("glue_setup.py", "etl", "--from", "yesterday").returncode == 2
