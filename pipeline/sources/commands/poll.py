"""producer.py poll: bars of Polygon/Massive or Alpha Vantage, by symbol, by day, or the previous close."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

from pipeline.intervals import is_finished
from pipeline.records import DAILY_OR_LONGER, Bar, Record
from pipeline.sessions import Exchange, Exchanges
from pipeline.settings import Settings, SettingsError
from pipeline.sources import alpha_vantage, polygon, rounds
from pipeline.sources.due import Asking
from pipeline.sources.options import instant
from pipeline.sources.pacing import Clock
from pipeline.sources.source import Command, Source

_APIS = {"polygon": polygon, "alpha_vantage": alpha_vantage}
_US_STOCKS = Exchange("XNYS")  # what Polygon's grouped daily bars are of


def add_options(command: ArgumentParser) -> None:
    """Add which bars, of which API."""
    command.add_argument("--source", choices=list(_APIS), default="polygon", help="default polygon")
    command.add_argument(
        "--interval",
        choices=list(dict.fromkeys(span for api in _APIS.values() for span in api.SPANS)),
        default="1d",
        help="default 1d",
    )
    basis = command.add_mutually_exclusive_group()
    basis.add_argument(
        "--adjusted",
        action="store_true",
        default=None,
        help="prices adjusted for splits up to today (default of weeks and months; the views adjust the others)",
    )
    basis.add_argument(
        "--no-adjusted", dest="adjusted", action="store_false", help="prices as traded (default of days and shorter)"
    )
    command.add_argument(
        "--include-open", action="store_true", help="send bars that are still forming, and each change of them"
    )
    what = command.add_mutually_exclusive_group()
    what.add_argument(
        "--grouped", action="store_true", help="daily bars of many tickers with one request a day; '*' is all of them"
    )
    what.add_argument("--previous-close", action="store_true", help="the last finished day only")
    rounds.add_options(command)


def sources(settings: Settings, options: Namespace, clock: Clock) -> list[Source]:
    """Return one source with a series for each symbol, or for all of them with --grouped. Raises SettingsError."""
    if (options.grouped or options.previous_close) and options.source != "polygon":
        raise SettingsError(["--grouped and --previous-close: only Polygon has them"])
    if "*" in settings.symbol_list and not options.grouped:
        raise SettingsError(["SYMBOLS: '*' is for --grouped, news and stream"])
    ask = _Bars(settings, options, clock)
    if options.grouped:
        series = [ask.grouped()]
    elif options.previous_close:
        series = [ask.previous_close(symbol) for symbol in settings.symbol_list]
    else:
        series = [ask.bars(symbol) for symbol in settings.symbol_list]
    return [rounds.Rounds("poll", settings.kafka_topic_bars, series, options, clock)]


class _Bars:
    """The series of bars that a poll can ask for."""

    def __init__(self, settings: Settings, options: Namespace, clock: Clock) -> None:
        self._api, self._symbols, self._topic = _APIS[options.source], settings.symbol_list, settings.kafka_topic_bars
        self._get = self._api.client(settings, clock.sleep, recorded=options.load)
        self._options, self._clock, self._exchanges = options, clock, Exchanges(settings)
        self._delay = timedelta(minutes=getattr(settings, f"{options.source}_delay_minutes"))
        # A week that holds a split is on two bases at once, unless the source adjusts it.
        is_long = options.interval in DAILY_OR_LONGER - {"1d"} and not (options.grouped or options.previous_close)
        self._is_adjusted = is_long if options.adjusted is None else options.adjusted

    def bars(self, symbol: str) -> rounds.Series:
        """Return the bars of a symbol, of the interval that was asked for."""
        interval = self._options.interval
        return rounds.Series(
            name=symbol,
            key=self._key(symbol, interval),
            ask=partial(self._ask_bars, symbol),
            interval=interval,
            lookback=rounds.LOOKBACK if interval in DAILY_OR_LONGER else rounds.INTRADAY_LOOKBACK,
            asking=self._asking(self._exchanges.of(symbol), interval),
            settles=(symbol,),
        )

    def previous_close(self, symbol: str) -> rounds.Series:
        """Return the last finished day of a symbol, whatever the time that is asked for."""
        return rounds.Series(
            name=symbol,
            key=self._key(symbol, "previous close"),
            ask=partial(self._ask_previous_close, symbol),
            interval="1d",
            lookback=rounds.LOOKBACK,
            asking=self._asking(self._exchanges.of(symbol), "1d"),
        )

    def grouped(self) -> rounds.Series:
        """Return the daily bars of all symbols, or of those that were named, as one series."""
        name = ",".join(self._symbols)
        return rounds.Series(
            name=name,
            key=self._key(name, "grouped"),
            ask=self._ask_grouped,
            interval="1d",
            asking=self._asking(_US_STOCKS, "1d"),
            settles=() if "*" in self._symbols else self._symbols,
        )

    def _asking(self, exchange: Exchange, interval: str) -> Asking | None:
        """By which sessions to ask; recorded answers are read whatever they are of."""
        options = self._options
        how = {"delay": self._delay, "revise": options.revise, "include_open": options.include_open}
        return None if options.load else Asking(exchange=exchange, interval=interval, **how)

    def _ask_bars(self, symbol: str, start: str, end: str) -> Iterator[tuple[str, Record]]:
        interval, first, last = self._options.interval, instant(start), instant(end)
        found = self._api.bars(self._get, symbol, interval, first, last, **self._how)
        exchange = self._exchanges.of(symbol)
        return ((bar.time, bar) for bar in self._finished(found, exchange) if bar.symbol == symbol)

    def _ask_previous_close(self, symbol: str, _start: str, _end: str) -> Iterator[tuple[str, Record]]:
        found = polygon.previous_close(self._get, symbol, **self._how)
        exchange = self._exchanges.of(symbol)
        return ((bar.time, bar) for bar in self._finished(found, exchange) if bar.symbol == symbol)

    def _ask_grouped(self, start: str, end: str) -> Iterator[tuple[str, Record]]:
        last = instant(end).date()
        days = [last] if self._options.load else [one.day for one in _US_STOCKS.sessions(instant(start).date(), last)]
        for day in days:
            for bar in self._finished(polygon.grouped_daily(self._get, day, **self._how), _US_STOCKS):
                if "*" in self._symbols or bar.symbol in self._symbols:
                    yield f"{bar.symbol} {bar.time}", bar

    @property
    def _how(self) -> dict[str, Any]:
        return {"adjusted": self._is_adjusted, "ingested_at": self._clock.now_text}

    def _key(self, name: str, what: str) -> str:
        adjusted = "adjusted" if self._is_adjusted else "as traded"
        return f"{self._api.NAME}/{name}/{what}/{adjusted}/{self._topic}"

    def _finished(self, found: Iterable[tuple[Bar, bool]], exchange: Exchange) -> Iterator[Bar]:
        """The bars that are over; with --include-open all of them."""
        now = self._clock.now()
        for bar, is_delayed in found:
            delay = self._delay if is_delayed else timedelta(0)
            if self._options.include_open or is_finished(bar, exchange, now, delay):
                yield bar


def _required(options: Namespace) -> list[str]:
    return [] if options.load else [f"{options.source}_api_key"]


COMMAND = Command(
    summary="bars from Polygon/Massive or Alpha Vantage",
    more="Resumes from the checkpoint of each symbol; corrections of the last days arrive as revisions. A bar is sent "
    "once its session has closed, a week or month once its last one has; nothing is asked for days without a session.",
    examples=(
        "--once --symbols AAPL,MSFT --from 2024-01-01",
        "--every 60s --interval 1m --symbols watchlist.txt",
        "--once --grouped --symbols '*' --from 2024-06-03 --to 2024-06-07",
        "--once --source alpha_vantage --symbols IBM",
    ),
    add_options=add_options,
    required=_required,
    sources=sources,
)
