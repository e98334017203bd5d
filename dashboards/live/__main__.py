"""A page that follows the live feed topic: last price, change and sparkline per ticker, messages a second.

python -m dashboards.live                       http://127.0.0.1:8765/, from the last 1,000 ticks of each partition on
python -m dashboards.live --symbols AAPL,MSFT --port 9000

It reads with a consumer of its own that is in no group and commits nothing: landing goes on beside it, undisturbed.
Ticks that come while it is not running are not shown later. It listens on loopback only.
"""

import argparse
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from pipeline import records, terminal
from pipeline.records import InvalidRecord, Tick
from pipeline.settings import ServiceError, load_settings
from pipeline.streams.kafka import reader

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
SPARKLINE_SECONDS = 120
RATE_SECONDS = 5
SEND_SECONDS = 0.5
_SECURITY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:"
)


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


class Market:
    """The state of the market as the ticks so far tell it. Safe to use from many threads; the clock is an argument."""

    def __init__(self, symbols: Iterable[str] = ()) -> None:
        self._only = frozenset(symbols)
        self._lock = threading.Lock()
        self._quotes: dict[str, Quote] = {}
        self._arrivals: deque[tuple[float, int]] = deque()
        self._messages = self._bad = self._version = 0
        self._last_arrival: float | None = None
        self.problem = ""

    def add(self, values: list[bytes], now: float) -> None:
        """Take what one poll brought; a message that is no tick is counted, not shown."""
        if not values:
            return
        ticks = [tick for value in values if (tick := _tick(value))]
        with self._lock:
            self._version += 1
            self._messages += len(values)
            self._bad += len(values) - len(ticks)
            self._last_arrival = now
            self._arrivals.append((now, len(values)))
            for tick in ticks:
                if not self._only or tick.symbol in self._only:
                    self._take(tick)

    def _take(self, tick: Tick) -> None:
        quote = self._quotes.get(tick.symbol)
        if quote is None:
            quote = self._quotes[tick.symbol] = Quote(tick.symbol, tick.price, tick.time, tick.price, tick.time)
        quote.ticks += 1
        quote.changed = self._version
        # A late tick is counted, and does not turn the price back.
        if tick.time < quote.time:
            return
        quote.price, quote.time = tick.price, tick.time
        second = tick.time[:19]
        if quote.points and quote.points[-1][0] == second:
            quote.points[-1] = (second, tick.price)
        else:
            quote.points.append((second, tick.price))

    def snapshot(self, now: float, after: int = 0) -> dict:
        """What changed after a version, as the page reads it; after 0 everything."""
        with self._lock:
            while self._arrivals and self._arrivals[0][0] <= now - RATE_SECONDS:
                self._arrivals.popleft()
            return {
                "version": self._version,
                "messages": self._messages,
                "bad": self._bad,
                "rate": round(sum(count for _, count in self._arrivals) / RATE_SECONDS, 1),
                "quiet_seconds": None if self._last_arrival is None else round(now - self._last_arrival, 1),
                "problem": self.problem,
                "quotes": [
                    {
                        "symbol": quote.symbol,
                        "price": quote.price,
                        "time": quote.time,
                        "ticks": quote.ticks,
                        "first_price": quote.first_price,
                        "first_time": quote.first_time,
                        "points": [price for _, price in quote.points],
                    }
                    for quote in self._quotes.values()
                    if quote.changed > after
                ],
            }


def _tick(value: bytes | None) -> Tick | None:
    try:
        return records.decode(Tick, value or b"")
    except InvalidRecord:
        return None


def follow(market: Market, batches: Iterable[list[bytes]], is_stopping: Callable[[], bool]) -> None:
    """Feed the market until told to stop. An error stays on the page, and the page stays up."""
    try:
        for values in batches:
            market.add(values, time.monotonic())
            if is_stopping():
                return
    except ServiceError as error:
        market.problem = str(error)
        log.error("stopped following", extra={"error": error})  # noqa: TRY400 - the text says all there is to say


class Server(ThreadingHTTPServer):
    """Serves the page at / and the market at /events, on loopback."""

    daemon_threads = True

    def __init__(self, port: int, market: Market) -> None:
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise ServiceError(f"--port {port}: cannot listen there ({error.strerror})") from None
        self.market = market
        self.is_closing = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, name="live page")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_closing.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, _request: object, client_address: tuple) -> None:
        """A browser that went away is nothing to report."""
        log.debug("connection ended", extra={"client": client_address[1]})


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        # Another site's page could reach us under a name of its own that leads to 127.0.0.1.
        host = self.headers.get("Host", "").rpartition(":")[0]
        if host not in ("127.0.0.1", "localhost"):
            self.send_error(403, "This page is for this machine only")
        elif self.path == "/":
            self._page()
        elif self.path == "/events":
            self._events()
        else:
            self.send_error(404)

    def _page(self) -> None:
        style, page = (path.read_text(encoding="utf-8") for path in (HERE.parent / "page.css", HERE / "live.html"))
        body = page.replace("/* page.css */", style).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", _SECURITY)
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def _events(self) -> None:
        """Server-sent events: first everything, then what changed, until the browser goes away."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        self.wfile.write(b"retry: 1000\n\n")
        version = 0
        while not self.server.is_closing.is_set():
            snapshot = self.server.market.snapshot(time.monotonic(), version)
            version = snapshot["version"]
            self.wfile.write(b"data: " + json.dumps(snapshot, separators=(",", ":")).encode() + b"\n\n")
            self.server.is_closing.wait(SEND_SECONDS)

    def log_message(self, format: str, *args: object) -> None:
        log.debug("request", extra={"line": format % args})


def main() -> None:
    arguments = _arguments()
    settings = load_settings({"kafka_topic_ticks": arguments.topic})
    terminal.configure_logging(settings)
    market = Market(symbol.strip() for symbol in (arguments.symbols or "").split(",") if symbol.strip())
    with terminal.stop_signals() as is_stopping, Server(arguments.port, market) as server:
        print(f"{server.address} follows {settings.kafka_topic_ticks}; Ctrl-C stops", flush=True)
        follow(market, reader.tail(settings, settings.kafka_topic_ticks, last=arguments.last), is_stopping)
        if market.problem:
            raise ServiceError(market.problem)


def _arguments() -> argparse.Namespace:
    options = argparse.ArgumentParser(
        prog="python -m dashboards.live", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--port", type=int, default=8765, help="0: any free one (default 8765)")
    options.add_argument("--symbols", metavar="AAPL,MSFT,…", help="these tickers only")
    options.add_argument(
        "--last", type=int, default=1000, metavar="N", help="begin N ticks of each partition back (default 1000)"
    )
    options.add_argument("--topic", metavar="NAME", help="KAFKA_TOPIC_TICKS")
    return options.parse_args()


if __name__ == "__main__":
    terminal.run(main)
