"""producer.py replay: price CSVs, each file a source of its own."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Self

from pipeline import terminal
from pipeline.records import INTERVALS
from pipeline.settings import Settings
from pipeline.sources import options as given
from pipeline.sources.csv import file as csv_file
from pipeline.sources.csv.bars import Chunk, Cleaner
from pipeline.sources.csv.dialects import UnusableFile, known_dialects
from pipeline.sources.csv.reading import Options
from pipeline.sources.csv.summary import Rejects, Summary
from pipeline.sources.pacing import Clock, Pace
from pipeline.sources.source import Batch, Command, Position, Source


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
        help="of times without an offset, such as America/New_York (default: UTC)",
    )
    said.add_argument(
        "--missing",
        choices=["refuse", "drop", "fill"],
        default="drop",
        help="rows without a price or volume (default drop); fill = the last known close, volume 0",
    )
    said.add_argument("--day-first", action="store_true", default=None, help="01/02/2024 is the first of February")
    said.add_argument("--month-first", dest="day_first", action="store_false", help="it is the second of January")
    said.add_argument("--stamped-end", action="store_true", help="times are the ends of the bars")
    said.add_argument("--encoding", default="", help="default: UTF-8, UTF-16 or Windows-1252, as the file begins")
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
    """One price CSV as bars. Its position is the row, counted in the order of reading; resuming repeats no row."""

    def __init__(self, name: str, settings: Settings, options: Namespace, clock: Clock, rejects: Rejects) -> None:
        self.name, self.topics = name, (settings.kafka_topic_bars,)
        self._settings, self._clock, self._rejects, self._encoding = settings, clock, rejects, options.encoding
        self._options = Options(
            symbol=options.symbol,
            symbol_column=options.symbol_column,
            interval=options.interval,
            timezone=options.timezone or "",
            day_first=options.day_first,
            ends=options.stamped_end,
            missing=options.missing,
        )
        self._pace = Pace(rate=options.rate, speed=options.speed, clock=clock.monotonic, sleep=clock.sleep)
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        """Fetch the file and decide how it is read."""
        with ExitStack() as opening:
            at_hand = csv_file.at_hand(self.name, self._settings, encoding=self._encoding)
            self._file = opening.enter_context(at_hand)
            self._reading = csv_file.reading(self._file, self._options)
            if self._options.missing == "refuse":
                for _ in csv_file.chunks(self._file, self._reading, self._cleaner()):
                    pass  # Refused before the first record is sent, not in the middle.
            self._closing = opening.pop_all()
        self.keys = (f"csv/{self._file.fingerprint}/{self._reading.named_symbol}/{self.topics[0]}",)
        cleaner = self._cleaner()
        self._chunks = csv_file.chunks(self._file, self._reading, cleaner)
        self._summary = Summary(self.name, self._reading, cleaner)
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def _cleaner(self) -> Cleaner:
        return Cleaner(self._reading, source=self._file.source, ingested_at=self._clock.now_text)

    def batches(self, position_of: Callable[[str], Position | None]) -> Iterator[Batch]:
        """Yield the rows behind the position, at the pace that was asked for."""
        position = (position_of(self.keys[0]) or {}).get("row", 0)
        try:
            with terminal.progress("rows") as bar:
                for chunk in self._chunks:
                    self._summary.read(chunk)
                    self._rejects.keep(self.name, chunk.rejects)
                    yield from self._due(chunk.since(position))
                    bar.update(chunk.rows)
                    if self._clock.is_stopping():
                        return
        except UnusableFile as error:
            self.failure = str(error)
            return
        if not self._summary.usable:
            header = ",".join(self._reading.columns.header)[:200]
            self.failure = f"no row of it can be used; its header: {header}\n{known_dialects()}"

    def _due(self, waiting: Chunk) -> Iterator[Batch]:
        while waiting.bars and not self._clock.is_stopping():
            if due := self._pace.due(waiting.bars):
                rest = waiting.after(due)
                yield Batch({self.topics[0]: waiting.bars[:due]}, {self.keys[0]: {"row": rest.start}})
                self._summary.sent += due
                waiting = rest

    def summary(self) -> str:
        return self._summary.text(stopped=self._clock.is_stopping())


COMMAND = Command(
    summary="price CSVs of any common kind",
    more="Run again, it sends nothing twice.",
    examples=(
        "samples/daily_prices.csv",
        "'prices/*.csv.gz' --missing fill --rejects rejects.csv",
        "s3://bucket/minutes/ --timezone America/New_York --speed 60",
        "- --symbol AAPL < prices.csv",
    ),
    add_options=add_options,
    sources=sources,
)
