"""Statements that Trino spells otherwise are told apart, and all others reach it as they stand."""

import pytest
from ministack.services import athena

from local.athena_statements import Emulator, Refused, ShowPartitions, Trino, plan

PLACE = "s3://bucket/tables/1/"


@pytest.mark.parametrize(
    ("sql", "for_trino"),
    [
        ("SELECT 'create database' FROM t;", "SELECT 'create database' FROM t"),
        ("create database if not exists d", "create SCHEMA if not exists d"),
        ("SHOW DATABASES", "SHOW SCHEMAS"),
        ("CREATE TABLE t AS SELECT 1 a", f"CREATE TABLE t WITH (external_location = '{PLACE}') AS SELECT 1 a"),
        (
            "CREATE TABLE IF NOT EXISTS d.t WITH (format = 'JSON') AS SELECT 1 a",
            f"CREATE TABLE IF NOT EXISTS d.t WITH (external_location = '{PLACE}', format = 'JSON') AS SELECT 1 a",
        ),
        (
            "CREATE TABLE t WITH (external_location = 's3://x/y/') AS SELECT 1 a",
            "CREATE TABLE t WITH (external_location = 's3://x/y/') AS SELECT 1 a",
        ),
        ("CREATE OR REPLACE VIEW v AS SELECT 1 a", "CREATE OR REPLACE VIEW v AS SELECT 1 a"),
    ],
)
def test_what_trino_runs(sql, for_trino):
    """Trino gets the statement unchanged but for the word DATABASE and the place of a CREATE TABLE AS."""
    assert plan(sql, PLACE, athena) == Trino(for_trino)


@pytest.mark.parametrize("sql", ["CREATE EXTERNAL TABLE t (a int) LOCATION 's3://b/t/'", "DROP TABLE IF EXISTS t"])
def test_hive_ddl_is_the_emulators(sql):
    """Hive's DDL is carried out by the emulator on its own catalog."""
    assert isinstance(plan(sql, PLACE, athena), Emulator)


def test_show_partitions_is_answered_from_the_catalog():
    """SHOW PARTITIONS, which Trino has not, names its table."""
    assert plan("SHOW PARTITIONS d.t", PLACE, athena) == ShowPartitions("d", "t")


@pytest.mark.parametrize(
    "sql", ["MSCK REPAIR TABLE t", "ALTER TABLE t ADD PARTITION (a=1)", "UNLOAD (SELECT 1) TO 's3://x/'"]
)
def test_what_is_not_emulated_says_so(sql):
    """A statement of Athena's that the embedded one has not is refused as such, not as a syntax error."""
    refused = plan(sql, PLACE, athena)
    assert isinstance(refused, Refused)
    assert refused.reason.startswith("NOT_SUPPORTED: ")
