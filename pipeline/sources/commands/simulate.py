"""producer.py simulate: a market without an account."""

import random
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from itertools import islice

from pipeline import terminal
from pipeline.records import Bar, Record
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
    command.add_argument(
        "--seed", type=int, metavar="N", help="default: another each time; prices go on from the last run's"
    )
    command.add_argument(
        "--start",
        type=given.first_instant,
        metavar="TIME",
        help=f"time of the first record (default: now; with --seed {_START[:16]})",
    )
    command.add_argument(
        "--symbols",
        type=given.symbols,
        metavar="A,B",
        help="tickers, or a file of them (default: SIM1 to SIM8); AAPL is sent as SIM:AAPL, which nobody trades",
    )


class Simulation(Source):
    """A seeded market. Its position is how many records were sent, and the first one's time: the seed makes the rest
    again. One more position holds the last prices, from which a run without a seed goes on.
    """

    name = "simulate"

    def __init__(self, settings: Settings, options: Namespace, clock: Clock) -> None:
        asked = options.symbols.split(",") if options.symbols else simulated.TICKERS
        self._symbols = tuple(dict.fromkeys(map(simulated.ticker, asked)))
        self._bars, self._count, self._clock = options.bars, options.count, clock
        self._seed_is_given = options.seed is not None
        self._seed = options.seed if self._seed_is_given else random.SystemRandom().randrange(1 << 31)
        self._asked_start = options.start
        self._start = options.start or (_START if self._seed_is_given else clock.now_text())
        self._rate = options.rate or (None if options.bars else _TICKS_A_SECOND)
        topic = settings.kafka_topic_bars if options.bars else settings.kafka_topic_ticks
        self.topics = (topic,)
        kind, symbols = options.bars or "ticks", ",".join(self._symbols)
        self._key = f"simulated/{self._seed}/{kind}/{symbols}/{self._rate or ''}/{topic}"
        self._last_key = f"simulated/last/{kind}/{topic}"
        self.keys = (self._key,) if self._seed_is_given else (self._key, self._last_key)
        self._last: Position = {}
        self._before = self._sent = 0

    @property
    def identity(self) -> tuple[str, ...]:
        """Two runs without a seed may be under way at the same time."""
        return (self._key,)

    def batches(self, position_of: Callable[[str], Position | None]) -> Iterator[Batch]:
        """Yield as many records as were asked for, less those that were sent before, or without end."""
        position = position_of(self._key) or {}
        if not self._seed_is_given:
            self._last = position_of(self._last_key) or {}
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
                        yield Batch({self.topics[0]: waiting[:due]}, self._positions(waiting[:due], position))
                        self._sent += due
                        waiting = waiting[due:]
                        bar.update(due)

    def _positions(self, due: list[Record], position: Position) -> dict[str, Position]:
        """The position, and the last prices where they are kept."""
        if self._seed_is_given:
            return {self._key: position}
        prices = {record.symbol: record.close if isinstance(record, Bar) else record.price for record in due}  # type: ignore[union-attr]
        self._last = {"prices": self._last.get("prices", {}) | prices, "time": due[-1].time}
        return {self._key: position, self._last_key: self._last}

    def _records(self, start: str) -> Iterator[Record]:
        last, after = self._last.get("prices"), "" if self._asked_start else self._last.get("time", "")
        # Bars go on behind the last one; ticks are of now.
        first = given.instant(after if self._bars and after else start)
        seed, now_text = self._seed, self._clock.now_text
        if self._bars:
            return simulated.bars(
                self._symbols, self._bars, seed=seed, start=first, ingested_at=now_text, last_prices=last, after=after
            )
        rate = self._rate or _TICKS_A_SECOND
        return simulated.ticks(self._symbols, seed=seed, start=first, rate=rate, ingested_at=now_text, last_prices=last)

    def summary(self) -> str:
        what = "bars" if self._bars else "ticks"
        shown = ", ".join(self._symbols[:8]) + (", …" if len(self._symbols) > 8 else "")
        again = (
            ""
            if self._seed_is_given
            else f"\nThe next run goes on from these prices; --seed {self._seed} goes on with this one"
        )
        return (
            f"seed {self._seed}: sent {self._sent - self._before:,} {what} of {shown} to {self.topics[0]}"
            + (f", {self._before:,} before" if self._before else "")
            + again
        )


COMMAND = Command(
    summary="a simulated market",
    more="Its tickers are of its own: SIM1, SIM2, …. The same seed gives the same records; after a kill it continues.",
    examples=("--rate 100", "--bars 1m --count 10000 --seed 7 --symbols SIM1,SIM2"),
    add_options=add_options,
    sources=lambda settings, options, clock: [Simulation(settings, options, clock)],
)
