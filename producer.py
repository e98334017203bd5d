"""Get stock data into Kafka: every record of a source exactly once, keyed by its symbol.

  python producer.py replay samples/daily_prices.csv        a CSV of prices, a folder of them, a glob, s3://… or -

Delivery: exactly once from the source. Records and the checkpoint that says where the source was go in one transaction. Killed at
any instant and started again, a run continues where its last committed transaction ended.
"""

import argparse
import csv
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path

from pipeline import records, settings, terminal
from pipeline.csv_bars import Cleaner, Options
from pipeline.csv_formats import UnusableFile
from pipeline.pacing import Pace
from pipeline.settings import Settings
from pipeline.sources import csv_file
from pipeline.summary import Summary
from pipeline.topic import Producer, ensure_topics

log = logging.getLogger("producer")


def main() -> int:
    options = _parser().parse_args()
    given = {name: getattr(options, name) for name in vars(options) if name in Settings.__dataclass_fields__}
    wanted = settings.load(given)
    terminal.configure_logging(wanted)
    return options.run(wanted, options)


def replay(wanted: Settings, options: argparse.Namespace) -> int:
    """Each file in turn. A file that cannot be used is told at the end of its turn, and makes the exit code 1."""
    ensure_topics(wanted, [wanted.kafka_topic_bars])
    unusable = 0
    with terminal.stop_signals() as is_stopping, _rejects_file(options.rejects) as reject:
        try:
            names = csv_file.find(options.files, wanted)
        except UnusableFile as error:
            print(f"error: {error}", file=sys.stderr)
            return terminal.EXIT_FAILED
        for name in names:
            if is_stopping():
                break
            try:
                replay_file(name, wanted, options, is_stopping, reject)
            except UnusableFile as error:
                unusable += 1
                print(f"error: {name}: {error}", file=sys.stderr)
    return terminal.EXIT_FAILED if unusable else terminal.EXIT_DONE


def replay_file(name: str, wanted: Settings, options: argparse.Namespace, is_stopping: Callable[[], bool], reject: Callable) -> None:
    topic = wanted.kafka_topic_bars
    with csv_file.at_hand(name, wanted, encoding=options.encoding) as file:
        plan = csv_file.plan(file, options.csv)
        if options.csv.missing == "refuse":
            for _ in csv_file.chunks(file, plan, _cleaner(file, plan, options)):
                pass  # Refused before the first record is sent, not in the middle.
        key = f"{file.fingerprint}/{plan.named_symbol}/{topic}"
        cleaner, pace = _cleaner(file, plan, options), Pace(rate=options.rate, speed=options.speed)
        with Producer(wanted, options.id or f"replay-{file.fingerprint}") as producer, terminal.progress("rows") as bar:
            if options.restart:
                producer.forget(key)
            sent_to = (producer.checkpoint(key) or {}).get("row", 0)
            summary = Summary(name, plan, cleaner)
            for chunk in csv_file.chunks(file, plan, cleaner):
                summary.read(chunk)
                reject(name, chunk.rejects)
                waiting = chunk.since(sent_to)
                while waiting.bars and not is_stopping():
                    if due := pace.due(waiting.bars):
                        rest = waiting.after(due)
                        summary.sent += producer.send({topic: waiting.bars[:due]}, {key: {"row": rest.start}})
                        waiting = rest
                bar.update(chunk.rows)
                if is_stopping():
                    break
    print(summary.text(stopped=is_stopping()))
    if not summary.usable and not is_stopping():
        raise UnusableFile(f"no row of it can be used; its header: {','.join(plan.layout.header)[:200]}")


def _cleaner(file: csv_file.PriceFile, plan: object, options: argparse.Namespace) -> Cleaner:
    return Cleaner(plan, source=file.source, ingested_at=lambda: records.time_text(datetime.now(UTC)), missing=options.csv.missing)


@contextmanager
def _rejects_file(path: str | None) -> Iterator[Callable]:
    """The function that keeps dropped rows: file, line, reason, then the row as it was."""
    with Path(path).open("w", newline="", encoding="utf-8") if path else nullcontext() as kept:
        writer = csv.writer(kept) if kept else None
        if writer:
            writer.writerow(["file", "line", "reason", "row"])

        def keep(name: str, rejects: list) -> None:
            if writer:
                writer.writerows([name, r.line, r.reason, *r.cells] for r in rejects)

        yield keep


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(title="commands", required=True, metavar="replay")
    _add_replay(commands)
    return parser


def _add_replay(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("replay", help="price CSVs of any common kind", formatter_class=argparse.RawDescriptionHelpFormatter,
                                  description="Send the bars of price CSVs. Run again, it sends nothing that was sent.",
                                  epilog="example: python producer.py replay prices/ --rate 1000 --rejects rejects.csv")
    command.add_argument("files", nargs="+", help="files, folders, globs, s3:// addresses, - for standard input")
    command.add_argument("--missing", choices=["refuse", "drop", "fill"], default="drop")
    command.add_argument("--rejects", metavar="FILE", help="keep the rows that are not sent, with the reason")
    command.add_argument("--encoding", default="")
    command.add_argument("--rate", type=float)
    command.add_argument("--speed", type=float)
    command.add_argument("--id", default="")
    command.add_argument("--restart", action="store_true")
    command.set_defaults(run=replay, csv=Options())


if __name__ == "__main__":
    terminal.run(main)
