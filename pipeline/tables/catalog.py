"""What the Glue Data Catalog holds: tables and views, derived from the records. Pure: no call to AWS is made here.

Raw tables lie over what consumer.py lands, curated_bars over what the ETL writes, and the views bars, ticks and news
over both are what people and BI tools query. The form of the definitions is that of Glue's TableInput.
"""

from dataclasses import dataclass
from typing import Any, Literal

from etl.curation import CuratedTable
from pipeline import records
from pipeline.records import TABLES, Column
from pipeline.settings import Settings

Format = Literal["json", "csv", "parquet"]
TableInput = dict[str, Any]

DEAD_LETTERS = "dead_letters"
# How the curated tables are partitioned. A tick has no key, so its day is copied whole, once no more can arrive for it.
CURATED: dict[str, tuple[str, ...]] = {"bars": ("interval", "month"), "ticks": ("dt",), "news": ("month",)}

# What chooses between two records of one key that were ingested in the same millisecond: the same row on every engine.
# Few columns, for every query of the view reads them.
_TIES = {"bars": ("source", "close", "volume"), "news": ("source", "title", "time")}
_TEXT_FILES = {
    "InputFormat": "org.apache.hadoop.mapred.TextInputFormat",
    "OutputFormat": "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat",
}
_STORAGE = {
    "json": _TEXT_FILES
    | {"SerdeInfo": {"SerializationLibrary": "org.openx.data.jsonserde.JsonSerDe", "Parameters": {}}},
    # The escape character is one that no text holds: a backslash, the SerDe's default, would vanish from headlines.
    "csv": _TEXT_FILES
    | {
        "SerdeInfo": {
            "SerializationLibrary": "org.apache.hadoop.hive.serde2.OpenCSVSerde",
            "Parameters": {"separatorChar": ",", "quoteChar": '"', "escapeChar": "\x01"},
        }
    },
    "parquet": {
        "InputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
        "OutputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
        "SerdeInfo": {
            "SerializationLibrary": "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe",
            "Parameters": {"serialization.format": "1"},
        },
    },
}
_DEAD_LETTER_COLUMNS = (
    ("partition", "bigint", "partition of the topic"),
    ("offset", "bigint", "offset in the partition"),
    ("time", "string", "Kafka's time of the record, UTC"),
    ("reason", "string", "why it was refused: field and value"),
    ("encoding", "string", "how value is written: text, base64, or null when there was none"),
    ("value", "string", "the record as it came"),
)


@dataclass(frozen=True, kw_only=True)
class Landing:
    """How the consumer lands one table, and the first day that the table looks for."""

    first_day: str
    format: Format = "json"
    has_hours: bool = False
    by_month: bool = False  # the folder of a month is its first day
    partition_time: Literal["arrival", "event"] = "arrival"


def raw_table(settings: Settings, record: str, landing: Landing) -> TableInput:
    """The table over raw/bars, raw/ticks or raw/news. Its partitions are projected: new folders are seen with no
    crawler.
    """
    location = f"s3://{settings.s3_bucket}/{settings.s3_root}raw/{record}/"
    hours = [("hour", "string", "hour, UTC")] if landing.has_hours else []
    folders = "dt=${dt}/hour=${hour}/" if landing.has_hours else "dt=${dt}/"
    return _table(
        f"raw_{record}",
        f"{TABLES[record].__doc__.splitlines()[0]} As landed from Kafka; query the view {record} instead.",
        location,
        landing.format,
        columns=[(c.name, _raw_type(c, landing.format), _comment(c)) for c in records.columns(TABLES[record])],
        partitions=[("dt", "string", f"day of {landing.partition_time}, UTC"), *hours],
        parameters=_projection(location + folders, landing.first_day, has_hours=landing.has_hours)
        | {"landing.partition_time": landing.partition_time},
    )


def dead_letters(settings: Settings, topics: list[str], first_day: str) -> TableInput:
    """The table of refused records. The topic is its first partition column, for it is the first folder."""
    location = f"s3://{settings.s3_bucket}/{settings.s3_root}dead_letter/"
    topic = {"projection.topic.type": "enum", "projection.topic.values": ",".join(topics)}
    return _table(
        DEAD_LETTERS,
        "Records that break their definition, with the reason.",
        location,
        "json",
        columns=list(_DEAD_LETTER_COLUMNS),
        partitions=[("topic", "string", "Kafka topic"), ("dt", "string", "day of arrival, UTC")],
        parameters=_projection(location + "${topic}/dt=${dt}/", first_day, has_hours=False) | topic,
    )


