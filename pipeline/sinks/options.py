"""The command line of consumer.py. What only one sink has stands beside the sink."""

import argparse
from collections.abc import Callable, Mapping

from pipeline import terminal
from pipeline.landing.buffer import Limits
from pipeline.settings import SettingsError
from pipeline.sinks.sink import Sink

Kinds = Mapping[str, type[Sink]]


def limits_of(kind: type[Sink], options: argparse.Namespace) -> Limits:
    """Return when a batch is closed: by the command line, else by the sink."""
    return Limits(
        flush_seconds=kind.limits.flush_seconds if options.flush_seconds is None else options.flush_seconds,
        flush_records=options.flush_records or kind.limits.flush_records,
        flush_bytes=options.flush_bytes,
    )


def refuse_options_of_others(options: argparse.Namespace, of_sinks: dict[str, list[argparse.Action]]) -> None:
    """Raise SettingsError for the options that only another sink has."""
    mistakes = [
        f"{action.option_strings[0]}: belongs to --sink {name}; this is --sink {options.sink}"
        for name, actions in of_sinks.items()
        for action in actions
        if name != options.sink and getattr(options, action.dest)
    ]
    if mistakes:
        raise SettingsError(mistakes)


def _topics(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _size(text: str) -> int:
    """64MB, 512KB or a plain number of bytes; units of 1024."""
    units = {"KB": 1024, "MB": 1024**2, "GB": 1024**3}
    number, factor = (text[:-2], units[text[-2:].upper()]) if text[-2:].upper() in units else (text, 1)
    if not number.strip().isdecimal() or int(number) * factor < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 64MB")
    return int(number) * factor


def port(text: str) -> int:
    """A TCP port; 0 is any free one."""
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, which is 0 to 65535")
    return int(text)


def _positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    def convert(text: str) -> float:
        if (number := kind(text)) <= 0:
            raise argparse.ArgumentTypeError(f"{text!r} is not more than 0")
        return number

    convert.__name__ = f"positive {kind.__name__}"  # argparse names the type in its message
    return convert


def parser_of(
    kinds: Kinds, description: str | None
) -> tuple[argparse.ArgumentParser, dict[str, list[argparse.Action]]]:
    """Return the parser, and the options that only one sink has by the sink's name."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, formatter_class=form)
    commands = parser.add_subparsers(dest="command", required=True, metavar="land|verify")
    common = argparse.ArgumentParser(add_help=False)
    terminal.add_environment(common)
    common.add_argument(
        "--topics",
        "--topic",
        type=_topics,
        metavar="A,B",
        help="topics (default: those of bars, ticks, news and actions)",
    )
    common.add_argument(
        "--group",
        dest="kafka_group",
        help="consumer group; one per S3_PREFIX or table (KAFKA_GROUP; --sink dynamodb adds _dynamodb to it)",
    )
    common.add_argument("--log-format", dest="log_format", choices=["text", "json"], help="LOG_FORMAT")
    land_parser = commands.add_parser(
        "land",
        parents=[common],
        help="land topics (the default)",
        description=description,
        formatter_class=form,
        epilog="`python consumer.py verify --help` has the options of verify.",
    )
    of_sinks = _add_sinks(land_parser, kinds)
    _add_batches(land_parser.add_argument_group("when a batch is closed, whichever comes first"), kinds)
    _add_running(land_parser.add_argument_group("how it runs"))
    verify_parser = commands.add_parser(
        "verify",
        parents=[common],
        help="check the objects against the offsets",
        description="From the objects' names: gaps and overlaps of offsets, per partition.",
    )
    verify_parser.set_defaults(sink="s3")
    verify_parser.add_argument(
        "--deep", action="store_true", help="read every object, and the topic where it still holds the records"
    )
    verify_parser.add_argument(
        "--repair", action="store_true", help="say what the group should have committed by what is in the lake"
    )
    verify_parser.add_argument("--yes", action="store_true", help="with --repair: commit it")
    return parser, of_sinks


def _add_sinks(parser: argparse.ArgumentParser, kinds: Kinds) -> dict[str, list[argparse.Action]]:
    what = "; ".join(f"{name}: {kind.purpose}" for name, kind in kinds.items())
    parser.add_argument("--sink", choices=list(kinds), default="s3", help=f"default s3; {what}")
    return {name: kind.add_options(parser.add_argument_group(f"--sink {name}")) for name, kind in kinds.items()}


def _add_batches(group: argparse._ArgumentGroup, kinds: Kinds) -> None:
    seconds = ", ".join(f"{name} {kind.limits.flush_seconds:g}" for name, kind in kinds.items())
    count = ", ".join(f"{name} {kind.limits.flush_records}" for name, kind in kinds.items())
    group.add_argument("--flush-seconds", type=_positive(float), metavar="S", help=f"default: {seconds}")
    group.add_argument(
        "--flush-records",
        type=_positive(int),
        metavar="N",
        help=f"default: {count}; 1 = one object per record",
    )
    group.add_argument(
        "--flush-bytes", type=_size, default="64MB", metavar="SIZE", help="before compression, default 64MB"
    )


def _add_running(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--until-caught-up", action="store_true", help="stop at the end offsets seen at the start")
    group.add_argument(
        "--from-beginning", action="store_true", help="begin at the oldest records whatever the group committed"
    )
    group.add_argument(
        "--abandon-plan",
        action="store_true",
        help="give up batches that can never be completed, such as into a bucket that is gone; says which",
    )
    group.add_argument(
        "--workers", type=_positive(int), default=1, metavar="N", help="processes of the group (default 1)"
    )
    group.add_argument("--instance", dest="kafka_instance", metavar="NAME", help="static member name (KAFKA_INSTANCE)")
    group.add_argument("--max-bad", type=int, metavar="N", help="stop with exit code 1 after more than N bad records")
    group.add_argument("--uploads", type=_positive(int), default=8, metavar="N", help="requests at once (default 8)")
    group.add_argument(
        "--buffer-bytes",
        type=_size,
        default="256MB",
        metavar="SIZE",
        help="most record bytes in memory (default 256MB)",
    )
    group.add_argument(
        "--metrics-port",
        type=port,
        metavar="PORT",
        help="serve Prometheus metrics on this port of 127.0.0.1; with --workers the next ports too",
    )
