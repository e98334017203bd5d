"""The Glue job: the ETL by Spark. glue_setup.py uploads it and its configuration. Glue starts it on schedule, or by

  python glue_setup.py etl --engine glue

Anywhere else with pyspark and S3A (local S3: fs.s3a.endpoint, and fs.s3.impl for the s3:// addresses):

  PYTHONPATH=. spark-submit etl/glue_job.py --configuration s3://BUCKET/etl/tables.json
"""

import argparse
import json
import logging
import sys
import uuid
from datetime import UTC, datetime
from typing import Any

import boto3
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

from etl import publish
from etl.curation import CuratedTable, Curation, PartitionValues

# About 128 MB of bars as zstd Parquet.
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
    bucket, _, key = options.configuration.removeprefix("s3://").partition("/")
    tables = [CuratedTable(**fields) for fields in json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())]
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
                print(curation.curate(table, only_days))
    except publish.PublishFailed as error:
        sys.exit(str(error))


class SparkEngine:
    """Reads the raw days and the curated partitions from their folders, because Spark does not know projected
    partitions.
    """

    partitions_per_write = sys.maxsize

    def __init__(self, spark: SparkSession, glue: Any) -> None:
        self._spark = spark
        self._glue = glue

    def touched(self, table: CuratedTable, days: list[str]) -> list[PartitionValues]:
        """Return the partitions that the raw days have records for."""
        self._read_raw(table, days)
        rows = self._spark.sql(table.raw_rows("raw_objects", "true")).select(*table.partition_columns).distinct()
        return [tuple(row) for row in rows.orderBy(*table.partition_columns).collect()]

    def write(
        self, table: CuratedTable, days: list[str], partitions: list[PartitionValues], place: str
    ) -> dict[PartitionValues, str]:
        """Write some partitions below `place`; return where each is."""
        self._read_raw(table, days)
        self._curated(table, partitions).createOrReplaceTempView("curated_rows")
        if table.looks_up:
            self._looked_up(table).createOrReplaceTempView("looked_up_rows")
        rows = self._spark.sql(
            table.sql(
                raw_table="raw_objects",
                condition="true",
                curated_table="curated_rows",
                partitions=partitions,
                bars="looked_up_rows",
            )
        )
        by_partition = rows.repartition(*table.partition_columns).sortWithinPartitions(
            *table.partition_columns, "symbol", "time"
        )
        writer = by_partition.write.partitionBy(*table.partition_columns).option("maxRecordsPerFile", ROWS_PER_FILE)
        writer.mode("overwrite").parquet(place)
        return {values: place + _folder(table.partition_columns, values) for values in partitions}

    def _read_raw(self, table: CuratedTable, days: list[str]) -> None:
        """The objects of the raw days as the view raw_objects, with the columns that the raw table has."""
        folder = f"s3://{table.bucket}/{table.raw_folder}"
        reader = self._spark.read.option("basePath", folder).option("mode", "FAILFAST")
        if table.format == "csv":
            # Objects of before a column was added are a column short; every other cell is text, which cannot be wrong.
            reader = reader.option("mode", "PERMISSIVE")
        if table.format != "parquet":
            # Parquet tells its own types; the others have none.
            schema = ", ".join(f"`{name}` {kind}" for name, kind in table.raw_columns.items())
            reader = reader.schema(f"{schema}, `dt` string").option("header", "true").option("escape", '"')
        reader.format(table.format).load([f"{folder}dt={day}/" for day in days]).createOrReplaceTempView("raw_objects")

    def _curated(self, table: CuratedTable, partitions: list[PartitionValues]) -> DataFrame:
        """The partitions as they are published now."""
        published = publish.begin(self._glue, table.database, f"curated_{table.record}")
        locations = publish.partition_locations(self._glue, published, partitions)
        schema = ", ".join(f"`{name}` {kind}" for name, kind in table.curated_columns.items())
        if not locations:
            return self._spark.createDataFrame([], schema)
        found = self._spark.read.schema(schema).option("basePath", table.curated_location).parquet(*locations.values())
        return found.select(*(f.col(name) for name in table.curated_columns))

    def _looked_up(self, table: CuratedTable) -> DataFrame:
        """The whole curated table whose rows the SELECT looks up, as it is published now."""
        published = publish.begin(self._glue, table.database, f"curated_{table.looks_up}")
        storage, keys = published.definition["StorageDescriptor"], published.definition["PartitionKeys"]
        schema = ", ".join(f"`{column['Name']}` {column['Type']}" for column in storage["Columns"] + keys)
        locations = publish.all_locations(self._glue, published)
        if not locations:
            return self._spark.createDataFrame([], schema)
        return self._spark.read.schema(schema).option("basePath", storage["Location"]).parquet(*locations)


def _folder(columns: list[str], values: PartitionValues) -> str:
    return "".join(f"{name}={value}/" for name, value in zip(columns, values, strict=True))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configuration", required=True, help="s3:// address of tables.json")
    parser.add_argument("--tables", default="bars,ticks,news,actions", help="which tables (default: all)")
    parser.add_argument("--from", dest="first", default="", help="first raw day YYYY-MM-DD, in place of the new ones")
    parser.add_argument("--to", dest="last", default="", help="last raw day")
    return parser


if __name__ == "__main__":
    main()
