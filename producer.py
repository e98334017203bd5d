"""Send stock data to Kafka: every record of a source exactly once, keyed by its symbol.

  python producer.py replay samples/daily_prices.csv          price CSVs: files, folders, globs, s3://… or -
  python producer.py poll --once --symbols AAPL,MSFT          bars from Polygon/Massive or Alpha Vantage
  python producer.py stream --symbols AAPL,MSFT               live trades, seconds and minutes from Polygon/Massive
  python producer.py simulate --rate 100                      a simulated market, without any account
  python producer.py news --once --symbols NVDA               news with sentiment from Polygon/Massive
  python producer.py actions --once --symbols NVDA            splits, dividends and symbol changes
  python producer.py backfill --dry-run                       what is missing in the lake, and only that

Delivery: exactly once from the source. Records and the checkpoint that says where the source was go in one
transaction. Killed at any instant and started again, a run resumes from its last committed checkpoint. (stream: what a
live feed sent while nobody listened is lost, except for minute bars, which REST fills in.)
"""

import hashlib
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from contextlib import suppress
from datetime import UTC, datetime

from pipeline import terminal
from pipeline.settings import Settings, load_settings
from pipeline.sources.commands import all_commands
from pipeline.sources.gaps import Gap
from pipeline.sources.pacing import Clock, Interrupted
from pipeline.sources.source import Command, Source, Unusable
from pipeline.streams.kafka.producer import Producer


def main() -> int:
    commands = all_commands()
    options = parser(commands).parse_args()
    command = commands[options.command]
    settings = load_settings(vars(options), required=command.required(options))
    terminal.configure_logging(settings)
    has_failed = False
    if command.fills_gaps:
        options.gaps = missing(settings, options)
    with terminal.stop_signals() as is_stopping:
        for source in command.sources(settings, options, Clock(is_stopping)):
            if failure := run(source, settings, options):
                has_failed = True
                terminal.tell_error(f"{source.name}: {failure}")
            if is_stopping():
                break
    return terminal.EXIT_FAILED if has_failed else terminal.EXIT_DONE


def missing(settings: Settings, options: Namespace) -> list[Gap]:
    """Return what is missing in the lake, of what the options choose."""
    from pipeline.coverage.gaps import gaps  # noqa: PLC0415 - with pandas it takes longer than all else here

    return gaps(settings, options, now=datetime.now(UTC))


def run(source: Source, settings: Settings, options: Namespace) -> str:
    """Send what is new of one source, say how it went, and return why it failed; empty if it did not."""
    try:
        with source:
            send(source, settings, options)
            if summary := source.summary():
                terminal.tell_summary(summary)
            return source.failure
    except Unusable as error:
        return str(error)


def send(source: Source, settings: Settings, options: Namespace) -> None:
    """Send each batch with the position behind it in one transaction, until the source has no more or is stopped."""
    with Producer(settings, producer_id(source, options, settings), source.topics) as producer:
        if options.restart:
            for key in source.keys:
                producer.forget(key)
        with suppress(Interrupted):
            for batch in source.batches(producer.position):
                producer.send(batch.records, batch.positions)


def producer_id(source: Source, options: Namespace, settings: Settings) -> str:
    """Return the transactional id: the one given with --id, or one that only a run of the same source has, in the same
    environment.
    """
    environment = [settings.stock_env] if settings.stock_env else []
    digest = hashlib.sha256("|".join([*source.identity, *environment]).encode()).hexdigest()
    return options.id or f"{options.command}-{digest[:16]}"


def parser(commands: dict[str, Command]) -> ArgumentParser:
    """Return the whole command line; `command` of what it parses is the name of the command."""
    whole = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    adding = whole.add_subparsers(title="commands", dest="command", required=True)
    for name, command in commands.items():
        examples = "\n".join(f"  python producer.py {name} {example}" for example in command.examples)
        added = adding.add_parser(
            name,
            help=command.summary,
            description=f"{command.summary}. {command.more}".strip(),
            epilog=f"examples:\n{examples}",
            formatter_class=RawDescriptionHelpFormatter,
        )
        command.add_options(added)
        add_common_options(added)
    return whole


def add_common_options(command: ArgumentParser) -> None:
    """Add the options that every command has."""
    group = command.add_argument_group("of every command")
    terminal.add_environment(group)
    group.add_argument("--restart", action="store_true", help="forget the checkpoint: send everything again")
    group.add_argument(
        "--id", default="", help="transactional id (default: of the source); a second producer with it stops the first"
    )
    group.add_argument(
        "--bootstrap-servers", dest="kafka_bootstrap_servers", metavar="HOST:PORT", help="KAFKA_BOOTSTRAP_SERVERS"
    )
    group.add_argument("--log-level", dest="log_level", choices=["DEBUG", "INFO", "WARNING", "ERROR"], help="LOG_LEVEL")
    group.add_argument("--log-format", dest="log_format", choices=["text", "json"], help="LOG_FORMAT")


def script() -> None:
    """Run as a command; pyproject.toml names it."""
    terminal.run(main)


if __name__ == "__main__":
    script()
