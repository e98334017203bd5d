# ruff: noqa: S608 - the parts of the SQL built here are names of ours and checked settings, never a user's text
"""The ETL by Athena: the engine that etl/curation.py drives."""

import logging
from dataclasses import replace
from typing import Any

from etl.curation import CuratedTable, PartitionValues, is_one_of, text
from pipeline import aws
from pipeline.athena.client import Athena
from pipeline.settings import Settings
from pipeline.tables import resources

log = logging.getLogger(__name__)


class AthenaEngine:
    """Runs the statements of an ETL run in the ETL's own workgroup. Athena takes at most 100 partitions in one CREATE
    TABLE AS, so a run writes in slices.
    Source: https://docs.aws.amazon.com/athena/latest/ug/ctas-insert-into.html
    """

    partitions_per_write = 100

    def __init__(self, settings: Settings) -> None:
        self._glue: Any = aws.client(settings, "glue")
        self._athena = Athena(replace(settings, athena_workgroup=resources.etl_workgroup_name(settings)))

    def touched(self, table: CuratedTable, days: list[str]) -> list[PartitionValues]:
        """Return the partitions that the raw days have records for."""
        names = ", ".join(f'"{name}"' for name in table.partition_columns)
        raw = table.raw_rows(_named(table, "raw"), is_one_of("dt", days))
        rows = self._athena.query(f"SELECT DISTINCT {names}\nFROM (\n{raw}\n)\nORDER BY {names}")
        return list(rows.itertuples(index=False, name=None))

    def write(
        self, table: CuratedTable, days: list[str], partitions: list[PartitionValues], place: str
    ) -> dict[PartitionValues, str]:
        """Write some partitions below `place` by CREATE TABLE AS; return where each is. The table of that statement is
        dropped, its files stay.
        """
        select = table.sql(
            raw_table=_named(table, "raw"),
            condition=is_one_of("dt", days),
            curated_table=_named(table, "curated"),
            partitions=partitions,
            bars=f'"{table.database}"."curated_{table.looks_up}"',
        )
        name = f"curated_{table.record}_{place.rstrip('/').rpartition('=')[2].lower()}"
        try:
            self._athena.run(create_table_as(table, f'"{table.database}"."{name}"', place, select))
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

    An ORDER BY alone is ignored where a table is made; one with an OFFSET is not, for it could choose the rows.
    """
    partitions = ", ".join(map(text, table.partition_columns))
    order = ", ".join(f'"{column}"' for column in (*table.partition_columns, "symbol", "time"))
    return (
        f"CREATE TABLE {name}\n"
        f"WITH (format = 'PARQUET', write_compression = 'ZSTD', external_location = {text(place)}, "
        f"partitioned_by = ARRAY[{partitions}])\n"
        f"AS SELECT * FROM (\n{select}\n)\nORDER BY {order}\nOFFSET 0"
    )


def _named(table: CuratedTable, kind: str) -> str:
    return f'"{table.database}"."{kind}_{table.record}"'
