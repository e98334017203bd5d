"""The HTTP server of the live page: the page's files, and the market as server-sent events, on loopback."""

import json
import logging
import socket
import threading
import time
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from dashboards import PAGE_STYLE
from dashboards.live.market import Market
from pipeline.settings import ServiceError

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
FILES = {
    "/": (HERE / "live.html", "text/html"),
    "/live.css": (HERE / "live.css", "text/css"),
    "/live.js": (HERE / "live.js", "text/javascript"),
    "/page.css": (PAGE_STYLE, "text/css"),
}
SEND_SECONDS = 0.5
# A browser that takes nothing for so long is gone or asleep; it connects again by itself.
STALL_SECONDS = 10.0
# What the kernel keeps for a browser that does not read: some events.
UNSENT_BYTES = 1 << 18
# Each is a thread; a browser holds one or two.
MOST_CONNECTIONS = 64
_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:"
_HEADERS = {
    "Content-Security-Policy": f"{_POLICY}; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Server(ThreadingHTTPServer):
    """Serves the page at / and the market at /events. A context manager: it serves inside the with block."""

    daemon_threads = True
    request_queue_size = MOST_CONNECTIONS

    def __init__(self, port: int, market: Market, *, stall_seconds: float = STALL_SECONDS) -> None:
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise ServiceError(f"--port {port}: cannot listen there ({error.strerror})") from None
        self.market = market
        self.stall_seconds = stall_seconds
        self.hosts = {f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost")}
        self.is_closing = threading.Event()
        self._free = threading.BoundedSemaphore(MOST_CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own, or close it when there are too many."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection and let go of its place."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def admits(self, headers: Message) -> bool:
        """Return whether a request with these headers comes from this machine's own page.

        Another site's page could reach us under a name of its own that leads to 127.0.0.1: Host shows it. Under our own
        name a browser tells its origin.
        """
        return (
            headers.get_all("Host", []) in ([host] for host in self.hosts)
            and headers.get("Origin") in {None, *(f"http://{host}" for host in self.hosts)}
            and headers.get("Sec-Fetch-Site") in (None, "same-origin", "none")
        )

    @property
    def address(self) -> str:
        """The page's URL."""
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

    def handle_error(self, _request: object, client_address: tuple[str, int]) -> None:
        """Report nothing: a browser that went away is no error."""
        log.debug("connection ended", extra={"client": client_address[1]})


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        # Of reads and writes alike: neither an idle nor a stalled browser keeps its thread for ever.
        self.connection.settimeout(self.server.stall_seconds)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNSENT_BYTES)

    def do_GET(self) -> None:
        if not self.server.admits(self.headers):
            self.send_error(403, "This page is for this machine only")
        elif self.path in FILES:
            self._file(*FILES[self.path])
        elif self.path == "/events":
            self._events()
        else:
            self.send_error(404)

    def _file(self, path: Path, media_type: str) -> None:
        body = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", f"{media_type}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _events(self) -> None:
        """Send events: first everything, then what changed, until the browser goes away."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
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

    def end_headers(self) -> None:
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        log.debug("request", extra={"line": format % args})
