"""What the crawler discovered, compared with what is declared."""

from collections.abc import Iterator
from typing import Any

from pipeline import bucket
from pipeline.settings import Settings
from pipeline.tables import catalog, resources

# What a crawler calls the types of ours: it sees values, and narrow ones at that.
_AS_GOOD_AS = {
    "bigint": {"int", "bigint"},
    "double": {"double", "int", "bigint", "float"},
    "timestamp": {"timestamp", "string"},
}


def comparison(settings: Settings, glue: Any) -> Iterator[str]:
    """Yield a line for each table that the crawler found, and one for each column that is not as declared."""
    declared = _columns(glue, settings.glue_database)
    found = _columns(glue, resources.crawled_database(settings))
    if not found:
        yield f"the crawler found nothing below s3://{settings.s3_bucket}/{bucket.raw_folder(settings.s3_root)}"
    for name, columns in found.items():
        yield f"{resources.crawled_database(settings)}.{name}: {len(columns)} columns"
        if (raw := declared.get(f"raw_{name}")) is None:
            yield (
                f"  no table raw_{name} is declared"
                if name not in catalog.CURATED
                else f"  raw_{name} is not there: `python glue_setup.py`"
            )
            continue
        for column in sorted(raw.keys() | columns.keys()):
            if column not in columns:
                yield f"  {column}: declared as {raw[column]}, in no object that the crawler read"
            elif column not in raw:
                yield f"  {column}: {columns[column]}, not declared"
            elif columns[column] not in _AS_GOOD_AS.get(raw[column], {raw[column]}):
                yield f"  {column}: declared as {raw[column]}, found as {columns[column]}"


def _columns(glue: Any, database: str) -> dict[str, dict[str, str]]:
    """Table name to column name to type, partition columns included."""
    try:
        pages = list(glue.get_paginator("get_tables").paginate(DatabaseName=database))
    except glue.exceptions.EntityNotFoundException:
        return {}
    tables = [table for page in pages for table in page["TableList"] if table.get("TableType") != "VIRTUAL_VIEW"]
    return {
        table["Name"]: {
            c["Name"]: c["Type"] for c in table["StorageDescriptor"]["Columns"] + table.get("PartitionKeys", [])
        }
        for table in tables
    }
