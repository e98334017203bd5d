"""producer.py backfill: exactly the bars that coverage finds missing, from an API, flat files or CSV files."""

import logging
from abc import abstractmethod
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import chain, groupby
from typing import Any, NamedTuple

from pipeline.intervals import INTERVAL_SECONDS
from pipeline.records import DAILY_OR_LONGER, Bar
from pipeline.sessions import Exchange, Exchanges
from pipeline.settings import Settings, SettingsError
from pipeline.sources import alpha_vantage, flat_files, gaps, polygon
from pipeline.sources import options as given
from pipeline.sources.csv import file as csv_file
from pipeline.sources.csv.bars import Cleaner
from pipeline.sources.csv.dialects import UnusableFile
from pipeline.sources.csv.reading import Options
from pipeline.sources.due import instant
from pipeline.sources.gaps import Gap, Request
from pipeline.sources.pacing import Clock
from pipeline.sources.progress import empty_days, packed, sent_days
from pipeline.sources.rest import SourceError
from pipeline.sources.source import BATCH_RECORDS, Batch, Command, Position, Source, is_valid

log = logging.getLogger(__name__)

_SymbolDay = tuple[str, str]
_APIS = {"polygon": polygon, "alpha_vantage": alpha_vantage}
_US_STOCKS = "XNYS"  # the exchange of the symbols that Polygon's grouped daily bars have


def add_options(command: ArgumentParser) -> None:
    """Add what to look for, and where to take it from."""
    command.add_argument("files", nargs="*", help="CSV files, folders, globs or s3:// addresses instead of an API")
    command.add_argument(
        "--source", choices=[*_APIS, flat_files.NAME], default="polygon", help="default polygon; flat_files: Massive's"
    )
    spans = dict.fromkeys(span for api in _APIS.values() for span in api.SPANS)
    command.add_argument("--interval", choices=list(spans), default="1d", help="default 1d")
    command.add_argument("--from", dest="first", type=date.fromisoformat, metavar="DAY", help="first day to look at")
    command.add_argument("--to", dest="last", type=date.fromisoformat, metavar="DAY", help="last day to look at")
    command.add_argument("--empty-too", action="store_true", help="ask again for what a source had nothing for")
    command.add_argument("--dry-run", action="store_true", help="say what is missing and what it costs; send nothing")
    basis = command.add_mutually_exclusive_group()
    basis.add_argument("--adjusted", action="store_true", default=None, help="prices adjusted for splits, as of poll")
    basis.add_argument("--no-adjusted", dest="adjusted", action="store_false", help="prices as traded")
    command.add_argument("--symbol", default="", help="symbol of a file that has no column for it")
    command.add_argument("--timezone", type=given.zone, metavar="ZONE", help="of a file's times without an offset")
    given.add_symbols(command)


def sources(settings: Settings, options: Namespace, clock: Clock) -> list[Source]:
    """Return one source for all that is missing; none with --dry-run, which says it. Raises SettingsError."""
    is_of_api = options.source in _APIS and not options.files
    spans = _APIS[options.source].SPANS if options.source in _APIS else flat_files.SPANS
    if not options.files and options.interval not in spans:
        raise SettingsError([f"--interval {options.interval}: {options.source} does not have it"])
    if not is_of_api and options.adjusted:
        raise SettingsError(["--adjusted: files have the prices that they have"])
    found: Sequence[Gap] = options.gaps
    kind = _FromApi if is_of_api else _FromFiles if options.files else _FromFlatFiles
    source = kind(settings, options, clock, found)
    print(source.announcement())
    return [] if options.dry_run or not found else [source]


class _Found(NamedTuple):
    """Bars that are missing, and the symbols' days that were asked for and had nothing, or nothing more."""

    bars: list[Bar]
    nothing: set[_SymbolDay]


