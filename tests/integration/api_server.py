"""A local HTTP server that plays an API: each request takes the next step of a script."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec


@dataclass
class Answer:
    """One answer. `cut` ends the connection after so many bytes of the body; `seconds` waits first."""

    body: object = None
    status: int = 200
    headers: dict = field(default_factory=dict)
    cut: int | None = None
    seconds: float = 0

    def encoded(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else msgspec.json.encode(self.body)


@dataclass
class Server:
    url: str
    requests: list[tuple[str, dict]]  # path with query, headers


@contextmanager
def api_server(answer: Callable[[str, int], Answer]) -> Iterator[Server]:
    """Serve on loopback; `answer` is given the path with its query, and the number of the request from 0."""
    server = Server("", [])

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            number = len(server.requests)
            server.requests.append((self.path, dict(self.headers)))
            given = answer(self.path, number)
            time.sleep(given.seconds)
            body = given.encoded()
            self.send_response(given.status)
            for name, value in given.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body if given.cut is None else body[: given.cut])
            if given.cut is not None:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
