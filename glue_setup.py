"""Create, show, update and delete the Glue and Athena side of the lake, and run its ETL.

python glue_setup.py                     create bucket, database, tables, views, workgroup, queries; safe to repeat
python glue_setup.py --with-roles        the same, with the IAM role of crawler and ETL job, then crawler and job
python glue_setup.py --dry-run           print the calls and make none that changes anything
python glue_setup.py show                what exists, and what differs from the definition
python glue_setup.py crawl               run the crawler over the landed objects, and compare with the declared tables
python glue_setup.py etl                 update the curated tables, by Athena
python glue_setup.py etl --engine glue   the same by the Glue Spark job
python glue_setup.py etl --engine spark  the same by that job's code, on Spark on this machine
python glue_setup.py retract --source csv:wrong.csv    take records back; --list, --restore ID
python glue_setup.py delete              delete all of it except the data
"""

import argparse
import json
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from etl.curation import Curation
from etl.publish import PublishFailed
from pipeline import aws, terminal
from pipeline.settings import ServiceError, Settings, load_settings
from pipeline.sinks.dynamodb import corrections as items
from pipeline.tables import catalog, corrections, crawled, local_spark, ownership, prices, resources
from pipeline.tables.athena_engine import AthenaEngine
from pipeline.tables.changes import Change
from pipeline.tables.etl_inputs import etl_tables
from pipeline.tables.lake_listing import LakeListing
from pipeline.tables.provision import Provision
from pipeline.tables.removal import removals
from pipeline.tables.retractions import Retraction, condition
from pipeline.tables.sessions import session_changes

COMMANDS = ("create", "show", "crawl", "etl", "retract", "delete")
_DONE = {"create": "created", "update": "updated", "delete": "deleted", "keep": "unchanged", "skip": "skipped"}
_TO_DO = {
    "create": "would create",
    "update": "would update",
    "delete": "would delete",
    "keep": "unchanged",
    "skip": "would skip",
}
_FOUND = {"create": "missing", "update": "differs", "keep": "as defined", "skip": "not made"}
_LONGEST_PAUSE_SECONDS = 10
_RUNNING = ("STARTING", "RUNNING", "STOPPING", "WAITING")


def main() -> int:
    arguments = sys.argv[1:]
    if not arguments or arguments[0] not in (*COMMANDS, "-h", "--help"):
        arguments = ["create", *arguments]
    options = _parser().parse_args(arguments)
    settings = load_settings(vars(options), required=["s3_bucket"])
    terminal.configure_logging(settings)
    with aws.naming(
        "AWS_REGION, S3_BUCKET, GLUE_DATABASE", f"{settings.aws_region}, {settings.s3_bucket}, {settings.glue_database}"
    ):
        try:
            code: int = options.run(settings, options)
        except PublishFailed as error:
            raise ServiceError(f"GLUE_DATABASE={settings.glue_database}: {error}") from None
    return code


def create(settings: Settings, options: argparse.Namespace) -> int:
    """The loop: find out what a part lacks, do it, go on to the next part."""
    if not options.take_over:
        ownership.check(settings)
    made = Provision(settings, today=datetime.now(UTC).date(), with_roles=options.with_roles)
    _carry_out(made.changes(), dry_run=options.dry_run)
    if made.missing_role_policy:
        print(
            f"\nThe role {settings.glue_role} does not exist, so crawler and job were not created. "
            "`--with-roles` creates it; or have it created with"
        )
        print(
            f"this trust policy:\n{json.dumps(resources.trust_policy())}\n"
            f"and this policy:\n{json.dumps(made.missing_role_policy, indent=1)}"
        )
    return terminal.EXIT_DONE


def _carry_out(changes: Iterable[Change], *, dry_run: bool) -> None:
    counts = dict.fromkeys(_DONE, 0)
    for change in changes:
        counts[change.action] += 1
        _say(change, _TO_DO if dry_run else _DONE)
        for call in change.calls:
            if dry_run:
                print(f"    {call.text}")
            else:
                call.run()
    changed = [
        f"{counts[action]} {(_TO_DO if dry_run else _DONE)[action]}"
        for action in ("create", "update", "delete")
        if counts[action]
    ]
    print(", ".join(changed) or ("nothing would change" if dry_run else "nothing changed"))


def _say(change: Change, words: dict[str, str]) -> None:
    print(f"{words[change.action]:<13}{change.what}{f' ({change.why})' if change.why else ''}")


