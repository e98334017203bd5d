"""resume.py: where a partition's landing begins, and where it must not."""

import pytest

from pipeline.landing.plan import Layout, Plan, end_mark
from pipeline.landing.positions import Committed, Partition, Standing
from pipeline.landing.resume import Contradiction, LastBatch, begin_at

PARTITION = Partition("t", 0)
NEW, OLD = "a" * 32, "b" * 32
LAYOUT = Layout(bucket="b", root="", table="bars")
PLAN = Plan("t", 0, 20, 30, LAYOUT, NEW, 1)
END = end_mark(NEW)


def standing(committed: Committed | None = None, oldest: int = 0, end: int = 100) -> Standing:
    return Standing(oldest, end, committed, NEW)


def last(plan: Plan = PLAN, objects: int = 1, expected: int = 2, group: str = "g") -> dict[str, LastBatch]:
    return {
        plan.generation[:8]: LastBatch(plan.start, plan.end, plan.metadata(), objects, expected, group),
    }


@pytest.mark.parametrize(
    ("at", "landed", "expected"),
    [
        (standing(), {}, Committed(0, END)),
        (standing(oldest=7), {}, Committed(7, END)),
        (standing(Committed(5, END)), {}, Committed(5, END)),
        (standing(Committed(5, "")), {}, Committed(5, "")),
        (standing(PLAN.committed), last(), PLAN.committed),
        (standing(Committed(30, END)), last(), Committed(30, END)),
        (standing(), last(objects=2), Committed(30, END)),
        (standing(oldest=25), last(objects=2), Committed(30, END)),
        (standing(), last(objects=1), PLAN.committed),
        (standing(), last(expected=0), PLAN.committed),
        (standing(), last() | last(Plan("t", 0, 500, 600, LAYOUT, OLD, 1)), PLAN.committed),
        (Standing(0, 100, Committed(5, END), None), {}, Committed(5, END)),
        (Standing(0, 100, None, None), {}, Committed(0, "")),
    ],
)
def test_where_it_begins(at: Standing, landed: dict[str, LastBatch], expected: Committed) -> None:
    """At the commit; without one behind the newest batch, which is repeated by its plan if it may be incomplete;
    without either at the oldest record.
    """
    assert begin_at(PARTITION, at, landed, "g") == expected


@pytest.mark.parametrize(
    ("at", "landed", "told"),
    [
        (standing(Committed(5, end_mark(OLD))), {}, "--from-beginning"),
        (standing(Plan("t", 0, 20, 30, LAYOUT, OLD, 1).committed), {}, "--from-beginning"),
        (standing(Committed(101, END)), {}, "ends at 100"),
        (standing(Plan("t", 0, 90, 130, LAYOUT, NEW, 1).committed), {}, "ends at 100"),
        (Standing(0, 100, Committed(50, END), NEW, cut=40), {}, "log was cut off at 40"),
        (standing(Committed(5, END), oldest=6), {}, "oldest is 6"),
        (standing(oldest=25), last(objects=1), "oldest is 25"),
        (standing(oldest=31), last(objects=2), "oldest is 31"),
        (standing(end=29), last(objects=2), "ends at 29"),
        (standing(), last(group="other"), "other has landed the topic up to 30"),
        (standing(), last(Plan("t", 0, 20, 30, LAYOUT, OLD, 1)), "--from-beginning"),
        (standing(), last(Plan("t", 0, 20, 30, LAYOUT)), "verify --repair"),
        (standing(Committed(20, END)), last(), "would be landed twice"),
        (standing(Committed(10, "")), last(), "would be landed twice"),
    ],
)
def test_where_it_stops(at: Standing, landed: dict[str, LastBatch], told: str) -> None:
    """Where going on would skip or repeat records it stops, and says what to do."""
    with pytest.raises(Contradiction, match=told):
        begin_at(PARTITION, at, landed, "g")
