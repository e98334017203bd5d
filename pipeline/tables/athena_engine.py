# ruff: noqa: S608 - the parts of the SQL built here are names of ours and checked settings, never a user's text
"""The ETL by Athena: the engine that etl/curation.py drives."""

import logging
from dataclasses import replace
from typing import Any

from etl.curation import CuratedTable, is_one_of, text
from etl.slices import Limits, PartitionValues
from pipeline import aws
from pipeline.athena.client import Athena
from pipeline.settings import Settings
from pipeline.tables import resources

log = logging.getLogger(__name__)


class AthenaEngine:
    """Runs the statements of an ETL run in the ETL's own workgroup. Athena takes at most 100 partitions in one CREATE
    TABLE AS or INSERT, and has no setting for memory, so a run writes in slices.
    Source: https://docs.aws.amazon.com/athena/latest/ug/ctas-insert-into.html
    """

    limits = Limits()
    path_column = '"$path"'

    def __init__(self, settings: Settings) -> None:
        self._glue: Any = aws.client(settings, "glue")
        self._athena = Athena(replace(settings, athena_workgroup=resources.etl_workgroup_name(settings)))

    def stage(self, table: CuratedTable, days: list[str], condition: str, place: str) -> str:
        """Copy the new rows into a table of the run."""
        name = f'"{table.database}"."{_name_of(table, place)}"'
        raw = table.raw_rows(_named(table, "raw"), f"{is_one_of('dt', days)} AND {condition}")
        self._athena.run(
            f"CREATE TABLE {name}\n"
            f"WITH (format = 'PARQUET', write_compression = 'ZSTD', external_location = {text(place)})\n"
            f"AS {raw}"
        )
        return name

    def unstage(self, table: CuratedTable, place: str) -> None:
        """Drop the run's table of new rows."""
        self._drop(table.database, _name_of(table, place))

    def curated(self, table: CuratedTable, _partitions: list[PartitionValues]) -> str:
        """Return the curated table's own name: a condition picks the partitions."""
        return _named(table, "curated")

    def looked_up(self, table: CuratedTable) -> str:
        """Return the name of the curated table of the other record."""
        return f'"{table.database}"."curated_{table.looks_up}"'

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        return list(self._athena.query(sql).itertuples(index=False, name=None))

    def write(self, table: CuratedTable, selects: list[str], place: str) -> dict[PartitionValues, str]:
        """Write below `place` by CREATE TABLE AS, and by INSERT what comes after the first SELECT; return where each
        partition is. The table of these statements is dropped, its files stay.
        """
        name = _name_of(table, place)
        quoted = f'"{table.database}"."{name}"'
        try:
            self._athena.run(create_table_as(table, quoted, place, selects[0]))
            for select in selects[1:]:
                self._athena.run(f"INSERT INTO {quoted}\n{sorted_rows(table, select)}")
            pages = self._glue.get_paginator("get_partitions").paginate(
                DatabaseName=table.database, TableName=name, ExcludeColumnSchema=True
            )
            found = [partition for page in pages for partition in page["Partitions"]]
        finally:
            self._drop(table.database, name)
        return {
            tuple(partition["Values"]): partition["StorageDescriptor"]["Location"].rstrip("/") + "/"
            for partition in found
        }

    def _drop(self, database: str, name: str) -> None:
        try:
            self._glue.delete_table(DatabaseName=database, Name=name)
        except self._glue.exceptions.EntityNotFoundException:
            log.debug("the statement made no table", extra={"table": name})


def create_table_as(table: CuratedTable, name: str, place: str, select: str) -> str:
    """Return the statement that writes a SELECT as Parquet below `place`, a folder per partition, each sorted for
    reading.
    """
    partitions = ", ".join(map(text, table.partition_columns))
    return (
        f"CREATE TABLE {name}\n"
        f"WITH (format = 'PARQUET', write_compression = 'ZSTD', external_location = {text(place)}, "
        f"partitioned_by = ARRAY[{partitions}])\n"
        f"AS {sorted_rows(table, select)}"
    )


def sorted_rows(table: CuratedTable, select: str) -> str:
    """Return a SELECT of the rows of a slice in the order in which files are read. One node sorts them, so a slice is
    what one node can hold.

    An ORDER BY alone is ignored where rows are written; one with an OFFSET is not, for it could choose the rows.
    """
    order = ", ".join(f'"{column}"' for column in (*table.partition_columns, "symbol", "time"))
    return f"SELECT * FROM (\n{select}\n)\nORDER BY {order}\nOFFSET 0"


def _name_of(table: CuratedTable, place: str) -> str:
    """The name of a run's table over a folder `…/run=<name>/`."""
    return f"curated_{table.record}_{place.rstrip('/').rpartition('=')[2].lower()}"


def _named(table: CuratedTable, kind: str) -> str:
    return f'"{table.database}"."{kind}_{table.record}"'
