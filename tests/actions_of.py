"""Corporate actions and daily bars for tests, with few words."""

from datetime import date, timedelta
from typing import Any

from raw_objects import bar

from pipeline.records import Action, Bar

INGESTED_AT = "2026-01-01 00:00:00.000"


def split(symbol: str, day: str, ratio: float, **changes: Any) -> Action:
    """A split of `ratio` new shares for one old share."""
    fields = {"split_from": 1.0, "split_to": ratio} if ratio >= 1 else {"split_from": 1 / ratio, "split_to": 1.0}
    return _action("split", symbol, day, **(fields | changes))


def dividend(symbol: str, day: str, amount: float, **changes: Any) -> Action:
    """A dividend as declared."""
    return _action("dividend", symbol, day, **({"amount": amount} | changes))


def _action(kind: Any, symbol: str, day: str, **changes: Any) -> Action:
    fields = {"id": f"{kind}/{symbol}/{day}", "source": "polygon", "ingested_at": INGESTED_AT}
    return Action(**(fields | {"kind": kind, "symbol": symbol, "time": f"{day} 00:00:00.000"} | changes))


def daily(symbol: str, first: str, closes: list[float], **changes: Any) -> list[Bar]:
    """Daily bars from a day on, weekends included."""
    start = date.fromisoformat(first)
    return [bar(symbol, str(start + timedelta(days=n)), close, **changes) for n, close in enumerate(closes)]
