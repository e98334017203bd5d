"""producer.py replay: price CSVs, each file a source of its own."""

import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Self

from pipeline import terminal
from pipeline.records import INTERVALS, Action, Bar, Record
from pipeline.sessions import Exchanges
from pipeline.settings import Settings
from pipeline.sources import options as given
from pipeline.sources.csv import file as csv_file
from pipeline.sources.csv.bars import Chunk, Cleaner
from pipeline.sources.csv.dialects import UnusableFile, known_dialects
from pipeline.sources.csv.growth import Version, Versions, begins_with, content_of
from pipeline.sources.csv.reading import Options
from pipeline.sources.csv.replays import Replays
from pipeline.sources.csv.summary import Rejects, Summary
from pipeline.sources.pacing import Clock, Pace
from pipeline.sources.source import Batch, Command, Position, Source
from pipeline.terminal import counted

log = logging.getLogger(__name__)


def add_options(command: ArgumentParser) -> None:
    """Add what can be said of files, and how fast they are sent."""
    command.add_argument("files", nargs="+", help="files, folders, globs, s3:// addresses; - is standard input")
    said = command.add_argument_group("what the file does not say itself")
    said.add_argument(
        "--symbol", default="", help="symbol of a file that has no column for it (default: from the file name)"
    )
    said.add_argument("--symbol-column", default="", metavar="NAME", help="the column that names the symbol")
    said.add_argument(
        "--interval",
        choices=INTERVALS,
        default="",
        metavar="1d",
        help="length of the bars (default: from the distances of its times)",
    )
    said.add_argument(
        "--timezone",
        type=given.zone,
        metavar="ZONE",
        help="of times without an offset, such as America/New_York (default: the exchange's)",
    )
    said.add_argument(
        "--missing",
        choices=["refuse", "drop", "fill"],
        default="drop",
        help="rows without a price or volume (default drop); fill = the last known close, volume 0",
    )
    said.add_argument("--day-first", action="store_true", default=None, help="01/02/2024 is the first of February")
    said.add_argument("--month-first", dest="day_first", action="store_false", help="it is the second of January")
    stamp = said.add_mutually_exclusive_group()
    stamp.add_argument(
        "--stamped-end",
        action="store_true",
        default=None,
        help="times are the ends of the bars (default: found from the sessions' openings and closes)",
    )
    stamp.add_argument("--stamped-start", dest="stamped_end", action="store_false", help="times are their starts")
    said.add_argument(
        "--encoding",
        type=given.encoding,
        metavar="NAME",
        help="default: UTF-8, UTF-16 or Windows-1252, as the file begins",
    )
    said.add_argument(
        "--basis",
        type=given.basis,
        metavar="BASIS",
        help="of the prices: as-traded, unknown, or the day YYYY-MM-DD up to which they are adjusted for splits "
        "(default: as the vendor has it)",
    )
    command.add_argument(
        "--rejects", metavar="FILE", help="keep the rows that are not sent, each with its line and the reason"
    )
    pace = command.add_mutually_exclusive_group()
    pace.add_argument("--rate", type=given.positive, metavar="N", help="records per second (default: no limit)")
    pace.add_argument("--speed", type=given.positive, metavar="X", help="X times real time, by the records' own clock")


def sources(settings: Settings, options: Namespace, clock: Clock) -> list[Source]:
    """Return a source for each file. Raises UnusableFile for a place without files."""
    rejects = Rejects(options.rejects)
    return [Replay(name, settings, options, clock, rejects) for name in csv_file.find(options.files, settings)]


