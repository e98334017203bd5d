"""Make the Glue and Athena side of the lake, look at it, refresh it, take it away.

  python glue_setup.py                       bucket, database, tables, views, workgroup, saved queries; safe to run twice
  python glue_setup.py create --with-roles   also the IAM role of the crawler and the ETL job
  python glue_setup.py create --dry-run      the calls, without making them
"""

import argparse
import sys
from datetime import UTC, datetime

from pipeline import aws, settings, terminal
from pipeline.provision import Change, Provision
from pipeline.settings import Settings

COMMANDS = ("create",)
_DONE = {"create": "created", "update": "updated", "keep": "unchanged", "skip": "skipped"}
_TO_DO = {"create": "would create", "update": "would update", "keep": "unchanged", "skip": "would skip"}


def main() -> int:
    arguments = sys.argv[1:]
    if not arguments or arguments[0] not in (*COMMANDS, "-h", "--help"):
        arguments = ["create", *arguments]
    options = _parser().parse_args(arguments)
    given = {name: getattr(options, name) for name in vars(options) if name in Settings.__dataclass_fields__}
    wanted = settings.load(given, required=["s3_bucket"])
    terminal.configure_logging(wanted)
    with aws.naming("AWS_REGION, S3_BUCKET, GLUE_DATABASE", f"{wanted.aws_region}, {wanted.s3_bucket}, {wanted.glue_database}"):
        return options.run(wanted, options)


def create(wanted: Settings, options: argparse.Namespace) -> int:
    """The loop: see what a part lacks, do it, go on to the next."""
    counts = dict.fromkeys(_DONE, 0)
    for change in Provision(wanted, today=datetime.now(UTC).date(), with_roles=options.with_roles).changes():
        counts[change.action] += 1
        _say(change, _TO_DO if options.dry_run else _DONE, with_calls=options.dry_run)
        if not options.dry_run:
            for call in change.calls:
                call.run()
    if counts["create"] + counts["update"] == 0:
        print("nothing changed")
    else:
        print(f"{counts['create']} {'to create' if options.dry_run else 'created'}, {counts['update']} {'to update' if options.dry_run else 'updated'}")
    return terminal.EXIT_DONE


def _say(change: Change, words: dict[str, str], *, with_calls: bool) -> None:
    print(f"{words[change.action]:<13}{change.what}{f' ({change.why})' if change.why else ''}")
    if with_calls:
        print(*(f"    {call.text}" for call in change.calls), sep="\n", end="\n" if change.calls else "")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("create", help="make what is missing, update what differs (the default)")
    command.add_argument("--with-roles", action="store_true")
    command.add_argument("--dry-run", action="store_true")
    command.set_defaults(run=create)
    return parser


if __name__ == "__main__":
    terminal.run(main)