class _Backfill(Source):
    """Sends what is missing, symbol by symbol or day by day. The position holds the days that were sent, by symbol, and
    those that had nothing, so that a run which was killed goes on behind them.
    """

    name = "backfill"

    def __init__(self, settings: Settings, options: Namespace, clock: Clock, found: Sequence[Gap]) -> None:
        self._settings, self._options, self._clock = settings, options, clock
        self._exchanges, self._gaps = Exchanges(settings), {gap.symbol: gap for gap in found}
        self._is_missing = {gap.symbol: gap.bars() for gap in found}
        self.topics = (settings.kafka_topic_bars,)
        is_long = options.interval in DAILY_OR_LONGER - {"1d"}
        self._is_adjusted = is_long if options.adjusted is None else options.adjusted
        basis = "adjusted" if self._is_adjusted else "as traded"
        api = "csv" if options.files else options.source
        self._key = f"{api}/backfill/{options.interval}/{basis}/{self.topics[0]}"
        self.keys = (self._key,)
        self._sent, self._nothing = 0, 0
        self._sent_days: dict[str, set[str]] = {}
        self._empty: dict[str, set[str]] = {}

    def announcement(self) -> str:
        """Return what is missing, for the user."""
        days = sum(len(gap.days) for gap in self._gaps.values())
        if not days:
            return "backfill: nothing is missing"
        span = f"{min(min(gap.days) for gap in self._gaps.values())} to "
        span += f"{max(max(gap.days) for gap in self._gaps.values())}"
        lines = [f"backfill: {days:,} days of {len(self._gaps):,} symbols are missing, {span}"]
        if self._options.dry_run:
            lines += [f"  {gap.symbol}: {', '.join(map(str, gap.days))}" for gap in self._gaps.values()]
        return "\n".join(lines)

    def batches(self, position_of: Callable[[str], Position | None]) -> Iterator[Batch]:
        """Yield what is missing, each time with the days that are done by then."""
        before = position_of(self._key) or {}
        self._sent_days, self._empty = sent_days(before), empty_days(before)
        for found in self._found():
            for bars in self._whole_days(found.bars):
                self._note((bar.symbol, self._day_of(bar)) for bar in bars)
                yield self._batch(bars)
            if found.nothing:
                for symbol, day in found.nothing:
                    self._empty.setdefault(symbol, set()).add(day)
                self._nothing += len(found.nothing)
                yield self._batch([])
            if self._clock.is_stopping():
                return

    @abstractmethod
    def _found(self) -> Iterator["_Found"]:
        """Yield the bars that are missing, all that there are of a symbol's day together."""

    def _missing(self, found: Iterable[Bar]) -> list[Bar]:
        """Those of some bars that are missing, each once."""
        kept = {
            (bar.symbol, bar.time): bar
            for bar in found
            if bar.interval == self._options.interval
            and bar.symbol in self._is_missing
            and self._is_missing[bar.symbol](self._day_of(bar), bar.time)
        }
        return [bar for bar in kept.values() if is_valid(bar)]

    def _whole_days(self, bars: list[Bar]) -> Iterator[list[Bar]]:
        """The bars in batches that have a symbol's day whole."""
        batch: list[Bar] = []
        in_order = sorted(bars, key=lambda bar: (bar.symbol, bar.time))
        for _, of_a_day in groupby(in_order, key=lambda bar: (bar.symbol, self._day_of(bar))):
            batch += of_a_day
            if len(batch) >= BATCH_RECORDS:
                yield batch
                batch = []
        if batch:
            yield batch

    def _day_of(self, bar: Bar) -> str:
        if bar.interval in DAILY_OR_LONGER:
            return bar.time[:10]
        return str(self._exchanges.of(bar.symbol).local_day(instant(bar.time)))

    def _note(self, sent: Iterable[_SymbolDay]) -> None:
        for symbol, day in sent:
            self._sent_days.setdefault(symbol, set()).add(day)
            self._empty.get(symbol, set()).discard(day)

    def _batch(self, bars: list[Bar]) -> Batch:
        self._sent += len(bars)
        state = {
            "sent": packed({symbol: sorted(days) for symbol, days in self._sent_days.items()}),
            "empty": packed({symbol: sorted(days) for symbol, days in self._empty.items() if days}),
        }
        return Batch({self.topics[0]: bars} if bars else {}, {self._key: state})

    def summary(self) -> str:
        """Return how many bars were sent, and how many days had none."""
        had_nothing = f" · {self._nothing:,} days had nothing" if self._nothing else ""
        stopped = " · stopped: the same command goes on" if self._clock.is_stopping() else ""
        return f"backfill: sent {self._sent:,} bars{had_nothing}{stopped}"


class _FromApi(_Backfill):
    """From Polygon/Massive or Alpha Vantage, with few requests."""

    def __init__(self, settings: Settings, options: Namespace, clock: Clock, found: Sequence[Gap]) -> None:
        super().__init__(settings, options, clock, found)
        self._api = _APIS[options.source]
        self._get = self._api.client(settings, clock.sleep)
        self._per_minute: int = getattr(settings, f"{options.source}_requests_per_minute")
        self._how: dict[str, Any] = {"adjusted": self._is_adjusted, "ingested_at": clock.now_text}
        is_polygon_daily = options.source == "polygon" and options.interval == "1d"
        by_day = [symbol for symbol in self._gaps if self._exchanges.of(symbol).name == _US_STOCKS]
        fits = gaps.fits(INTERVAL_SECONDS[options.interval], by_month=options.source == "alpha_vantage")
        self._requests = gaps.plan(found, fits=fits, by_day=frozenset(by_day if is_polygon_daily else ()))

    def announcement(self) -> str:
        """Return what is missing, and what asking for it costs."""
        if not self._requests:
            return super().announcement()
        by_day = sum(not request.symbol for request in self._requests)
        count = len(self._requests)
        ways = f"{count - by_day:,} by symbol and {by_day:,} by day"
        limit = f"at {self._per_minute} a minute: about {gaps.minutes(count, self._per_minute):,} minutes"
        return f"{super().announcement()}\n  {count:,} requests, {ways}, {limit if self._per_minute else 'no limit'}"

    def _found(self) -> Iterator["_Found"]:
        failed = 0
        for request in self._requests:
            wanted = self._wanted(request)
            try:
                bars = self._missing(self._ask(request))
            except SourceError as error:
                failed += 1
                if error.status in (401, 403):
                    raise  # The key is refused; the next request would say the same.
                log.error("source failed", extra={"symbol": request.symbol or request.days[0], "reason": str(error)})  # noqa: TRY400 - the reason says it all
                continue
            log.info("asked", extra={"symbol": request.symbol or "*", "days": len(request.days), "bars": len(bars)})
            # Of bars within the day, minutes without a trade are left of a day that has some.
            is_day = self._options.interval in DAILY_OR_LONGER
            seen = {(bar.symbol, self._day_of(bar)) for bar in bars} if is_day else set()
            yield _Found(bars, wanted - seen)
        self.failure = f"{failed} of {len(self._requests)} requests failed; the log says why" if failed else ""

    def _wanted(self, request: Request) -> set[tuple[str, str]]:
        if request.symbol:
            return {(request.symbol, str(day)) for day in request.days}
        return {(symbol, str(day)) for symbol, gap in self._gaps.items() for day in request.days if day in gap.days}

    def _ask(self, request: Request) -> Iterator[Bar]:
        first, last = request.days[0], request.days[-1]
        if not request.symbol:
            return (bar for bar, _ in polygon.grouped_daily(self._get, first, **self._how))
        start, end = _span(self._exchanges.of(request.symbol), self._options.interval, first, last)
        found = self._api.bars(self._get, request.symbol, self._options.interval, start, end, **self._how)
        return (bar for bar, _ in found if bar.symbol == request.symbol)


