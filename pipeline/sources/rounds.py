"""Asking an API for what is new, series by series, once or again and again: what poll and news share."""

import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from pipeline.intervals import first_day
from pipeline.records import DAILY_OR_LONGER, Record, time_text
from pipeline.settings import SettingsError
from pipeline.sources import options as given
from pipeline.sources.due import Asking, Due, Part
from pipeline.sources.pacing import Clock
from pipeline.sources.progress import Progress, earlier
from pipeline.sources.rest import SourceError
from pipeline.sources.source import BATCH_RECORDS, Batch, Position, Source, is_valid

log = logging.getLogger(__name__)

LOOKBACK, INTRADAY_LOOKBACK = timedelta(days=365), timedelta(days=7)
_BEFORE_ALL_RECORDS = "1970-01-01 00:00:00.000"


def add_options(command: ArgumentParser) -> None:
    """Add when to ask, and for which time and symbols."""
    when = command.add_mutually_exclusive_group()
    when.add_argument("--once", action="store_true", help="ask once and stop, for cron and timers (default)")
    when.add_argument("--every", dest="every_seconds", type=given.seconds, metavar="60s", help="ask again and again")
    command.add_argument(
        "--from",
        dest="start",
        type=given.first_instant,
        metavar="DATE",
        help="first day or instant (UTC); default: the checkpoint, "
        f"or {INTRADAY_LOOKBACK.days} days ago, {LOOKBACK.days} for bars of a day or longer",
    )
    command.add_argument(
        "--to", dest="end", type=given.last_instant, metavar="DATE", help="last day or instant (UTC); default: now"
    )
    command.add_argument(
        "--revise",
        type=given.period,
        default=timedelta(days=2),
        metavar="2d",
        help="how much of the end to ask for again",
    )
    command.add_argument("--load", metavar="FOLDER", help="read recorded answers instead of the network")
    given.add_symbols(command)


@dataclass(frozen=True, kw_only=True)
class Series:
    """One series of records that an API has, such as the daily bars of a symbol."""

    name: str
    key: str
    # From a first to a last time, both included: records with what identifies them within the series, oldest first.
    ask: Callable[[str, str], Iterator[tuple[str, Record]]]
    interval: str = ""  # of bars
    lookback: timedelta = INTRADAY_LOOKBACK  # how far back the first round goes
    asking: Asking | None = None  # by which sessions it is asked; None: for any time
    settles: tuple[str, ...] = ()  # the symbols of which an answer without a bar says that there is none

    def due(self, part: Part, now: datetime, progress: Progress) -> Due | None:
        """Return what to ask for in a part of time; None for nothing."""
        if self.asking is None:
            return Due(first=part[0], last=part[1])
        day_of = self.asking.day_of

        def is_done(time: str) -> bool:
            was_empty = any(progress.was_empty(symbol, day_of(time)) for symbol in self.settles)
            return progress.is_done(time) and not was_empty

        return self.asking.due(part, now, is_done)

    def day_of(self, record: Record) -> str:
        """Return the day, YYYY-MM-DD, that a record is counted under."""
        return self.asking.day_of(record.time) if self.asking else record.time[:10]


