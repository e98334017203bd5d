"""The command line of producer.py: what can be said, in which form, and an example of each command."""

import re
from argparse import (
    Action,
    ArgumentParser,
    ArgumentTypeError,
    Namespace,
    RawDescriptionHelpFormatter,
    _SubParsersAction,
)
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from pipeline.records import DAILY_OR_LONGER, INTERVALS, time_text
from pipeline.sources import alpha_vantage, polygon, simulated
from pipeline.sources.csv.bars import Options
from pipeline.sources.polygon import CHANNELS

SIMULATED_START = "2024-01-02 14:30:00.000"  # an opening of New York's market
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_LOOKBACK_DAYS, _INTRADAY_LOOKBACK_DAYS = 365, 7


def parser(description: str) -> ArgumentParser:
    """The whole command line; `command` of the result is the name of the command."""
    whole = ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)
    commands = whole.add_subparsers(title="commands", dest="command", required=True)
    for add in (_add_replay, _add_poll, _add_stream, _add_simulate, _add_news):
        _add_common(add(commands))
    return whole


def required(options: Namespace) -> list[str]:
    """The settings that a command cannot do without."""
    if options.command in ("replay", "simulate") or getattr(options, "load", None):
        return []
    return ["alpha_vantage_api_key" if getattr(options, "source", "") == "alpha_vantage" else "polygon_api_key"]


def _command(
    commands: _SubParsersAction, name: str, summary: str, *, more: str = "", examples: tuple[str, ...]
) -> ArgumentParser:
    shown = "\n".join(f"  python producer.py {name} {example}" for example in examples)
    return commands.add_parser(
        name,
        help=summary,
        description=f"{summary}. {more}".strip(),
        epilog=f"examples:\n{shown}",
        formatter_class=RawDescriptionHelpFormatter,
    )


def _add_common(command: ArgumentParser) -> None:
    group = command.add_argument_group("of every command")
    group.add_argument("--restart", action="store_true", help="forget the checkpoint: send again what was sent")
    group.add_argument(
        "--id", default="", help="transactional id (default: of the source); a second producer with it stops the first"
    )
    group.add_argument(
        "--bootstrap-servers", dest="kafka_bootstrap_servers", metavar="HOST:PORT", help="KAFKA_BOOTSTRAP_SERVERS"
    )
    group.add_argument("--log-level", dest="log_level", choices=["DEBUG", "INFO", "WARNING", "ERROR"], help="LOG_LEVEL")
    group.add_argument("--log-format", dest="log_format", choices=["text", "json"], help="LOG_FORMAT")


def _add_replay(commands: _SubParsersAction) -> ArgumentParser:
    command = _command(
        commands,
        "replay",
        "price CSVs of any common kind",
        more="Run again, it sends nothing twice.",
        examples=(
            "samples/daily_prices.csv",
            "'prices/*.csv.gz' --missing fill --rejects rejects.csv",
            "s3://bucket/minutes/ --timezone America/New_York --speed 60",
            "- --symbol AAPL < prices.csv",
        ),
    )
    command.set_defaults(csv=Options())
    command.add_argument("files", nargs="+", help="files, folders, globs, s3:// addresses; - is standard input")
    said = command.add_argument_group("what the file does not say itself")
    for flag, settings in {
        "--symbol": {"help": "symbol of a file that has no column for it (default: from the file name)"},
        "--symbol-column": {"metavar": "NAME", "help": "the column that names the symbol"},
        "--interval": {
            "choices": INTERVALS,
            "metavar": "1d",
            "help": "length of the bars (default: from the distances of its times)",
        },
        "--timezone": {
            "metavar": "ZONE",
            "type": _zone,
            "help": "of times without an offset, such as America/New_York (default: UTC)",
        },
        "--missing": {
            "choices": ["refuse", "drop", "fill"],
            "help": "rows without a price or volume (default drop); fill = the last known close, volume 0",
        },
    }.items():
        said.add_argument(flag, action=_CsvOption, **settings)
    said.add_argument("--day-first", action=_CsvOption, nargs=0, const=True, help="01/02/2024 is the first of February")
    said.add_argument(
        "--month-first", action=_CsvOption, nargs=0, const=False, dest="day_first", help="it is the second of January"
    )
    said.add_argument(
        "--stamped-end", action=_CsvOption, nargs=0, const=True, dest="ends", help="times are the ends of the bars"
    )
    said.add_argument("--encoding", default="", help="default: UTF-8, UTF-16 or Windows-1252, as the file begins")
    command.add_argument(
        "--rejects", metavar="FILE", help="keep the rows that are not sent, each with its line and the reason"
    )
    pace = command.add_mutually_exclusive_group()
    pace.add_argument("--rate", type=positive, metavar="N", help="records a second (default: as fast as it goes)")
    pace.add_argument("--speed", type=positive, metavar="X", help="X times real time, by the records' own clock")
    return command