def show(settings: Settings, options: argparse.Namespace) -> int:
    """Print what exists; exit code 1 when something is missing or differs."""
    made = Provision(settings, today=datetime.now(UTC).date(), with_roles=False)
    if options.ddl:
        print(*(f"{catalog.ddl(settings.glue_database, table)};\n" for table in made.tables()), sep="\n")
        return terminal.EXIT_DONE
    if options.spark_views:
        print(*(f"{statement};\n" for statement in prices.spark_statements(settings)), sep="\n")
        return terminal.EXIT_DONE
    if options.policy:
        account = aws.client(settings, "sts").get_caller_identity()["Account"]
        print(json.dumps(resources.role_policy(settings, account), indent=1))
        return terminal.EXIT_DONE
    ownership.check(settings)
    counts = dict.fromkeys(_FOUND, 0)
    for change in made.changes():
        _say(change, _FOUND)
        counts[change.action] += 1
    print(", ".join(f"{count} {_FOUND[action]}" for action, count in counts.items() if count))
    for link in _console_links(settings):
        print(link)
    return terminal.EXIT_FAILED if counts["create"] or counts["update"] else terminal.EXIT_DONE


def _console_links(settings: Settings) -> list[str]:
    """Only AWS itself has a console."""
    if settings.aws_endpoint_url:
        return []
    console, region = f"https://{settings.aws_region}.console.aws.amazon.com", f"region={settings.aws_region}"
    return [
        f"tables   {console}/glue/home?{region}#/v2/data-catalog/databases/view/{settings.glue_database}",
        f"queries  {console}/athena/home?{region}#/query-editor",
        f"objects  {console}/s3/buckets/{settings.s3_bucket}?prefix={settings.s3_root}&{region}",
    ]


def crawl(settings: Settings, _options: argparse.Namespace) -> int:
    """Run the crawler to its end, and compare what it found with what is declared."""
    ownership.check_tables(settings)
    glue, name = aws.client(settings, "glue"), resources.crawler_name(settings)
    try:
        glue.start_crawler(Name=name)
    except glue.exceptions.CrawlerRunningException:
        print(f"crawler {name} is running already")
    except glue.exceptions.EntityNotFoundException:
        raise ServiceError(
            f"GLUE_ROLE={settings.glue_role}: crawler {name} does not exist; "
            "`python glue_setup.py --with-roles` makes it"
        ) from None
    crawler = _wait(lambda: glue.get_crawler(Name=name)["Crawler"], lambda found: found["State"] == "READY")
    last = crawler.get("LastCrawl") or {}
    if last.get("Status") != "SUCCEEDED":
        why = last.get("ErrorMessage", f"its log says why: {last.get('LogGroup', '')}")
        raise ServiceError(f"crawler {name}: {last.get('Status')}: {why}")
    for line in crawled.comparison(settings, glue):
        print(line)
    return terminal.EXIT_DONE


def etl(settings: Settings, options: argparse.Namespace) -> int:
    """Update the curated tables one by one; what is published stays published if a later table fails."""
    ownership.check_tables(settings)
    tables = [record for record in catalog.CURATED if not options.tables or record in options.tables]
    now = datetime.now(UTC)
    for change in session_changes(settings, today=now.date()):
        if change.calls:
            _say(change, _DONE)
        for call in change.calls:
            call.run()
    if options.engine == "glue":
        return _run_job(settings, options, tables)
    listing = LakeListing(settings)
    landings = {record: listing.landing(record, listing.first_day_declared(record)) for record in tables}
    if options.engine == "spark":
        local_spark.run(settings, list(etl_tables(settings, landings).values()), _job_days(options), options.spark_jars)
        return terminal.EXIT_DONE
    clients = {name: aws.client(settings, name) for name in ("s3", "glue", "athena")}
    curation = Curation(AthenaEngine(settings), **clients, run=f"{now:%Y%m%dT%H%M%SZ}_{uuid.uuid4().hex[:8]}", now=now)
    only_days = (options.first or "0001-01-01", options.last or "9999-12-31") if options.first or options.last else None
    for table in etl_tables(settings, landings).values():
        outcome = curation.curate(table, only_days)
        print(outcome.line)
        if table.partition_time == "event" and not only_days and not outcome.why_not:
            print("      folders are by the record's own time, so every raw day was read; --from and --to read fewer")
    return terminal.EXIT_DONE


