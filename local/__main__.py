"""`python -m local`: the embedded stack's command line. Exit 0: done; 1: it could not; 2: wrong use."""

import argparse
import os
import shlex
import sys

from local import StackError
from local.stack import SERVICES, Stack


def main() -> int:
    options = _parser().parse_args()
    try:
        return options.act(Stack(), options)
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "Interrupted. Services that were started keep running; `python -m local down` stops them.", file=sys.stderr
        )
        return 130


def up(stack: Stack, options: argparse.Namespace) -> int:
    stack.up(options.only)
    return status(stack, options)


def down(stack: Stack, options: argparse.Namespace) -> int:
    stopped = stack.down(wipe=options.wipe)
    print(f"Stopped: {', '.join(stopped)}." if stopped else "Nothing was running.")
    if options.wipe:
        print(f"Deleted the stack's data in {stack.state.folder}.")
    return 0


def status(stack: Stack, options: argparse.Namespace) -> int:
    """Exit 1 when a service that was asked for does not answer, so that scripts can ask."""
    rows = stack.status()
    for row in rows:
        word = "up" if row.is_ready else "starting or stuck" if row.pid else "down"
        title = f"{row.title}, {row.detail}" if row.detail else row.title
        print(f"{row.name:<6} {word:<6} {row.address or '-':<16} pid {row.pid or '-':<8} {title}; log {row.log}")
    asked = getattr(options, "only", None) or list(SERVICES)
    return 0 if all(row.is_ready for row in rows if row.name in asked) else 1


def logs(stack: Stack, options: argparse.Namespace) -> int:
    files = [str(stack.state.log(name)) for name in ([options.service] if options.service else SERVICES)]
    existing = [file for file in files if os.path.exists(file)]  # noqa: PTH110 - names for tail, not paths to work on
    if not existing:
        raise StackError(f"No log yet in {stack.state.folder / 'logs'}; run `python -m local up`.")
    follow = ["-F"] if options.follow else []
    sys.stdout.flush()
    os.execvp("tail", ["tail", "-n", str(options.lines), *follow, *existing])  # noqa: S606 - becoming tail is the point


def env(stack: Stack, _options: argparse.Namespace) -> int:
    print(f"unset {' '.join(stack.unset)}")
    for name, value in stack.environment().items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def run(stack: Stack, options: argparse.Namespace) -> int:
    """Become the command: signals reach it and its exit code is returned with nobody in between."""
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        print("run needs a command, such as: python -m local run python producer.py --help", file=sys.stderr)
        return 2
    stack.up(options.only)
    environment = {name: value for name, value in os.environ.items() if name not in stack.unset} | stack.environment()
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvpe(command[0], command, environment)  # noqa: S606 - becoming the command is the point
    except OSError as error:
        print(f"Could not run {command[0]}: {error}", file=sys.stderr)
        return 127  # as a shell says it


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m local",
        description="The embedded stack: Apache Kafka, a local AWS, and Trino behind the Athena API, on loopback only. "
        "Its data live in .local/ (or LOCAL_STACK_DIR) and survive `down`.",
    )
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")

    one = commands.add_parser("up", help="start what does not run and wait until it answers")
    _add_only(one)
    one.set_defaults(act=up)

    one = commands.add_parser("down", help="stop what runs")
    one.add_argument("--wipe", action="store_true", help="also delete all topics, objects, tables and logs")
    one.set_defaults(act=down)

    one = commands.add_parser("status", help="show what runs and where; exit 1 unless everything answers")
    _add_only(one)
    one.set_defaults(act=status)

    one = commands.add_parser("logs", help="show the end of the logs")
    one.add_argument("service", nargs="?", choices=list(SERVICES), help="one service's log (default: all)")
    one.add_argument("-n", "--lines", type=int, default=50, help="lines of each log (default: %(default)s)")
    one.add_argument("-f", "--follow", action="store_true", help="keep showing what is added")
    one.set_defaults(act=logs)

    one = commands.add_parser("env", help='print the settings for a shell: eval "$(python -m local env)"')
    one.set_defaults(act=env)

    one = commands.add_parser("run", help="start what does not run, then run a command with the stack's settings")
    _add_only(one)
    one.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND…", help="the command and its arguments")
    one.set_defaults(act=run)
    return parser


def _add_only(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--only",
        type=_service_names,
        metavar="NAMES",
        help=f"only these services, comma-separated, of: {', '.join(SERVICES)} (no SQL is needed without trino)",
    )


def _service_names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or set(names) - set(SERVICES):
        raise argparse.ArgumentTypeError(f"{text!r}: choose from {', '.join(SERVICES)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
