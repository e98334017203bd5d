"""Files that grow: which earlier content is found again at their beginning."""

import gzip
from pathlib import Path

import pytest

from pipeline.settings import Settings
from pipeline.sources.csv import file as csv_file
from pipeline.sources.csv.growth import Versions, begins_with, content_of
from pipeline.sources.csv.reading import Options

HEADER = "Date,Open,High,Low,Close,Volume,Symbol"
ROWS = [f"2024-01-{day:02},1,2,1,2,5,A" for day in range(1, 29)]


def versions_of(path: Path, text: str, positions: dict, *, name: str = "prices.csv", options: Options = Options()):  # noqa: B008
    """The versions that know this content, the one that it grew from, and whether it is one that is known."""
    place = path / name
    place.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    with csv_file.at_hand(str(place), Settings()) as file:
        reading = csv_file.reading(file, options)
        content = content_of(file, reading)
        versions = Versions(content, reading, f"csv/{content.digest}/{reading.named_symbol}/t", "t")
        known = versions.known(positions.get)
        grown = versions.grown_from(known, lambda lengths: begins_with(file, reading, content.lines, lengths))
        positions |= versions.registration(known)
        return grown, versions.since(known)


def text_of(rows: list[str], *, newest_first: bool = False, end: str = "\n") -> str:
    return end.join([HEADER, *(rows[::-1] if newest_first else rows)]) + end


@pytest.mark.parametrize("newest_first", [False, True])
def test_a_file_that_grew_is_recognised(tmp_path: Path, newest_first: bool) -> None:
    """New rows at the end, or behind the header of a file that stands newest first, are told from the longest content
    that was sent; another name, packing, line ends and blank lines at the end change nothing.
    """
    positions: dict = {}
    assert versions_of(tmp_path, text_of(ROWS[:20], newest_first=newest_first), positions)[0] is None
    grown, _ = versions_of(tmp_path, text_of(ROWS[:22], newest_first=newest_first), positions)
    assert grown.lines == 20
    other = text_of(ROWS, newest_first=newest_first, end="\r\n") + "\r\n\r\n"
    grown, _ = versions_of(tmp_path, other, positions, name="other.csv.gz")
    assert grown.lines == 22


@pytest.mark.parametrize(
    "changed",
    [
        [*ROWS[:10], ROWS[10].replace(",5,", ",6,"), *ROWS[11:]],
        [*ROWS[:19], ROWS[19][:-4], *ROWS[20:]],
        [*ROWS[:5], *ROWS[6:]],
        ROWS[1:],
    ],
    ids=["a value", "a row that was cut", "a row that is gone", "another first row"],
)
def test_changed_content_is_another_one(tmp_path: Path, changed: list[str]) -> None:
    """A file whose earlier rows were changed did not grow: it is sent anew."""
    positions: dict = {}
    versions_of(tmp_path, text_of(ROWS[:20]), positions)
    assert versions_of(tmp_path, text_of(changed), positions)[0] is None


def test_other_readings_are_other_records(tmp_path: Path) -> None:
    """Rows that would be read in another way were not sent, however alike the content is."""
    positions: dict = {}
    versions_of(tmp_path, text_of(ROWS[:20]), positions)
    assert versions_of(tmp_path, text_of(ROWS), positions, options=Options(interval="1w"))[0] is None


def test_older_content_knows_what_was_sent_since(tmp_path: Path) -> None:
    """Content that is put back is told from the one that was sent after it."""
    positions: dict = {}
    for rows in (ROWS[:20], ROWS[:22]):
        versions_of(tmp_path, text_of(rows), positions)
    _, since = versions_of(tmp_path, text_of(ROWS[:20]), positions)
    assert [version.lines for version in since] == [22]
    assert versions_of(tmp_path, text_of(ROWS[:22]), positions)[1] == []
