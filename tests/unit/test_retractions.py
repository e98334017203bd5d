"""Which rows a retraction takes back, as SQL and as fields; and what a user may ask for."""

import argparse
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pipeline.settings import Settings, SettingsError
from pipeline.tables import catalog, corrections, retractions
from pipeline.tables.catalog import Landing
from pipeline.tables.etl_inputs import etl_tables
from pipeline.tables.retractions import Retraction

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
WHOLE = Retraction(
    id="x",
    made_at="2026-03-04 12:00:00.000",
    table="bars",
    ingested_before="2026-03-04 12:00:00.000",
    ingested_from="2026-03-01 00:00:00.000",
    symbols=("A", "O'X"),
    source="csv:wrong.csv",
    interval="1d",
    first_day="2026-01-05",
    last_day="2026-01-06",
)
ROW = {
    "symbol": "A",
    "source": "csv:wrong.csv",
    "interval": "1d",
    "time": "2026-01-06 23:59:00.000",
    "ingested_at": "2026-03-04 11:59:59.999",
}


def asked(*arguments: str) -> Retraction:
    parser = argparse.ArgumentParser()
    corrections.add_options(parser)
    return corrections.asked(parser.parse_args(arguments), now=NOW)


def test_every_condition_narrows() -> None:
    """A row is taken back only if it meets every condition; both days are included, the later ingestion is not."""
    assert WHOLE.covers(ROW)
    for change in (
        {"symbol": "B"},
        {"source": "polygon"},
        {"interval": "1m"},
        {"time": "2026-01-07 00:00:00.000"},
        {"time": "2026-01-04 23:59:59.999"},
        {"ingested_at": "2026-03-04 12:00:00.000"},
        {"ingested_at": "2026-02-28 23:59:59.999"},
    ):
        assert not WHOLE.covers(ROW | change), change


def test_the_condition_quotes_texts() -> None:
    """A quotation mark in a symbol ends no text of the SQL."""
    assert "IN ('A', 'O''X')" in retractions.condition(WHOLE)
    assert "DATE" not in retractions.scope(WHOLE)
    assert retractions.scope(replace(WHOLE, symbols=(), first_day="", last_day="")) == "true"


def test_it_comes_back_as_it_was_kept() -> None:
    """The object in the lake holds all of a retraction."""
    assert retractions.decode(retractions.encode(WHOLE)) == WHOLE


@pytest.mark.parametrize("record", catalog.CURATED)
def test_views_and_etl_leave_it_out(record: str) -> None:
    """Curated and new rows of the view, and both sides of the ETL's merge, meet the condition; a dollar sign in a
    symbol is no placeholder.
    """
    odd = replace(WHOLE, symbols=("$x",), table=record, interval="")
    landing = Landing(first_day="2026-01-01", retractions=(odd,))
    settings = Settings(s3_bucket="b")
    table = etl_tables(settings, {record: landing})[record]
    sides = 1 if record == "ticks" else 2
    assert table.view_sql({}).count("IN ('$x')") == sides
    assert catalog.view_sql(settings, record, landing, "2026-03-04").count("IN ('$x')") == sides
    assert "IN ('$x')" in table.visible


def test_a_file_is_its_source() -> None:
    """--file names a load as its records do, wherever the file lies."""
    assert asked("--file", "/somewhere/else/wrong.csv").source == "csv:wrong.csv"
    assert asked("--day", "2026-01-05").said.startswith("bars: of 2026-01-05, ingested before 2026-03-04 12:00")


@pytest.mark.parametrize(
    ("arguments", "mistake"),
    [
        ([], "say which records"),
        (["--day", "2026-01-05", "--from", "2026-01-01"], "--day is a range"),
        (["--from", "2026-01-05", "--to", "2026-01-01"], "is after --to"),
        (["--table", "ticks", "--interval", "1d"], "ticks have none"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments: list[str], mistake: str) -> None:
    """Nothing is taken back by accident: a retraction of everything, or of an empty range, is a mistake."""
    with pytest.raises(SettingsError, match=mistake):
        asked(*arguments)
