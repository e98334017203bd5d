"""Asking an API: retries, limits, pages and errors, against a server on loopback."""

import gzip
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from pipeline.sources import alpha_vantage, polygon
from pipeline.sources.rest import RateLimit, Rest, SourceError, paginate
from tests.integration.api_server import Answer, Server, api_server

KEY = "secret-key-123"


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now, self.slept = 1000.0, []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def client(server: Server, clock: Clock, **settings: object) -> Rest:
    settings = {
        "key": KEY,
        "settings": "POLYGON",
        "limit": RateLimit(0),
        "refusal": polygon.refusal,
    } | settings
    return Rest(server.url, clock=clock, sleep=clock.sleep, jitter=lambda: 1.0, **settings)


def scripted(*answers: Answer) -> Callable[[str, int], Answer]:
    return lambda _path, number: answers[min(number, len(answers) - 1)]


GOOD = Answer({"status": "OK", "results": [{"x": 1}]})


def test_the_key_travels_as_a_header_only() -> None:
    """The key is a bearer header and not in the URL."""
    with api_server(scripted(GOOD)) as server:
        client(server, Clock()).get("/v2/x", {"a": 1})
    path, headers = server.requests[0]
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert path == "/v2/x?a=1"


def test_429_waits_as_long_as_it_is_told() -> None:
    """Retry-After is honoured, in seconds and as a date."""
    clock = Clock()
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    with api_server(
        scripted(Answer({}, 429, {"Retry-After": "7"}), Answer({}, 429, {"Retry-After": date}), GOOD)
    ) as server:
        assert client(server, clock).get("/x")["results"]
    assert clock.slept[0] == 7
    assert 25 < clock.slept[1] <= 30


@pytest.mark.parametrize(
    ("header", "pause"),
    [
        ("-5", 0),
        ("1.5", 1.5),
        ("0", 0),
        ("soon", 1),
        ("nan", 1),
        ("1e999", 1),
        ("²", 1),
        ("", 1),
        ("5, 10", 1),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Wed, 99 Foo 99999999999999999999 07:28:00 GMT", 1),
    ],
)
def test_retry_after_of_any_form(header: str, pause: float) -> None:
    """Seconds of any kind and dates in the past are followed; what is neither is as if nothing was said."""
    clock = Clock()
    with api_server(scripted(Answer({}, 429, {"Retry-After": header.encode().decode("latin-1")}), GOOD)) as server:
        assert client(server, clock).get("/x")["results"]
    assert clock.slept == [pause]


@pytest.mark.parametrize("header", ["100000", "99999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_long_retry_after_is_not_waited_for(header: str) -> None:
    """A wait beyond the patience ends at once in an error that names the setting of the host."""
    clock = Clock()
    with (
        api_server(scripted(Answer({}, 429, {"Retry-After": header}))) as server,
        pytest.raises(SourceError, match=r"POLYGON_BASE_URL=.*HTTP 429.*asked 1 times"),
    ):
        client(server, clock).get("/x")
    assert clock.slept == []


def test_an_answer_is_bounded() -> None:
    """An answer that unpacks to more than 64 MB is refused without being read to its end."""
    body = gzip.compress(b"[" + b" " * (200 << 20), 1)
    with (
        api_server(scripted(Answer(body, headers={"Content-Encoding": "gzip"}))) as server,
        pytest.raises(SourceError, match="more than 64 MB"),
    ):
        client(server, Clock()).get("/x")
    with api_server(scripted(Answer(b"[" * 100_000))) as server, pytest.raises(SourceError, match="not a JSON object"):
        client(server, Clock()).get("/x")


@pytest.mark.parametrize(
    "next_url",
    [
        "@{evil}/x",
        "//{evil}/x",
        "\\{evil}/x",
        "/\\{evil}/x",
        "http://{evil}/x",
        "http:@{evil}/x",
        "x@{evil}/x",
        ":80@{evil}/x",
        ".{evil}/x",
        "http://[/x",
        ["@{evil}/x"],
        7,
    ],
)
def test_no_next_url_sends_the_key_elsewhere(next_url: object) -> None:
    """Whatever a page names as the next one, the key goes to the configured host and to no other."""
    with api_server(scripted(GOOD)) as evil:
        named = next_url.format(evil=evil.url.removeprefix("http://")) if isinstance(next_url, str) else next_url
        with api_server(scripted(Answer({"results": [1], "next_url": named}), GOOD)) as server:
            pages = paginate(client(server, Clock()).get, "/v2/first")
            assert next(pages)["results"] == [1]
            with suppress(SourceError):
                assert [page["results"] for page in pages] == [[{"x": 1}]]
    assert evil.requests == []


def test_passing_failures_are_retried_with_growing_pauses() -> None:
    """A 500, a cut answer and a body that is no JSON are each asked for again, a little later each time."""
    clock = Clock()
    with api_server(
        scripted(Answer({}, 500), Answer({"results": "x" * 100}, cut=10), Answer(b"<html>"), GOOD)
    ) as server:
        assert client(server, clock).get("/x")["results"]
    assert clock.slept == [1, 2, 4]


def test_retries_are_bounded_in_tries_and_in_time() -> None:
    """A server that only fails ends in an error that says what happened and how often it was asked."""
    with api_server(scripted(Answer({}, 503))) as server, pytest.raises(SourceError, match=r"HTTP 503 .*asked 8 times"):
        client(server, Clock()).get("/x")
    assert len(server.requests) == 8
    with (
        api_server(scripted(Answer({}, 429, {"Retry-After": "3600"}))) as server,
        pytest.raises(SourceError, match="asked 1 times"),
    ):
        client(server, Clock()).get("/x")


def test_a_body_that_stays_no_json_is_an_error() -> None:
    """Never an empty result."""
    with api_server(scripted(Answer(b"OK"))) as server, pytest.raises(SourceError, match="not a JSON object"):
        client(server, Clock()).get("/x")


def test_a_server_that_is_not_there_is_an_error() -> None:
    """A refused connection is retried and then told, without the key."""
    with api_server(scripted(GOOD)) as server:
        pass
    with pytest.raises(SourceError, match="connection failed"):
        client(server, Clock(), key_parameter="apikey").get("/x")


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (Answer({"status": "ERROR", "error": "Unknown API Key"}, 401), r"POLYGON_API_KEY: .*HTTP 401: Unknown API Key"),
        (
            Answer({"status": "NOT_AUTHORIZED", "message": "upgrade your plan"}, 403),
            r"POLYGON_API_KEY: .*upgrade your plan",
        ),
        (Answer({"status": "NOT_FOUND", "message": "no such ticker"}, 404), "HTTP 404: no such ticker"),
        (Answer({"status": "ERROR", "error": "bad dates"}), "bad dates"),
        (Answer({"status": "ERROR", "error": f"your key {KEY} is odd"}, 400), r"your key \*\*\* is odd"),
    ],
)
def test_an_error_body_becomes_one_typed_error(answer: Answer, text: str) -> None:
    """A refusal is raised at once with the API's message and status, and without the key."""
    with api_server(scripted(answer)) as server, pytest.raises(SourceError, match=text) as raised:
        client(server, Clock()).get("/x")
    assert len(server.requests) == 1
    assert KEY not in str(raised.value)
    assert raised.value.status == answer.status


