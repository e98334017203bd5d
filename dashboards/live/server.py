"""The HTTP server of the live page: the page's files, and the market as server-sent events, on loopback."""

import json
import logging
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

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
_SECURITY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:"


class Server(ThreadingHTTPServer):
    """Serves the page at / and the market at /events. A context manager: it serves inside the with block."""

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

    def handle_error(self, _request: object, client_address: tuple[str, int]) -> None:
        """Report nothing: a browser that went away is no error."""
        log.debug("connection ended", extra={"client": client_address[1]})


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        # Another site's page could reach us under a name of its own that leads to 127.0.0.1.
        host = self.headers.get("Host", "").rpartition(":")[0]
        if host not in ("127.0.0.1", "localhost"):
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
        self.send_header("Content-Security-Policy", _SECURITY)
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def _events(self) -> None:
        """Send events: first everything, then what changed, until the browser goes away."""
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
