"""Which lake the parts belong to that glue_setup.py is about to change: several lakes share an account.

Each part carries the tag LAKE_TAG. One without it, of an earlier version or of other hands, is known by what it points
at; where that is another place, it is another's.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from pipeline import aws, bucket
from pipeline.athena import belonging
from pipeline.settings import ServiceError, Settings
from pipeline.tables import resources
from pipeline.tables.calls import found
from pipeline.tables.tagging import parts_of_one_lake, tags_of

_UNKNOWN = "nobody that is known here"


def check(settings: Settings) -> None:
    """Raise ServiceError, with a line for each, where parts of these names belong to another lake."""
    if others := list(foreign(settings)):
        listed = "".join(f"\n  {what} belongs to {owner}" for what, owner in others)
        raise ServiceError(
            f"S3_BUCKET, S3_PREFIX: this is the lake {resources.lake_of(settings)}, and the settings name parts of "
            f"another one:{listed}\nNothing was changed. --env NAME (STOCK_ENV) gives a lake names of its own; so do "
            "GLUE_DATABASE and ATHENA_WORKGROUP. `glue_setup.py create --take-over` makes the parts this lake's"
        )


def foreign(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the parts that exist and are another lake's, each with its owner."""
    points_at = _places(settings)
    own = resources.lake_of(settings)
    for part in parts_of_one_lake(settings):
        tags = tags_of(part)
        if tags is None:
            continue
        owner = tags.get(resources.LAKE_TAG) or points_at.get(part.what, lambda: "")()
        if owner and owner != own:
            yield part.what, owner


def _places(settings: Settings) -> dict[str, Callable[[], str]]:
    """Return, by part, what reads to which lake it belongs by what it points at: empty where that is not known."""
    glue, athena = aws.client(settings, "glue"), aws.client(settings, "athena")
    job, crawler = resources.job_name(settings), resources.crawler_name(settings)

    def of_workgroup(name: str) -> str:
        group = found(athena.get_work_group, WorkGroup=name) or {}
        configuration = group.get("WorkGroup", {}).get("Configuration", {})
        output = str(configuration.get("ResultConfiguration", {}).get("OutputLocation", ""))
        return "" if output == settings.athena_output_location else _lake_of(output, bucket.results_folder(""))

    def of_job() -> str:
        command = (found(glue.get_job, JobName=job) or {}).get("Job", {}).get("Command", {})
        return _lake_of(str(command.get("ScriptLocation", "")).rpartition("/")[0] + "/", bucket.etl_folder(""))

    def of_crawler() -> str:
        targets = (found(glue.get_crawler, Name=crawler) or {}).get("Crawler", {}).get("Targets", {})
        paths: list[dict[str, Any]] = targets.get("S3Targets") or [{}]
        return _lake_of(str(paths[0].get("Path", "")), bucket.raw_folder(""))

    def of_database() -> str:
        table = found(glue.get_table, DatabaseName=settings.glue_database, Name="raw_bars") or {}
        location = str(table.get("Table", {}).get("StorageDescriptor", {}).get("Location", ""))
        return _lake_of(location, bucket.raw_folder("", "bars")) if location else ""

    groups = (settings.athena_workgroup, resources.etl_workgroup_name(settings))
    return {
        **{f"workgroup {name}": partial(of_workgroup, name) for name in groups},
        f"job {job}": of_job,
        f"crawler {crawler}": of_crawler,
        f"database {settings.glue_database}": of_database,
    }


def _lake_of(place: str, folder: str) -> str:
    """Return the lake that an s3:// folder of ours lies in."""
    address = urlsplit(place)
    if not place.endswith(f"/{folder}"):
        return _UNKNOWN
    root = address.path.lstrip("/").removesuffix(folder)
    return resources.lake_of(Settings(s3_bucket=address.netloc, s3_prefix=root))


def check_tables(settings: Settings) -> None:
    """Raise ServiceError where the database's tables are another lake's: one call, for commands that change no part."""
    belonging.check(settings)
