"""The ETL by Athena when it dies, is overtaken, or is read meanwhile."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from curated_lake import Engine, Interrupted, closes, objects
from raw_objects import TODAY, bar, curate, land, parameters_of, set_up, settings_of

from etl import publish
from local.stack import Stack
from pipeline import aws, records
from pipeline.athena.client import Athena
from pipeline.settings import Settings

NOW = datetime.now(UTC)
YESTERDAY = TODAY - timedelta(days=1)


@pytest.fixture
def lake(stack: Stack, bucket: str) -> Settings:
    return settings_of(stack, bucket)


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
