"""Rows that the views leave out: what was simulated, and what was taken back."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from raw_objects import bar, curate, land

from pipeline.athena.client import Athena
from pipeline.settings import Settings

IN_DYNAMODB = ["consumer.py", "--sink", "dynamodb", "--create-table", "--until-caught-up"]
DAYS = ("2024-01-02", "2024-01-03", "2024-01-04")


def rows_of(settings: Settings) -> list[tuple[str, float]]:
    """Symbol and close of every row of the view bars."""
    rows = Athena(settings).query('SELECT symbol, "close" FROM bars ORDER BY symbol, time')
    return [tuple(row) for row in rows.itertuples(index=False)]


def test_simulated_records_are_shown_when_asked_for(run: Callable, settings: Settings, credentials: None) -> None:
    """The views leave simulated records out, raw and curated ones, and one of them replaces no real record; with
    --with-simulated they show them.
    """
    real = bar("A", "2026-01-05", 1.0)
    simulated = [
        bar(name, "2026-01-05", 2.0, source="simulated", ingested_at="2026-01-09 00:00:00.000") for name in "AS"
    ]
    land(settings, "bars", [real, *simulated])
    assert run("glue_setup.py").returncode == 0
    assert rows_of(settings) == [("A", 1.0)]
    asked = run("glue_setup.py", "--with-simulated")
    assert "updated      view bars" in asked.stdout, asked.stderr
    assert rows_of(settings) == [("A", 2.0), ("S", 2.0)]
    land(settings, "bars", [bar("B", "2026-01-05", 3.0), bar("T", "2026-01-05", 3.0, source="simulated")], start=3)
    assert run("glue_setup.py").returncode == 0
    curate(settings, now=datetime.now(UTC), run="one")
    assert rows_of(settings)[-1] == ("B", 3.0)
    assert "T" not in dict(rows_of(settings))


def test_a_wrong_file_is_taken_back(run: Callable, settings: Settings, tmp_path: Path, credentials: None) -> None:
    """A wrong file that was loaded over real prices, curated ones too, is taken back: bars are as before, and after the
    ETL too. What is sent later under its name is shown, raw objects stay; the retraction is listed and can be ended.
    """

    def load(name: str, prices: dict[str, float]) -> None:
        path = tmp_path / name
        rows = [f"{day},{close},{close},{close},{close},5,{symbol}" for day in DAYS for symbol, close in prices.items()]
        path.write_text("\n".join(["Date,Open,High,Low,Close,Volume,Symbol", *rows]))
        assert run("producer.py", "replay", str(path)).returncode == 0
        assert run("consumer.py", "--until-caught-up").returncode == 0

    load("right.csv", {"A": 1.0, "B": 2.0})
    assert run("glue_setup.py").returncode == 0
    before = rows_of(settings)
    load("wrong.csv", {"A": 77.0, "W": 78.0})
    for number, is_curated in enumerate((False, True)):
        if is_curated:
            curate(settings, now=datetime.now(UTC) + timedelta(minutes=5), run="one")
        assert ("A", 77.0) in rows_of(settings)
        done = run("glue_setup.py", "retract", "--file", "wrong.csv", "--reason", "a test", "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
        assert ("into 1 partition;" in done.stdout) == is_curated, done.stdout
        assert rows_of(settings) == before
        listed = run("glue_setup.py", "retract", "--list").stdout
        assert "source csv:wrong.csv" in listed
        assert "(a test)" in listed
        if not number:
            restored = run("glue_setup.py", "retract", "--restore", listed.split()[0], "--yes")
            assert restored.returncode == 0, restored.stderr
    curate(settings, now=datetime.now(UTC) + timedelta(minutes=9), run="two")
    assert rows_of(settings) == before
    assert run("glue_setup.py", "retract", "--file", "wrong.csv", "--yes").returncode == 1
    assert run("consumer.py", "verify", "--deep").returncode == 0
    load("wrong.csv", {"W": 3.0})
    assert ("W", 3.0) in rows_of(settings)
    assert run("glue_setup.py", "retract", "--restore", listed.split()[0], "--yes").returncode == 0
    assert ("A", 77.0) in rows_of(settings)


def test_dynamodb_follows(run: Callable, settings: Settings, tmp_path: Path, credentials: None) -> None:
    """With --dynamodb an item that a wrong file had replaced is the one before again, one that only the wrong file had
    is gone, and --restore brings the wrong ones back. A load can be narrowed by when it was read.
    """

    def load(name: str, *rows: str) -> None:
        path = tmp_path / name
        path.write_text("\n".join(["Date,Open,High,Low,Close,Volume,Symbol", *rows]))
        for command in (["producer.py", "replay", str(path)], ["consumer.py", "--until-caught-up"], IN_DYNAMODB):
            done = run(*command)
            assert done.returncode == 0, done.stderr

    def prices() -> list[tuple[str, float]]:
        shown = run("-m", "pipeline.dynamodb", "latest", "--format", "csv")
        lines = [line.split(",") for line in shown.stdout.splitlines()]
        return sorted((line[0], float(line[lines[0].index("close")])) for line in lines[1:])

    load("right.csv", "2024-01-02,1,1,1,1,5,A", "2024-01-02,2,2,2,2,5,B")
    load("wrong.csv", "2024-01-02,7,7,7,7,5,A", "2024-01-02,8,8,8,8,5,W")
    assert run("glue_setup.py").returncode == 0
    loaded = [("A", 7.0), ("B", 2.0), ("W", 8.0)]
    assert prices() == loaded
    early = ("--ingested-before", "2020-01-01", "--ingested-from", "2019-01-01T10:00")
    assert run("glue_setup.py", "retract", "--file", "wrong.csv", *early, "--yes").returncode == 1
    done = run("glue_setup.py", "retract", "--file", "wrong.csv", "--dynamodb", "--yes")
    assert done.returncode == 0, done.stderr
    assert "1 replaced, 1 deleted" in done.stdout
    assert prices() == [("A", 1.0), ("B", 2.0)]
    listed = run("glue_setup.py", "retract", "--list").stdout
    restored = run("glue_setup.py", "retract", "--restore", listed.split()[0], "--dynamodb", "--yes")
    assert "2 restored" in restored.stdout, restored.stdout + restored.stderr
    assert prices() == loaded
