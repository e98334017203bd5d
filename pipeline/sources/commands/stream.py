"""producer.py stream: Polygon/Massive's live feed, and the minute bars that it missed, from REST."""

import logging
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from typing import Any, Self

from pipeline.intervals import is_finished
from pipeline.records import Bar, Record, Tick, time_text_ms
from pipeline.sessions import Exchange
from pipeline.settings import Settings
from pipeline.sources import options as given
from pipeline.sources import polygon
from pipeline.sources.pacing import Clock
from pipeline.sources.progress import SentMinutes
from pipeline.sources.rest import SourceError
from pipeline.sources.source import Batch, Command, Position, Source, is_valid

log = logging.getLogger(__name__)

_ANY = Exchange("XNYS")  # a minute is over by the clock, wherever
_MINUTE_MS = 60_000
_MINUTES_KEPT = 15  # what REST may fill in while the feed is back already


def add_options(command: ArgumentParser) -> None:
    """Add what to listen to."""
    command.add_argument(
        "--channels",
        type=_channels,
        default=("seconds", "minutes"),
        metavar="seconds,minutes",
        help=f"any of {', '.join(polygon.CHANNELS)} (default seconds,minutes)",
    )
    command.add_argument(
        "--buffer",
        type=given.count,
        default=100_000,
        metavar="N",
        help="events kept while Kafka is slow (default 100000)",
    )
    command.add_argument("--url", dest="polygon_stream_url", help="POLYGON_STREAM_URL")
    given.add_symbols(command)


def _channels(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if unknown := [name for name in names if name not in polygon.CHANNELS]:
        raise ArgumentTypeError(f"{', '.join(unknown)}: not among {', '.join(polygon.CHANNELS)}")
    return names


class Live(Source):
    """The live feed: trades and seconds as ticks, minutes as bars.

    Its position is the symbols of the last minutes that were sent. After a pause the missed minute bars come from
    REST; missed ticks are gone.
    """

    name = "stream"

    def __init__(self, settings: Settings, options: Namespace, clock: Clock) -> None:
        self._settings, self._channels, self._buffer, self._clock = settings, options.channels, options.buffer, clock
        self.topics = (settings.kafka_topic_ticks, settings.kafka_topic_bars)
        self._key = f"{polygon.NAME}/stream/{','.join(options.channels)}/{settings.symbols}"
        # Ticks have no position; a key of their own keeps the minutes' position out of their transactions.
        self._ticks_key = f"{self._key}/ticks"
        self.keys = (self._key, self._ticks_key)
        self._totals: Counter[str] = Counter()
        self._fills: list[Future[list[Bar]]] = []
        self._closing = ExitStack()

    @property
    def identity(self) -> tuple[str, ...]:
        return (self._key, *self.topics)

    def __enter__(self) -> Self:
        """Begin to listen."""
        from pipeline.sources.polygon_stream import Feed  # noqa: PLC0415 - no other command needs websockets

        settings = self._settings
        self._get = polygon.client(settings, self._clock.sleep)
        # One thread: the rate limit is for all requests together.
        self._filler = self._closing.enter_context(ThreadPoolExecutor(1))
        self._feed = self._closing.enter_context(
            Feed(
                settings.polygon_stream_url,
                key=settings.polygon_api_key,
                symbols=settings.symbol_list,
                channels=self._channels,
                capacity=self._buffer,
            )
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def batches(self, position_of: Callable[[str], Position | None]) -> Iterator[Batch]:
        """Yield what has arrived, and what was filled in, until the clock says to stop."""
        seen = SentMinutes((position_of(self._key) or {}).get("minutes"))
        missed_since = [seen.last] if seen.last else []
        while not self._clock.is_stopping():
            arrived = [record for event in self._feed.take(0.5) if (record := self._record(event))]
            missed_since += [time_text_ms(since - _MINUTE_MS) for since, _ in self._feed.take_gaps()]
            if "minutes" in self._channels and missed_since:
                log.warning("filling minute bars", extra={"since": min(missed_since)})
                self._fills.append(self._filler.submit(self._minute_bars, min(missed_since)))
            missed_since = []
            yield from self._batch([*arrived, *self._filled(seen)], seen)
            if not self._fills:
                seen.forget(but_minutes=_MINUTES_KEPT)

    def _batch(self, arrived: Iterable[Record], seen: SentMinutes) -> Iterator[Batch]:
        """One batch of what is new, or none."""
        ticks = [record for record in arrived if isinstance(record, Tick)]
        # Of a minute that came twice, the later bar counts.
        bars = {(bar.symbol, bar.time): bar for bar in arrived if isinstance(bar, Bar) and seen.is_new(bar)}
        ticks_topic, bars_topic = self.topics
        if bars:
            seen.add(bars.values())
            yield Batch({ticks_topic: ticks, bars_topic: [*bars.values()]}, {self._key: {"minutes": seen.state}})
        elif ticks:
            yield Batch({ticks_topic: ticks}, {self._ticks_key: {}})
        self._totals.update(ticks=len(ticks), bars=len(bars))

    def _filled(self, seen: SentMinutes) -> Iterator[Bar]:
        """The bars of the fills that are done, less those that the feed has brought meanwhile."""
        for fill in [fill for fill in self._fills if fill.done()]:
            self._fills.remove(fill)
            missed = [bar for bar in fill.result() if not seen.has(bar)]
            self._totals["filled"] += len(missed)
            yield from missed

    def _record(self, event: dict[str, Any]) -> Record | None:
        from pipeline.sources.polygon_stream import record  # noqa: PLC0415 - see above

        try:
            found = record(event, self._clock.now_text())
        except ValueError as error:
            self._totals["malformed"] += 1
            log.warning("event not understood", extra={"reason": str(error)[:300]})
            return None
        return found if found and is_valid(found) else None

    def _minute_bars(self, since: str) -> list[Bar]:
        """All finished minute bars from a time on; a symbol that REST refuses is logged and left out."""
        now, found = self._clock.now(), []
        for symbol in self._settings.symbol_list:
            failed = {"symbol": symbol, "since": since}
            if symbol == "*":
                log.error("minute bars not filled", extra={**failed, "reason": "REST has minutes by symbol only"})
                continue
            try:
                for bar, is_delayed in polygon.bars(
                    self._get,
                    symbol,
                    "1m",
                    given.instant(since),
                    now,
                    adjusted=False,
                    ingested_at=self._clock.now_text,
                ):
                    if is_finished(bar, _ANY, now, polygon.DELAY if is_delayed else timedelta(0)):
                        found.append(bar)
            except SourceError as error:
                log.error("minute bars not filled", extra={**failed, "reason": str(error)})  # noqa: TRY400
        return found

    def summary(self) -> str:
        counts, totals = self._feed.counts, self._totals
        return (
            f"received {counts.received:,} · sent {totals['ticks']:,} ticks and {totals['bars']:,} minute bars, "
            f"of which {totals['filled']:,} filled from REST · dropped {counts.dropped:,} · not understood "
            f"{counts.malformed + totals['malformed']:,} · reconnected {counts.reconnects:,} times"
        )


COMMAND = Command(
    summary="live trades, seconds and minutes from Polygon/Massive",
    more="Trades and seconds go to the topic of ticks, minutes to that of bars.",
    examples=("--symbols AAPL,MSFT", "--symbols '*' --channels minutes"),
    add_options=add_options,
    required=lambda _: ["polygon_api_key"],
    sources=lambda settings, options, clock: [Live(settings, options, clock)],
)
