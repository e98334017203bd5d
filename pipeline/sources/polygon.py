"""Polygon.io, now Massive: bars and news over REST. https://massive.com/docs/rest

Prices are in US dollars, volumes in shares, times in milliseconds since 1970 UTC. Bars come oldest first. An interval
without a trade has no bar. The status of a success is OK, or DELAYED on plans whose data is 15 minutes late.
"""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from urllib.parse import quote
from zoneinfo import ZoneInfo

from pipeline.intervals import NEW_YORK
from pipeline.records import DAILY_OR_LONGER, Bar, Interval, NewsItem, time_text, time_text_ms
from pipeline.settings import Settings
from pipeline.sources.recorded import Recorded
from pipeline.sources.rest import Get, Json, RateLimit, Rest, SourceError, paginate

NAME = "polygon"
SPANS: dict[Interval, tuple[int, str]] = {
    "1m": (1, "minute"),
    "5m": (5, "minute"),
    "15m": (15, "minute"),
    "30m": (30, "minute"),
    "1h": (1, "hour"),
    "1d": (1, "day"),
    "1w": (1, "week"),
    "1mo": (1, "month"),
}
CHANNELS = {"trades": "T", "seconds": "A", "minutes": "AM"}  # of the WebSocket (polygon_stream.py)
DELAY = timedelta(minutes=15)
_MOST_A_PAGE = 50_000
_MOST_NEWS_A_PAGE = 1000
_SUCCESSES = frozenset({"OK", "DELAYED"})


def client(settings: Settings, sleep: Callable[[float], None], *, recorded: str | None = None) -> Get:
    """Return how the API is asked: over the network within its rate limit, or from a folder of recorded answers."""
    if recorded:
        return Recorded(recorded, recorded_name).get
    return Rest(
        settings.polygon_base_url,
        key=settings.polygon_api_key,
        settings="POLYGON",
        refusal=refusal,
        sleep=sleep,
        limit=RateLimit(settings.polygon_requests_per_minute, sleep=sleep),
    ).get


def refusal(body: Json) -> str:
    """Return the message of an error that came with status 200; "" for a success."""
    if body.get("status", "OK") in _SUCCESSES:
        return ""
    return str(body.get("error") or body.get("message") or f"status {body['status']}")


def bars(
    get: Get,
    symbol: str,
    interval: Interval,
    start: datetime,
    end: datetime,
    *,
    adjusted: bool,
    ingested_at: Callable[[], str],
) -> Iterator[tuple[Bar, bool]]:
    """Yield one symbol's bars from `start` to `end` (aware, both included), each with whether its data is delayed.

    `/v2/aggs/ticker/{T}/range/{n}/{span}/{from}/{to}`; of bars of a day or longer the dates of start and end count.
    """
    count, span = SPANS[interval]
    if interval in DAILY_OR_LONGER:
        first, last = start.date().isoformat(), end.date().isoformat()
    else:
        first, last = (str(int(instant.timestamp() * 1000)) for instant in (start, end))
    path = f"/v2/aggs/ticker/{quote(symbol)}/range/{count}/{span}/{first}/{last}"
    parameters = {"adjusted": str(adjusted).lower(), "sort": "asc", "limit": _MOST_A_PAGE}
    for page in paginate(get, path, parameters):
        for item in results_of(page):
            yield _bar(item, symbol, interval, page, ingested_at()), page.get("status") == "DELAYED"


def grouped_daily(get: Get, day: date, *, adjusted: bool, ingested_at: Callable[[], str]) -> Iterator[tuple[Bar, bool]]:
    """Yield one day's bar of every US stock in one request. `t` is the END of the window, the same day in New York."""
    path = f"/v2/aggs/grouped/locale/us/market/stocks/{day.isoformat()}"
    for page in paginate(get, path, {"adjusted": str(adjusted).lower()}):
        for item in results_of(page):
            yield _bar(item, str(item.get("T", "")), "1d", page, ingested_at()), page.get("status") == "DELAYED"


def previous_close(
    get: Get, symbol: str, *, adjusted: bool, ingested_at: Callable[[], str]
) -> Iterator[tuple[Bar, bool]]:
    """Yield the last finished trading day of one symbol; `t` is the END of the window, the same day in New York."""
    page = get(f"/v2/aggs/ticker/{quote(symbol)}/prev", {"adjusted": str(adjusted).lower()})
    for item in results_of(page):
        yield _bar(item, symbol, "1d", page, ingested_at()), page.get("status") == "DELAYED"


