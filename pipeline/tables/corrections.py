"""Taking records back and restoring them: `glue_setup.py retract`.

A retraction changes what views and ETL show. What it had replaced stands in the raw objects; where the ETL has run, the
curated rows of the keys that it touches are built again from all raw days.
"""

import argparse
import uuid
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime
from pathlib import PurePath
from typing import Any

import pandas as pd

from etl.curation import Curation, RunOutcome, is_one_of
from etl.publish import LAST_RUN
from pipeline import aws, bucket, records
from pipeline.athena.client import Athena
from pipeline.records import INTERVALS, Bar, Column, time_text
from pipeline.settings import ServiceError, Settings, SettingsError
from pipeline.tables import retractions
from pipeline.tables.athena_engine import AthenaEngine
from pipeline.tables.calls import call
from pipeline.tables.catalog import CURATED
from pipeline.tables.changes import Change
from pipeline.tables.etl_inputs import etl_tables
from pipeline.tables.lake_listing import LakeListing
from pipeline.tables.provision import Provision
from pipeline.tables.retractions import Retraction


def add_options(command: argparse.ArgumentParser) -> None:
    """Add what can be said of the records to take back, and what else can be done with retractions."""
    command.add_argument("--table", choices=list(CURATED), default="bars", help="bars (default), ticks or news")
    command.add_argument("--symbol", default="", metavar="A,B", help="of these symbols")
    which = command.add_mutually_exclusive_group()
    which.add_argument("--source", default="", help="of this source, as the records have it, such as polygon")
    which.add_argument("--file", default="", metavar="NAME", help="of the load of this file: source csv:NAME")
    command.add_argument("--interval", choices=INTERVALS, default="", metavar="1d", help="bars of this length")
    command.add_argument("--day", type=_day, metavar="DAY", help="of this day")
    command.add_argument("--from", dest="first", type=_day, metavar="DAY", help="from this day on")
    command.add_argument("--to", dest="last", type=_day, metavar="DAY", help="up to this day, included")
    command.add_argument(
        "--ingested-from", type=_time, metavar="TIME", help="read by the producer from this time on, UTC"
    )
    command.add_argument("--ingested-before", type=_time, metavar="TIME", help="and before this one (default: now)")
    command.add_argument("--reason", default="", metavar="TEXT", help="kept with it, and listed")
    command.add_argument("--list", action="store_true", help="show what was taken back")
    command.add_argument("--restore", default="", metavar="ID", help="end this retraction")
    command.add_argument(
        "--dynamodb", action="store_true", help="bars: in DYNAMODB_TABLE too, from what the lake has instead"
    )
    command.add_argument("--yes", action="store_true", help="do not ask")
    command.add_argument("--dry-run", action="store_true", help="print the calls, and make none that changes anything")


def asked(options: argparse.Namespace, *, now: datetime) -> Retraction:
    """Return the retraction that the options describe. Raise SettingsError."""
    symbols = tuple(dict.fromkeys(name.strip() for name in options.symbol.split(",") if name.strip()))
    source = f"csv:{PurePath(options.file).name}" if options.file else options.source
    first, last = options.day or options.first or "", options.day or options.last or ""
    mistakes = []
    if not any((symbols, source, options.interval, first, last, options.ingested_from)):
        mistakes.append("retract: say which records: --symbol, --source, --file, --interval, --day, --from, --to, …")
    if options.day and (options.first or options.last):
        mistakes.append("--day is a range of its own; leave --from and --to out")
    if first and last and first > last:
        mistakes.append(f"--from {first} is after --to {last}")
    if options.dynamodb and options.table != "bars":
        mistakes.append("--dynamodb: the table has bars only")
    if options.interval and not retractions.has_column(options.table, "interval"):
        mistakes.append(f"--interval: {options.table} have none")
    if mistakes:
        raise SettingsError(mistakes)
    return Retraction(
        id=f"{now:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:6]}",
        made_at=time_text(now),
        table=options.table,
        ingested_before=options.ingested_before or time_text(now),
        ingested_from=options.ingested_from or "",
        symbols=symbols,
        source=source,
        interval=options.interval,
        first_day=first,
        last_day=last,
        reason=options.reason,
    )