def _run_job(settings: Settings, options: argparse.Namespace, tables: list[str]) -> int:
    """Start the Glue job and wait for its end. Ctrl-C leaves it running."""
    glue, name = aws.client(settings, "glue"), resources.job_name(settings)
    days = _job_days(options)
    arguments = {"--tables": ",".join(tables), **dict(zip(days[::2], days[1::2], strict=True))}
    try:
        run = glue.start_job_run(JobName=name, Arguments=arguments)["JobRunId"]
    except glue.exceptions.EntityNotFoundException:
        raise ServiceError(
            f"GLUE_ROLE={settings.glue_role}: job {name} does not exist; `python glue_setup.py --with-roles` makes it"
        ) from None
    except glue.exceptions.ConcurrentRunsExceededException:
        raise ServiceError(f"job {name} is running already; it runs one at a time") from None
    print(f"job {name} runs as {run}; Ctrl-C leaves it running")
    state = _wait(
        lambda: glue.get_job_run(JobName=name, RunId=run)["JobRun"], lambda found: found["JobRunState"] not in _RUNNING
    )
    if state["JobRunState"] != "SUCCEEDED":
        why = state.get("ErrorMessage", "its log says why: /aws-glue/jobs")
        raise ServiceError(f"job {name}, run {run}: {state['JobRunState']}: {why}")
    seconds = state.get("ExecutionTime", 0)
    if settings.aws_endpoint_url and not seconds:
        raise ServiceError(
            "--engine glue: the embedded Glue runs no job, so nothing was done; "
            "`python glue_setup.py etl --engine spark` runs this one's code here"
        )
    print(f"job {name}: succeeded in {seconds} s")
    return terminal.EXIT_DONE


def _job_days(options: argparse.Namespace) -> list[str]:
    """The days that were asked for, as arguments of the job."""
    return [word for name, day in (("--from", options.first), ("--to", options.last)) if day for word in (name, day)]