def _bar(item: Json, symbol: str, interval: Interval, page: Json, ingested_at: str) -> Bar:
    try:
        start = int(item["t"])
        time = time_text_ms(start) if interval not in DAILY_OR_LONGER else trading_date(start, symbol)
        return Bar(
            symbol=symbol,
            time=time,
            interval=interval,
            open=float(item["o"]),
            high=float(item["h"]),
            low=float(item["l"]),
            close=float(item["c"]),
            volume=float(item["v"]),
            vwap=float(item["vw"]) if item.get("vw") is not None else None,
            trades=int(item["n"]) if item.get("n") is not None else None,
            adjusted=page.get("adjusted"),
            source=NAME,
            ingested_at=ingested_at,
            adjusted_to=max(day_in_new_york(ingested_at), time[:10]) if page.get("adjusted") else None,
        )
    except (KeyError, TypeError, ValueError, OverflowError, OSError) as error:
        raise SourceError(f"{NAME}: {symbol}: a bar that is not as documented ({error!r}): {str(item)[:300]}") from None


def results_of(page: Json) -> list[Json]:
    """Return the objects of a page, none if it has none. Raises SourceError for anything else."""
    results = page.get("results") or []
    if not isinstance(results, list) or not all(isinstance(item, dict) for item in results):
        raise SourceError(f"{NAME}: results that are not as documented: {str(results)[:300]}")
    return results


def day_in_new_york(time: str) -> str:
    """Return the day in New York at a record's time: the market's splits are in force from its midnight on."""
    instant = datetime.fromisoformat(time).replace(tzinfo=UTC)
    return instant.astimezone(ZoneInfo(NEW_YORK)).date().isoformat()


def trading_date(epoch_ms: int, symbol: str = "") -> str:
    """Return the day in New York: daily bars start at its midnight (04:00 or 05:00 UTC), or are stamped with the end
    of the session. Those of crypto (X:) and currencies (C:), which have no session, are days in UTC.
    """
    zone = UTC if symbol.startswith(("X:", "C:")) else ZoneInfo(NEW_YORK)
    return datetime.fromtimestamp(epoch_ms / 1000, zone).strftime("%Y-%m-%d 00:00:00.000")


def news(get: Get, symbol: str, since: str, until: str, *, ingested_at: Callable[[], str]) -> Iterator[NewsItem]:
    """Yield what the articles of a time say about a symbol, oldest first: one item per article. `/v2/reference/news`

    `since` and `until` are UTC time texts, both included. An article that names the symbol without an insight has no
    sentiment. With the symbol `*`, articles about anything give one item for every insight.
    """
    parameters = {
        "published_utc.gte": _iso(since),
        "published_utc.lte": _iso(until),
        "order": "asc",
        "sort": "published_utc",
        "limit": _MOST_NEWS_A_PAGE,
    }
    for page in paginate(get, "/v2/reference/news", parameters if symbol == "*" else {"ticker": symbol, **parameters}):
        for article in results_of(page):
            try:
                yield from _items(article, symbol, ingested_at())
            except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
                raise SourceError(
                    f"{NAME}: an article that is not as documented ({error!r}): {str(article)[:300]}"
                ) from None


def _items(article: Json, symbol: str, ingested_at: str) -> Iterator[NewsItem]:
    insights = [i for i in article.get("insights") or () if i.get("ticker") and symbol in ("*", i["ticker"])]
    without = article.get("tickers") or () if symbol == "*" else (symbol,)
    for insight in insights or [{"ticker": ticker} for ticker in without]:
        sentiment = insight.get("sentiment")
        yield NewsItem(
            id=str(article["id"]),
            symbol=insight["ticker"],
            time=time_text(datetime.fromisoformat(article["published_utc"])),
            title=article["title"],
            publisher=(article.get("publisher") or {}).get("name") or "",
            url=article["article_url"],
            sentiment=sentiment if sentiment in ("positive", "neutral", "negative") else None,
            reason=insight.get("sentiment_reasoning"),
            source=NAME,
            ingested_at=ingested_at,
        )


def _iso(time: str) -> str:
    return time[:19].replace(" ", "T") + "Z"


def recorded_name(path: str, parameters: Json) -> str:
    """Return how the files of recorded answers to a path begin."""
    if found := re.match(r"/v2/aggs/ticker/([^/]+)/range/(\d+)/(\w+)/", path):
        return f"aggs_{found[1]}_{found[2]}_{found[3]}"
    if path.startswith("/v2/aggs/grouped/"):
        return "grouped_daily"
    if found := re.match(r"/v2/aggs/ticker/([^/]+)/prev$", path):
        return f"previous_close_{found[1]}"
    if found := re.match(r"/stocks/v1/(splits|dividends)$", path):
        return f"{found[1]}_{parameters['ticker']}"
    if found := re.match(r"/vX/reference/tickers/([^/]+)/events$", path):
        return f"ticker_events_{found[1]}"
    return f"news_{parameters['ticker']}" if "ticker" in parameters else "news"