def _span(exchange: Exchange, interval: str, first: date, last: date) -> tuple[datetime, datetime]:
    """The first and the last instant to ask for."""
    if interval in DAILY_OR_LONGER:
        return tuple(datetime.combine(day, time(), UTC) for day in (first, last))  # type: ignore[return-value]
    sessions = exchange.sessions(first, last)
    return sessions[0].opens_at - timedelta(seconds=INTERVAL_SECONDS[interval]), sessions[-1].closes_at


class _FromFiles(_Backfill):
    """From price CSVs. A file that lacks a bar does not say that there was none."""

    def _found(self) -> Iterator["_Found"]:
        options = Options(symbol=self._options.symbol, timezone=self._options.timezone or "")
        for name in csv_file.find(self._options.files, self._settings):
            yield _Found(self._bars_of(name, options), set())

    def _bars_of(self, name: str, options: Options) -> list[Bar]:
        """The bars of a file that are missing."""
        with csv_file.at_hand(name, self._settings) as file:
            reading = csv_file.reading(file, options, exchange_of=self._exchanges.of)
            cleaner = Cleaner(reading, source=file.source, ingested_at=self._clock.now_text)
            rows = (chunk.bars for chunk in csv_file.chunks(file, reading, cleaner))
            return self._missing(chain.from_iterable(rows))


class _FromFlatFiles(_FromFiles):
    """From Massive's flat files, one a day that anything is missing of. A ticker that is not in it had nothing."""

    def announcement(self) -> str:
        """Return what is missing, and how many files that is."""
        files = len({day for gap in self._gaps.values() for day in gap.days})
        return f"{super().announcement()}\n  {files:,} files" if files else super().announcement()

    def _found(self) -> Iterator["_Found"]:
        days = sorted({day for gap in self._gaps.values() for day in gap.days})
        failed = 0
        for day in days:
            wanted = {(symbol, str(day)) for symbol, gap in self._gaps.items() if day in gap.days}
            try:
                with flat_files.fetched(self._settings, self._options.interval, day) as path:
                    bars = self._bars_of(str(path), Options(interval=self._options.interval, ends=False))
            except (SourceError, UnusableFile) as error:
                failed += 1
                log.error("source failed", extra={"day": str(day), "reason": str(error)})  # noqa: TRY400 - the reason says it all
                continue
            is_day = self._options.interval in DAILY_OR_LONGER
            yield _Found(bars, wanted - ({(bar.symbol, self._day_of(bar)) for bar in bars} if is_day else set()))
        self.failure = f"{failed} of {len(days)} files could not be read; the log says why" if failed else ""


def _required(options: Namespace) -> list[str]:
    if options.files or options.dry_run:
        return ["s3_bucket"]
    if options.source == flat_files.NAME:
        return ["s3_bucket", "flat_files_access_key", "flat_files_secret_key"]
    return ["s3_bucket", f"{options.source}_api_key"]


COMMAND = Command(
    summary="exactly the bars that are missing in the lake, from an API, flat files or CSV files",
    more="Looks at what `python -m pipeline.coverage` reports and asks with few requests, by symbol or by day. "
    "What was sent before and has not landed yet is not asked for again; --restart forgets that.",
    examples=(
        "--dry-run",
        "--symbols AAPL,MSFT --from 2024-01-01",
        "--interval 1m --from 2025-11-03 --to 2025-11-07",
        "--source flat_files --interval 1m --from 2025-11-03",
        "prices.csv.gz --from 2013-01-01 --to 2013-12-31",
    ),
    add_options=add_options,
    required=_required,
    sources=sources,
    fills_gaps=True,
)
