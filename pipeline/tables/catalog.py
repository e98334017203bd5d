# ruff: noqa: S608 - the parts of the SQL built here are names of ours and checked settings, never a user's text
"""What the Glue Data Catalog holds: tables and views, derived from the records. Pure: nothing here calls AWS.

The raw tables read what consumer.py lands, the curated tables what the ETL writes. People and BI tools query the views
bars, ticks, news and actions, which read both. The definitions have the form of Glue's TableInput.
"""

from dataclasses import dataclass
from typing import Any

from pipeline import bucket, records
from pipeline.landing.plan import Format, PartitionTime
from pipeline.records import TABLES, Column
from pipeline.settings import Settings
from pipeline.tables.retractions import Retraction, kept

TableInput = dict[str, Any]

DEAD_LETTERS = "dead_letters"
# How the curated tables are partitioned. A tick has no key, so its day is copied whole, once no more can arrive for it.
# An action may move to another month, so its partition is its kind. Actions stand last: their ETL reads closes of bars.
CURATED: dict[str, tuple[str, ...]] = {
    "bars": ("interval", "month"),
    "ticks": ("dt",),
    "news": ("month",),
    "actions": ("kind",),
}
# Columns that the ETL adds. Rows that it has not seen yet are without.
_OF_THE_ETL: dict[str, tuple[tuple[str, str, str], ...]] = {
    "actions": (
        ("reference_close", "double", "last close before the ex-date of a dividend"),
        ("reference_adjusted_to", "string", "day on whose shares that close is, YYYY-MM-DD"),
    )
}

