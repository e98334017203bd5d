"""A proxy in front of the embedded AWS that fails as it is told: refusals, cut connections, lost answers, holds."""

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

PASS = "pass"  # hand the call on
CUT = "cut"  # close the connection before the call arrives
LOSE = "lose"  # hand the call on, then close the connection instead of answering
HOLD = "hold"  # wait before handing on, until released
HOLD_ANSWER = "hold answer"  # hand on, then wait before answering, until released
# An int is that HTTP status, answered instead of handing on as S3 does; a Refusal likewise, as the services that speak
# JSON do.


@dataclass(frozen=True)
class Refusal:
    """The error code of DynamoDB, Glue or Athena."""

    code: str
    status: int = 400


@dataclass(frozen=True)
class S3Refusal:
    """An error code of S3."""

    code: str
    status: int


Decision = str | int | Refusal | S3Refusal
_ERROR = '<?xml version="1.0"?><Error><Code>{code}</Code><Message>made by the test</Message></Error>'
_CODES = {400: "RequestTimeout", 403: "AccessDenied", 429: "SlowDown", 500: "InternalError", 503: "ServiceUnavailable"}


class AwsProxy(ThreadingHTTPServer):
    """`decide(number, method, path)` is asked for every call that writes; reads are handed on."""

    daemon_threads = True

    def __init__(self, upstream: str, decide: Callable[[int, str, str], Decision]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream)
        self.decide = decide
        self.released = threading.Event()
        self.holding = threading.Event()
        self.cuts_held = False  # close held connections on release instead of handing on
        self.ignores_conditions = False  # as a store that knows no conditional puts
        self.writes: list[tuple[str, Decision]] = []
        self.under_way = 0  # calls that have come and are not answered, or whose answer is not lost yet
        self._lock, self._counting = threading.Lock(), threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def decision(self, method: str, path: str) -> Decision:
        # The consumer's first request asks what the store can do, and writes nothing.
        if method not in ("PUT", "POST", "DELETE") or path.endswith(".condition_probe"):
            return PASS
        with self._lock:
            decision = self.decide(len(self.writes), method, path)
            self.writes.append((path, decision))
        return decision

    def count(self, change: int) -> None:
        with self._counting:
            self.under_way += change

    def handle_error(self, request: object, client_address: object) -> None:
        """A killed client is what these tests are about; it needs no traceback."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: AwsProxy

    def _serve(self) -> None:
        self.server.count(1)
        try:
            self._serve_one()
        finally:
            self.server.count(-1)

    def _serve_one(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        decision = self.server.decision(self.command, self.path)
        if decision == CUT:
            self.close_connection = True
            self.connection.close()
            return
        if isinstance(decision, int):
            self._answer(
                decision,
                {"Content-Type": "application/xml"},
                _ERROR.format(code=_CODES.get(decision, "Error")).encode(),
            )
            return
        if isinstance(decision, S3Refusal):
            body = _ERROR.format(code=decision.code).encode()
            self._answer(decision.status, {"Content-Type": "application/xml"}, body)
            return
        if isinstance(decision, Refusal):
            body = json.dumps({"__type": decision.code, "message": "made by the test"}).encode()
            self._answer(decision.status, {"Content-Type": "application/x-amz-json-1.0"}, body)
            return
        if decision == HOLD:
            self.server.holding.set()
            self.server.released.wait(120)
            if self.server.cuts_held:
                self.close_connection = True
                self.connection.close()
                return
        if self.server.ignores_conditions:
            del self.headers["If-None-Match"], self.headers["If-Match"]
        # The embedded AWS answers under its own name only.
        self.headers.replace_header("Host", self.server.upstream.netloc)
        upstream = http.client.HTTPConnection(self.server.upstream.hostname, self.server.upstream.port, timeout=60)
        try:
            upstream.request(self.command, self.path, body or None, dict(self.headers))
            answer = upstream.getresponse()
            content = answer.read()
        finally:
            upstream.close()
        if decision == HOLD_ANSWER:
            self.server.holding.set()
            self.server.released.wait(120)
        if decision == LOSE:
            self.close_connection = True
            self.connection.close()
            return
        self._answer(answer.status, dict(answer.getheaders()), content)

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                self.send_header(name, value)
        self.send_header(
            "Content-Length",
            headers.get("Content-Length", str(len(content))) if self.command == "HEAD" else str(len(content)),
        )
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815 - the names that http.server looks for

    def log_message(self, *_: object) -> None:
        """Silence: the tests count the calls themselves."""


@contextmanager
def aws_proxy(upstream: str, decide: Callable[[int, str, str], Decision]) -> Iterator[AwsProxy]:
    proxy = AwsProxy(upstream, decide)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.released.set()
        proxy.shutdown()
        proxy.server_close()
        thread.join()