def test_delayed_and_missing_results_are_a_success() -> None:
    """DELAYED is a success, and a body without results has no bars."""
    assert polygon.refusal({"status": "DELAYED"}) == ""
    now = datetime(2024, 1, 2, tzinfo=UTC)
    assert list(polygon.bars(lambda *_: {"status": "OK"}, "X", "1d", now, now, adjusted=True, ingested_at=str)) == []


def test_pages_follow_next_url_on_the_configured_host() -> None:
    """next_url gives path and query, the host stays the configured one, and pages that lead in a circle end in an
    error.
    """

    def answer(path: str, number: int) -> Answer:
        return Answer(
            {
                "results": [number],
                **(
                    {"next_url": f"https://api.polygon.io/v2/next?cursor=c{number}&apiKey=leaked"} if number < 2 else {}
                ),
            }
        )

    with api_server(answer) as server:
        assert [page["results"] for page in paginate(client(server, Clock()).get, "/v2/first", {"limit": 5})] == [
            [0],
            [1],
            [2],
        ]
    assert [path for path, _ in server.requests] == ["/v2/first?limit=5", "/v2/next?cursor=c0", "/v2/next?cursor=c1"]
    assert all(headers["Authorization"] == f"Bearer {KEY}" for _, headers in server.requests)
    with pytest.raises(SourceError, match="circle"):
        list(paginate(lambda *_: {"next_url": "http://x/again"}, "/first"))


def test_rate_limit_is_shared_and_slides() -> None:
    """Of five a minute, the sixth request waits for the first to be a minute old."""
    clock = Clock()
    limit = RateLimit(5, clock=clock, sleep=clock.sleep)
    for _ in range(5):
        limit.wait()
        clock.now += 2
    limit.wait()
    assert clock.slept == [pytest.approx(50.5)]
    assert RateLimit(0).wait() is None


def test_alpha_vantage_limit_is_taken_for_one() -> None:
    """A Note is waited for and asked again; a limit of the day, and an error message, are errors; the key is in
    neither.
    """
    clock = Clock()
    settings = {"key_parameter": "apikey", "settings": "ALPHA_VANTAGE", "refusal": alpha_vantage.refusal}
    with api_server(scripted(Answer({"Note": "5 calls per minute"}), Answer({"Time Series (Daily)": {}}))) as server:
        assert client(server, clock, **settings).get("/query", {"symbol": "IBM"}) == {"Time Series (Daily)": {}}
    assert clock.slept == [60]
    assert f"apikey={KEY}" in server.requests[0][0]
    for body, text in (
        ({"Information": f"your API key as {KEY}: 25 requests per day"}, "25 requests per day"),
        ({"Error Message": "Invalid API call"}, "Invalid API call"),
    ):
        with api_server(scripted(Answer(body))) as server, pytest.raises(SourceError, match=text) as raised:
            client(server, clock, **settings).get("/query")
        assert KEY not in str(raised.value)
