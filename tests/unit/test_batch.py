"""plan.py and buffer.py: ranges, plans and names."""

from dataclasses import replace

import pytest
from blocks_of import block
from hypothesis import given
from hypothesis import strategies as st

from pipeline.landing.buffer import Buffer, Limits
from pipeline.landing.plan import (
    Layout,
    PartitionBy,
    Plan,
    UnreadablePlan,
    arrival_folder,
    end_mark,
    event_folder,
    generation_of,
    read_object_key,
    read_plan,
)
from pipeline.landing.positions import Committed, Partition

LAYOUT = Layout(bucket="b", root="lake/", table="bars")
PLAN = Plan("stock_bars", 3, 100, 250, LAYOUT)
DAY_MS = 86_400_000


def test_object_names() -> None:
    """Names hold topic, partition and the zero-padded range, below the table's folder."""
    assert PLAN.object_key("dt=2024-01-02") == (
        "lake/raw/bars/dt=2024-01-02/stock_bars-3-00000000000000000100-00000000000000000250.json.gz"
    )
    assert PLAN.dead_letter_key("dt=2024-01-02") == (
        "lake/dead_letter/stock_bars/dt=2024-01-02/stock_bars-3-00000000000000000100-00000000000000000250.json.gz"
    )


@given(
    topic=st.from_regex(r"[a-zA-Z0-9._-]{1,60}", fullmatch=True),
    partition=st.integers(0, 10_000),
    start=st.integers(0, 2**62),
    length=st.integers(1, 10**6),
    format=st.sampled_from([("json", "gzip"), ("json", "none"), ("csv", "gzip"), ("parquet", "zstd")]),
)
def test_names_are_read_back(topic: str, partition: int, start: int, length: int, format: tuple[str, str]) -> None:
    """The range in any name that a plan makes is read back from it, whatever hyphens and digits the topic has."""
    plan = Plan(
        topic,
        partition,
        start,
        start + length,
        Layout(bucket="b", root="", table="x", format=format[0], compression=format[1]),
    )
    key = plan.object_key("dt=2024-01-02")
    name = read_object_key(key)
    assert (name.topic, name.partition, name.start, name.end) == (topic, partition, start, start + length)


@pytest.mark.parametrize(
    "key",
    [
        "raw/bars/dt=2024-01-02/part-0000.json.gz",
        "raw/bars/x.json",
        "",
        "raw/bars/t-0-1-2.json",
        "raw/bars/t-x-00000000000000000100-00000000000000000250.json.gz",
    ],
)
def test_names_of_other_writers(key: str) -> None:
    """An object that another program wrote is not taken for one of ours."""
    assert read_object_key(key) is None


def test_plan_round_trip() -> None:
    """A plan read from the commit's metadata is the plan that was committed, and takes well under 4 KB."""
    assert read_plan(Partition("stock_bars", 3), PLAN.committed) == PLAN
    long = Plan("t" * 249, 0, 2**62, 2**62 + 1, Layout(bucket="b" * 63, root="p" * 900 + "/", table="t" * 249))
    assert len(long.metadata()) < 2048
    assert read_plan(Partition("t", 0), Committed(5, "")) is None


def test_plans_of_a_generation() -> None:
    """A plan with a generation and a time is read back, and both the name and what is read from it say so."""
    plan = replace(PLAN, generation="0123456789abcdef" * 2, planned_ms=1_700_000_000_000)
    assert read_plan(Partition("stock_bars", 3), plan.committed) == plan
    key = plan.object_key("dt=2024-01-02")
    assert key.endswith("/stock_bars-3-00000000000000000100-00000000000000000250-01234567.json.gz")
    assert read_object_key(key).generation == "01234567"
    assert read_object_key(PLAN.object_key("dt=2024-01-02")).generation == ""
    long = replace(
        PLAN, topic="t" * 249, layout=replace(LAYOUT, bucket="b" * 63, root="p" * 900 + "/", table="t" * 249)
    )
    assert len(replace(long, generation="a" * 32, planned_ms=2**42).metadata()) < 2048


def test_marks_of_ends() -> None:
    """The mark of an end says the generation, and is no plan; where brokers tell none it is as it always was."""
    mark = end_mark("a" * 32)
    assert generation_of(mark) == "a" * 32
    assert read_plan(Partition("t", 0), Committed(7, mark)) is None
    assert (end_mark(""), end_mark("", "word")) == ("", "word")
    assert generation_of("") == generation_of("word") == generation_of(PLAN.metadata()) == ""


