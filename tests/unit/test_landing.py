"""lane.py: the states of one partition."""

from dataclasses import dataclass

import pytest
from blocks_of import block

from pipeline.landing.buffer import Limits
from pipeline.landing.lane import Lane, Written, held_bytes, to_pause
from pipeline.landing.plan import Layout, Plan, UnreadablePlan, end_mark
from pipeline.landing.positions import Committed, Partition

PARTITION = Partition("t", 0)
WORD = "a sink without plans"
LAYOUT = Layout(bucket="b", root="", table="bars")
LIMITS = Limits(flush_records=2, flush_seconds=60)


@dataclass
class Upload:
    """An upload whose end the test decides."""

    done: bool = False

    def ready(self) -> bool:
        return self.done

    def get(self) -> Written:
        return Written(1, 10, 2, 0)


def lane(metadata: str = "", offset: int = 0) -> Lane:
    return Lane.begin(PARTITION, LAYOUT, Committed(offset, metadata))


def begin_upload(one: Lane) -> Upload:
    assert one.commit_wanted() == Committed(one.closed.plan.start, one.closed.plan.metadata())
    one.committed()
    one.upload = Upload()
    return one.upload


def test_plan_then_upload_then_end() -> None:
    """A batch is planned before it uploads, and its end is wanted only after the upload."""
    one = lane()
    one.buffer.add([block([b"a", b"b"])], now=0)
    one.close(LIMITS, position=2, now=0)
    upload = begin_upload(one)
    assert one.commit_wanted() is None
    upload.done = True
    assert one.commit_wanted() == Committed(2, "")
    assert one.committed() == Plan("t", 0, 0, 2, LAYOUT)
    assert one.is_idle


def test_end_and_next_plan_share_a_commit() -> None:
    """When the next batch is closed while one uploads, its plan ends that one; until then nothing is committed."""
    one = lane()
    one.buffer.add([block([b"a", b"b"])], now=0)
    one.close(LIMITS, position=2, now=0)
    upload = begin_upload(one)
    one.buffer.add([block([b"c", b"d"], 2)], now=0)
    one.close(LIMITS, position=4, now=0)
    assert one.commit_wanted() is None
    assert to_pause({"p": one}, most_bytes=1000) == {"p"}
    upload.done = True
    assert one.commit_wanted() == Committed(2, Plan("t", 0, 2, 4, LAYOUT).metadata())
    assert one.committed() == Plan("t", 0, 0, 2, LAYOUT)
    assert one.uploading.plan == Plan("t", 0, 2, 4, LAYOUT)
    assert one.upload is None


def test_a_closed_batch_never_changes() -> None:
    """Records that arrive while the plan waits for its commit belong to the next batch."""
    one = lane()
    one.buffer.add([block([b"a"])], now=0)
    one.close(LIMITS, position=1, now=0, at_once=True)
    wanted = one.commit_wanted()
    one.buffer.add([block([b"b"], 1)], now=0)
    one.close(LIMITS, position=2, now=1000, at_once=True)
    assert one.commit_wanted() == wanted


def test_a_found_plan_is_repeated_as_it_was() -> None:
    """A plan found in the commit is read to its end and uploaded with its own layout, without committing it again."""
    old = Plan("t", 0, 5, 8, Layout(bucket="old", root="x/", table="bars", format="csv"))
    one = lane(old.metadata(), offset=5)
    one.buffer.add([block([b"a", b"b"], 5)], now=0)
    one.close(LIMITS, position=7, now=0, at_once=True)
    assert one.uploading is None
    assert one.commit_wanted() is None
    assert to_pause({"p": one}, most_bytes=0) == set()
    one.buffer.add([block([b"c", b"d"], 7)], now=0)
    one.close(LIMITS, position=9, now=0)
    assert one.uploading.plan == old
    assert [value for part in one.uploading.blocks for value in part.values] == [b"a", b"b", b"c"]
    one.upload = Upload(done=True)
    assert one.commit_wanted() == Committed(8, "")
    one.committed()
    assert (one.buffer.start, one.buffer.records) == (8, 1)


def test_memory_full_pauses_everything_but_found_plans() -> None:
    """At the memory limit nothing more is read, except what a found plan needs to be completed."""
    ordinary, found = lane(), lane(Plan("t", 0, 0, 9, LAYOUT).metadata())
    for one in (ordinary, found):
        one.buffer.add([block([b"x" * 100])], now=0)
    assert held_bytes({"o": ordinary, "f": found}) == 200
    assert to_pause({"o": ordinary, "f": found}, most_bytes=200) == {"o"}
    assert to_pause({"o": ordinary, "f": found}, most_bytes=201) == set()


def test_without_plans_only_ends_are_committed() -> None:
    """A lane without plans writes at once, commits only ends, and goes on with the batch that was closed meanwhile."""
    one = Lane.begin_unplanned(PARTITION, Committed(0, ""), WORD)
    one.buffer.add([block([b"a", b"b"])], now=0)
    one.close(LIMITS, position=2, now=0)
    assert (one.uploading.plan.end, one.closed) == (2, None)
    assert one.commit_wanted() is None
    one.upload = upload = Upload()
    one.buffer.add([block([b"c", b"d"], 2)], now=0)
    one.close(LIMITS, position=4, now=0)
    assert (one.uploading.plan.end, one.closed.plan.end) == (2, 4)
    assert one.commit_wanted() is None
    upload.done = True
    assert one.commit_wanted() == Committed(2, WORD)
    assert one.committed().end == 2
    assert (one.uploading.plan.end, one.upload) == (4, None)


def test_what_is_committed_while_a_batch_uploads() -> None:
    """Committing again what is under way is the plan, or for a sink without plans where the batch begins."""
    one = lane()
    assert one.under_way is None
    one.buffer.add([block([b"a", b"b"])], now=0)
    one.close(LIMITS, position=2, now=0)
    assert one.under_way is None
    begin_upload(one)
    assert one.under_way == Plan("t", 0, 0, 2, LAYOUT).committed
    other = Lane.begin_unplanned(PARTITION, Committed(5, ""), WORD, "a" * 32)
    other.buffer.add([block([b"a", b"b"], 5)], now=0)
    other.close(LIMITS, position=7, now=0)
    assert other.under_way == Committed(5, end_mark("a" * 32, WORD))
    assert Lane.begin_unplanned(PARTITION, other.under_way, WORD).buffer.start == 5


def test_sinks_refuse_each_other_s_commits() -> None:
    """A lane that finds the other sink's word in the group's commit does not begin."""
    with pytest.raises(UnreadablePlan, match="another sink"):
        Lane.begin_unplanned(PARTITION, Plan("t", 0, 0, 9, LAYOUT).committed, WORD)
    with pytest.raises(UnreadablePlan):
        lane(WORD)
    assert Lane.begin_unplanned(PARTITION, Committed(5, WORD), WORD).buffer.start == 5
    with pytest.raises(UnreadablePlan):
        lane(end_mark("a" * 32, WORD))
    with pytest.raises(UnreadablePlan):
        Lane.begin_unplanned(PARTITION, Committed(5, end_mark("a" * 32, "another")), WORD)
    assert lane(end_mark("a" * 32), 7).buffer.start == 7
