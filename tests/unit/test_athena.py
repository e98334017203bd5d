"""athena.py without Athena: the file of queries, the result's types, what is said about errors and cost."""

from pathlib import Path

import pandas as pd
import pytest

from pipeline.athena import __main__ as command
from pipeline.athena import client
from pipeline.athena.client import Result
from pipeline.athena.queries import Query, queries
from pipeline.settings import SettingsError


def _columns(**kinds: str) -> list[tuple[str, str, dict]]:
    return [(name, kind, {"Precision": 10, "Scale": 2}) for name, kind in kinds.items()]


def test_blocks_of_a_file(tmp_path: Path) -> None:
    """A block has its name, its description, its statement without the semicolon, and its line."""
    file = tmp_path / "q.sql"
    file.write_text(
        "-- About.\n\n-- name: one\n-- What is it?\n-- More.\nSELECT 1;\n\n-- name: two\nSELECT\n  2 -- inside\n;\n",
        encoding="utf-8",
    )
    one, two = queries(file).values()
    assert (one.name, one.description, one.sql, one.line) == ("one", "What is it? More.", "SELECT 1", 6)
    assert (two.sql, two.line) == ("SELECT\n  2 -- inside", 9)


@pytest.mark.parametrize(
    "text", ["-- name: a b\nSELECT 1", "-- name: a\n", "-- name: a\nSELECT 1;\n-- name: a\nSELECT 2;"]
)
def test_bad_block_is_told_with_its_line(tmp_path: Path, text: str) -> None:
    """A block without a statement or without a name of its own is refused with file and line."""
    file = tmp_path / "q.sql"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=r"q\.sql:\d"):
        queries(file)


def test_missing_file_is_a_mistake_of_the_user() -> None:
    """A file that is not there is one sentence, no traceback."""
    with pytest.raises(SettingsError, match="cannot be read"):
        queries("nowhere.sql")


def test_types_of_a_result() -> None:
    """Dates and times are datetime64, numbers are numbers, text is text."""
    body = (
        b'"d","t","z","n","x","s","b","p"\n'
        b'"2026-01-02","2026-01-02 03:04:05.678","2026-01-02 03:04:05.000 UTC","7","1.5E7","a","true","1.25"\n'
    )
    columns = _columns(
        d="date",
        t="timestamp",
        z="timestamp with time zone",
        n="bigint",
        x="double",
        s="varchar",
        b="boolean",
        p="decimal",
    )
    frame = client._frame(body, columns)
    assert frame["d"][0] == pd.Timestamp("2026-01-02")
    assert frame["t"][0] == pd.Timestamp("2026-01-02 03:04:05.678")
    assert frame["z"][0] == pd.Timestamp("2026-01-02 03:04:05")
    assert (frame["n"].dtype, frame["x"].dtype, frame["b"].dtype) == ("int64", "float64", "bool")
    assert (frame["x"][0], frame["s"][0], str(frame["p"][0])) == (1.5e7, "a", "1.25")


def test_null_is_not_the_empty_text() -> None:
    """Athena writes null as nothing and the empty text as two quotes; a bigint with nulls stays whole."""
    frame = client._frame(
        b'"s","n","x"\n"",,\n,"7","1.0"\n"two\nlines, ""quoted""","8",\n', _columns(s="varchar", n="bigint", x="double")
    )
    assert list(frame["s"]) == ["", None, 'two\nlines, "quoted"']
    assert frame["n"].dtype == "Int64"
    assert frame["n"].isna().tolist() == [True, False, False]
    assert frame["x"].isna().tolist() == [True, False, True]


def test_empty_result_has_its_columns() -> None:
    """A result without rows keeps its columns with their types."""
    frame = client._frame(b'"d","n"\n', _columns(d="date", n="bigint"))
    assert list(frame.columns) == ["d", "n"]
    assert len(frame) == 0
    assert str(frame["d"].dtype).startswith("datetime64")


def test_columns_of_one_name() -> None:
    """Two columns may have the same name, as Athena allows."""
    frame = client._frame(b'"a","a"\n"1","x"\n', [("a", "bigint", {}), ("a", "varchar", {})])
    assert frame.to_numpy().tolist() == [[1, "x"]]


def test_error_is_placed_in_the_file() -> None:
    """Athena counts lines from the statement; the message has the line of the file."""
    query = Query("one", "", "SELECT\n  x", line=10, path="dir/q.sql")
    placed = client._placed("COLUMN_NOT_FOUND: line 2:3: Column 'x' cannot be resolved", query)
    assert placed.startswith("q.sql:11:3 (one): COLUMN_NOT_FOUND")
    assert client._placed("reason", "SELECT 1") == "reason"


def test_cost_of_a_query() -> None:
    """A query is charged for 10 MB at least, and one that scans nothing for nothing."""
    assert Result("i", pd.DataFrame(), 2**40, 1.0).cost_usd == pytest.approx(5.0)
    assert Result("i", pd.DataFrame(), 1, 1.0).cost_usd == pytest.approx(5.0 * 10 / 2**20)
    assert Result("i", pd.DataFrame(), 0, 1.0).cost_usd == 0


def test_csv_is_harmless_in_a_spreadsheet() -> None:
    """Text that a spreadsheet would run as a formula gets an apostrophe in the CSV; numbers, dates and nulls stay as
    they are, also in columns of one name and in a result without rows.
    """
    rows = client._frame(
        b'"s","x","d"\n"=1+1","-2.5","2026-01-02"\n"-7","1.0",\n,"3.0","2026-01-04"\n',
        [("s", "varchar", {}), ("s", "double", {}), ("d", "date", {})],
    )
    assert command._csv(rows) == "s,s,d\n'=1+1,-2.5,2026-01-02\n-7,1.0,\n,3.0,2026-01-04\n"
    assert command._csv(rows.head(0)) == "s,s,d\n"


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (1536, "1.5 KB"), (5 * 2**20, "5.0 MB"), (3 * 2**30, "3.0 GB")]
)
def test_sizes_as_people_read_them(count: int, text: str) -> None:
    """Sizes are told in the unit that leaves a small number."""
    assert command._size(count) == text
