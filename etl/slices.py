"""Which rows one statement of an ETL run writes, so that none needs more memory than an engine has. Pure.

Small partitions go together. A partition that is too large, or of which only the end is new, is cut at instants: its
files cover ranges of time, and those that nothing new falls into are taken over as they are. A range that gets new rows
is written again, and so are the ranges at the end, once what is new is as large as they are: a month of daily runs
then has a handful of files, and each row was written a few times instead of once a day.

Needs only the standard library, because it also runs inside Glue.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

PartitionValues = tuple[str, ...]  # of the partition columns, in their order


@dataclass(frozen=True)
class Limits:
    """What one statement may hold. Of a partition with fewer curated rows than `small_rows` every row is written again:
    that takes less than copying files.
    """

    rows: int = 4_000_000
    partitions: int = 100
    small_rows: int = 100_000


@dataclass(frozen=True)
class Slice:
    """The rows of some partitions, or of one partition a range [lower, upper) of the column that it is cut by; an empty
    bound is none.
    """

    partitions: list[PartitionValues]
    rows: int
    lower: str = ""
    upper: str = ""


@dataclass(frozen=True)
class CuratedFile:
    """A file of a curated partition: the first and the last value in it of the column to cut by, as `Rows` has them."""

    address: str
    first: str
    last: str
    rows: int


@dataclass(frozen=True)
class Portion:
    """What is written into one folder: slices, one after the other, and the addresses of the files that are copied."""

    slices: list[Slice]
    kept: list[str] = field(default_factory=list)


Rows = dict[str, int]  # the value of the column to cut by to how many rows have it


@dataclass
class _Range:
    """Neighbouring values, and the files that hold them."""

    first: str
    last: str
    old_rows: int
    files: list[CuratedFile]
    new_rows: int = 0

    @property
    def rows(self) -> int:
        return self.old_rows + self.new_rows


def needs_cutting(new_rows: int, old_rows: int, limits: Limits) -> bool:
    """Return whether a partition is to be cut: it is too large, or most of it can stay."""
    return new_rows + old_rows > limits.rows or old_rows >= max(limits.small_rows, new_rows)


def together(rows: dict[PartitionValues, int], limits: Limits) -> list[Portion]:
    """Return partitions in their order, as many in one statement as fit."""
    portions: list[Portion] = []
    some: list[PartitionValues] = []
    held = 0
    for values, count in sorted(rows.items()):
        if some and (len(some) == limits.partitions or held + count > limits.rows):
            portions.append(Portion([Slice(some, held)]))
            some, held = [], 0
        some.append(values)
        held += count
    return portions + ([Portion([Slice(some, held)])] if some else [])


def cut(values: PartitionValues, new: Rows, old: Rows, files: list[CuratedFile], limits: Limits) -> Portion:
    """Return how one partition is written: `new` and `old` count its rows, `files` are those of the curated ones."""
    ranges = _ranges(files)
    for value, count in sorted(new.items()):
        _add(ranges, value, count)
    ranges = _with_the_end_together(ranges, limits)
    slices, kept = [], []
    for number, each in enumerate(ranges):
        if not each.new_rows:
            kept += [file.address for file in each.files]
            continue
        # Open at both ends of the partition: nothing lies outside of all ranges.
        lower = each.first if number else ""
        upper = ranges[number + 1].first if number + 1 < len(ranges) else ""
        counted = _sum(new, old if each.files else {}, lower, upper)
        slices += [Slice([values], rows, *bounds) for bounds, rows in _pieces(counted, lower, upper, limits.rows)]
    return Portion(slices, kept)


def _ranges(files: list[CuratedFile]) -> list[_Range]:
    """Files that share a value are one range."""
    ranges: list[_Range] = []
    for file in sorted(files, key=lambda each: (each.first, each.last)):
        if ranges and file.first <= ranges[-1].last:
            ranges[-1].last = max(ranges[-1].last, file.last)
            ranges[-1].old_rows += file.rows
            ranges[-1].files.append(file)
        else:
            ranges.append(_Range(file.first, file.last, file.rows, [file]))
    return ranges


def _add(ranges: list[_Range], value: str, count: int) -> None:
    """Count new rows where they belong: before the next range, or in one of their own behind all files. Values come in
    their order.
    """
    for each in reversed(ranges):
        if each.first <= value or each is ranges[0]:
            if each is ranges[-1] and each.files and value > each.last:
                ranges.append(_Range(value, value, 0, [], count))
                return
            each.new_rows += count
            each.first, each.last = min(each.first, value), max(each.last, value)
            return
    ranges.append(_Range(value, value, 0, [], count))


def _with_the_end_together(ranges: list[_Range], limits: Limits) -> list[_Range]:
    """Join ranges to those behind them that are written anyway, when these are as large and it fits."""
    joined = list(ranges)
    while len(joined) > 1 and joined[-1].new_rows:
        before, last = joined[-2:]
        if before.rows + last.rows > limits.rows or (not before.new_rows and before.rows > last.rows):
            break
        files = before.files + last.files
        both = _Range(before.first, last.last, before.old_rows + last.old_rows, files, before.new_rows + last.new_rows)
        joined[-2:] = [both]
    return joined


def _sum(new: Rows, old: Rows, lower: str, upper: str) -> Rows:
    found: Rows = {}
    for rows in (new, old):
        for value, count in rows.items():
            if value >= lower and (not upper or value < upper):
                found[value] = found.get(value, 0) + count
    return found


def _pieces(counted: Rows, lower: str, upper: str, most: int) -> Iterable[tuple[tuple[str, str], int]]:
    """Cut between two values before more rows come together than a statement may hold. Rows of one value stay together:
    such a statement is slower, for it goes to disk.
    """
    held = 0
    for value, count in sorted(counted.items()):
        if held and held + count > most:
            yield (lower, value), held
            lower, held = value, 0
        held += count
    yield (lower, upper), held
