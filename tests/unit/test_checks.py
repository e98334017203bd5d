"""checks.py and records.py: what is a dead letter, and that nothing else happens to it."""

import gzip
import json

import numpy as np
import pytest
from blocks_of import block
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import records
from pipeline.landing.block import Block
from pipeline.landing.plan import Layout, Plan
from pipeline.landing.positions import Partition
from pipeline.records import Bar
from pipeline.sinks.checks import check_batch
from pipeline.sinks.lake.objects import objects_of

GOOD = records.encode(
    Bar(
        symbol="AAPL",
        company="Apple",
        time="2024-01-02 00:00:00.000",
        interval="1d",
        open=1.5,
        high=2.0,
        low=0.1,
        close=1.0,
        volume=3.0,
        trades=7,
        source="s",
        ingested_at="2026-01-01 00:00:00.000",
    )
)
NOON_MS = 1_767_268_800_000  # 2026-01-01 12:00
DEEP = b"[" * 50_000 + b"]" * 50_000
POISON = [
    (GOOD.replace(b'"trades":7', b'"trades":%d' % 2**63), "trades"),
    (GOOD.replace(b'"trades":7', b'"trades":%d' % 2**64), "trades"),
    (GOOD.replace(b'"trades":7', b'"trades":1.0'), "trades"),
    (GOOD.replace(b"1.5", b"1" + b"0" * 400), "open"),
    (GOOD.replace(b"1.5", b"1e400"), "open"),
    (GOOD.replace(b'"open":1.5', b'"open":1.5,"open":1.6'), "open: is there more than once"),
    (GOOD.replace(b'"open":1.5', b'"\\u006fpen":1.4,"open":1.5'), "open: is there more than once"),
    (GOOD.replace(b'"trades":7', b'"trades":null,"trades":7'), "trades: is there more than once"),
    (GOOD.replace(b'"Apple"', DEEP), "company"),
    (GOOD.replace(b'"open"', b'"x":' + DEEP + b',"open"'), "unknown field"),
    (GOOD.replace(b'"Apple"', b'"\\ud800"'), "surrogate"),
    (GOOD.replace(b'"Apple"', b'"\xed\xa0\x80"'), "utf-8"),
    (GOOD.replace(b'"Apple"', b'"\xff"'), "utf-8"),
    (GOOD.replace(b'"AAPL"', b'"AA\\u0000PL"'), "control character"),
    (GOOD.replace(b'"AAPL"', b'"\\u001b[2J"'), "control character"),
    (GOOD.replace(b'"AAPL"', b'"A\x7f"'), "control character"),
    (GOOD.replace(b'"AAPL"', '"A\x9b2J"'.encode()), "control character"),
    (GOOD.replace(b"2024-01-02", b"0000-01-02"), "time"),
    (GOOD.replace(b"2024-01-02", b"0001-01-02"), "time"),
    (GOOD.replace(b"2024-01-02", b"9999-12-31"), "time"),
    (GOOD.replace(b"2026-01-01", b"2027-01-01"), "ingested_at: '2027-01-01 00:00:00.000' is in the future"),
]
# What looks like one of them and is none.
ODD = [
    GOOD.replace(b'"trades":7', b'"trades":%d' % (2**63 - 1)),
    GOOD.replace(b'"Apple"', b'"Apple \\"Inc\\""'),
    GOOD.replace(b'"Apple"', b"null"),
    GOOD.replace(b'"Apple"', b'"open\\":1.5"'),
    GOOD.replace(b'"Apple"', b'"\\u0000"'),
    GOOD.replace(b'"AAPL"', '"Ä"'.encode()),
    GOOD.replace(b'"AAPL"', b'"\\u00c4"'),
    GOOD.replace(b"2026-01-01", b"2026-01-02"),
    GOOD.replace(b",", b" , "),
]


def plan(count: int, **layout: object) -> Plan:
    return Plan("t", 0, 0, count, Layout(bucket="b", root="", table="bars", **layout), planned_ms=NOON_MS)


def letters_of(count: int, blocks: list[Block], **layout: object) -> tuple[list[dict], int]:
    """The dead letters of a batch, and how many good records landed."""
    made = objects_of(plan(count, **layout), blocks)
    letters = [
        json.loads(line) for one in made if one.is_dead_letter for line in gzip.decompress(one.body).splitlines()
    ]
    return letters, sum(one.records for one in made if not one.is_dead_letter)


