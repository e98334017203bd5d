"""The live page's market and server hold out against floods, odd ticks, stalled browsers and other sites."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from dashboards.live.market import MOST_TICKERS, Market
from dashboards.live.server import MOST_CONNECTIONS, Server

TIME = "2026-11-20 15:00:01.000"


def tick(symbol: str, price: str = "10") -> bytes:
    """A tick's JSON, also of values that our own encoder would refuse."""
    fields = {"symbol": symbol, "time": TIME, "volume": 1, "source": "test", "ingested_at": TIME}
    return json.dumps(fields).replace("{", f'{{"price": {price}, ', 1).encode()


def test_the_least_traded_tickers_make_room() -> None:
    """However many tickers come, the page keeps the most traded ones and is told to forget the others."""
    market = Market()
    busy = [f"BUSY{number}" for number in range(50)]
    market.add([tick(symbol) for symbol in busy] * 3, now=0)
    before = market.snapshot(now=0)["version"]
    market.add([tick(f"N{number}") for number in range(3 * MOST_TICKERS)], now=1)
    snapshot = market.snapshot(now=1, after=before)
    shown = {quote["symbol"] for quote in snapshot["quotes"]}
    assert set(busy) <= shown
    assert len(shown) <= MOST_TICKERS
    assert snapshot["is_whole"]
    market.add([tick("BUSY1")], now=2)
    following = market.snapshot(now=2, after=snapshot["version"])
    assert (following["is_whole"], [quote["symbol"] for quote in following["quotes"]]) == (False, ["BUSY1"])


def test_the_change_is_since_the_close_before() -> None:
    """A close is given to the ticker that it is of, also when it comes after the ticks, and then to open pages, too."""
    market = Market()
    market.add([tick("A"), tick("B")], now=0)
    before = market.snapshot(now=0)["version"]
    market.take_closes({"A": 8.0})
    assert [(quote["symbol"], quote["previous_close"]) for quote in market.snapshot(now=0, after=before)["quotes"]] == [
        ("A", 8.0)
    ]
    market.add([tick("C")], now=0)
    everything = {quote["symbol"]: quote["previous_close"] for quote in market.snapshot(now=0)["quotes"]}
    assert everything == {"A": 8.0, "B": None, "C": None}


def test_a_market_that_nobody_looks_at_does_not_grow() -> None:
    """A day of polls without a page leaves the arrivals of the last seconds only."""
    market = Market()
    for second in range(86_400):
        market.add([b"{"], now=second)
    assert len(market._arrivals) <= 10


@pytest.mark.parametrize("value", [tick("A" * 1_000), tick("A", price="1e400"), tick("A", price="-1e999")])
def test_an_odd_tick_is_counted_and_the_page_can_read_the_others(value: bytes) -> None:
    """A symbol of a thousand letters and a price beyond a double are no ticks; what the page gets is strict JSON."""
    market = Market()
    market.add([value, tick("B")], now=0)
    snapshot = market.snapshot(now=0)
    assert (snapshot["bad"], [quote["symbol"] for quote in snapshot["quotes"]]) == (1, ["B"])
    json.dumps(snapshot, allow_nan=False)


@pytest.fixture
def market() -> Market:
    return Market()


@pytest.fixture
def server(market: Market) -> Iterator[Server]:
    """A server that gives up on a browser that takes nothing for a second."""
    with Server(0, market, stall_seconds=1) as running:
        yield running


def ask(server: Server, path: str, headers: dict[str, str]) -> tuple[int, str]:
    """The status and the Content-Security-Policy of an answer to exactly these headers."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.putrequest("GET", path, skip_host=True)
    for name, value in {"Host": "127.0.0.1:PORT", **headers}.items():
        connection.putheader(name, value.replace("PORT", str(server.server_port)))
    connection.endheaders()
    answer = connection.getresponse()
    connection.close()
    return answer.status, answer.getheader("Content-Security-Policy") or ""


@pytest.mark.parametrize("path", ["/", "/events", "/live.js"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example:PORT"},
        {"Host": "127.0.0.1:1"},
        {"Host": "127.0.0.1.evil.example:PORT"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
    ids=lambda headers: " ".join(f"{name}={value}" for name, value in headers.items()),
)
def test_another_site_is_refused(server: Server, path: str, headers: dict[str, str]) -> None:
    """A request for another host, or from another site's page, is answered with 403, whatever it asks for."""
    assert ask(server, path, headers)[0] == 403


@pytest.mark.parametrize("headers", [{}, {"Host": "localhost:PORT"}, {"Origin": "http://127.0.0.1:PORT"}])
def test_this_machine_is_served(server: Server, headers: dict[str, str]) -> None:
    """Under both names of loopback the page comes, and may run no script but its own."""
    status, policy = ask(server, "/", headers)
    assert status == 200
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy


def test_a_stalled_browser_is_let_go_and_costs_the_others_nothing(server: Server, market: Market) -> None:
    """A browser that stops reading is disconnected within seconds; another one gets its events all the while."""
    ticks = [tick(f"N{number}") for number in range(MOST_TICKERS)]
    market.add(ticks, now=0)
    others = set(threading.enumerate())
    with socket.socket() as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.connect(("127.0.0.1", server.server_port))
        stalled.sendall(f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode())
        end = time.monotonic() + 20
        while not (new := set(threading.enumerate()) - others):
            assert time.monotonic() < end
        (serving,) = new
        while serving.is_alive():
            assert time.monotonic() < end, "the stalled browser still holds its thread"
            market.add(ticks, now=time.monotonic())
            began = time.monotonic()
            assert b'"quotes"' in first_event(server)
            assert time.monotonic() - began < 2
            time.sleep(0.1)


def first_event(server: Server) -> bytes:
    """The beginning of the first event that a browser gets."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=5) as browser:
        browser.sendall(f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode())
        received = b""
        while b'"quotes"' not in received:
            part = browser.recv(65_536)
            assert part, received
            received += part
    return received


def test_idle_connections_are_bounded_and_run_out(server: Server) -> None:
    """A connection beyond the bound is closed at once; those that say nothing are closed soon, and pages come again."""
    idle = [socket.create_connection(("127.0.0.1", server.server_port), timeout=5) for _ in range(MOST_CONNECTIONS)]
    try:
        assert not is_served(server)
        end = time.monotonic() + 10
        while not is_served(server):
            assert time.monotonic() < end
            time.sleep(0.1)
    finally:
        for connection in idle:
            connection.close()


def is_served(server: Server) -> bool:
    """Whether a new connection gets the page."""
    try:
        return ask(server, "/", {})[0] == 200
    except (OSError, http.client.HTTPException):
        return False
