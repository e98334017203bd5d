"""What an ETL run is given: a description of each table for both engines, and the files of the Glue job."""

import io
import json
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import get_args

from etl.curation import CuratedTable
from pipeline import bucket
from pipeline.records import ActionKind
from pipeline.settings import Settings
from pipeline.tables.catalog import CURATED, Landing, arrived_within, curated_table, raw_select, raw_table, view_sql
from pipeline.tables.retractions import kept

ETL_FOLDER = Path(__file__).parent.parent.parent / "etl"
_WATERMARK, _LATE = "\0watermark", "\0late"  # no text of SQL has these
JOB_SCRIPT, JOB_MODULES, JOB_TABLES = "glue_job.py", "etl.zip", "tables.json"


def etl_files(settings: Settings, landings: dict[str, Landing]) -> dict[str, bytes]:
    """Return the files of the Glue job by name: its script, the modules that it imports, and the tables' descriptions.
    The same code and settings give the same bytes.
    """
    modules = io.BytesIO()
    with zipfile.ZipFile(modules, "w") as archive:
        for name in ("__init__.py", "curation.py", "publish.py", "raw_days.py", "slices.py", "unread.py"):
            # ZipInfo's own date is 1980: the same files give the same bytes.
            archive.writestr(zipfile.ZipInfo(f"etl/{name}"), (ETL_FOLDER / name).read_bytes())
    tables = [asdict(table) for table in etl_tables(settings, landings).values()]
    return {
        JOB_SCRIPT: (ETL_FOLDER / JOB_SCRIPT).read_bytes(),
        JOB_MODULES: modules.getvalue(),
        JOB_TABLES: json.dumps(tables, indent=1).encode(),
    }


def etl_tables(settings: Settings, landings: dict[str, Landing]) -> dict[str, CuratedTable]:
    """Return the tables' descriptions by record."""
    return {record: _described(settings, record, landing) for record, landing in landings.items()}


def _described(settings: Settings, record: str, landing: Landing) -> CuratedTable:
    raw, curated = raw_table(settings, record, landing), curated_table(settings, record)
    columns = curated["StorageDescriptor"]["Columns"] + curated["PartitionKeys"]
    return CuratedTable(
        record=record,
        database=settings.glue_database,
        workgroup=settings.athena_workgroup,
        bucket=settings.s3_bucket,
        raw_folder=bucket.raw_folder(settings.s3_root, record),
        curated_folder=bucket.curated_folder(settings.s3_root, record),
        run_notes_folder=bucket.run_notes_folder(settings.s3_root, record),
        first_day=landing.first_day,
        late_days=settings.etl_late_days,
        partition_time=landing.partition_time,
        by_month=landing.by_month,
        format=landing.format,
        partition_columns=list(CURATED[record]),
        raw_columns={column["Name"]: column["Type"] for column in raw["StorageDescriptor"]["Columns"]},
        curated_columns={column["Name"]: column["Type"] for column in columns},
        select=(ETL_FOLDER / f"{record}.sql").read_text(encoding="utf-8"),
        raw_select=raw_select(
            record, landing.format, "$table", "$condition", arrived_within=arrived_within(record, landing)
        ),
        view=_template(view_sql(settings, record, landing, _WATERMARK, late=_LATE)),
        visible=" AND ".join(kept(landing.retractions)),
        has_hours=landing.has_hours,
        looks_up="bars" if record == "actions" else "",
        looking_up=[[kind] for kind in get_args(ActionKind)] if record == "actions" else [],
    )


def _template(sql: str) -> str:
    """The text of a view as a template; a dollar sign of a symbol is none of a placeholder."""
    return sql.replace("$", "$$").replace(_WATERMARK, "$watermark").replace(_LATE, "$late")
