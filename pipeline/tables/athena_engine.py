"""The ETL by Athena, and what the ETL by Glue needs in the bucket. What a run is, etl/curation.py says."""

import io
import json
import logging
import zipfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from etl.curation import CuratedTable, Partition, is_one_of, text
from pipeline import aws
from pipeline.athena.client import Athena
from pipeline.settings import Settings
from pipeline.tables import catalog, resources

log = logging.getLogger(__name__)

ETL_FOLDER = Path(__file__).parent.parent.parent / "etl"


class AthenaEngine:
    """Athena takes at most 100 partitions in one CREATE TABLE AS, so a run writes in slices.
    Source: https://docs.aws.amazon.com/athena/latest/ug/ctas-insert-into.html"""

    partitions_per_write = 100

    def __init__(self, settings: Settings) -> None:
        self._glue: Any = aws.client(settings, "glue")
        self._athena = Athena(replace(settings, athena_workgroup=resources.etl_workgroup_name(settings)))

    def touched(self, table: CuratedTable, days: list[str]) -> list[Partition]:
        names = ", ".join(f'"{name}"' for name in table.partition_columns)
        raw = table.raw_rows(_named(table, "raw"), is_one_of("dt", days))
        rows = self._athena.query(f"SELECT DISTINCT {names}\nFROM (\n{raw}\n)\nORDER BY {names}")
        return list(rows.itertuples(index=False, name=None))

    def write(
        self, table: CuratedTable, days: list[str], partitions: list[Partition], place: str
    ) -> dict[Partition, str]:
        """The table that CREATE TABLE AS makes is dropped; its files stay, and its partitions say where they are."""
        select = table.sql(
            raw_table=_named(table, "raw"),
            condition=is_one_of("dt", days),
            curated_table=_named(table, "curated"),
            partitions=partitions,
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
    """Athena's statement that writes a SELECT as Parquet below `place`, one folder a partition, each sorted for
    reading.

    An ORDER BY alone is ignored where a table is made; one with an OFFSET is not, for it could choose the rows.
    """
    partitions = ", ".join(map(text, table.partition_columns))
    order = ", ".join(f'"{column}"' for column in (*table.partition_columns, "symbol", "time"))
    return (
        f"CREATE TABLE {name}\n"
        f"WITH (format = 'PARQUET', write_compression = 'ZSTD', external_location = {text(place)}, partitioned_by = ARRAY[{partitions}])\n"
        f"AS SELECT * FROM (\n{select}\n)\nORDER BY {order}\nOFFSET 0"
    )


def _named(table: CuratedTable, kind: str) -> str:
    return f'"{table.database}"."{kind}_{table.record}"'


def etl_files(settings: Settings, landings: dict[str, catalog.Landing]) -> dict[str, bytes]:
    """What the Glue job needs in the bucket: its script, the modules that it imports, and what it has to know about the
    tables.
    """
    modules = io.BytesIO()
    with zipfile.ZipFile(modules, "w") as archive:
        for name in ("__init__.py", "curation.py", "publish.py", "raw_days.py"):
            # ZipInfo's own date is 1980: the same files give the same bytes.
            archive.writestr(zipfile.ZipInfo(f"etl/{name}"), (ETL_FOLDER / name).read_bytes())
    tables = [asdict(table) for table in etl_tables(settings, landings).values()]
    return {
        "glue_job.py": (ETL_FOLDER / "glue_job.py").read_bytes(),
        "etl.zip": modules.getvalue(),
        "curate.json": json.dumps(tables, indent=1).encode(),
    }


def etl_tables(settings: Settings, landings: dict[str, catalog.Landing]) -> dict[str, CuratedTable]:
    """What an ETL run has to know, per record."""
    return {
        record: catalog.for_etl(
            settings, record, landing, (ETL_FOLDER / f"curate_{record}.sql").read_text(encoding="utf-8")
        )
        for record, landing in landings.items()
    }
