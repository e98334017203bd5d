"""A simulated market: a seeded random walk, with volume as it lies over a trading day. The same seed gives the same
records.

Prices are in US dollars, volumes in shares. Nothing here is a price that anybody paid.
"""

import math
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from pipeline import records
from pipeline.intervals import NEW_YORK
from pipeline.records import DAILY_OR_LONGER, Bar, Interval, Tick, time_text

NAME = "simulated"
TICKERS = tuple(f"SIM{number}" for number in range(1, 9))
_NEW_YORK = ZoneInfo(NEW_YORK)
_OPENS, _TRADING_MINUTES = 9 * 60 + 30, 390
_YEAR_OF_MINUTES = 252 * _TRADING_MINUTES
_VOLATILITY = 0.3  # of a year
_BAR_MINUTES: dict[Interval, int] = {"1m": 1, "5m": 5, "15m": 15, "30m": 30}
BAR_INTERVALS: tuple[Interval, ...] = (*_BAR_MINUTES, "1d")


def ticker(symbol: str) -> str:
    """Return the symbol that simulated records of a ticker have: never one that is traded, so that no simulated record
    has the key of a real one. AAPL becomes SIM:AAPL, SIM1 stays.
    """
    return symbol if re.fullmatch(r"SIM\d+|SIM:.+", symbol, re.ASCII) else f"SIM:{symbol}"


def volume_shape(minute: int) -> float:
    """Return how much is traded in a minute of the day (0 to 1439, New York), 1 on the average of a trading day.

    A U: busiest after the opening and before the close; a twentieth of the average outside of trading hours.
    """
    at = (minute - _OPENS) / _TRADING_MINUTES
    return 0.5 + 6 * (at - 0.5) ** 2 if 0 <= at < 1 else 0.05


def ticks(
    symbols: Sequence[str],
    *,
    seed: int,
    start: datetime,
    rate: float,
    ingested_at: Callable[[], str],
    last_prices: Mapping[str, float] | None = None,
) -> Iterator[Tick]:
    """Yield trades without end, `rate` per second from `start` (aware) by their own time. `last_prices`: where the
    prices of symbols go on from.
    """
    random_ = random.Random(seed)
    prices = {symbol: round(random_.uniform(20, 500), 2) for symbol in symbols} | _known(last_prices, symbols)
    # A trade moves the price as the time between two trades of the symbol does.
    step = _VOLATILITY * math.sqrt(len(symbols) / rate / 60 / _YEAR_OF_MINUTES)
    start_ms, gap_ms = start.timestamp() * 1000, 1000 / rate
    choice, gauss, exponential = random_.choice, random_.gauss, random_.expovariate
    shape_until, mean_volume = -1.0, 0.0
    time_text_ms = lru_cache(maxsize=8)(records.time_text_ms)  # at high rates many ticks share a millisecond
    number = 0
    while True:
        at_ms = start_ms + number * gap_ms
        if at_ms >= shape_until:
            local = datetime.fromtimestamp(at_ms / 1000, _NEW_YORK)
            mean_volume = 100 * volume_shape(local.hour * 60 + local.minute)
            shape_until = (at_ms // 60_000 + 1) * 60_000
        symbol = choice(symbols)
        price = prices[symbol] = max(0.01, prices[symbol] * (1 + step * gauss(0, 1)))
        yield Tick(
            symbol=symbol,
            time=time_text_ms(int(at_ms)),
            price=round(price, 2),
            volume=float(1 + int(exponential(1 / mean_volume))),
            source=NAME,
            ingested_at=ingested_at(),
        )
        number += 1


def _known(last_prices: Mapping[str, float] | None, symbols: Sequence[str]) -> dict[str, float]:
    return {symbol: price for symbol, price in (last_prices or {}).items() if symbol in symbols}


def bars(
    symbols: Sequence[str],
    interval: Interval,
    *,
    seed: int,
    start: datetime,
    ingested_at: Callable[[], str],
    last_prices: Mapping[str, float] | None = None,
    after: str = "",
) -> Iterator[Bar]:
    """Yield bars without end from the trading day of `start` (aware) on: Monday to Friday, 09:30 to 16:00 in New York,
    no holidays. `last_prices`: where the prices of symbols go on from; `after`: the time that the first bar is behind.
    """
    random_ = random.Random(seed)
    prices = {symbol: random_.uniform(20, 500) for symbol in symbols} | _known(last_prices, symbols)
    minutes = _BAR_MINUTES.get(interval, _TRADING_MINUTES)
    day = start.astimezone(_NEW_YORK).date()
    while True:
        if day.weekday() < 5:
            for offset in range(0, _TRADING_MINUTES, minutes):
                opens = datetime(day.year, day.month, day.day, tzinfo=_NEW_YORK) + timedelta(minutes=_OPENS + offset)
                time = f"{day} 00:00:00.000" if interval in DAILY_OR_LONGER else time_text(opens.astimezone(UTC))
                if time <= after:
                    continue
                busy = sum(volume_shape(_OPENS + offset + m) for m in range(minutes))
                for symbol in symbols:
                    bar, prices[symbol] = _bar(random_, prices[symbol], minutes, 10_000 * busy)
                    yield Bar(
                        symbol=symbol, time=time, interval=interval, source=NAME, ingested_at=ingested_at(), **bar
                    )
        day += timedelta(days=1)


def _bar(random_: random.Random, price: float, minutes: int, mean_volume: float) -> tuple[dict[str, Any], float]:
    """A bar that opens at a price, and the price after it."""
    spread = _VOLATILITY * math.sqrt(minutes / _YEAR_OF_MINUTES)
    opens, closes = price, max(0.01, price * math.exp(random_.gauss(0, spread)))
    high = max(opens, closes) * (1 + abs(random_.gauss(0, spread / 2)))
    low = min(opens, closes) * (1 - min(0.5, abs(random_.gauss(0, spread / 2))))
    trades = 1 + int(mean_volume * random_.uniform(0.5, 1.5) / 100)
    rounded = {
        "open": opens,
        "high": high,
        "low": max(0.01, low),
        "close": closes,
        "vwap": (opens + closes + high + low) / 4,
    }
    return {name: round(value, 2) for name, value in rounded.items()} | {
        "volume": float(trades * 100),
        "trades": trades,
    }, closes
