"""Polygon/Massive's WebSocket: trades, second bars and minute bars as they happen. https://massive.com/docs/websocket

A thread of its own reads, and does nothing but decode and put away: the server cuts off slow readers. What arrives
while the buffer is full is dropped, counted and logged. Delivery up to the buffer: at most once; a live feed
sends nothing again.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec
from websockets.exceptions import InvalidStatus, InvalidURI, WebSocketException
from websockets.sync.client import ClientConnection, connect

from pipeline.records import Bar, Tick, time_text_ms
from pipeline.sources.polygon import CHANNELS, NAME
from pipeline.sources.rest import SourceError

log = logging.getLogger(__name__)

Event = dict[str, Any]

# The library's log shows whole messages at DEBUG, and the first one holds the key.
_CONNECTION_LOG = logging.getLogger(f"{__name__}.connection")
_CONNECTION_LOG.setLevel(logging.WARNING)
_ANSWER_SECONDS = 15  # to a connection, an authentication, a ping
_LONGEST_PAUSE_SECONDS = 60
_PATIENCE_SECONDS = 3600  # without a connection that works
_SYMBOLS_A_MESSAGE = 500


@dataclass
class Counts:
    """What happened since the start. `gaps` are the pauses that nobody has taken yet, as epoch milliseconds."""

    received: int = 0
    dropped: int = 0
    malformed: int = 0
    reconnects: int = 0
    gaps: list[tuple[int, int]] = field(default_factory=list)


class Feed:
    """A connection that is kept up. Use it as a context; `take` returns the events that arrived.

    `take` raises SourceError when the server refuses the key or the plan does not include the feed.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str,
        symbols: Sequence[str],
        channels: Sequence[str],
        capacity: int = 100_000,
        clock_ms: Callable[[], int] = lambda: int(time.time() * 1000),
        longest_pause_seconds: float = _LONGEST_PAUSE_SECONDS,
        patience_seconds: float = _PATIENCE_SECONDS,
    ) -> None:
        self._url, self._key, self._clock_ms = url, key, clock_ms
        self._longest_pause, self._patience = longest_pause_seconds, patience_seconds
        self._topics = [f"{CHANNELS[channel]}.{symbol}" for channel in channels for symbol in symbols]
        self._capacity = capacity
        self._buffer: deque[Event] = deque()
        self._arrived = threading.Event()
        self._stopping = threading.Event()
        self._failure: SourceError | None = None
        self._lost_since: int | None = None
        self._has_worked = False
        self._gaps_lock = threading.Lock()
        self._connection: ClientConnection | None = None
        self.counts = Counts()
        self._thread = threading.Thread(target=self._run, name="polygon-stream", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        if self._connection:
            self._connection.close()
        self._thread.join(_ANSWER_SECONDS)

    def take(self, timeout_seconds: float) -> list[Event]:
        """Return all events that have arrived; wait for the first for at most the timeout."""
        self._arrived.wait(timeout_seconds)
        self._arrived.clear()
        if self._failure:
            raise self._failure
        return [self._buffer.popleft() for _ in range(len(self._buffer))]

    def take_gaps(self) -> list[tuple[int, int]]:
        """Return the times (epoch milliseconds, from and to) of which something was missed, each once."""
        with self._gaps_lock:
            gaps, self.counts.gaps = self.counts.gaps, []
        return gaps

    def _note_gap(self, since: int, until: int) -> None:
        with self._gaps_lock:
            gaps = self.counts.gaps
            if gaps and since - gaps[-1][1] < 1000:
                since = gaps.pop()[0]
            gaps.append((since, until))

    def _run(self) -> None:
        """Connect, read until it breaks, wait, connect again; give up when no connection worked for too long.

        A loop of its own and no tenacity: the back-off starts anew after each connection that worked, and `__exit__`
        ends the wait.
        """
        failures, worked_at = 0, time.monotonic()
        while not self._stopping.is_set():
            self._has_worked = False
            try:
                reason = self._read()
            except SourceError as error:
                self._fail(error)
                return
            if self._has_worked:
                failures, worked_at = 0, time.monotonic()
            if time.monotonic() - worked_at > self._patience:
                waited = f"no connection in {self._patience:,.0f} seconds, at last because of {reason}"
                self._fail(SourceError(f"POLYGON_STREAM_URL={self._url}: {waited}"))
                return
            if self._lost_since is None:
                self._lost_since = self._clock_ms()
            pause = min(self._longest_pause, 2 ** min(failures, 10) * 0.5)
            failures += 1
            if not self._stopping.is_set():
                log.warning("stream lost", extra={"url": self._url, "reason": reason, "again_in_seconds": pause})
            self._stopping.wait(pause)

    def _read(self) -> str:
        """Connect and put away what comes; return why it ended. Raises SourceError for what will not pass."""
        try:
            with connect(
                self._url,
                open_timeout=_ANSWER_SECONDS,
                ping_interval=_ANSWER_SECONDS,
                ping_timeout=_ANSWER_SECONDS,
                max_size=1 << 24,
                max_queue=4096,
                logger=_CONNECTION_LOG,
            ) as connection:
                self._connection = connection
                self._authenticate(connection)
                self._note_connected()
                self._has_worked = True
                for message in connection:
                    self._put(message)
        except (OSError, TimeoutError, WebSocketException) as error:
            if isinstance(error, InvalidURI) or (
                isinstance(error, InvalidStatus) and 400 <= error.response.status_code < 429
            ):
                raise SourceError(f"POLYGON_STREAM_URL={self._url}: {error}") from error
            return self._clean(f"{type(error).__name__}: {error}")
        return "closed by the server"

    def _fail(self, error: SourceError) -> None:
        self._failure = SourceError(self._clean(str(error)), error.status)
        self._arrived.set()

    def _clean(self, text: str) -> str:
        """Some servers repeat the key in their messages."""
        return text.replace(self._key, "***") if self._key else text

    def _authenticate(self, connection: ClientConnection) -> None:
        connection.send(msgspec.json.encode({"action": "auth", "params": self._key}).decode())
        until = time.monotonic() + _ANSWER_SECONDS
        while True:
            for event in _events(connection.recv(timeout=max(0.0, until - time.monotonic()))) or ():
                status, message = event.get("status"), event.get("message")
                if status == "auth_success":
                    for start in range(0, len(self._topics), _SYMBOLS_A_MESSAGE):
                        some = ",".join(self._topics[start : start + _SYMBOLS_A_MESSAGE])
                        connection.send(msgspec.json.encode({"action": "subscribe", "params": some}).decode())
                    return
                if status == "auth_failed":
                    raise SourceError(f"POLYGON_API_KEY: {self._url} refused it: {message}")
                if status == "max_connections":
                    raise SourceError(f"POLYGON_API_KEY: {self._url}: {message}; a key has one connection at a time")

    def _note_connected(self) -> None:
        if self._lost_since is not None:
            now = self._clock_ms()
            self.counts.reconnects += 1
            self._note_gap(self._lost_since, now)
            log.warning("stream is back", extra={"missed_seconds": round((now - self._lost_since) / 1000, 1)})
            self._lost_since = None

    def _put(self, message: str | bytes) -> None:
        events = _events(message)
        if events is None:
            self.counts.malformed += 1
            log.warning("message not understood", extra={"begins": repr(message[:80])})
            return
        for event in events:
            if event.get("ev") == "status":
                if event.get("status") in ("error", "not_authorized"):
                    # The plan has no such feed: asking again would not help.
                    raise SourceError(f"POLYGON_STREAM_URL={self._url}: {event.get('message')}")
                continue
            self.counts.received += 1
            if len(self._buffer) >= self._capacity:
                self._drop()
            else:
                self._buffer.append(event)
        self._arrived.set()

    def _drop(self) -> None:
        if self.counts.dropped % 10_000 == 0:
            log.warning("buffer full, dropping", extra={"capacity": self._capacity, "dropped": self.counts.dropped})
        self.counts.dropped += 1
        now = self._clock_ms()
        self._note_gap(now, now)


def _events(message: str | bytes) -> list[Event] | None:
    """The events of a message; None for what is no JSON array of objects."""
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        events = msgspec.json.decode(message)
        events = events if isinstance(events, list) else [events]
        return events if all(isinstance(event, dict) for event in events) else None
    return None


def record(event: Event, ingested_at: str) -> Tick | Bar | None:
    """Return the record of an event: T and A (a trade, a second) give a Tick, AM (a minute) a Bar, others None.

    `s` and `t` are milliseconds since 1970, UTC. A second's tick has its closing price and its volume. Raises
    ValueError.
    """
    kind = event.get("ev")
    try:
        if kind == "T":
            return Tick(
                symbol=str(event["sym"]),
                time=time_text_ms(int(event["t"])),
                price=float(event["p"]),
                volume=float(event["s"]),
                source=NAME,
                ingested_at=ingested_at,
            )
        if kind == "A":
            return Tick(
                symbol=str(event["sym"]),
                time=time_text_ms(int(event["s"])),
                price=float(event["c"]),
                volume=float(event["v"]),
                source=NAME,
                ingested_at=ingested_at,
            )
        if kind == "AM":
            return Bar(
                symbol=str(event["sym"]),
                time=time_text_ms(int(event["s"])),
                interval="1m",
                open=float(event["o"]),
                high=float(event["h"]),
                low=float(event["l"]),
                close=float(event["c"]),
                volume=float(event["v"]),
                vwap=float(event["vw"]) if event.get("vw") is not None else None,
                source=NAME,
                ingested_at=ingested_at,
            )
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"{error!r} in {event}") from None
    return None
