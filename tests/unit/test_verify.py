"""verify.py: what the names and the commits prove."""

import pytest

from pipeline.landing.plan import Layout, Plan, end_mark, read_object_key
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


def test_generations_are_told_apart() -> None:
    """Objects of the topic as it is now, names of version 1 among them, are one list; those of earlier topics of this
    name have lists of their own, and of a topic that is gone none is taken for the newest.
    """
    new, old = "a" * 32, "b" * 32
    layout = Layout(bucket="b", root="", table="bars")
    names = [
        read_object_key(Plan("t", 0, start, start + 10, layout, generation).object_key("dt=2024-01-02"))
        for start, generation in ((0, ""), (10, new), (0, old), (10, old))
    ]
    objects = {PARTITION: verify.Found(names)}
    found = verify.by_generation(
        objects, {PARTITION: Standing(0, 30, None, new), Partition("t", 1): Standing(0, 0, None)}
    )
    assert {key: one.ranges for key, one in found.items()} == {
        (PARTITION, None): [(0, 10), (10, 20)],
        (PARTITION, old[:8]): [(0, 10), (10, 20)],
        (Partition("t", 1), None): [],
    }
    gone = verify.by_generation(objects, {})
    assert set(gone) == {(PARTITION, None), (PARTITION, new[:8]), (PARTITION, old[:8])}


def test_a_commit_of_an_earlier_topic() -> None:
    """A commit that says another generation than the topic's is told as such."""
    standing = Standing(0, 35, Committed(20, end_mark("b" * 32)), "a" * 32)
    (problem,) = verify.standing_problems(PARTITION, [(0, 20)], standing)
    assert "made anew" in problem


def test_a_plan_for_another_lake() -> None:
    """A batch that is planned for another bucket or prefix is a problem, with the way out; for this one it is none."""
    standing = Standing(0, 35, Committed(20, PLAN))
    assert list(verify.plan_problems(PARTITION, standing, "s3://b/")) == []
    (problem,) = verify.plan_problems(PARTITION, standing, "s3://mended/")
    assert "offsets 20 to 30 are planned for s3://b/, not for this lake" in problem
    assert "--abandon-plan" in problem
