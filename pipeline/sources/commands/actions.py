"""producer.py actions: splits, dividends and symbol changes of Polygon/Massive or Alpha Vantage."""

import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator

from pipeline.records import Action
from pipeline.settings import Settings, SettingsError
from pipeline.sources import alpha_vantage, alpha_vantage_actions, listing, polygon, polygon_actions
from pipeline.sources import options as given
from pipeline.sources.listing import Listing
from pipeline.sources.pacing import Clock
from pipeline.sources.rest import SourceError
from pipeline.sources.source import Batch, Command, Position, Source

log = logging.getLogger(__name__)

_APIS = {"polygon": (polygon, polygon_actions), "alpha_vantage": (alpha_vantage, alpha_vantage_actions)}


def add_options(command: ArgumentParser) -> None:
    """Add which API, which symbols and how often."""
    command.add_argument("--source", choices=list(_APIS), default="polygon", help="default polygon")
    when = command.add_mutually_exclusive_group()
    when.add_argument("--once", action="store_true", help="ask once and stop, for cron and timers (default)")
    when.add_argument("--every", dest="every_seconds", type=given.seconds, metavar="1d", help="ask again and again")
    command.add_argument("--load", metavar="FOLDER", help="read recorded answers instead of the network")
    given.add_symbols(command)


def sources(settings: Settings, options: Namespace, clock: Clock) -> list[Source]:
    """Return one source for all symbols. Raises SettingsError."""
    if "*" in settings.symbol_list:
        raise SettingsError(["SYMBOLS: '*' is for poll --grouped, news and stream"])
    return [Actions(settings, options, clock)]


class Actions(Source):
    """Reads each symbol's list whole, yields what is new or changed, and cancels what is listed no longer.

    The position of a symbol holds what was listed. A symbol that fails is logged, the others go on.
    """

    name = "actions"

    def __init__(self, settings: Settings, options: Namespace, clock: Clock) -> None:
        api, self._lists = _APIS[options.source]
        self._get = api.client(settings, clock.sleep, recorded=options.load)
        self._every_seconds, self._clock = options.every_seconds, clock
        topic = settings.kafka_topic_actions
        self.topics = (topic,)
        self._keys = {symbol: f"{api.NAME}/actions/{symbol}/{topic}" for symbol in settings.symbol_list}
        self.keys = tuple(self._keys.values())
        self._sent = self._cancelled_count = self._refused = 0

    def batches(self, position_of: Callable[[str], Position | None]) -> Iterator[Batch]:
        """Yield what is new, in one round or until the clock says to stop."""
        while True:
            began, failed = self._clock.monotonic(), 0
            listed: dict[str, Action] = {}
            gone: dict[str, dict[str, Action]] = {}
            for symbol in self._keys:
                try:
                    before, now = self._read(symbol, position_of)
                except SourceError as error:
                    failed += 1
                    if not self._every_seconds and error.status in (401, 403):
                        raise  # The key is refused; the next symbol would say the same.
                    log.error("source failed", extra={"symbol": symbol, "reason": str(error)})  # noqa: TRY400 - the reason says it all
                    continue
                listed |= now.actions
                gone[symbol] = listing.gone(before, now, today=self._clock.now().date())
                yield from self._changed(symbol, before, now)
                if self._clock.is_stopping():
                    return
            # Last, for a company that changed its name takes its actions along to the list of the new one.
            for symbol, actions in gone.items():
                yield from self._cancelled(symbol, actions, listed, position_of)
            if not self._every_seconds:
                self.failure = f"{failed} of {len(self._keys)} symbols failed; the log says why" if failed else ""
                return
            self._clock.sleep(max(0.0, self._every_seconds - (self._clock.monotonic() - began)))

    def _read(self, symbol: str, position_of: Callable[[str], Position | None]) -> tuple[dict[str, Action], Listing]:
        """What was listed before, and what is now."""
        now = self._lists.listing(self._get, symbol, ingested_at=self._clock.now_text)
        self._refused += len(now.refused)
        return listing.unpacked((position_of(self._keys[symbol]) or {}).get("listed", "")), now

    def _changed(self, symbol: str, before: dict[str, Action], now: Listing) -> Iterator[Batch]:
        new = listing.changes(before, now)
        if new:
            position = {"listed": listing.packed(before | now.actions)}
            yield Batch({self.topics[0]: new}, {self._keys[symbol]: position})
        self._sent += len(new)
        log.info("listed", extra={"symbol": symbol, "sent": len(new)})

    def _cancelled(
        self,
        symbol: str,
        gone: dict[str, Action],
        listed: dict[str, Action],
        position_of: Callable[[str], Position | None],
    ) -> Iterator[Batch]:
        if not gone:
            return
        at = self._clock.now_text()
        withdrawn = [listing.cancelled(one, ingested_at=at) for name, one in gone.items() if name not in listed]
        kept = listing.unpacked((position_of(self._keys[symbol]) or {}).get("listed", ""))
        position = {"listed": listing.packed({name: one for name, one in kept.items() if name not in gone})}
        yield Batch({self.topics[0]: withdrawn} if withdrawn else {}, {self._keys[symbol]: position})
        self._cancelled_count += len(withdrawn)
        log.info("withdrawn", extra={"symbol": symbol, "cancelled": len(withdrawn)})

    def summary(self) -> str:
        """Return how many were sent, cancelled and refused."""
        refused = f" · refused {self._refused:,}: the log says why" if self._refused else ""
        return f"actions: sent {self._sent:,} · cancelled {self._cancelled_count:,}{refused}"


COMMAND = Command(
    summary="splits, dividends and symbol changes from Polygon/Massive or Alpha Vantage",
    more="Reads each symbol's list whole and cancels what is listed no longer. Run it once and then every day.",
    examples=("--once --symbols AAPL,NVDA", "--every 1d --symbols watchlist.txt", "--once --source alpha_vantage"),
    add_options=add_options,
    required=lambda options: [] if options.load else [f"{options.source}_api_key"],
    sources=sources,
)
