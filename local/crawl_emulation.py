"""An emulated crawl: what StartCrawler does in the embedded stack, where ministack's crawler makes no table.

This is an emulation, written from the documented behaviour of AWS Glue crawlers; it is not AWS's crawler. It lists each
S3 target, groups the objects into tables by their folders, reads up to 1 MB of each object, infers the columns
(column_types.py), and writes tables and partitions into the Glue catalog. Custom classifiers, exclusions, JDBC targets
and the choices of SchemaChangePolicy are not emulated: a changed table is updated, and nothing is deleted.
"""

import contextvars
import logging
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from urllib.parse import urlparse

from ministack.core.responses import error_response_json, json_response
from ministack.services import s3

from local import column_types

logger = logging.getLogger("local.crawl_emulation")

READ_BYTES_PER_OBJECT = 1_000_000
LABEL = "emulated crawl of the embedded stack, not AWS's crawler"


@dataclass
class FoundTable:
    """Objects under one folder that share a format: a table. `partitions` maps key=value folders to their place."""

    location: str
    kind: str
    keys: list[str] = field(default_factory=list)
    objects: list[str] = field(default_factory=list)
    partitions: dict[tuple[str, ...], str] = field(default_factory=dict)


def install(glue: ModuleType, note_change: Callable[[str], None]) -> None:
    """Replace StartCrawler, which in ministack only waits and then says SUCCEEDED."""

    def start_crawler(data: dict) -> tuple:
        name = data.get("Name")
        crawler = glue._crawlers.get(name)
        if crawler is None:
            return error_response_json("EntityNotFoundException", f"Crawler {name} not found", 400)
        if crawler["State"] == "RUNNING":
            return error_response_json("CrawlerRunningException", f"Crawler {name} is already running", 400)
        crawler["State"] = "RUNNING"
        # The emulator keeps account and region of a request in context variables, which a thread does not inherit.
        context = contextvars.copy_context()
        arguments = (run, glue, crawler, note_change)
        threading.Thread(target=context.run, args=arguments, name=f"crawl-{name}", daemon=True).start()
        return json_response({})

    glue._start_crawler = start_crawler


def run(glue: ModuleType, crawler: dict, note_change: Callable[[str], None]) -> None:
    began = time.time()
    last = {"Status": "SUCCEEDED", "LogGroup": "/aws-glue/crawlers", "LogStream": crawler["Name"], "StartTime": began}
    try:
        for target in crawler["Targets"].get("S3Targets", []):
            crawl_target(glue, crawler, target["Path"])
    except Exception as error:
        logger.exception("%s: %s failed", LABEL, crawler["Name"])
        last |= {"Status": "FAILED", "ErrorMessage": f"{LABEL}: {error}"}
    crawler |= {"LastCrawl": last, "CrawlElapsedTime": round((time.time() - began) * 1000), "State": "READY"}
    note_change("glue")


def crawl_target(glue: ModuleType, crawler: dict, path: str) -> None:
    bucket = urlparse(path).netloc
    prefix = urlparse(path).path.strip("/")
    prefix = f"{prefix}/" if prefix else ""
    if bucket not in s3._buckets:
        raise ValueError(f"bucket {bucket} of target {path} does not exist")
    database = crawler["DatabaseName"]
    if database not in glue._databases:
        # AWS's crawler makes its database, too.
        glue._create_database({"DatabaseInput": {"Name": database}})
    keys = sorted(key for key in list(s3._buckets[bucket]["objects"]) if key.startswith(prefix))
    for table in group_into_tables(bucket, keys):
        columns = columns_of(bucket, table)
        if columns:
            write_table(glue, crawler, table, columns)


def group_into_tables(bucket: str, keys: list[str]) -> list[FoundTable]:
    """A table is the folder above the first key=value folder, or above the objects where there is none."""
    tables: dict[tuple[str, str], FoundTable] = {}
    for key in keys:
        *folders, name = key.split("/")
        kind = column_types.kind_of(name)
        # A name that starts with a dot or an underscore is hidden to Hive and Trino.
        if kind is None or any(part.startswith((".", "_")) for part in (*folders, name)):
            continue
        first = next((number for number, folder in enumerate(folders) if "=" in folder), len(folders))
        base = "/".join(folders[:first])
        pairs = [folder.partition("=")[::2] for folder in folders[first:] if "=" in folder]
        table = tables.setdefault(
            (base, kind),
            FoundTable(f"s3://{bucket}/{base}/" if base else f"s3://{bucket}/", kind, [pair[0] for pair in pairs]),
        )
        if [pair[0] for pair in pairs] != table.keys:
            continue  # a folder that is laid out otherwise than the first one is left out
        table.objects.append(key)
        if pairs:
            table.partitions[tuple(pair[1] for pair in pairs)] = f"s3://{bucket}/{'/'.join(folders)}/"
    return list(tables.values())


def columns_of(bucket: str, table: FoundTable) -> list[dict]:
    merged: dict[str, str] = {}
    for key in table.objects:
        body = s3._get_object_data(bucket, key) or b""
        for name, kind in column_types.columns(table.kind, key, body, READ_BYTES_PER_OBJECT).items():
            merged[name] = column_types.wider(merged[name], kind) if name in merged else kind
    # A column that is also a folder's key is that key, as for the crawler.
    return [{"Name": name, "Type": kind} for name, kind in merged.items() if name not in table.keys]


def write_table(glue: ModuleType, crawler: dict, table: FoundTable, columns: list[dict]) -> None:
    folder = table.location.rstrip("/").rpartition("/")[2]
    # Names in the catalog are lower case, and what is no letter, digit or underscore becomes one (Glue's rule).
    name = crawler.get("TablePrefix", "") + re.sub(r"[^a-z0-9_]", "_", folder.lower())
    storage = {"Columns": columns, "Location": table.location} | column_types.STORAGE[table.kind]
    table_input = {
        "Name": name,
        "TableType": "EXTERNAL_TABLE",
        "StorageDescriptor": storage,
        "PartitionKeys": [{"Name": key, "Type": "string"} for key in table.keys],
        "Parameters": {
            "classification": table.kind,
            "UPDATED_BY_CRAWLER": crawler["Name"],
            "typeOfData": "file",
            "EXTERNAL": "TRUE",
            "objectCount": str(len(table.objects)),
            "comment": LABEL,
        }
        | ({"skip.header.line.count": "1"} if table.kind == "csv" else {}),
    }
    database = crawler["DatabaseName"]
    call = glue._update_table if f"{database}/{name}" in glue._tables else glue._create_table
    call({"DatabaseName": database, "TableInput": table_input})
    partitions = [
        {"Values": list(values), "StorageDescriptor": storage | {"Location": place}}
        for values, place in table.partitions.items()
    ]
    # Those that are there already are answered with an error each and left as they are.
    glue._batch_create_partition({"DatabaseName": database, "TableName": name, "PartitionInputList": partitions})
