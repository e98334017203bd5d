"""The Glue job: the ETL by Spark. glue_setup.py uploads it and its configuration. Glue starts it on schedule, or by

  python glue_setup.py etl --engine glue

`python glue_setup.py etl --engine spark` runs the same code by spark-submit on this machine.
"""

import argparse
import json
import logging
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
from pyspark.sql import SparkSession
from pyspark.sql import functions as f

from etl import publish
from etl.curation import CuratedTable, Curation
from etl.slices import Limits, PartitionValues

# About 80 MB of bars as zstd Parquet, and what one task sorts.
ROWS_PER_FILE = 4_000_000
# Where the SQL of Athena and of Spark differ, these make Spark take Athena's: quoted names, errors in place of silent
# nulls, times in UTC, and folder names as text ('01' stays '01').
SQL_SETTINGS = {
    "spark.sql.ansi.enabled": "true",
    "spark.sql.ansi.doubleQuotedIdentifiers": "true",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MILLIS",
    "spark.sql.parquet.compression.codec": "zstd",
}


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    # Glue adds arguments of its own.
    options, _ = _parser().parse_known_args()
    s3, glue, athena = (boto3.client(name) for name in ("s3", "glue", "athena"))
    tables = [CuratedTable(**fields) for fields in json.loads(_content(s3, options.configuration))]
    builder = SparkSession.builder.appName("stock_market_etl")
    for name, value in SQL_SETTINGS.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    now = datetime.now(UTC)
    run = f"{now:%Y%m%dT%H%M%SZ}_{uuid.uuid4().hex[:8]}"
    only_days = (options.first or "0001-01-01", options.last or "9999-12-31") if options.first or options.last else None
    try:
        for table in tables:
            if table.record in options.tables.split(","):
                curation = Curation(SparkEngine(spark, glue), s3=s3, glue=glue, athena=athena, run=run, now=now)
                print(curation.curate(table, only_days).line, flush=True)
    except publish.PublishFailed as error:
        sys.exit(str(error))


def _content(s3: Any, address: str) -> bytes:
    """The content of an s3:// address, or of a file of this machine."""
    if not address.startswith("s3://"):
        return Path(address).read_bytes()
    bucket, key = publish.bucket_and_key(address)
    content: bytes = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    return content


class SparkEngine:
    """Reads the raw days and the curated partitions from their folders, because Spark does not know projected
    partitions.
    """

    # Spark spills what one task cannot hold, and its tasks share a slice; so slices are as large as Spark's planning,
    # and not its memory, can take.
    limits = Limits(rows=32 * ROWS_PER_FILE, partitions=1000)
    path_column = "file_of_row"

    def __init__(self, spark: SparkSession, glue: Any) -> None:
        self._spark = spark
        self._glue = glue

    def stage(self, table: CuratedTable, days: list[str], condition: str, place: str) -> str:
        """Copy the new rows as Parquet below `place`, and name the view over them."""
        self._read_raw(table, days)
        self._spark.sql(table.raw_rows("raw_objects", condition)).write.mode("overwrite").parquet(place)
        self._spark.read.schema(_schema(table)).parquet(place).createOrReplaceTempView("new_rows")
        return "new_rows"

    def unstage(self, _table: CuratedTable, _place: str) -> None:
        """Drop that view."""
        self._spark.catalog.dropTempView("new_rows")

    def curated(self, table: CuratedTable, partitions: list[PartitionValues]) -> str:
        """Name the view over some partitions as they are published now, with the file of each row."""
        published = publish.begin(self._glue, table.database, f"curated_{table.record}")
        locations = publish.partition_locations(self._glue, published, partitions)
        if locations:
            reader = self._spark.read.schema(_schema(table)).option("basePath", table.curated_location)
            found = reader.parquet(*locations.values())
            found = found.select(*table.curated_columns, f.col("_metadata.file_path").alias(self.path_column))
        else:
            found = self._spark.createDataFrame([], f"{_schema(table)}, `{self.path_column}` string")
        found.createOrReplaceTempView("curated_rows")
        return "curated_rows"

    def looked_up(self, table: CuratedTable) -> str:
        """Name the view over the whole curated table whose rows the SELECT looks up, as it is published now."""
        published = publish.begin(self._glue, table.database, f"curated_{table.looks_up}")
        storage, keys = published.definition["StorageDescriptor"], published.definition["PartitionKeys"]
        schema = ", ".join(f"`{column['Name']}` {column['Type']}" for column in storage["Columns"] + keys)
        if locations := publish.all_locations(self._glue, published):
            found = self._spark.read.schema(schema).option("basePath", storage["Location"]).parquet(*locations)
        else:
            found = self._spark.createDataFrame([], schema)
        found.createOrReplaceTempView("looked_up_rows")
        return "looked_up_rows"

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a SELECT."""
        return [tuple(row) for row in self._spark.sql(sql).collect()]

    def write(self, table: CuratedTable, selects: list[str], place: str) -> dict[PartitionValues, str]:
        """Write the rows of the SELECTs below `place`; return where each partition is."""
        for number, select in enumerate(selects):
            rows = self._spark.sql(select)
            order = (*table.partition_columns, "symbol", "time")
            # By ranges: one symbol's rows lie together, and no task has all rows of a large partition.
            tasks = rows.repartitionByRange(*order).sortWithinPartitions(*order)
            writer = tasks.write.partitionBy(*table.partition_columns).option("maxRecordsPerFile", ROWS_PER_FILE)
            writer.mode("append" if number else "overwrite").parquet(place)
        columns = list(table.partition_columns)
        written = self._spark.read.schema(_schema(table)).option("basePath", place).parquet(place)
        found = [tuple(row) for row in written.select(*columns).distinct().collect()]
        return {values: place + _folder(columns, values) for values in found}

    def _read_raw(self, table: CuratedTable, days: list[str]) -> None:
        """The objects of the raw days as the view raw_objects, with the raw table's columns and Athena's "$path"."""
        folder = f"s3://{table.bucket}/{table.raw_folder}"
        reader = self._spark.read.option("basePath", folder).option("mode", "FAILFAST")
        if table.format == "csv":
            # Objects of before a column was added are a column short; every other cell is text, which cannot be wrong.
            reader = reader.option("mode", "PERMISSIVE")
        if table.format != "parquet":
            # Parquet tells its own types; the others have none.
            schema = ", ".join(f"`{name}` {kind}" for name, kind in table.raw_columns.items())
            reader = reader.schema(f"{schema}, `dt` string").option("header", "true").option("escape", '"')
        found = reader.format(table.format).load([f"{folder}dt={day}/" for day in days])
        found.select("*", f.col("_metadata.file_path").alias("$path")).createOrReplaceTempView("raw_objects")


def _schema(table: CuratedTable) -> str:
    return ", ".join(f"`{name}` {kind}" for name, kind in table.curated_columns.items())


def _folder(columns: list[str], values: PartitionValues) -> str:
    return "".join(f"{name}={value}/" for name, value in zip(columns, values, strict=True))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configuration", required=True, help="s3:// address of tables.json, or a file")
    parser.add_argument("--tables", default="bars,ticks,news,actions", help="which tables (default: all)")
    parser.add_argument("--from", dest="first", default="", help="first raw day YYYY-MM-DD, in place of the new ones")
    parser.add_argument("--to", dest="last", default="", help="last raw day")
    return parser


if __name__ == "__main__":
    main()
