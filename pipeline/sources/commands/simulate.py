"""producer.py simulate: a market without an account."""

import random
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from itertools import islice

from pipeline import terminal
from pipeline.records import Record
from pipeline.settings import Settings
from pipeline.sources import options as given
from pipeline.sources import simulated
from pipeline.sources.pacing import Clock, Pace
from pipeline.sources.source import BATCH_RECORDS, Batch, Command, Position, Source

_START = "2024-01-02 14:30:00.000"  # an opening of New York's market
_TICKS_A_SECOND = 10.0


def add_options(command: ArgumentParser) -> None:
    """Add what to simulate."""
    command.add_argument(
        "--bars", choices=simulated.BAR_INTERVALS, metavar="1m", help="bars of this length instead of ticks"
    )
    command.add_argument(
        "--rate", type=given.positive, metavar="N", help="records per second (default: 10 ticks; no limit for bars)"
    )
    command.add_argument("--count", type=given.count, metavar="N", help="stop after so many (default: never)")
    command.add_argument("--seed", type=int, metavar="N", help="default: another each time, shown at the end")
    command.add_argument(
        "--start",
        type=given.first_instant,
        metavar="TIME",
        help=f"time of the first record (default: now; with --seed {_START[:16]})",
    )
    given.add_symbols(command)


class Simulation(Source):
    """A seeded market. Its position is how many records were sent, and the first one's time: the seed makes the rest
    again.
    """

    name = "simulate"

    def __init__(self, settings: Settings, options: Namespace, clock: Clock) -> None:
        self._symbols, self._bars, self._count, self._clock = settings.symbol_list, options.bars, options.count, clock
        self._seed_is_given = options.seed is not None
        self._seed = options.seed if self._seed_is_given else random.SystemRandom().randrange(1 << 31)
        self._asked_start = options.start
        self._start = options.start or (_START if self._seed_is_given else clock.now_text())
        self._rate = options.rate or (None if options.bars else _TICKS_A_SECOND)
        topic = settings.kafka_topic_bars if options.bars else settings.kafka_topic_ticks
        self.topics = (topic,)
        self.keys = (f"simulated/{self._seed}/{options.bars or 'ticks'}/{settings.symbols}/{self._rate or ''}/{topic}",)
        self._before = self._sent = 0

    def batches(self, position_of: Callable[[str], Position | None]) -> Iterator[Batch]:
        """Yield as many records as were asked for, less those that were sent before, or without end."""
        position = position_of(self.keys[0]) or {}
        start = position.get("start") or self._start
        if self._asked_start and start != self._asked_start:
            self.failure = f"seed {self._seed} was begun at {start}, not at {self._start}; --restart begins anew"
            return
        self._before = self._sent = position.get("sent", 0)
        rest = islice(self._records(start), self._before, self._count)
        pace = Pace(rate=self._rate, clock=self._clock.monotonic, sleep=self._clock.sleep)
        with terminal.progress("records", self._count) as bar:
            while not self._clock.is_stopping() and (waiting := list(islice(rest, BATCH_RECORDS))):
                while waiting and not self._clock.is_stopping():
                    if due := pace.due(waiting):
                        position = {"sent": self._sent + due, "start": start}
                        yield Batch({self.topics[0]: waiting[:due]}, {self.keys[0]: position})
                        self._sent += due
                        waiting = waiting[due:]
                        bar.update(due)

    def _records(self, start: str) -> Iterator[Record]:
        first, now_text = given.instant(start), self._clock.now_text
        if self._bars:
            return simulated.bars(self._symbols, self._bars, seed=self._seed, start=first, ingested_at=now_text)
        rate = self._rate or _TICKS_A_SECOND
        return simulated.ticks(self._symbols, seed=self._seed, start=first, rate=rate, ingested_at=now_text)

    def summary(self) -> str:
        what = "bars" if self._bars else "ticks"
        return (
            f"seed {self._seed}: sent {self._sent - self._before:,} {what} to {self.topics[0]}"
            + (f", {self._before:,} before" if self._before else "")
            + ("" if self._seed_is_given else f"; go on with --seed {self._seed}")
        )


COMMAND = Command(
    summary="a simulated market",
    more="The same seed gives the same records; after a kill it continues.",
    examples=("--rate 100 --symbols AAPL,MSFT", "--bars 1m --count 10000 --seed 7"),
    add_options=add_options,
    sources=lambda settings, options, clock: [Simulation(settings, options, clock)],
)
