"""Alpha Vantage: bars over REST. https://www.alphavantage.co/documentation

Prices are in the currency of the listing, volumes in shares, times in US Eastern. The API knows its key as a query
parameter only, so the key is in the URL, and no URL goes into a message. A limit comes as status 200 with the text
under Note or Information.
"""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from pipeline.intervals import NEW_YORK, first_day
from pipeline.records import DAILY_OR_LONGER, UNKNOWN_BASIS, Bar, Interval, time_text
from pipeline.settings import Settings
from pipeline.sources.recorded import Recorded
from pipeline.sources.rest import Get, Json, Limited, RateLimit, Rest, SourceError

NAME = "alpha_vantage"
_INTRADAY: dict[Interval, str] = {"1m": "1min", "5m": "5min", "15m": "15min", "30m": "30min", "1h": "60min"}
_FUNCTIONS: dict[Interval, str] = {"1d": "TIME_SERIES_DAILY", "1w": "TIME_SERIES_WEEKLY", "1mo": "TIME_SERIES_MONTHLY"}
SPANS = (*_INTRADAY, *_FUNCTIONS)
# outputsize=compact holds a hundred bars; as calendar days that errs on the side of asking for all.
_COMPACT_DAYS = 100


def client(settings: Settings, sleep: Callable[[float], None], *, recorded: str | None = None) -> Get:
    """Return how the API is asked: over the network within its rate limit, or from a folder of recorded answers."""
    if recorded:
        return Recorded(recorded, recorded_name).get
    return Rest(
        settings.alpha_vantage_base_url,
        key=settings.alpha_vantage_api_key,
        settings="ALPHA_VANTAGE",
        key_parameter="apikey",
        refusal=refusal,
        sleep=sleep,
        limit=RateLimit(settings.alpha_vantage_requests_per_minute, sleep=sleep),
    ).get


def refusal(body: Json) -> str:
    """Return the message of an error that came with status 200; raises Limited for a limit that passes."""
    text = str(body.get("Note") or body.get("Information") or "")
    if text and not re.search(r"per day|premium|invalid|demo", text, re.IGNORECASE):
        raise Limited(f"the rate limit: {text}", 60)
    return text or str(body.get("Error Message", ""))


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
    """Yield one symbol's bars from `start` to `end` (aware, both included), oldest first, each as delayed: the
    API says nothing of delay.

    `adjusted` chooses the adjusted intraday series; the free daily ones are as traded.
    """
    now = datetime.fromisoformat(ingested_at()).replace(tzinfo=UTC)
    for parameters in _requests(symbol, interval, start, end, now, adjusted=adjusted):
        body = get("/query", parameters)
        series: Json = next((value for name, value in body.items() if "Time Series" in name), {})
        if not isinstance(series, dict):
            raise SourceError(f"{NAME}: a series that is not as documented: {str(series)[:300]}")
        zone = _zone(body)
        for stamp in sorted(series):
            time = _time(stamp, zone if interval in _INTRADAY else None, interval)
            instant = datetime.fromisoformat(time).replace(tzinfo=UTC)
            if start <= instant <= end or (
                interval in DAILY_OR_LONGER and start.date() <= instant.date() <= end.date()
            ):
                yield (
                    _bar(
                        series[stamp],
                        symbol=symbol,
                        time=time,
                        interval=interval,
                        ingested_at=ingested_at(),
                        adjusted=adjusted and interval in _INTRADAY,
                        # Adjusted for dividends too, which no split undoes.
                        adjusted_to=UNKNOWN_BASIS if adjusted and interval in _INTRADAY else None,
                    ),
                    True,
                )


def _requests(
    symbol: str, interval: Interval, start: datetime, end: datetime, now: datetime, *, adjusted: bool
) -> Iterator[Json]:
    if interval not in _INTRADAY:
        # The hundred bars are the last ones, whatever is asked for.
        size = {"outputsize": "compact" if (now - start).days < _COMPACT_DAYS else "full"} if interval == "1d" else {}
        yield {"function": _FUNCTIONS[interval], "symbol": symbol, **size}
        return
    month = start.replace(day=1)
    while month <= end:
        yield {
            "function": "TIME_SERIES_INTRADAY",
            "symbol": symbol,
            "interval": _INTRADAY[interval],
            "month": f"{month:%Y-%m}",
            "outputsize": "full",
            "adjusted": str(adjusted).lower(),
        }
        month = month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)


def _zone(body: Json) -> ZoneInfo:
    about = body.get("Meta Data")
    said = "US/Eastern"
    if isinstance(about, dict):
        said = next((str(value) for name, value in about.items() if "Time Zone" in name), said)
    try:
        return ZoneInfo(NEW_YORK if said == "US/Eastern" else said)
    except (KeyError, ValueError, OSError):
        raise SourceError(f"{NAME}: {said[:100]!r} is not a time zone") from None


def _time(stamp: str, zone: ZoneInfo | None, interval: str) -> str:
    """The start of a bar; weeks and months are stamped with their last trading day."""
    try:
        instant = datetime.fromisoformat(stamp)
    except ValueError:
        raise SourceError(f"{NAME}: {stamp!r} is not a time") from None
    return time_text(first_day(instant, interval).replace(tzinfo=zone))


def _bar(item: Json, **known: Any) -> Bar:
    try:
        values = {name.partition(". ")[2]: float(text) for name, text in item.items()}
        return Bar(
            open=values["open"],
            high=values["high"],
            low=values["low"],
            close=values["close"],
            volume=values["volume"],
            source=NAME,
            **known,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SourceError(
            f"{NAME}: a bar of {known['symbol']} at {known['time']} is not as documented ({error!r}): {str(item)[:300]}"
        ) from None


def recorded_name(_path: str, parameters: Json) -> str:
    """Return how the files of recorded answers begin."""
    return "_".join(str(parameters[name]) for name in ("function", "symbol", "interval") if name in parameters)