class Rounds(Source):
    """Asks each series for what is missing and what may have been corrected, and yields what is new.

    The position of a series holds the times that are done and checksums of the last days (progress.py). A series that
    fails is logged, the others go on.
    """

    def __init__(self, name: str, topic: str, series: Sequence[Series], options: Namespace, clock: Clock) -> None:
        self.name, self.topics, self.keys = name, (topic,), tuple(one.key for one in series)
        self._series, self._topic, self._clock = series, topic, clock
        self._every_seconds, self._revise = options.every_seconds, options.revise
        # Recorded answers are read from their first record.
        self._start = options.start or (_BEFORE_ALL_RECORDS if options.load else None)
        self._end = options.end
        if self._start and self._end and self._start > self._end:
            raise SettingsError([f"--from {self._start} is after --to {self._end}"])
        self._is_of_bars = any(one.interval for one in series)

    def batches(self, position_of: Callable[[str], Position | None]) -> Iterator[Batch]:
        """Yield what is new, in one round or until the clock says to stop."""
        while True:
            began, failed, silent = self._clock.monotonic(), 0, []
            for series in self._series:
                sent = 0
                try:
                    for batch in self._new(series, Progress(position_of(series.key), revise=self._revise)):
                        yield batch
                        sent += sum(map(len, batch.records.values()))
                    log.info("polled", extra={"symbol": series.name, "sent": sent, "topic": self._topic})
                    if not sent and Progress(position_of(series.key), revise=self._revise).last is None:
                        silent.append(series.name)
                except SourceError as error:
                    failed += 1
                    if not self._every_seconds and error.status in (401, 403):
                        raise  # The key is refused; the next series would say the same.
                    log.error("source failed", extra={"symbol": series.name, "reason": str(error)})  # noqa: TRY400 - the reason says it all
                if self._clock.is_stopping():
                    return
            if not self._every_seconds:
                self.failure = self._failure(failed, silent)
                return
            self._clock.sleep(max(0.0, self._every_seconds - (self._clock.monotonic() - began)))

    def _failure(self, failed: int, silent: list[str]) -> str:
        """Why a round went wrong; empty if it did not. `silent`: the series that never had a record."""
        failures = [f"{failed} of {len(self._series)} series failed; the log says why"] if failed else []
        if silent and self._is_of_bars:
            lower = " (most tickers are upper-case)" if any(name.islower() for name in silent) else ""
            failures.append(f"the source has no bar of {', '.join(silent)} in this time; is the ticker right?{lower}")
        return "; ".join(failures)

    def _new(self, series: Series, progress: Progress) -> Iterator[Batch]:
        """Ask for what is missing of one series, where there were sessions."""
        start, end = self._span(series, progress)
        parts = progress.missing(start, end)
        if self._start:
            parts += progress.empty_parts(start, end)
        for first, last in parts:
            due = series.due((first, last), self._clock.now(), progress)
            if due is None:
                continue
            is_news = yield from self._asked(series, progress, due)
            if progress.last and last < progress.last:
                # A gap before what is done is closed to its end, also where it had no records.
                progress.sent([], first, last)
                is_news = True
            if is_news:
                yield Batch({}, {series.key: progress.state})

    def _asked(self, series: Series, progress: Progress, due: Due) -> Generator[Batch, None, bool]:
        """Ask once, yield what is new, some thousand records at a time, and note what had nothing; return whether that
        is not yet in a position.
        """
        found = ((identity, record) for identity, record in series.ask(due.first, due.last) if record.time >= due.first)
        reached, seen = due.first, set()
        while some := list(islice(found, BATCH_RECORDS)):
            seen |= {(record.symbol, series.day_of(record)) for _, record in some}
            new = [one for one in some if self._is_new(series, progress, *one) and is_valid(one[1])]
            reached = max(reached, some[-1][1].time)
            progress.sent(new, due.first, reached)
            if new:
                yield Batch({self._topic: [record for _, record in new]}, {series.key: progress.state})
        is_news = False
        if due.settled_until and due.settled_until > (progress.last or ""):
            progress.sent([], due.first, due.settled_until)
            is_news = True
        for symbol in series.settles:
            days = {day for name, day in seen if name == symbol}
            is_news = progress.settle(symbol, due.days, days) or is_news
        return is_news

    def _is_new(self, series: Series, progress: Progress, identity: str, record: Record) -> bool:
        return progress.is_new(identity, record) or progress.was_empty(record.symbol, series.day_of(record))

    def _span(self, series: Series, progress: Progress) -> tuple[str, str]:
        """The first and last time to look at."""
        end = self._end or self._clock.now_text()
        start = self._start or (
            earlier(progress.last, self._revise) if progress.last else earlier(end, series.lookback)
        )
        if series.interval in DAILY_OR_LONGER:
            start = time_text(first_day(datetime.fromisoformat(start[:10]), series.interval))
        return start, end
