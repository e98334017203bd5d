"""Polygon.io, now Massive: splits, dividends and symbol changes of a symbol over REST.

https://massive.com/docs/rest/stocks/corporate-actions: `/stocks/v1/splits`, `/stocks/v1/dividends`, each with an id;
`/vX/reference/tickers/{symbol}/events`, which is experimental and not in every plan. Amounts are as declared. A
source's cumulative factors are not kept: they change with every new action.
"""

import itertools
import logging
from collections.abc import Callable
from functools import partial
from urllib.parse import quote

from pipeline.records import Action
from pipeline.sources.listing import Listing, day_time, optional_day
from pipeline.sources.polygon import NAME, results_of
from pipeline.sources.rest import Get, Json, SourceError, paginate

log = logging.getLogger(__name__)

_MOST_A_PAGE = 5000
_WITHOUT_EVENTS = frozenset({401, 403, 404})


def listing(get: Get, symbol: str, *, ingested_at: Callable[[], str]) -> Listing:
    """Return all splits, dividends and spans of names of a symbol. Raises SourceError, so that a list that was not read
    to its end cancels nothing.
    """
    found = Listing()
    for kind, path, make in (("split", "/stocks/v1/splits", _split), ("dividend", "/stocks/v1/dividends", _dividend)):
        for page in paginate(get, path, {"ticker": symbol, "limit": _MOST_A_PAGE}):
            for item in results_of(page):
                day = item.get("execution_date", item.get("ex_dividend_date"))
                identity = str(item.get("id") or f"{kind}/{symbol}/{day}")
                found.add(kind, identity, partial(make, item, symbol, ingested_at()))
    _add_spans(found, get, symbol, ingested_at())
    return found


def _split(item: Json, symbol: str, ingested_at: str, identity: str) -> Action:
    _check_symbol(item, symbol)
    return Action(
        id=identity,
        symbol=symbol,
        time=day_time(item["execution_date"]),
        kind="split",
        split_from=float(item["split_from"]),
        split_to=float(item["split_to"]),
        category=item.get("adjustment_type"),
        source=NAME,
        ingested_at=ingested_at,
    )


def _dividend(item: Json, symbol: str, ingested_at: str, identity: str) -> Action:
    _check_symbol(item, symbol)
    return Action(
        id=identity,
        symbol=symbol,
        time=day_time(item["ex_dividend_date"]),
        kind="dividend",
        amount=float(item["cash_amount"]),
        currency=item.get("currency"),
        declaration_day=optional_day(item.get("declaration_date")),
        record_day=optional_day(item.get("record_date")),
        pay_day=optional_day(item.get("pay_date")),
        category=item.get("distribution_type"),
        source=NAME,
        ingested_at=ingested_at,
    )


def _check_symbol(item: Json, symbol: str) -> None:
    if item.get("ticker") != symbol:
        raise ValueError(f"ticker: {item.get('ticker')!r}, asked for {symbol}")


def _add_spans(found: Listing, get: Get, symbol: str, ingested_at: str) -> None:
    """The days under each name, of a symbol that had more than one."""
    try:
        body = get(f"/vX/reference/tickers/{quote(symbol)}/events", {"types": "ticker_change"})
    except SourceError as error:
        if error.status not in _WITHOUT_EVENTS:
            raise
        log.warning("no symbol changes", extra={"symbol": symbol, "reason": str(error)})
        return
    results = body.get("results") or {}
    listed = results.get("events") if isinstance(results, dict) else None
    events = sorted((str(e.get("date")), str((e.get("ticker_change") or {}).get("ticker"))) for e in listed or ())
    figi = results.get("composite_figi")
    for (first, ticker), (until, _) in itertools.pairwise([*events, ("", "")]) if len(events) > 1 else ():
        span = {"symbol": ticker, "time": day_time(first), "until_day": until or None, "new_symbol": events[-1][1]}
        make = partial(_span, span | {"figi": figi, "ingested_at": ingested_at})
        found.add("symbol_change", f"{figi or symbol}/{ticker}/{first}", make)


def _span(fields: Json, identity: str) -> Action:
    return Action(id=identity, kind="symbol_change", source=NAME, **fields)
