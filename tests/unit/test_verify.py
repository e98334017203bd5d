"""verify.py: what the names and the commits prove."""

import pytest

from pipeline.landing.plan import Layout, Plan
from pipeline.landing.positions import Committed, Partition, Standing
from pipeline.sinks.lake import verify

PARTITION = Partition("t", 0)
PLAN = Plan("t", 0, 20, 30, Layout(bucket="b", root="", table="bars")).metadata()


@pytest.mark.parametrize(
    ("ranges", "problems"),
    [
        ([], []),
        ([(0, 10), (10, 20)], []),
        ([(5, 10), (10, 20)], []),
        ([(0, 10), (12, 20)], ["offsets 10 to 12 are in no object"]),
        ([(0, 10), (8, 20)], ["offsets 8 to 10 are in more than one batch; do two groups share this prefix?"]),
        (
            [(0, 30), (5, 10), (30, 31)],
            ["offsets 5 to 10 are in more than one batch; do two groups share this prefix?"],
        ),
    ],
)
def test_gaps_and_overlaps(ranges: list[tuple[int, int]], problems: list[str]) -> None:
    """Every gap and every overlap of ranges is named with its offsets."""
    assert list(verify.range_problems(ranges)) == problems


@pytest.mark.parametrize(
    ("ranges", "standing", "problem"),
    [
        ([(0, 20)], Standing(0, 25, Committed(20, "")), None),
        ([(0, 20), (20, 30)], Standing(0, 35, Committed(20, PLAN)), None),
        ([], Standing(0, 5, None), None),
        ([(8, 20)], Standing(10, 25, Committed(20, "")), None),
        ([(0, 20)], Standing(0, 35, Committed(25, "")), "offsets 20 to 25 are committed as landed and in no object"),
        ([], Standing(0, 35, Committed(25, "")), "offsets 0 to 25 are committed as landed and in no object"),
        ([(5, 20)], Standing(0, 35, Committed(20, "")), "offsets 0 to 5 are in the topic and in no object"),
        (
            [(0, 20), (20, 30)],
            Standing(0, 35, Committed(20, "")),
            "the group stands at 20, before the objects' end 30; it would land them again",
        ),
        (
            [(0, 20)],
            Standing(0, 35, None),
            "objects, but the group never committed here; did another group write them (KAFKA_GROUP)?",
        ),
        ([(0, 20)], None, "objects of a partition that the cluster does not have; was the topic made anew?"),
    ],
)
def test_objects_against_commits(ranges: list[tuple[int, int]], standing: Standing | None, problem: str | None) -> None:
    """Where the objects end and where the group stands must agree, but for a batch whose plan is committed."""
    assert list(verify.standing_problems(PARTITION, ranges, standing)) == ([problem] if problem else [])
