"""Find out why it does not work: one line for each thing that is known to go wrong, and the cure.

  python -m pipeline.doctor                      look at everything
  python -m pipeline.doctor --only kafka aws     look at some parts: machine, kafka, aws, lake, tables, prices,
                                                 coverage, sources
  python -m pipeline.doctor --role consumer      and whether this identity may do what deploy/iam/consumer.json lists
  python -m pipeline.doctor --json               one JSON object a line

Read-only. Exit code 1 when there is a problem; warnings alone are no reason to fail.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from botocore.exceptions import BotoCoreError, ClientError

from pipeline import aws, terminal
from pipeline.doctor import account, cluster, coverage, lake, machine, prices, sources, tables
from pipeline.doctor.finding import Finding, problem
from pipeline.settings import ServiceError, Settings, SettingsError, load_settings

Check = Callable[[Settings, argparse.Namespace], Iterator[Finding]]
AREAS: dict[str, Check] = {
    "machine": lambda _wanted, _options: machine.findings(),
    "kafka": lambda settings, options: cluster.findings(
        settings, workers=options.workers, waits_minutes=options.waits_minutes, now=_now()
    ),
    "aws": lambda settings, options: account.findings(
        settings, roles=options.role, principal=options.principal, now=_now()
    ),
    "lake": lambda settings, options: lake.findings(settings, stale_hours=options.stale_hours, now=_now()),
    "tables": lambda settings, _options: tables.findings(settings, today=_now().date()),
    "prices": lambda settings, _options: prices.findings(settings, now=_now()),
    "coverage": lambda settings, _options: coverage.findings(settings, now=_now()),
    "sources": lambda settings, _options: sources.findings(settings, today=_now().date()),
}


def main() -> int:
    options = _parser().parse_args()
    counts: Counter[str] = Counter()
    for finding in _findings(options):
        counts[finding.state] += 1
        _say(finding, as_json=options.json)
    if not options.json:
        found = ", ".join(terminal.counted(counts[state], state) for state in ("problem", "warning"))
        print(f"{found}, {counts['ok']} ok", flush=True)
    return terminal.EXIT_FAILED if counts["problem"] else terminal.EXIT_DONE


def _findings(options: argparse.Namespace) -> Iterator[Finding]:
    try:
        settings = load_settings({"stock_env": options.stock_env})
    except SettingsError as error:
        yield from (
            problem("settings", mistake, "correct it in config.env or the environment") for mistake in error.mistakes
        )
        return
    terminal.configure_logging(settings)
    yield Finding("ok", "settings", "no mistakes")
    for area in options.only or AREAS:
        try:
            yield from AREAS[area](settings, options)
        except ServiceError as error:
            yield problem(area, str(error), "look at the settings that it names")
        except (ClientError, BotoCoreError) as error:
            unknown = "AWS refused to answer a question of the doctor; the lines above may say why"
            yield problem(area, str(error), aws.cure(error) or unknown)


def _say(finding: Finding, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(finding._asdict()), flush=True)
        return
    colour = {"ok": "32", "warning": "33", "problem": "31"}[finding.state]
    state = f"\x1b[{colour}m{finding.state:<8}\x1b[0m" if sys.stdout.isatty() else f"{finding.state:<8}"
    print(f"{state} {finding.area:<9}{finding.text}", flush=True)
    if finding.cure:
        print(f"{'':<18}-> {finding.cure}", flush=True)


def _now() -> datetime:
    return datetime.now(UTC)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.doctor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", nargs="+", choices=list(AREAS), metavar="AREA", help=f"some of: {', '.join(AREAS)} (default all)"
    )
    terminal.add_environment(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a line: state, area, text, cure")
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="consumers that you want to run at the same time (default 1)",
    )
    parser.add_argument(
        "--waits-minutes",
        type=float,
        default=15,
        metavar="M",
        help="how long a record may wait to be landed; at least --flush-seconds of the consumer (default 15)",
    )
    parser.add_argument(
        "--stale-hours",
        type=float,
        default=96,
        metavar="H",
        help="how old the newest object may be; a long weekend has no bars (default 96)",
    )
    parser.add_argument(
        "--role",
        action="append",
        default=[],
        choices=account.ROLES,
        help="check the permissions of deploy/iam/ROLE.json; may repeat",
    )
    parser.add_argument(
        "--principal", metavar="ARN", help="check the permissions of this user or role rather than one's own"
    )
    return parser


def script() -> None:
    """Run as a command; pyproject.toml names it."""
    terminal.run(main)


if __name__ == "__main__":
    script()