def curated_table(settings: Settings, record: str) -> TableInput:
    """A table that the ETL writes, its partitions registered in Glue."""
    of_partitions = {
        "interval": "length of the bar",
        "month": "month of the time, YYYY-MM",
        "dt": "day of arrival, UTC",
    }
    columns = [(c.name, c.type, _comment(c)) for c in records.columns(TABLES[record]) if c.name not in CURATED[record]]
    return _table(
        f"curated_{record}",
        f"Written by the ETL as Parquet; query the view {record} instead.",
        curated_location(settings, record),
        "parquet",
        columns=columns,
        partitions=[(name, "string", of_partitions[name]) for name in CURATED[record]],
        parameters={"parquet.compression": "ZSTD"},
    )


def curated_location(settings: Settings, record: str) -> str:
    """The s3:// folder of a curated table; every run of the ETL writes into a folder of its own below it."""
    return f"s3://{settings.s3_bucket}/{settings.s3_root}curated/{record}/"


def view_sql(settings: Settings, record: str, landing: Landing, watermark: str) -> str:
    """The query of the view bars, ticks or news: the curated table, and the raw days from the watermark on."""
    curated, raw = (f'"{settings.glue_database}"."{kind}_{record}"' for kind in ("curated", "raw"))
    columns = view_columns(record)
    # Folders of the event's day say nothing about when a record came, so every raw day may hold something new.
    is_arrival = landing.partition_time == "arrival"
    raw_rows = raw_select(record, landing.format, raw, f"dt >= '{watermark if is_arrival else landing.first_day}'")
    if record != "ticks":
        return latest(record, f"SELECT {_names(columns)}\n  FROM {curated}\n  UNION ALL\n  {raw_rows}")
    if not is_arrival:
        return raw_rows
    return f"SELECT {_names(columns)}\n  FROM {curated}\n  WHERE dt < '{watermark}'\n  UNION ALL\n  {raw_rows}"


def view_columns(record: str) -> list[str]:
    """The record's fields, then the partition column that is not one of them."""
    names = [c.name for c in records.columns(TABLES[record])]
    return names + [name for name in CURATED[record] if name not in names]


def raw_select(record: str, format: Format, table: str, condition: str) -> str:
    """A SELECT of typed columns from a raw table in any of its three forms. Trino and Spark both read it."""
    columns = [f"{typed(c, format)} AS {_quoted(c.name)}" for c in records.columns(TABLES[record])]
    columns.append("dt" if record == "ticks" else "substr(CAST(time AS varchar(23)), 1, 7) AS month")
    return f"SELECT {', '.join(columns)}\n  FROM {table}\n  WHERE {condition}"


def typed(column: Column, format: Format) -> str:
    """The expression that gives a column of a raw table its type. In CSV every column is a string, and null is empty."""
    source = _quoted(column.name)
    if format == "csv":
        source = f"nullif({source}, '')" if column.type != "timestamp" else source
        return source if column.type == "string" else f"CAST({source} AS {column.type})"
    return f"CAST({source} AS timestamp)" if column.type == "timestamp" else source


def latest(record: str, rows: str) -> str:
    """Of the rows with one key, the one ingested last."""
    columns = view_columns(record)
    key = [*records.KEYS[record], "month"]
    order = ", ".join(f"{_quoted(c)} DESC" for c in ("ingested_at", *_TIES[record]))
    return (
        f"SELECT {_names(columns)}\nFROM (\n"
        f"  SELECT *, row_number() OVER (PARTITION BY {_names(key)} ORDER BY {order}) AS recency\n"
        f"  FROM (\n  {rows}\n  )\n)\nWHERE recency = 1"
    )


def for_etl(settings: Settings, record: str, landing: Landing, select: str) -> CuratedTable:
    """What an ETL run has to know about a table. `select`: the text of etl/curate_<record>.sql."""
    raw, curated = raw_table(settings, record, landing), curated_table(settings, record)
    return CuratedTable(
        record=record,
        database=settings.glue_database,
        workgroup=settings.athena_workgroup,
        bucket=settings.s3_bucket,
        root=settings.s3_root,
        first_day=landing.first_day,
        late_days=settings.etl_late_days,
        partition_time=landing.partition_time,
        by_month=landing.by_month,
        format=landing.format,
        partition_columns=list(CURATED[record]),
        raw_columns={c["Name"]: c["Type"] for c in raw["StorageDescriptor"]["Columns"]},
        curated_columns={
            c["Name"]: c["Type"] for c in curated["StorageDescriptor"]["Columns"] + curated["PartitionKeys"]
        },
        select=select,
        raw_select=raw_select(record, landing.format, "$table", "$condition"),
        view=view_sql(settings, record, landing, "$watermark"),
    )