class Replay(Source):
    """One price CSV as bars and, where it has columns for them, actions. Its position is the row, counted in the order
    of reading; resuming repeats no row.
    """

    def __init__(self, name: str, settings: Settings, options: Namespace, clock: Clock, rejects: Rejects) -> None:
        self.name, self.topics = name, (settings.kafka_topic_bars,)
        self._settings, self._clock, self._rejects, self._encoding = settings, clock, rejects, options.encoding or ""
        self._options = Options(
            symbol=options.symbol,
            symbol_column=options.symbol_column,
            interval=options.interval,
            timezone=options.timezone or "",
            day_first=options.day_first,
            ends=options.stamped_end,
            missing=options.missing,
            basis=options.basis or "",
        )
        self._is_restarted = options.restart
        self._pace = Pace(rate=options.rate, speed=options.speed, clock=clock.monotonic, sleep=clock.sleep)
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        """Fetch the file and decide how it is read."""
        with ExitStack() as opening:
            at_hand = csv_file.at_hand(self.name, self._settings, encoding=self._encoding)
            self._file = opening.enter_context(at_hand)
            self._reading = csv_file.reading(self._file, self._options, exchange_of=Exchanges(self._settings).of)
            if self._options.missing == "refuse":
                for _ in csv_file.chunks(self._file, self._reading, self._new_cleaner()):
                    pass  # Refused before the first record is sent, not in the middle.
            self._closing = opening.pop_all()
        if any(prices.actions.any for prices in self._reading.columns.prices):
            self.topics = (self._settings.kafka_topic_bars, self._settings.kafka_topic_actions)
        self._replays = Replays(self._file.fingerprint, self._reading.named_symbol, self.topics[0])
        self._key = self._replays.key(self._options, self._encoding)
        self.keys = (self._key,)
        self._cleaner = self._new_cleaner()
        self._summary = Summary(self.name, self._reading, self._cleaner)
        self._content = content_of(self._file, self._reading)
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def _new_cleaner(self) -> Cleaner:
        return Cleaner(self._reading, source=self._file.source, ingested_at=self._clock.now_text)

    def batches(self, position_of: Callable[[str], Position | None]) -> Iterator[Batch]:
        """Yield the rows behind the position, at the pace that was asked for."""
        versions = Versions(self._content, self._reading, self._key, self.topics[0])
        known = versions.known(position_of)
        position = position_of(self._key) or self._of_shorter(versions, known, position_of) or {"row": 0, "sent": 0}
        registration = self._replays.registration(self._key, position_of) | versions.registration(known)
        self._tell_of_other_replays(position_of)
        later = versions.since(known)
        try:
            with terminal.progress("rows") as bar:
                for chunk in csv_file.chunks(self._file, self._reading, self._cleaner):
                    self._summary.read(chunk)
                    self._rejects.keep(self.name, chunk.rejects)
                    for bars, actions, row in self._due(chunk.since(position["row"])):
                        reached = {"row": row}
                        if "sent" in position:  # Checkpoints of earlier versions do not say it.
                            reached["sent"] = position["sent"] + self._summary.sent + len(bars)
                        by_topic: dict[str, Sequence[Record]] = {self.topics[0]: bars}
                        if actions:
                            by_topic[self.topics[1]] = actions
                        yield Batch(by_topic, {self._key: reached, **registration})
                        self._summary.sent += len(bars)
                        self._summary.actions += len(actions)
                        registration = {}
                    bar.update(chunk.rows)
                    if self._clock.is_stopping():
                        return
            self.failure = self._failure()
            if self._summary.usable and not self._summary.sent:
                self._summary.notes.append(_nothing_new(later))
        except UnusableFile as error:
            self.failure = str(error)

    def _of_shorter(
        self, versions: Versions, known: list[Version], position_of: Callable[[str], Position | None]
    ) -> Position | None:
        """Return the position of an earlier, shorter content of this file: its rows were sent."""
        grown = versions.grown_from(
            known, lambda lengths: begins_with(self._file, self._reading, self._content.lines, lengths)
        )
        position = position_of(grown.key) if grown else None
        if grown and position:
            more = self._content.lines - grown.lines
            self._summary.notes.append(
                f"the file grew by {counted(more, 'line')} since an earlier replay: its new rows are sent"
            )
            return {name: value for name, value in position.items() if name in ("row", "sent")}
        return None

    def _due(self, waiting: Chunk) -> Iterator[tuple[list[Bar], list[Action], int]]:
        """The bars that may go now, the actions of the rows up to them, and the row behind, as often as it takes."""
        while (waiting.bars or waiting.actions) and not self._clock.is_stopping():
            # Actions behind the last bar have no time to wait for.
            due = self._pace.due(waiting.bars) if waiting.bars else 0
            if due or not waiting.bars:
                bars, waiting = waiting.bars[:due], waiting.after(due)
                actions = [action for at, action in waiting.actions if at < waiting.start]
                waiting = replace(waiting, actions=[one for one in waiting.actions if one[0] >= waiting.start])
                yield bars, actions, waiting.start

    def _tell_of_other_replays(self, position_of: Callable[[str], Position | None]) -> None:
        for note in self._replays.notes(self._key, position_of):
            self._summary.notes.append(note)
            log.warning("another replay", extra={"file": self.name, "note": note})

    def _failure(self) -> str:
        if not self._summary.usable:
            header = ",".join(self._reading.columns.header)[:200]
            return f"no row of it can be used; its header: {header}\n{known_dialects()}"
        if damaged := self._cleaner.damaged:
            return f"{damaged:,} of its rows are damaged; the others were sent, and --rejects keeps these"
        return ""

    def summary(self) -> str:
        way_on = "the same input goes on" if self.name == csv_file.STANDARD_INPUT else "the same command goes on"
        if self._is_restarted:
            way_on = "without --restart it goes on"
        return self._summary.text(stopped=self._clock.is_stopping(), way_on=way_on)


def _nothing_new(later: list[Version]) -> str:
    """What the user is told when every row was sent by an earlier run."""
    if later:
        return (
            f"this content was sent before, and another one of the file ({counted(later[-1].lines, 'line')}) since: "
            "nothing is sent, and the rows of the later one stay. --restart sends this one again, over the later one"
        )
    return "every row of it was sent by an earlier run: nothing is sent. --restart sends all of it again"


COMMAND = Command(
    summary="price CSVs of any common kind",
    more="Run again, it sends nothing twice; of a file that grew, the new rows.",
    examples=(
        "samples/daily_prices.csv",
        "'prices/*.csv.gz' --missing fill --rejects rejects.csv",
        "s3://bucket/minutes/ --timezone America/New_York --speed 60",
        "- --symbol AAPL < prices.csv",
    ),
    add_options=add_options,
    sources=sources,
)
