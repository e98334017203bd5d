"""Glue and Athena beside their definition."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import date

from botocore.exceptions import ClientError

from pipeline import aws
from pipeline.doctor.finding import Finding, ok, problem, warning
from pipeline.settings import Settings
from pipeline.tables.calls import found
from pipeline.tables.provision import Provision

_CURE = "python glue_setup.py"
_OPTIONAL = ("saved query", "crawler", "job", "schedule", "role", "script", "bucket's")
_SHOWN = 8  # names in a line


def findings(settings: Settings, *, today: date) -> Iterator[Finding]:
    if not settings.s3_bucket:
        yield problem("tables", "S3_BUCKET is empty", "set it")
        return
    kept, wrong = 0, defaultdict(list)
    # The calls of each change are never made: the walk itself only reads.
    for change in Provision(settings, today=today).changes():
        if change.action == "keep":
            kept += 1
        elif change.action == "skip":
            yield warning("tables", f"{change.what}: {change.why}", f"{_CURE} --with-roles, if you want it")
        else:
            state = "missing" if change.action == "create" else f"differs from the definition ({change.why})"
            kind, _, name = change.what.rpartition(" ")
            wrong[kind or change.what, state].append(name)
    for (kind, state), names in wrong.items():
        say = warning if kind.startswith(_OPTIONAL) else problem
        yield say(
            "tables",
            f"{kind} {', '.join(names) if len(names) <= _SHOWN else f'{names[0]} and {len(names) - 1} more'}: {state}",
            _CURE,
        )
    yield ok("tables", f"{kept} parts are as defined")
    yield from _workgroup(settings)


def _workgroup(settings: Settings) -> Iterator[Finding]:
    """Without a location for results every query fails, in the console and in BI tools."""
    name = settings.athena_workgroup
    try:
        found = aws.client(settings, "athena").get_work_group(WorkGroup=name)["WorkGroup"]
    except ClientError:
        return  # That it is missing is said above.
    configuration = found.get("Configuration", {})
    if found.get("State", "ENABLED") != "ENABLED":
        yield problem(
            "tables",
            f"workgroup {name} is switched off",
            "switch it on in Athena's console, or ATHENA_WORKGROUP names another",
        )
    if not configuration.get("ResultConfiguration", {}).get("OutputLocation"):
        yield problem(
            "tables", f"workgroup {name} has no output location: queries without one of their own fail", _CURE
        )


def has_tables(settings: Settings, *names: str) -> bool:
    """Return whether the database has all of these tables and views; what lacks one is this area's to report."""
    glue = aws.client(settings, "glue")
    return all(found(glue.get_table, DatabaseName=settings.glue_database, Name=name) for name in names)