def _add_poll(commands: _SubParsersAction) -> ArgumentParser:
    command = _command(
        commands,
        "poll",
        "bars from Polygon/Massive or Alpha Vantage",
        more="Goes on from the checkpoint of each symbol; corrections of the last days arrive as revisions.",
        examples=(
            "--once --symbols AAPL,MSFT --from 2024-01-01",
            "--every 60s --interval 1m --symbols watchlist.txt",
            "--once --grouped --symbols '*' --from 2024-06-03 --to 2024-06-07",
            "--once --source alpha_vantage --symbols IBM",
        ),
    )
    command.add_argument("--source", choices=["polygon", "alpha_vantage"], default="polygon", help="default polygon")
    command.add_argument(
        "--interval",
        choices=list(dict.fromkeys((*polygon.SPANS, *alpha_vantage.SPANS))),
        default="1d",
        help="default 1d",
    )
    command.add_argument(
        "--no-adjusted", dest="adjusted", action="store_false", help="prices as traded, not adjusted for splits"
    )
    command.add_argument(
        "--include-open", action="store_true", help="send bars that are still forming, and each change of them"
    )
    what = command.add_mutually_exclusive_group()
    what.add_argument(
        "--grouped", action="store_true", help="daily bars of many tickers with one request a day; '*' is all of them"
    )
    what.add_argument("--previous-close", action="store_true", help="the last finished day only")
    _add_rounds(command)
    return command


def _add_news(commands: _SubParsersAction) -> ArgumentParser:
    command = _command(
        commands,
        "news",
        "news with sentiment from Polygon/Massive",
        more="One record an article and ticker.",
        examples=("--once --symbols NVDA,AAPL --from 2024-06-01", "--every 15m"),
    )
    command.set_defaults(interval=None, grouped=False, previous_close=False)
    _add_rounds(command)
    return command


def _add_rounds(command: ArgumentParser) -> None:
    when = command.add_mutually_exclusive_group()
    when.add_argument("--once", action="store_true", help="ask once and stop, for cron and timers (default)")
    when.add_argument("--every", dest="every_seconds", type=seconds, metavar="60s", help="ask again and again")
    command.add_argument(
        "--from",
        dest="start",
        type=_start,
        metavar="DATE",
        help="first day or instant (UTC); default: the checkpoint, "
        f"or {_INTRADAY_LOOKBACK_DAYS} days ago, {_LOOKBACK_DAYS} for bars of a day or longer",
    )
    command.add_argument("--to", dest="end", type=_end, metavar="DATE", help="last day or instant (UTC); default: now")
    command.add_argument(
        "--revise", type=_period, default=timedelta(days=2), metavar="2d", help="how much of the end to ask for again"
    )
    command.add_argument("--load", metavar="FOLDER", help="read recorded answers instead of the network")
    _add_symbols(command)


def _add_stream(commands: _SubParsersAction) -> ArgumentParser:
    command = _command(
        commands,
        "stream",
        "live trades, seconds and minutes from Polygon/Massive",
        more="Trades and seconds go to the topic of ticks, minutes to that of bars.",
        examples=("--symbols AAPL,MSFT", "--symbols '*' --channels minutes"),
    )
    command.set_defaults(load=None)
    command.add_argument(
        "--channels",
        type=_channels,
        default=("seconds", "minutes"),
        metavar="seconds,minutes",
        help=f"any of {', '.join(CHANNELS)} (default seconds,minutes)",
    )
    command.add_argument(
        "--buffer", type=_count, default=100_000, metavar="N", help="events kept while Kafka is slow (default 100000)"
    )
    command.add_argument("--url", dest="polygon_stream_url", help="POLYGON_STREAM_URL")
    _add_symbols(command)
    return command