@pytest.mark.parametrize(("value", "reason"), POISON, ids=lambda value: str(value)[-40:])
def test_each_poison_is_a_dead_letter(value: bytes, reason: str) -> None:
    """A record that cannot be decoded, placed or written is refused with a reason, alone and among good ones, in every
    format and layout; its neighbours land.
    """
    for form in ("json", "csv", "parquet"):
        for time in ("arrival", "event"):
            values = [GOOD] * 30 + [value] + [GOOD] * 30
            letters, landed = letters_of(61, [block(values, timestamp_ms=NOON_MS)], format=form, partition_time=time)
            assert [letter["offset"] for letter in letters] == [30]
            assert reason in letters[0]["reason"]
            assert landed == 60


@pytest.mark.parametrize("value", ODD, ids=lambda value: str(value)[-40:])
def test_what_is_only_odd_lands(value: bytes) -> None:
    """Escapes, nulls, spaces and the greatest numbers are no reason to refuse a record."""
    for form in ("json", "csv", "parquet"):
        assert letters_of(2, [block([GOOD, value], timestamp_ms=NOON_MS)], format=form) == ([], 2)


@pytest.mark.parametrize("timestamp_ms", [-1, -(2**62), 7_258_118_400_000, 253_402_300_800_000, 2**62])
def test_absurd_timestamps_are_dead_letters(timestamp_ms: int) -> None:
    """A record whose Kafka timestamp has no folder is a dead letter in the nearest folder; its neighbours land."""
    for table in ("bars", "orders"):
        layout = Layout(bucket="b", root="", table=table)
        times = [NOON_MS, timestamp_ms, NOON_MS]
        made = objects_of(Plan("t", 0, 0, 3, layout, planned_ms=NOON_MS), [block([GOOD] * 3, timestamp_ms=times)])
        (letters,) = [one for one in made if one.is_dead_letter]
        (letter,) = map(json.loads, gzip.decompress(letters.body).splitlines())
        assert letter["offset"] == 1
        assert f"timestamp: {timestamp_ms} ms" in letter["reason"]
        assert letters.key.split("/")[2] in ("dt=1970-01-01", "dt=2199-12-31")
        assert sum(one.records for one in made) == 3


def test_the_future_is_later_than_the_plan_and_the_arrival() -> None:
    """ingested_at may be a day later than the plan or the arrival in Kafka, whichever is later; a plan of version 1 has
    no time, and its batch is repeated as it was.
    """
    late = GOOD.replace(b"2026-01-01", b"2027-01-01")
    for times, planned_ms, refused in (
        ([NOON_MS, 0], NOON_MS, 1),
        ([NOON_MS, NOON_MS + 400 * 86_400_000], NOON_MS, 0),
        ([NOON_MS, 0], NOON_MS + 400 * 86_400_000, 0),
        ([NOON_MS, 0], 0, 0),
    ):
        _, reasons = check_batch(
            Bar, [block([GOOD, late], timestamp_ms=times)], [True], planned_ms=planned_ms, keep=False
        )
        assert len(reasons) == refused


@pytest.mark.parametrize("value", [DEEP, b'"\xff"', b'{"a":\n' + DEEP + b"}", b""])
def test_poison_of_topics_without_a_definition(value: bytes) -> None:
    """Values that are no JSON, too deep or no UTF-8 are dead letters of any topic."""
    layout = Layout(bucket="b", root="", table="orders")
    made = objects_of(Plan("t", 0, 0, 3, layout), [block([b"{}", value, b"{}"], timestamp_ms=NOON_MS)])
    assert [(one.records, one.is_dead_letter) for one in made] == [(1, True), (2, False)]


@given(
    values=st.lists(
        st.one_of(
            st.none(),
            st.binary(max_size=40),
            st.just(GOOD),
            st.tuples(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=3)).map(
                lambda change: GOOD[: change[0]] + change[1] + GOOD[change[0] + 1 :]
            ),
        ),
        min_size=1,
        max_size=12,
    ),
    times=st.lists(st.integers(-(2**63), 2**63 - 1) | st.just(NOON_MS), min_size=12, max_size=12),
    form=st.sampled_from(["json", "csv", "parquet"]),
    partition_time=st.sampled_from(["arrival", "event"]),
)
@settings(max_examples=300, deadline=None)
def test_nothing_is_lost_or_raised(
    values: list[bytes | None], times: list[int], form: str, partition_time: str
) -> None:
    """Whatever bytes and timestamps a batch has, each record is in the lake or a dead letter, and nothing is raised."""
    offsets = np.arange(len(values), dtype=np.int64)
    timestamps = np.array(times[: len(values)], np.int64)
    made = Block.of(Partition("t", 0), offsets, timestamps, values, "stock")
    letters, landed = letters_of(len(values), [made], format=form, partition_time=partition_time)
    assert len(letters) + landed == len(values)
    assert all(letter["reason"] for letter in letters)
