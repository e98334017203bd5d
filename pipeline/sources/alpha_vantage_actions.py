"""Alpha Vantage: splits and dividends of a symbol over REST. https://www.alphavantage.co/documentation

`function=SPLITS` and `function=DIVIDENDS`: every value is text, a day that is not known is the text None, and there is
neither an id nor a currency. Amounts are as declared.
"""

from collections.abc import Callable
from functools import partial

from pipeline.records import Action
from pipeline.sources.alpha_vantage import NAME
from pipeline.sources.listing import Listing, day_time, optional_day
from pipeline.sources.rest import Get, Json, SourceError


def listing(get: Get, symbol: str, *, ingested_at: Callable[[], str]) -> Listing:
    """Return all splits and dividends of a symbol. Raises SourceError, also for an answer without a list, so that it
    cancels nothing.
    """
    found = Listing()
    for item in _data(get, "SPLITS", symbol):
        identity = found.free("split", f"split/{symbol}/{item.get('effective_date')}")
        found.add("split", identity, partial(_split, item, symbol, ingested_at()))
    for item in _data(get, "DIVIDENDS", symbol):
        identity = found.free("dividend", f"dividend/{symbol}/{item.get('ex_dividend_date')}")
        found.add("dividend", identity, partial(_dividend, item, symbol, ingested_at()))
    return found


def _data(get: Get, function: str, symbol: str) -> list[Json]:
    body = get("/query", {"function": function, "symbol": symbol})
    data = body.get("data")
    if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
        raise SourceError(f"{NAME}: {symbol}: {function} without a list: {str(body)[:300]}")
    return data


def _split(item: Json, symbol: str, ingested_at: str, identity: str) -> Action:
    return Action(
        id=identity,
        symbol=symbol,
        time=day_time(item["effective_date"]),
        kind="split",
        split_from=1.0,
        split_to=float(item["split_factor"]),
        source=NAME,
        ingested_at=ingested_at,
    )


def _dividend(item: Json, symbol: str, ingested_at: str, identity: str) -> Action:
    return Action(
        id=identity,
        symbol=symbol,
        time=day_time(item["ex_dividend_date"]),
        kind="dividend",
        amount=float(item["amount"]),
        declaration_day=optional_day(item.get("declaration_date")),
        record_day=optional_day(item.get("record_date")),
        pay_day=optional_day(item.get("payment_date")),
        source=NAME,
        ingested_at=ingested_at,
    )