@pytest.mark.parametrize(
    "metadata",
    [
        "x",
        "{}",
        '{"v":2,"end":9}',
        PLAN.metadata().replace('"v":1', '"v":2'),
        PLAN.metadata().replace("250", "100"),
        "[]",
    ],
)
def test_unreadable_plans_are_refused(metadata: str) -> None:
    """Metadata of another program or version stops the consumer with the partition's name instead of being skipped."""
    with pytest.raises(UnreadablePlan, match="stock_bars-3 at 100"):
        read_plan(Partition("stock_bars", 3), Committed(100, metadata))


@pytest.mark.parametrize(
    ("by", "timestamp_ms", "folder"),
    [
        ("day", 0, "dt=1970-01-01"),
        ("day", 1_704_153_599_999, "dt=2024-01-01"),
        ("day", 1_704_153_600_000, "dt=2024-01-02"),
        ("hour", 1_704_157_200_000, "dt=2024-01-02/hour=01"),
        ("month", 1_704_157_200_000, "dt=2024-01-01"),
        ("day", -1, "dt=1969-12-31"),
    ],
)
def test_arrival_folders(by: PartitionBy, timestamp_ms: int, folder: str) -> None:
    """Folders by arrival are UTC days, hours, or the first day of the month."""
    assert arrival_folder(by, timestamp_ms) == folder


@pytest.mark.parametrize(
    ("by", "folder"), [("day", "dt=2013-02-28"), ("hour", "dt=2013-02-28/hour=15"), ("month", "dt=2013-02-01")]
)
def test_event_folders(by: PartitionBy, folder: str) -> None:
    """Folders by event are cut from the record's own time."""
    assert event_folder(by, "2013-02-28 15:59:00.000") == folder


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=12),
    flush_records=st.integers(1, 50),
    step=st.integers(1, 3),
)
def test_cutting_loses_nothing(sizes: list[int], flush_records: int, step: int) -> None:
    """Ranges cut one after another follow on each other, hold every record once, and none is larger than the limit."""
    limits = Limits(flush_records=flush_records)
    buffer, offset, expected = Buffer(0), 0, []
    for size in sizes:
        values = [str(offset + step * index).encode() for index in range(size)]
        buffer.add([block(values, offset, step=step)], now=1.0)
        expected += values
        offset += step * size
    position, reached, landed = offset + 2, 0, []  # two control records behind the last
    while buffer.blocks:
        start = buffer.start
        end, taken = buffer.cut(limits, position, now=2.0)
        values = [value for one in taken for value in one.values]
        assert start == reached < end
        assert len(values) <= flush_records
        assert all(start <= offset < end for one in taken for offset in one.offsets)
        landed += values
        reached = end
    assert landed == expected
    assert reached == position
    assert (buffer.records, buffer.bytes) == (0, 0)


def test_due_by_count_bytes_and_clock() -> None:
    """A batch is due at the number of records, at the bytes, or when its first record is old enough; an empty one never
    is.
    """
    limits = Limits(flush_seconds=10, flush_records=3, flush_bytes=100)
    buffer = Buffer(0)
    assert not buffer.is_due(limits, now=1e9)
    buffer.add([block([b"x"])], now=5.0)
    assert not buffer.is_due(limits, now=14.9)
    assert buffer.is_due(limits, now=15.0)
    buffer.add([block([b"x", b"x"], 1)], now=5.0)
    assert buffer.is_due(limits, now=5.0)
    heavy = Buffer(0)
    heavy.add([block([b"x" * 100])], now=5.0)
    assert heavy.is_due(limits, now=5.0)


def test_cut_before_an_offset() -> None:
    """A plan that is repeated takes exactly its offsets, also from the middle of a block, and leaves the rest."""
    buffer = Buffer(10)
    buffer.add([block([b"a", b"b"], 10), block([b"c", b"d", b"e"], 14, step=2)], now=0)
    taken = buffer.cut_before(16, now=0)
    assert [value for one in taken for value in one.values] == [b"a", b"b", b"c"]
    assert [value for one in buffer.blocks for value in one.values] == [b"d", b"e"]
    assert (buffer.start, buffer.records) == (16, 2)