# What chooses between two records of one key that were ingested in the same millisecond: the same row on every engine.
# Few columns, for every query of the view reads them.
_TIES = {
    "bars": ("source", "close", "volume"),
    "news": ("source", "title", "time"),
    # The row of the ETL before the same one from the raw days, which has no reference_close.
    "actions": ("time", "amount", "split_to", "cancelled", "reference_close"),
}
_TEXT_FILES = {
    "InputFormat": "org.apache.hadoop.mapred.TextInputFormat",
    "OutputFormat": "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat",
}
_STORAGE: dict[Format, dict[str, Any]] = {
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
    """How the consumer lands one record, and the first day that its raw table reads."""

    first_day: str
    format: Format = "json"
    has_hours: bool = False
    by_month: bool = False  # the folder of a month is its first day
    partition_time: PartitionTime = "arrival"
    retractions: tuple[Retraction, ...] = ()  # what was taken back of it


def raw_table(settings: Settings, record: str, landing: Landing) -> TableInput:
    """Return the table over raw/bars, raw/ticks, raw/news or raw/actions. Its partitions are projected, so that
    queries see new folders without a crawler.
    """
    location = location_of(settings, bucket.raw_folder(settings.s3_root, record))
    hours = [("hour", "string", "hour, UTC")] if landing.has_hours else []
    folders = "dt=${dt}/hour=${hour}/" if landing.has_hours else "dt=${dt}/"
    return table_input(
        f"raw_{record}",
        f"{_first_line(TABLES[record])} As landed from Kafka; query the view {record} instead.",
        location,
        landing.format,
        columns=[(c.name, _raw_type(c, landing.format), _comment(c)) for c in records.columns(TABLES[record])],
        partitions=[("dt", "string", f"day of {landing.partition_time}, UTC"), *hours],
        parameters=_projection(location + folders, landing.first_day, has_hours=landing.has_hours)
        | {"landing.partition_time": landing.partition_time},
    )


def dead_letters(settings: Settings, topics: list[str], first_day: str) -> TableInput:
    """Return the table of refused records. The topic is its first partition column, for it is the first folder."""
    location = location_of(settings, bucket.dead_letter_folder(settings.s3_root))
    topic = {"projection.topic.type": "enum", "projection.topic.values": ",".join(topics)}
    return table_input(
        DEAD_LETTERS,
        "Records that break their definition, with the reason.",
        location,
        "json",
        columns=list(_DEAD_LETTER_COLUMNS),
        partitions=[("topic", "string", "Kafka topic"), ("dt", "string", "day of arrival, UTC")],
        parameters=_projection(location + "${topic}/dt=${dt}/", first_day, has_hours=False) | topic,
    )


def curated_table(settings: Settings, record: str) -> TableInput:
    """Return a table that the ETL writes, its partitions registered in Glue."""
    of_partitions = {
        "interval": "length of the bar",
        "month": "month of the time, YYYY-MM",
        "dt": "day of arrival, UTC",
        "kind": "split, dividend or symbol_change",
    }
    columns = [(c.name, c.type, _comment(c)) for c in records.columns(TABLES[record]) if c.name not in CURATED[record]]
    columns += _OF_THE_ETL.get(record, ())
    return table_input(
        f"curated_{record}",
        f"Written by the ETL as Parquet; query the view {record} instead.",
        location_of(settings, bucket.curated_folder(settings.s3_root, record)),
        "parquet",
        columns=columns,
        partitions=[(name, "string", of_partitions[name]) for name in CURATED[record]],
        parameters={"parquet.compression": "ZSTD"},
    )


def view_sql(settings: Settings, record: str, landing: Landing, watermark: str, *, late: str = "") -> str:
    """Return the query of the view bars, ticks, news or actions: the curated table, the raw days from the watermark on,
    and `late`, a UNION ALL of what landed behind the watermark.
    """
    curated, raw = (f'"{settings.glue_database}"."{kind}_{record}"' for kind in ("curated", "raw"))
    columns = view_columns(record)
    # Folders of the event's day say nothing about when a record came, so every raw day may hold something new.
    is_arrival = landing.partition_time == "arrival"
    condition = f"dt >= '{watermark if is_arrival else landing.first_day}'"
    raw_rows = raw_select(record, landing.format, raw, condition, arrived_within=arrived_within(record, landing))
    shown = visible_rows(settings, record, landing)
    if record != "ticks":
        return latest(record, curated, f"{raw_rows}{late}", shown)
    if is_arrival:
        raw_rows = f"SELECT {_names(columns)}\n  FROM {curated}\n  WHERE dt < '{watermark}'\n  UNION ALL\n  {raw_rows}"
    return f"SELECT {_names(columns)}\nFROM (\n  {raw_rows}\n)\nWHERE {shown}" if shown else raw_rows


def visible_rows(settings: Settings, record: str, landing: Landing) -> str:
    """Return the condition of the rows that a view shows, empty where it shows all: none that was taken back, and none
    that was simulated, unless that is asked for.
    """
    return "\n  AND ".join([*_hiding_simulated(settings, record), *kept(landing.retractions)])


def _hiding_simulated(settings: Settings, record: str) -> list[str]:
    is_hidden = record != "news" and settings.views_show_simulated == "no"
    return ["\"source\" IS DISTINCT FROM 'simulated'"] if is_hidden else []


def curated_sql(settings: Settings, record: str, database: str) -> str:
    """Return the query of what the ETL has curated of a record and a view shows. Trino and Spark both run it."""
    conditions = _hiding_simulated(settings, record)
    conditions += ["NOT coalesce(cancelled, false)"] if record == "actions" else []
    where = f"\nWHERE {' AND '.join(conditions)}" if conditions else ""
    return f"SELECT {_names(view_columns(record))}\nFROM {database}.curated_{record}{where}"


def view_columns(record: str) -> list[str]:
    """Return the record's fields, what the ETL adds, then the partition column that is not one of them."""
    names = [c.name for c in records.columns(TABLES[record])]
    names += [name for name, _, _ in _OF_THE_ETL.get(record, ())]
    return names + [name for name in CURATED[record] if name not in names]


def landed_sql(settings: Settings, record: str, landing: Landing) -> str:
    """Return the query of the view of all landed rows with their types, each revision of a record: what --as-of reads.
    Its dt is that of the raw folder.
    """
    raw = f'"{settings.glue_database}"."raw_{record}"'
    within = arrived_within(record, landing)
    rows = raw_select(record, landing.format, raw, f"dt >= '{landing.first_day}'", arrived_within=within)
    if record != "ticks":
        rows = rows.replace("\n  FROM ", ", dt\n  FROM ", 1)
    hidden = " AND ".join(_hiding_simulated(settings, record))
    return f"SELECT * FROM (\n  {rows}\n)\nWHERE {hidden}" if hidden else rows


def raw_select(record: str, format: Format, table: str, condition: str, *, arrived_within: int | None = None) -> str:
    """Return a SELECT of typed columns from a raw table of any format. Trino and Spark both run it.

    `arrived_within`: the days after the folder's day by which its records had arrived. A later ingested_at comes from a
    wrong clock, and would win over every correction: it counts as that day. None where folders say nothing about it.
    """
    expressions = {column.name: typed(column, format) for column in records.columns(TABLES[record])}
    if arrived_within is not None:
        arrived = f"CAST(dt AS timestamp) + INTERVAL '{arrived_within}' DAY"
        expressions["ingested_at"] = f"least({expressions['ingested_at']}, {arrived})"
    columns = [f"{expression} AS {_quoted(name)}" for name, expression in expressions.items()]
    # Trino has no string, and Spark no varchar without a length.
    added = ((name, "varchar(10)" if kind == "string" else kind) for name, kind, _ in _OF_THE_ETL.get(record, ()))
    columns += [f"CAST(NULL AS {kind}) AS {_quoted(name)}" for name, kind in added]
    if record == "ticks":
        columns.append("dt")
    elif "month" in CURATED[record]:
        columns.append("substr(CAST(time AS varchar(23)), 1, 7) AS month")
    return f"SELECT {', '.join(columns)}\n  FROM {table}\n  WHERE {condition}"


def arrived_within(record: str, landing: Landing) -> int | None:
    """Return the days after a raw folder's day by which its records had arrived, with a day for clocks that differ.
    None for ticks, of which none replaces another, and where folders are of the event's day.
    """
    if record == "ticks" or landing.partition_time == "event":
        return None
    return 32 if landing.by_month else 2


def typed(column: Column, format: Format) -> str:
    """Return the expression that gives a raw column its type. In CSV every column is a string, and null is empty."""
    source = _quoted(column.name)
    if format == "csv":
        source = f"nullif({source}, '')" if column.type != "timestamp" else source
        return source if column.type == "string" else f"CAST({source} AS {column.type})"
    return f"CAST({source} AS timestamp)" if column.type == "timestamp" else source


def latest(record: str, curated: str, new_rows: str, shown: str = "") -> str:
    """Return a SELECT that keeps of the rows with one key the one ingested last, of those that meet the condition
    `shown`; of actions those that stand.

    A curated table has one row per key already. So only what is new, and the curated rows that it meets, go through the
    window; the other curated rows pass by, and memory follows what is new. The key is compared with the partition, so
    that a condition on any of them reaches both tables. There are few actions, and views that read them several times:
    all of them go through the window, which is a smaller plan.
    """
    columns = view_columns(record)
    key = list(dict.fromkeys([*records.KEYS[record], *CURATED[record]]))
    order = ", ".join(f"{_quoted(c)} DESC" for c in ("ingested_at", *_TIES[record]))
    old_rows = f"SELECT {_names(columns)}\n  FROM {curated}"
    if shown:
        old_rows += f"\n  WHERE {shown}"
        new_rows = f"SELECT {_names(columns)}\n  FROM (\n  {new_rows}\n  )\n  WHERE {shown}"
    if record == "actions":
        return (
            f"SELECT {_names(columns)}\nFROM (\n"
            f"  SELECT *, row_number() OVER (PARTITION BY {_names(key)} ORDER BY {order}) AS recency\n"
            f"  FROM (\n  {old_rows}\n  UNION ALL\n  {new_rows}\n  )\n)\n"
            f"WHERE recency = 1\n  AND NOT coalesce(cancelled, false)"
        )
    return (
        f"WITH old AS (\n  {old_rows}\n), new AS (\n  {new_rows}\n)\n"
        f"SELECT {_names(columns)}\nFROM old\n"
        f"WHERE NOT EXISTS (SELECT 1 FROM new WHERE {_same(key, 'new')})\n"
        f"UNION ALL\n"
        f"SELECT {_names(columns)}\nFROM (\n"
        f"  SELECT *, row_number() OVER (PARTITION BY {_names(key)} ORDER BY {order}) AS recency\n"
        f"  FROM (\n"
        f"    SELECT {_names(columns)}\n    FROM new\n"
        f"    UNION ALL\n"
        f"    SELECT {', '.join(f'old.{_quoted(c)}' for c in columns)}\n"
        f"    FROM old JOIN (SELECT DISTINCT {_names(key)} FROM new) AS met ON {_same(key, 'met')}\n"
        f"  )\n)\nWHERE recency = 1"
    )


def _same(key: list[str], other: str) -> str:
    return " AND ".join(f"{other}.{_quoted(name)} = old.{_quoted(name)}" for name in key)


def ddl(database: str, table: TableInput) -> str:
    """Return the CREATE EXTERNAL TABLE statement of a table, to read or to paste into Athena's console."""
    storage = table["StorageDescriptor"]
    serde = storage["SerdeInfo"]
    partitions = f"PARTITIONED BY (\n{_ddl_columns(table['PartitionKeys'])}\n)\n" if table["PartitionKeys"] else ""
    properties = f"WITH SERDEPROPERTIES ({_ddl_properties(serde['Parameters'])})\n" if serde["Parameters"] else ""
    parameters = {name: value for name, value in table["Parameters"].items() if name != "EXTERNAL"}
    return (
        f"CREATE EXTERNAL TABLE `{database}`.`{table['Name']}` (\n{_ddl_columns(storage['Columns'])}\n)\n"
        f"COMMENT {_literal(table['Description'])}\n{partitions}"
        f"ROW FORMAT SERDE {_literal(serde['SerializationLibrary'])}\n{properties}"
        f"STORED AS INPUTFORMAT {_literal(storage['InputFormat'])}\n"
        f"  OUTPUTFORMAT {_literal(storage['OutputFormat'])}\n"
        f"LOCATION {_literal(storage['Location'])}\n"
        f"TBLPROPERTIES (\n  {_ddl_properties(parameters, separator=f',{chr(10)}  ')}\n)"
    )


def _ddl_columns(columns: list[dict[str, str]]) -> str:
    return ",\n".join(f"  `{c['Name']}` {c['Type']} COMMENT {_literal(c['Comment'])}" for c in columns)


def _ddl_properties(properties: dict[str, str], separator: str = ", ") -> str:
    return separator.join(f"{_literal(name)} = {_literal(value)}" for name, value in properties.items())


def _literal(text: str) -> str:
    """A string of Hive's language, which knows backslash escapes."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\x01", "\\001")
    return f"'{escaped}'"


def table_input(
    name: str,
    description: str,
    location: str,
    format: Format,
    *,
    columns: list[tuple[str, str, str]],
    partitions: list[tuple[str, str, str]],
    parameters: dict[str, str],
) -> TableInput:
    """Return a table over the objects of a folder. Columns are name, type and comment."""
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


def location_of(settings: Settings, folder: str) -> str:
    """Return the s3:// address of a folder of the lake."""
    return f"s3://{settings.s3_bucket}/{folder}"


def _first_line(kind: type[records.Record]) -> str:
    return (kind.__doc__ or "").splitlines()[0]


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
    """Return the first day that a projected table reads, None where the table is not projected."""
    days: str = table.get("Parameters", {}).get("projection.dt.range", "")
    return days.partition(",")[0] or None


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
