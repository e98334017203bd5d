"""Refuse what no program of this machine sends: requests that a web page in the user's browser makes.

The emulator takes any key, answers preflights with `Access-Control-Allow-Origin: *` and ignores Host and Origin: any
page could read and delete the user's buckets. A browser always says where a request comes from (Origin, Sec-Fetch-Site)
and under which name it found us (Host, which shows a rebound DNS name). SDKs send neither of the first two.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

REFUSAL = b"The embedded AWS answers programs of this machine only, under 127.0.0.1 or localhost and its own port.\n"


class Gatekeeper:
    """An ASGI application in front of another one: it answers 403, or hands the request on."""

    def __init__(self, inner: Application, port: int) -> None:
        self.inner = inner
        self.hosts = frozenset(f"{name}:{port}".encode() for name in ("127.0.0.1", "localhost"))
        self.origins = frozenset(b"http://" + host for host in self.hosts)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            # Nothing that is used here speaks WebSocket; a close before the accept is a 403.
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] == "http" and not self.admits(scope["headers"]):
            await send(_start(403, [(b"content-type", b"text/plain"), (b"connection", b"close")]))
            await send({"type": "http.response.body", "body": REFUSAL})
        else:
            await self.inner(scope, receive, _without_invitations(send))

    def admits(self, headers: Headers) -> bool:
        """Return whether a request with these headers (names in lower case) is one of this machine's programs'."""
        sent: dict[bytes, set[bytes]] = {}
        for name, value in headers:
            sent.setdefault(name, set()).add(value)
        hosts = sent.get(b"host", set())
        return (
            len(hosts) == 1
            and hosts <= self.hosts
            and sent.get(b"origin", set()) <= self.origins
            and sent.get(b"sec-fetch-site", set()) <= {b"same-origin", b"none"}
        )


def _start(status: int, headers: list[tuple[bytes, bytes]]) -> Message:
    return {"type": "http.response.start", "status": status, "headers": headers}


def _without_invitations(send: Send) -> Send:
    """Drop the headers that would let another site's page read the answer."""

    async def send_without(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [
                (name, value)
                for name, value in message.get("headers", [])
                if not name.lower().startswith(b"access-control-")
            ]
            message = message | {"headers": kept}
        await send(message)

    return send_without
