"""etl/slices.py: whatever rows and files there are, each row is written once or stays in a file that is kept."""

import random

import pytest

from etl.slices import CuratedFile, Limits, Portion, Slice, cut, needs_cutting, together

LIMITS = Limits(rows=100, partitions=3, small_rows=10)
MONTH = ("1m", "2025-01")


def minute(number: int) -> str:
    return f"2025-01-{1 + number // 1440:02} {number // 60 % 24:02}:{number % 60:02}"


def file(name: str, first: int, last: int, rows: int) -> CuratedFile:
    return CuratedFile(name, minute(first), minute(last), rows)


def covers(piece: Slice, value: str) -> bool:
    return value >= piece.lower and (not piece.upper or value < piece.upper)


def test_small_partitions_go_together() -> None:
    """Partitions share a statement until it holds as many rows or partitions as it may; one that is too large alone."""
    rows = {("1d", f"2025-{number:02}"): count for number, count in enumerate((30, 30, 30, 5, 90, 11, 500), 1)}
    portions = together(rows, LIMITS)
    assert [[len(each.partitions) for each in portion.slices] for portion in portions] == [[3], [2], [1], [1]]
    assert [portion.slices[0].rows for portion in portions] == [90, 95, 11, 500]
    assert [values for portion in portions for values in portion.slices[0].partitions] == sorted(rows)
    assert together({}, LIMITS) == []


@pytest.mark.parametrize(("new", "old", "cuts"), [(101, 0, True), (5, 9, False), (5, 12, True), (12, 11, False)])
def test_what_is_cut(new: int, old: int, *, cuts: bool) -> None:
    """A partition is cut when it is too large for a statement, or when most of it can stay; tiny ones are not."""
    assert needs_cutting(new, old, LIMITS) == cuts


def test_new_day_leaves_the_older_files() -> None:
    """What comes behind all files is a file of its own, and what lies before is kept."""
    files = [file("a", 0, 99, 60), file("b", 100, 199, 40)]
    portion = cut(MONTH, {minute(200): 5, minute(201): 5}, {}, files, LIMITS)
    assert portion == Portion([Slice([MONTH], 10, minute(200), "")], ["a", "b"])


def test_the_end_is_written_again_once_what_is_new_is_as_large() -> None:
    """Days that arrive one by one leave few files, and each row is written a few times, not once a day."""
    limits = Limits(rows=1000, small_rows=1)
    files: list[CuratedFile] = []
    old: dict[str, int] = {}
    written = 0
    for day in range(21):
        new = {minute(1440 * day + number): 1 for number in range(10)}
        portion = cut(MONTH, new, old, files, limits)
        old |= new
        written += sum(piece.rows for piece in portion.slices)
        kept = [each for each in files if each.address in portion.kept]
        added = [
            CuratedFile(
                f"{day}.{number}",
                min(v for v in old if covers(piece, v)),
                max(v for v in old if covers(piece, v)),
                piece.rows,
            )
            for number, piece in enumerate(portion.slices)
        ]
        files = sorted([*kept, *added], key=lambda each: each.first)
        assert sum(each.rows for each in files) == len(old)
        assert len(files) <= 5
    assert written <= 4 * len(old)


def test_late_rows_touch_their_own_file_only() -> None:
    """A record for the middle of a month has the file of its time written again, and no other."""
    files = [file(name, first, first + 99, 50) for name, first in (("a", 0), ("b", 100), ("c", 200))]
    old = {minute(number): 1 for number in range(0, 300, 2)}
    portion = cut(MONTH, {minute(151): 1}, old, files, LIMITS)
    assert portion == Portion([Slice([MONTH], 51, minute(100), minute(200))], ["a", "c"])


def test_files_that_overlap_stay_together() -> None:
    """Files that share a minute cannot be told apart by time: what is new for one has both written again."""
    files = [file("a", 0, 100, 50), file("b", 100, 150, 20), file("c", 151, 160, 20)]
    portion = cut(MONTH, {minute(10): 1}, {}, files, LIMITS)
    assert portion.kept == ["c"]
    assert portion.slices[0].upper == minute(151)


def test_one_value_is_never_cut() -> None:
    """Rows of one minute, or of one symbol of the news, stay in one statement, however many they are."""
    portion = cut(("2025-01",), {"A": 70, "B": 300, "C": 40, "D": 50}, {}, [], LIMITS)
    assert [(piece.lower, piece.upper, piece.rows) for piece in portion.slices] == [
        ("", "B", 70),
        ("B", "C", 300),
        ("C", "", 90),
    ]


@pytest.mark.parametrize("seed", range(200))
def test_each_row_is_in_one_place(seed: int) -> None:
    """Whatever is there and whatever comes: slices do not overlap, each new row is in one, and each old row is in one
    or in a file that is kept, not in both; a slice that can be cut holds no more than a statement may.
    """
    chance = random.Random(seed)
    files, old, at = [], {}, 0
    for number in range(chance.randrange(6)):
        values = sorted(chance.sample(range(at, at + 60), chance.randrange(1, 20)))
        rows = {minute(value): chance.randrange(1, 9) for value in values}
        files.append(file(str(number), values[0], values[-1], sum(rows.values())))
        old |= {value: old.get(value, 0) + count for value, count in rows.items()}
        at = values[-1] + chance.randrange(0, 3)
    new = {minute(chance.randrange(at + 100)): chance.randrange(1, 9) for _ in range(chance.randrange(1, 30))}
    chance.shuffle(files)
    portion = cut(MONTH, new, old, files, LIMITS)
    kept = [each for each in files if each.address in portion.kept]
    for value in {*new, *old}:
        slices = [piece for piece in portion.slices if covers(piece, value)]
        holding = [each for each in files if each.first <= value <= each.last and value in old]
        assert len(slices) <= 1
        if value in new:
            assert len(slices) == 1
            assert not [each for each in kept if each.first <= value <= each.last]
        elif slices:
            assert not [each for each in holding if each in kept]
        else:
            assert holding
            assert all(each in kept for each in holding)
    assert all(piece.rows <= LIMITS.rows for piece in portion.slices)
    counted = sum(new.values()) + sum(each.rows for each in files if each not in kept)
    assert sum(piece.rows for piece in portion.slices) == counted