def _add_simulate(commands: _SubParsersAction) -> ArgumentParser:
    command = _command(
        commands,
        "simulate",
        "a simulated market",
        more="The same seed gives the same records; killed, it goes on.",
        examples=("--rate 100 --symbols AAPL,MSFT", "--bars 1m --count 10000 --seed 7"),
    )
    command.add_argument(
        "--bars", choices=simulated.BAR_INTERVALS, metavar="1m", help="bars of this length instead of ticks"
    )
    command.add_argument(
        "--rate", type=positive, metavar="N", help="records a second (default: 10 ticks; bars as fast as it goes)"
    )
    command.add_argument("--count", type=_count, metavar="N", help="stop after so many (default: never)")
    command.add_argument("--seed", type=int, metavar="N", help="default: another each time, told at the end")
    command.add_argument(
        "--start",
        type=_start,
        metavar="TIME",
        help=f"time of the first record (default: now; with --seed {SIMULATED_START[:16]})",
    )
    _add_symbols(command)
    return command


def _add_symbols(command: ArgumentParser) -> None:
    command.add_argument("--symbols", type=_symbols, metavar="A,B", help="tickers, or a file of them (SYMBOLS)")


class _CsvOption(Action):
    """Puts an option of the CSV reader into the Options that the reader takes."""

    def __init__(self, *arguments: object, const: object = None, **settings: object) -> None:
        super().__init__(*arguments, const=const, **settings)

    def __call__(
        self, parser: ArgumentParser, namespace: Namespace, values: object, option_string: str | None = None
    ) -> None:
        value = self.const if self.nargs == 0 else values
        namespace.csv = Options(**{**vars(namespace.csv), self.dest: value})


def positive(text: str) -> float:
    """A number above 0."""
    return _above_zero(float, text)


def _count(text: str) -> int:
    return _above_zero(int, text)


def _above_zero(kind: Callable, text: str) -> float:
    try:
        value = kind(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 < value < float("inf"):
        raise ArgumentTypeError(f"{text!r} is not above 0")
    return value


def seconds(text: str) -> float:
    """A length of time: 90, 60s, 15m, 2h, 1d, 1w."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw]?)", text)
    if not found:
        raise ArgumentTypeError(f"{text!r} is not a length of time such as 60s, 15m, 2h or 2d")
    return float(found[1]) * _UNITS[found[2] or "s"]


def _period(text: str) -> timedelta:
    return timedelta(seconds=seconds(text))


def _start(text: str) -> str:
    return _time(text, "00:00:00.000")


def _end(text: str) -> str:
    return _time(text, "23:59:59.999")


def _time(text: str, of_a_day: str) -> str:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a date or time such as 2024-01-31 or 2024-01-31T14:30Z") from None
    return f"{text} {of_a_day}" if len(text) == 10 else time_text(instant)


def _zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (KeyError, ValueError, OSError):
        raise ArgumentTypeError(f"{text!r} is not a time zone such as America/New_York or Europe/Madrid") from None
    return text


def _symbols(text: str) -> str:
    if Path(text).is_file():
        lines = (line.partition("#")[0] for line in Path(text).read_text(encoding="utf-8-sig").splitlines())
        text = ",".join(",".join(re.split(r"[\s,;]+", line)) for line in lines)
    names = [name for name in re.split(r"[\s,;]+", text) if name]
    if not names:
        raise ArgumentTypeError(f"{text!r} holds no symbol")
    return ",".join(names)


def _channels(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if unknown := [name for name in names if name not in CHANNELS]:
        raise ArgumentTypeError(f"{', '.join(unknown)}: not among {', '.join(CHANNELS)}")
    return names


def lookback(options: Namespace) -> timedelta:
    """How far back a first poll without --from goes."""
    is_long = options.interval in DAILY_OR_LONGER and not options.grouped
    return timedelta(days=_LOOKBACK_DAYS if is_long else _INTRADAY_LOOKBACK_DAYS)


def first_time(options: Namespace) -> str | None:
    """Where --from says to begin; recorded answers are read from their first record."""
    return options.start or ("1970-01-01 00:00:00.000" if options.load else None)