def _day(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day YYYY-MM-DD") from None


def _time(text: str) -> str:
    try:
        return time_text(datetime.fromisoformat(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 2026-01-31 14:30, UTC") from None


def of_id(settings: Settings, id_: str) -> Retraction:
    """Return the retraction of this id. Raise ServiceError."""
    for one in LakeListing(settings).retractions:
        if one.id == id_:
            return one
    raise ServiceError(f"--restore {id_}: there is no such retraction; `glue_setup.py retract --list` shows them")


def matching(settings: Settings, retraction: Retraction) -> pd.DataFrame:
    """Return what the view shows of the records that would be taken back: symbol, source, records, first and last."""
    return Athena(settings).query(
        "SELECT symbol, source, count(*) AS records, min(time) AS first_time, max(time) AS last_time\n"
        f"FROM {retraction.table} WHERE {retractions.condition(retraction)}\n"
        "GROUP BY symbol, source ORDER BY symbol, source"
    )


def bars_of(settings: Settings, condition: str) -> list[Bar]:
    """Return the bars that the view shows of those that meet a condition."""
    columns = records.columns(Bar)
    names = ", ".join(f'"{column.name}"' for column in columns)
    rows = Athena(settings).query(f"SELECT {names} FROM bars WHERE {condition}")  # noqa: S608 - as above
    return [_bar(row, columns) for row in rows.to_dict("records")]


def of_symbols(symbols: Iterable[str]) -> str:
    """Return the condition of the rows of some symbols."""
    return is_one_of("symbol", sorted(set(symbols)))


def _bar(row: dict[Any, Any], columns: Iterable[Column]) -> Bar:
    kinds: dict[str, Callable[[Any], Any]] = {"double": float, "bigint": int, "boolean": bool, "timestamp": time_text}
    return Bar(
        **{
            column.name: kinds.get(column.type, str)(row[column.name])
            for column in columns
            if not pd.isna(row[column.name])
        }
    )


def changes(settings: Settings, retraction: Retraction, *, is_restored: bool) -> Iterator[Change]:
    """Yield what keeps or forgets a retraction, then the views and files that follow from it; the caller carries out
    each before it asks for the next.
    """
    s3 = aws.client(settings, "s3")
    address = {
        "Bucket": settings.s3_bucket,
        "Key": f"{bucket.retractions_folder(settings.s3_root)}{retraction.id}.json",
    }
    what = f"retraction {retraction.id}"
    if is_restored:
        yield Change(what, "delete", calls=(call(s3, "delete_object", **address),))
    else:
        body = retractions.encode(retraction)
        yield Change(what, "create", retraction.said, (call(s3, "put_object", **address, Body=body, IfNoneMatch="*"),))
    yield from Provision(settings, today=datetime.now(UTC).date()).shown()


def rebuild(settings: Settings, retraction: Retraction) -> RunOutcome | None:
    """Build the curated rows again that a retraction, or its end, touches; None where the ETL has none yet."""
    table = retraction.table
    glue = aws.client(settings, "glue")
    state = glue.get_table(DatabaseName=settings.glue_database, Name=f"curated_{table}")["Table"].get("Parameters", {})
    if table not in CURATED or table == "ticks" or LAST_RUN not in state:
        return None  # ticks have no key: what is left out had replaced nothing
    listing, now = LakeListing(settings), datetime.now(UTC)
    landing = listing.landing(table, listing.first_day_declared(table))
    clients: dict[str, Any] = {name: aws.client(settings, name) for name in ("s3", "glue", "athena")}
    run = f"{now:%Y%m%dT%H%M%SZ}_{uuid.uuid4().hex[:8]}"
    curation = Curation(AthenaEngine(settings), **clients, run=run, now=now, scope=retractions.scope(retraction))
    return curation.curate(etl_tables(settings, {table: landing})[table], (landing.first_day, date.max.isoformat()))
