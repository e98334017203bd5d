"""The lake as the second witness: it finds where the landing has come to, at a bounded cost, however old it is."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pipeline.landing.plan import Layout, Plan
from pipeline.landing.positions import Committed, Partition, Standing
from pipeline.settings import Settings
from pipeline.sinks.lake.witness import Witness

NEW, OLD = "a" * 32, "b" * 32
FAR = 10_000_000


@pytest.fixture
def witness(credentials: None, settings: Settings) -> tuple[Witness, list]:
    """The witness, and the requests that it has made."""
    made, asked = Witness(settings), []
    made._s3.meta.events.register("before-call.s3", lambda model, **_: asked.append(model.name))
    return made, asked


def put(s3: Any, settings: Settings, plans: list[tuple[Plan, str]], *, is_dead_letter: bool = False) -> None:
    """Put an empty object per plan and folder, with the metadata that a landing gives it."""

    def one(made: tuple[Plan, str]) -> None:
        plan, folder = made
        key = plan.dead_letter_key(folder) if is_dead_letter else plan.object_key(folder)
        metadata = {"plan": plan.metadata(), "group": "g", "objects": "1", "records": "0"}
        s3.put_object(Bucket=settings.s3_bucket, Key=key, Metadata=metadata)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, plans))


def plan_of(
    settings: Settings, start: int, end: int, *, partition: int = 0, generation: str = NEW, **more: Any
) -> Plan:
    layout = Layout(bucket=settings.s3_bucket, root=settings.s3_root, table=more.pop("table", "bars"), **more)
    return Plan(settings.kafka_topic_bars, partition, start, end, layout, generation, 1)


def standing(committed: int | None = None) -> Standing:
    return Standing(0, FAR, None if committed is None else Committed(committed, ""), NEW)


def test_an_old_and_a_full_lake(witness: tuple[Witness, list], s3: Any, settings: Settings) -> None:
    """With 400 days, and 2,500 objects of the partition in the newest, a dozen requests find the newest batch."""
    made, asked = witness
    bars = Partition(settings.kafka_topic_bars, 0)
    days = [f"dt=20{year}-{month:02}-{day:02}" for year in (24, 25) for month in range(1, 11) for day in range(1, 21)]
    put(s3, settings, [(plan_of(settings, n * 10, n * 10 + 10), day) for n, day in enumerate(days)])
    first = len(days) * 10
    put(s3, settings, [(plan_of(settings, first + n * 10, first + n * 10 + 10), "dt=2025-12-01") for n in range(2_500)])
    found = made.last_batches(bars, standing())
    assert {name: (batch.start, batch.end) for name, batch in found.items()} == {
        NEW[:8]: (first + 24_990, first + 25_000)
    }
    assert found[NEW[:8]].plan == plan_of(settings, first + 24_990, first + 25_000).metadata()
    assert len(asked) <= 40, asked
    asked.clear()
    made.agree(bars)
    assert made.last_batches(bars, standing(5)) == {}, "it has agreed with the group's commit at this start"
    assert asked == []


def test_a_quiet_partition_is_found_in_older_folders(
    witness: tuple[Witness, list], s3: Any, settings: Settings
) -> None:
    """A partition without objects in the newest folders is looked for in older ones, if it has no commit."""
    made, _ = witness
    quiet = Partition(settings.kafka_topic_bars, 3)
    put(s3, settings, [(plan_of(settings, 0, 70, partition=3), "dt=2025-01-01")])
    put(s3, settings, [(plan_of(settings, n, n + 1), f"dt=2025-02-{n + 1:02}") for n in range(9)])
    assert made.last_batches(quiet, standing())[NEW[:8]].end == 70
    assert made.last_batches(Partition(settings.kafka_topic_bars, 2), standing()) == {}


def test_layouts_and_generations(witness: tuple[Witness, list], s3: Any, settings: Settings) -> None:
    """Hours, months and dead letters are looked through too, and each generation has its newest batch."""
    made, _ = witness
    bars = Partition(settings.kafka_topic_bars, 0)
    put(
        s3,
        settings,
        [
            (plan_of(settings, 0, 10), "dt=2025-03-20"),
            (plan_of(settings, 10, 20), "dt=2025-03-21"),
            (plan_of(settings, 20, 30), "dt=2025-03-22"),
            (plan_of(settings, 30, 40), "dt=2025-03-01"),
            (plan_of(settings, 0, 7_000, generation=OLD), "dt=2025-03-22"),
            (plan_of(settings, 40, 50), "dt=2025-03-22/hour=07"),
        ],
    )
    found = made.last_batches(bars, standing())
    assert {name: batch.end for name, batch in found.items()} == {NEW[:8]: 50, OLD[:8]: 7_000}
    put(s3, settings, [(plan_of(settings, 50, 60), "dt=2025-03-23")], is_dead_letter=True)
    assert made.last_batches(bars, standing())[NEW[:8]].end == 60
    put(s3, settings, [(plan_of(settings, 60, 70), "dt=2025-03-01")])
    assert made.last_batches(bars, standing())[NEW[:8]].end == 70


def test_folders_by_event_time(
    environment: dict[str, str], witness: tuple[Witness, list], s3: Any, settings: Settings
) -> None:
    """Where folders say nothing about when a batch was landed, all of them are looked through without a commit."""
    put(s3, settings, [(plan_of(settings, n * 10, n * 10 + 10), f"dt=2025-04-{30 - n:02}") for n in range(20)])
    found = Witness(settings, is_by_event=True).last_batches(Partition(settings.kafka_topic_bars, 0), standing())
    assert found[NEW[:8]].end == 200