def _wait(look: Callable[[], dict[str, Any]], is_over: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Look again, after longer and longer pauses, until it is over. A loop, because progress shows each pause."""
    pause_seconds = 1
    with terminal.progress("s") as progress:
        while not is_over(found := look()):
            time.sleep(pause_seconds)
            progress.update(pause_seconds)
            pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)
    return found


def retract(settings: Settings, options: argparse.Namespace) -> int:
    """Take records back from views and curated tables, restore them, or list what was taken back."""
    ownership.check_tables(settings)
    if options.list:
        found = LakeListing(settings).retractions
        print(*(_retracted(each) for each in found) if found else ["nothing was taken back"], sep="\n")
        return terminal.EXIT_DONE
    if options.restore:
        retraction = corrections.of_id(settings, options.restore)
        print(f"restores {retraction.said}")
    else:
        retraction = corrections.asked(options, now=datetime.now(UTC))
        print(f"takes back {retraction.said}")
        rows = corrections.matching(settings, retraction)
        if rows.empty:
            print(f"the view {retraction.table} shows no such record; nothing was changed", file=sys.stderr)
            return terminal.EXIT_FAILED
        print(rows.to_string(index=False))
    if not options.dry_run and not options.yes and not _is_agreed("Type yes to go on: ", "yes"):
        return terminal.EXIT_FAILED
    _carry_out(corrections.changes(settings, retraction, is_restored=bool(options.restore)), dry_run=options.dry_run)
    if not options.dry_run and (outcome := corrections.rebuild(settings, retraction)):
        print(outcome.line)
    if options.dynamodb and not options.dry_run:
        print(_correct_dynamodb(settings, retraction, is_restored=bool(options.restore)))
    return terminal.EXIT_DONE


def _correct_dynamodb(settings: Settings, retraction: Retraction, *, is_restored: bool) -> str:
    """Make the DynamoDB table follow the views. Return what was done."""
    if is_restored:
        done = items.put_back(settings, corrections.bars_of(settings, condition(retraction)))
    else:
        wrong = items.find(settings, retraction.covers)
        symbols = {str(item["symbol"]) for item in wrong}
        right = corrections.bars_of(settings, corrections.of_symbols(symbols)) if wrong else []
        done = items.take_back(settings, wrong, right)
    return f"{settings.dynamodb_table}: {', '.join(f'{count:,} {what}' for what, count in done.items()) or 'no item'}"


def _retracted(retraction: Retraction) -> str:
    return f"{retraction.id}  {retraction.said}{f' ({retraction.reason})' if retraction.reason else ''}"


def _is_agreed(question: str, word: str) -> bool:
    try:
        answer = input(question)
    except EOFError:
        answer = ""
    if answer.strip() != word:
        print("nothing was changed", file=sys.stderr)
        return False
    return True


def delete(settings: Settings, options: argparse.Namespace) -> int:
    """Ask first: tables can be created again, data cannot."""
    ownership.check(settings)
    what = f"the tables, views, crawler, job and workgroup of {settings.glue_database}"
    what += (
        f" AND EVERY OBJECT of the lake s3://{settings.s3_bucket}/{settings.s3_root}"
        if options.data
        else "; the data stays"
    )
    question = f"Delete {what}? Type the database's name to go on: "
    if not options.yes and not options.dry_run and not _is_agreed(question, settings.glue_database):
        return terminal.EXIT_FAILED
    _carry_out(removals(settings, with_roles=options.with_roles, with_data=options.data), dry_run=options.dry_run)
    return terminal.EXIT_DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="`python glue_setup.py COMMAND --help` has the options of a command; create is the default.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    terminal.add_environment(common)
    for name in ("s3_bucket", "s3_prefix", "glue_database", "athena_workgroup", "glue_role"):
        common.add_argument(f"--{name.replace('_', '-')}", dest=name, help=name.upper())

    def add(name: str, run: object, help: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, parents=[common], help=help, description=help)
        command.set_defaults(run=run)
        return command

    command = add("create", create, "create what is missing, update what differs (the default)")
    command.add_argument("--with-roles", action="store_true", help="create the IAM role of the crawler and the ETL job")
    command.add_argument("--dry-run", action="store_true", help="print the calls, and make none that changes anything")
    command.add_argument(
        "--with-simulated",
        dest="views_show_simulated",
        action="store_const",
        const="yes",
        help="views that show simulated records too (VIEWS_SHOW_SIMULATED=yes; default: they leave them out)",
    )
    command.add_argument(
        "--take-over", action="store_true", help="change also what belongs to another lake, which loses it"
    )
    command = add("show", show, "print what exists, and what differs from the definition")
    command.add_argument(
        "--ddl", action="store_true", help="print the tables as CREATE EXTERNAL TABLE statements instead"
    )
    command.add_argument(
        "--spark-views",
        action="store_true",
        help="print the views of the curated tables as statements for Spark instead",
    )
    command.add_argument("--policy", action="store_true", help="print the policy that the role needs instead")
    add("crawl", crawl, "run the crawler, and compare what it found with the declared tables")
    command = add("etl", etl, "update the curated tables from the raw tables")
    command.add_argument(
        "--engine",
        choices=["athena", "glue", "spark"],
        default="athena",
        help="run by Athena, by the Glue Spark job, or by that job's code on this machine (default athena)",
    )
    command.add_argument(
        "--spark-jars", default="", metavar="FILES", help="with --engine spark: jars of hadoop-aws, in place of Maven's"
    )
    command.add_argument(
        "--tables",
        nargs="+",
        choices=list(catalog.CURATED),
        metavar="TABLE",
        help="bars, ticks, news, actions (default: all)",
    )
    command.add_argument(
        "--from", dest="first", type=_day, metavar="DAY", help="first raw day to read, in place of the new ones"
    )
    command.add_argument("--to", dest="last", type=_day, metavar="DAY", help="last raw day to read")
    corrections.add_options(add("retract", retract, "take records back from views and curated tables; raw data stays"))
    command = add("delete", delete, "delete what create made; the data stays")
    command.add_argument("--yes", action="store_true", help="do not ask")
    command.add_argument("--data", action="store_true", help="also delete every object of the lake below S3_PREFIX")
    command.add_argument("--with-roles", action="store_true", help="also delete the IAM role")
    command.add_argument("--dry-run", action="store_true", help="print the calls, and make none that changes anything")
    return parser


def _day(text: str) -> str:
    try:
        return datetime.strptime(text, "%Y-%m-%d").date().isoformat()  # noqa: DTZ007 - a day has no zone
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day YYYY-MM-DD") from None


def script() -> None:
    """Run as a command; pyproject.toml names it."""
    terminal.run(main)


if __name__ == "__main__":
    script()