def ddl(database: str, table: TableInput) -> str:
    """The CREATE EXTERNAL TABLE statement of a table, to read or to paste into Athena's console."""
    storage = table["StorageDescriptor"]
    serde = storage["SerdeInfo"]
    partitions = f"PARTITIONED BY (\n{_ddl_columns(table['PartitionKeys'])}\n)\n" if table["PartitionKeys"] else ""
    properties = f"WITH SERDEPROPERTIES ({_ddl_properties(serde['Parameters'])})\n" if serde["Parameters"] else ""
    parameters = {name: value for name, value in table["Parameters"].items() if name != "EXTERNAL"}
    return (
        f"CREATE EXTERNAL TABLE `{database}`.`{table['Name']}` (\n{_ddl_columns(storage['Columns'])}\n)\n"
        f"COMMENT {_literal(table['Description'])}\n{partitions}"
        f"ROW FORMAT SERDE {_literal(serde['SerializationLibrary'])}\n{properties}"
        f"STORED AS INPUTFORMAT {_literal(storage['InputFormat'])}\n  OUTPUTFORMAT {_literal(storage['OutputFormat'])}\n"
        f"LOCATION {_literal(storage['Location'])}\nTBLPROPERTIES (\n  {_ddl_properties(parameters, separator=f',{chr(10)}  ')}\n)"
    )


def _ddl_columns(columns: list[dict]) -> str:
    return ",\n".join(f"  `{c['Name']}` {c['Type']} COMMENT {_literal(c['Comment'])}" for c in columns)


def _ddl_properties(properties: dict[str, str], separator: str = ", ") -> str:
    return separator.join(f"{_literal(name)} = {_literal(value)}" for name, value in properties.items())


def _literal(text: str) -> str:
    """A string of Hive's language, which knows backslash escapes."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\x01", "\\001")
    return f"'{escaped}'"


def _table(
    name: str,
    description: str,
    location: str,
    format: Format,
    *,
    columns: list[tuple[str, str, str]],
    partitions: list[tuple[str, str, str]],
    parameters: dict[str, str],
) -> TableInput:
    header = {"skip.header.line.count": "1"} if format == "csv" else {}
    return {
        "Name": name,
        "Description": description,
        "TableType": "EXTERNAL_TABLE",
        "PartitionKeys": [_glue_column(*column) for column in partitions],
        "Parameters": {"EXTERNAL": "TRUE", "classification": format, **header, **parameters},
        "StorageDescriptor": {
            "Columns": [_glue_column(*column) for column in columns],
            "Location": location,
            **_STORAGE[format],
        },
    }


def _glue_column(name: str, type: str, comment: str) -> dict[str, str]:
    return {"Name": name, "Type": type, "Comment": comment}


def _projection(template: str, first_day: str, *, has_hours: bool) -> dict[str, str]:
    """Source: https://docs.aws.amazon.com/athena/latest/ug/partition-projection-supported-types.html"""
    hour = {"projection.hour.type": "integer", "projection.hour.range": "0,23", "projection.hour.digits": "2"}
    return {
        "projection.enabled": "true",
        "projection.dt.type": "date",
        "projection.dt.format": "yyyy-MM-dd",
        "projection.dt.range": f"{first_day},NOW",
        "projection.dt.interval": "1",
        "projection.dt.interval.unit": "DAYS",
        **(hour if has_hours else {}),
        "storage.location.template": template,
    }


def first_day_of(table: TableInput) -> str | None:
    """The first day that a projected table looks for."""
    return table.get("Parameters", {}).get("projection.dt.range", "").partition(",")[0] or None


def _raw_type(column: Column, format: Format) -> str:
    if format == "csv" or (format == "json" and column.type == "timestamp"):
        return "string"
    return column.type


def _comment(column: Column) -> str:
    return f"{column.description} ({column.unit})" if column.unit else column.description


def _quoted(name: str) -> str:
    return f'"{name}"'


def _names(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(map(_quoted, names))
