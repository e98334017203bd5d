"""The keys of the price sources: accepted or not, and what their plan leaves out."""

from collections.abc import Iterator
from datetime import date, timedelta

import requests

from pipeline.doctor.finding import Finding, ok, problem, warning
from pipeline.settings import Settings

_SECONDS = 10


def findings(settings: Settings, *, today: date) -> Iterator[Finding]:
    if not settings.polygon_api_key and not settings.alpha_vantage_api_key:
        yield warning(
            "sources",
            "no key of Polygon/Massive or Alpha Vantage",
            "POLYGON_API_KEY, if you poll; replay and simulate need none",
        )
    if settings.polygon_api_key:
        yield from _polygon(settings, today)
    if settings.alpha_vantage_api_key:
        yield from _alpha_vantage(settings)


def _polygon(settings: Settings, today: date) -> Iterator[Finding]:
    """Bars of last week, which every plan has."""
    status, body = _ask(
        settings, f"/v2/aggs/ticker/AAPL/range/1/day/{today - timedelta(days=10)}/{today - timedelta(days=3)}"
    )
    if status == 0:
        yield problem(
            "sources",
            f"{settings.polygon_base_url}: {body}",
            "POLYGON_BASE_URL, a proxy, or no way out of this network",
        )
    elif status in (401, 403):
        yield problem(
            "sources",
            f"POLYGON_API_KEY is refused (HTTP {status})",
            "copy it again from the dashboard of Massive (formerly Polygon.io)",
        )
    elif status == 429:
        yield warning(
            "sources",
            "POLYGON_API_KEY is accepted, and its limit a minute is used up now",
            "POLYGON_REQUESTS_PER_MINUTE must be your plan's (free: 5)",
        )
    elif status != 200:
        yield problem(
            "sources", f"{settings.polygon_base_url} answers HTTP {status}", "POLYGON_BASE_URL; or the service is down"
        )
    else:
        yield ok("sources", "POLYGON_API_KEY is accepted")
        yield from _polygon_plan(settings, today)


def _polygon_plan(settings: Settings, today: date) -> Iterator[Finding]:
    """Minutes of today and trades: what the plan leaves out shows in the status of the answer."""
    status, body = _ask(settings, f"/v2/aggs/ticker/AAPL/range/1/minute/{today}/{today}")
    if status in (401, 403):
        yield warning(
            "sources",
            "the plan has no bars of today",
            "POLYGON_DELAY_MINUTES=360, so that poll asks after the end of the day; another plan has them sooner",
        )
    elif isinstance(body, dict) and body.get("status") == "DELAYED":
        yield warning(
            "sources",
            "the plan's data is 15 minutes late",
            "POLYGON_STREAM_URL must be the delayed feed; another plan has real time",
        )
    status, body = _ask(settings, "/v3/trades/AAPL")
    if status in (401, 403):
        yield warning(
            "sources",
            "the plan has no trades",
            "poll works; what `stream` gets depends on the plan's WebSocket, which is not looked at",
        )


def _alpha_vantage(settings: Settings) -> Iterator[Finding]:
    """Errors come with status 200; the key is a query parameter, so no URL is shown."""
    try:
        answer = requests.get(
            f"{settings.alpha_vantage_base_url}/query",
            timeout=_SECONDS,
            params={"function": "GLOBAL_QUOTE", "symbol": "IBM", "apikey": settings.alpha_vantage_api_key},
        )
        body = answer.json()
    except (requests.RequestException, ValueError) as error:
        yield problem(
            "sources",
            f"{settings.alpha_vantage_base_url}: {type(error).__name__}",
            "ALPHA_VANTAGE_BASE_URL, a proxy, or no way out of this network",
        )
        return
    said = str(body.get("Error Message") or body.get("Note") or body.get("Information") or "").replace(
        settings.alpha_vantage_api_key, "***"
    )
    if body.get("Error Message") or answer.status_code >= 400:
        yield problem(
            "sources",
            f"ALPHA_VANTAGE_API_KEY is refused: {said or answer.status_code}",
            "copy it again from the mail of Alpha Vantage",
        )
    elif said:
        yield warning(
            "sources",
            f"Alpha Vantage: {said}",
            "ALPHA_VANTAGE_REQUESTS_PER_MINUTE must be your plan's (free: 5 a minute, 25 a day)",
        )
    else:
        yield ok("sources", "ALPHA_VANTAGE_API_KEY is accepted")


def _ask(settings: Settings, path: str) -> tuple[int, object]:
    """One request, no second try: the doctor says what is so now. The key goes as a header, so that it is in no log."""
    session = requests.Session()
    session.auth = lambda request: request.headers.update(Authorization=f"Bearer {settings.polygon_api_key}") or request
    try:
        answer = session.get(settings.polygon_base_url.rstrip("/") + path, params={"limit": 1}, timeout=_SECONDS)
    except requests.RequestException as error:
        return 0, type(error).__name__
    try:
        return answer.status_code, answer.json()
    except ValueError:
        return answer.status_code, None
