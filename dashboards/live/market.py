"""The state of the market as the ticks so far tell it. Pure: the clock is an argument."""

import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nlargest
from typing import Any

from pipeline import records
from pipeline.records import InvalidRecord, Tick

SPARKLINE_SECONDS = 120
RATE_SECONDS = 5
# A page of more rows is no longer read by anybody; beyond it the least traded tickers go, a tenth of all at a time.
MOST_TICKERS = 1_000
TICKERS_KEPT = 900
# No exchange's symbols are longer; one of a megabyte, Kafka's limit, would be kept a thousand times.
LONGEST_SYMBOL = 64


@dataclass
class Quote:
    """What is known of one ticker. `points` are the last prices of the last seconds that had a tick, oldest first."""

    symbol: str
    first_price: float
    first_time: str
    price: float
    time: str
    ticks: int = 0
    changed: int = 0
    points: deque[tuple[str, float]] = field(default_factory=lambda: deque(maxlen=SPARKLINE_SECONDS))

    def row(self, previous_close: float | None) -> dict[str, Any]:
        """Return the quote as the page reads it."""
        return {
            "symbol": self.symbol,
            "price": self.price,
            "time": self.time,
            "ticks": self.ticks,
            "first_price": self.first_price,
            "first_time": self.first_time,
            "previous_close": previous_close,
            "points": [price for _, price in self.points],
        }


class Market:
    """The last price of each ticker, and how many messages come. Safe to use from many threads."""

    def __init__(self, symbols: Iterable[str] = ()) -> None:
        self._only = frozenset(symbols)
        self._lock = threading.Lock()
        self._quotes: dict[str, Quote] = {}
        self._closes: Mapping[str, float] = {}
        self._arrivals: deque[tuple[float, int]] = deque()
        self._messages = self._bad = self._version = self._forgot_at = 0
        self._last_arrival: float | None = None
        self.problem = ""

    def add(self, values: Sequence[bytes | None], now: float) -> None:
        """Take the values of one poll; a message that is no tick is counted, not shown."""
        if not values:
            return
        ticks = [tick for value in values if (tick := _tick(value))]
        with self._lock:
            self._version += 1
            self._messages += len(values)
            self._bad += len(values) - len(ticks)
            self._last_arrival = now
            self._arrivals.append((now, len(values)))
            self._forget_arrivals(now)
            for tick in ticks:
                if not self._only or tick.symbol in self._only:
                    self._take(tick)

    def take_closes(self, closes: Mapping[str, float]) -> None:
        """Take the close before today by ticker; a page sees it with its next event."""
        with self._lock:
            self._version += 1
            changed = [quote for quote in self._quotes.values() if closes.get(quote.symbol) != self._close(quote)]
            for quote in changed:
                quote.changed = self._version
            self._closes = closes

    def _close(self, quote: Quote) -> float | None:
        return self._closes.get(quote.symbol)

    def _take(self, tick: Tick) -> None:
        quote = self._quotes.get(tick.symbol)
        if quote is None:
            self._make_room()
            quote = self._quotes[tick.symbol] = Quote(tick.symbol, tick.price, tick.time, tick.price, tick.time)
        quote.ticks += 1
        quote.changed = self._version
        # A late tick is counted, but does not replace a later price.
        if tick.time < quote.time:
            return
        quote.price, quote.time = tick.price, tick.time
        second = tick.time[:19]
        if quote.points and quote.points[-1][0] == second:
            quote.points[-1] = (second, tick.price)
        else:
            quote.points.append((second, tick.price))

    def _make_room(self) -> None:
        if len(self._quotes) >= MOST_TICKERS:
            kept = nlargest(TICKERS_KEPT, self._quotes.values(), key=lambda quote: (quote.ticks, quote.changed))
            self._quotes = {quote.symbol: quote for quote in kept}
            self._forgot_at = self._version

    def _forget_arrivals(self, now: float) -> None:
        while self._arrivals and self._arrivals[0][0] <= now - RATE_SECONDS:
            self._arrivals.popleft()

    def snapshot(self, now: float, after: int = 0) -> dict[str, Any]:
        """Return what changed after a version, as the page reads it; after 0 everything.

        `is_whole` tells the page to forget the tickers that are not in it: this one begins anew, or some were dropped.
        """
        with self._lock:
            self._forget_arrivals(now)
            is_whole = after == 0 or self._forgot_at > after
            return {
                "version": self._version,
                "is_whole": is_whole,
                "messages": self._messages,
                "bad": self._bad,
                "rate": round(sum(count for _, count in self._arrivals) / RATE_SECONDS, 1),
                "quiet_seconds": None if self._last_arrival is None else round(now - self._last_arrival, 1),
                "problem": self.problem,
                "quotes": [
                    quote.row(self._close(quote))
                    for quote in self._quotes.values()
                    if is_whole or quote.changed > after
                ],
            }


def _tick(value: bytes | None) -> Tick | None:
    try:
        record = records.decode(Tick, value or b"")
    except InvalidRecord:
        return None
    return record if isinstance(record, Tick) and len(record.symbol) <= LONGEST_SYMBOL else None
