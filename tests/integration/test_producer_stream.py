"""producer.py stream against a WebSocket server on loopback that plays good and bad days."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from committed import committed_values
from websockets.sync.server import Server, ServerConnection, serve

from pipeline.records import Bar, Tick, decode
from pipeline.settings import Settings
from pipeline.sources import polygon_stream
from pipeline.sources.rest import SourceError
from tests.integration.api_server import Answer, api_server

KEY = "secret-key-123"
MINUTE = 1_704_205_800_000


@contextmanager
def feed_server(play: Callable[[ServerConnection, int], None]) -> Iterator[str]:
    """Serve the handshake of the API, then let `play` have the connection, with its number from 0."""
    connections: list[ServerConnection] = []

    def handle(connection: ServerConnection) -> None:
        connections.append(connection)
        connection.send(json.dumps([{"ev": "status", "status": "connected", "message": "Connected Successfully"}]))
        asked = json.loads(connection.recv())
        if asked != {"action": "auth", "params": KEY}:
            connection.send(json.dumps([{"ev": "status", "status": "auth_failed", "message": "authentication failed"}]))
            return
        connection.send(json.dumps([{"ev": "status", "status": "auth_success", "message": "authenticated"}]))
        connection.subscribed = json.loads(connection.recv())
        play(connection, len(connections) - 1)

    server: Server = serve(handle, "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}/stocks"
    finally:
        server.shutdown()
        for connection in connections:
            connection.close()
        thread.join(5)


def minute(number: int, symbol: str = "AAPL", **changes: object) -> dict:
    return {
        "ev": "AM",
        "sym": symbol,
        "v": 100 + number,
        "av": 9,
        "op": 1,
        "vw": 1.5,
        "o": 1,
        "c": 2,
        "h": 3,
        "l": 1,
        "a": 1,
        "z": 50,
        "s": MINUTE + 60_000 * number,
        "e": MINUTE + 60_000 * (number + 1),
    } | changes


def second(number: int, symbol: str = "AAPL") -> dict:
    return minute(0, symbol) | {"ev": "A", "s": MINUTE + 1000 * number, "e": MINUTE + 1000 * number + 1000}


def trade(number: int) -> dict:
    return {
        "ev": "T",
        "sym": "AAPL",
        "x": 4,
        "i": str(number),
        "z": 3,
        "p": 190.5,
        "s": 7,
        "c": [0],
        "t": MINUTE + number,
        "q": number,
    }


def take_until(stream: polygon_stream.Feed, count: int, seconds: float = 10) -> list[dict]:
    found, until = [], time.monotonic() + seconds
    while len(found) < count and time.monotonic() < until:
        found += stream.take(0.2)
    return found


def opened(url: str, **settings: object) -> polygon_stream.Feed:
    settings = {
        "key": KEY,
        "symbols": ["AAPL", "MSFT"],
        "channels": ["trades", "minutes"],
        "longest_pause_seconds": 0.2,
    } | settings
    return polygon_stream.Feed(url, **settings)


def test_subscribes_and_gives_events() -> None:
    """The key is sent once, channels and symbols are asked for, and events come in order."""
    seen = []

    def play(connection: ServerConnection, _number: int) -> None:
        seen.append(connection.subscribed)
        connection.send(json.dumps([trade(1), trade(2)]))
        connection.send(json.dumps([minute(1)]))
        time.sleep(5)

    with feed_server(play) as url, opened(url) as stream:
        events = take_until(stream, 3)
    assert [event["ev"] for event in events] == ["T", "T", "AM"]
    assert seen == [{"action": "subscribe", "params": "T.AAPL,T.MSFT,AM.AAPL,AM.MSFT"}]


def test_broken_messages_are_counted_and_reading_goes_on() -> None:
    """What is no JSON array of objects is counted; what follows is read."""

    def play(connection: ServerConnection, _number: int) -> None:
        for message in ("{broken", "[1, 2]", b"\xff\xfe", "null", json.dumps([trade(1)])):
            connection.send(message)
        time.sleep(5)

    with feed_server(play) as url, opened(url) as stream:
        assert len(take_until(stream, 1)) == 1
        assert stream.counts.malformed == 4


def test_cuts_and_stalls_are_reconnected_and_said() -> None:
    """A cut connection is opened again, with what was missed as a gap."""

    def play(connection: ServerConnection, number: int) -> None:
        connection.send(json.dumps([trade(number)]))
        if number < 2:
            connection.socket.close() if number else connection.close(1008, "slow consumer")
            return
        time.sleep(5)

    with feed_server(play) as url, opened(url) as stream:
        assert [event["q"] for event in take_until(stream, 3)] == [0, 1, 2]
        gaps = stream.take_gaps()
        assert stream.counts.reconnects == 2
        assert gaps
        assert all(since <= until for since, until in gaps)
        assert stream.take_gaps() == []


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
def test_the_key_is_in_no_log(level: int, caplog: pytest.LogCaptureFixture) -> None:
    """Neither our log nor the library's shows the key, whatever the level, also where a server repeats it."""
    caplog.set_level(level)

    def play(connection: ServerConnection, _number: int) -> None:
        connection.send(json.dumps([trade(1)]))
        connection.close(1008, f"the key {KEY} is slow")

    with feed_server(play) as url, opened(url) as stream:
        take_until(stream, 2)
    assert "stream lost" in caplog.text
    client_lines = [record for record in caplog.records if not record.name.startswith("websockets.server")]
    assert not [record.getMessage() for record in client_lines if KEY in f"{record.getMessage()} {vars(record)}"]


def test_a_feed_that_cannot_be_reached_ends_with_its_setting() -> None:
    """When no connection has worked for long enough, the error names the setting to look at."""
    with feed_server(lambda *_: None) as url:
        pass
    with (
        opened(url, patience_seconds=1) as stream,
        pytest.raises(SourceError, match=r"POLYGON_STREAM_URL=ws://.*no connection in 1 seconds"),
    ):
        take_until(stream, 1)


def test_a_refused_key_ends_it() -> None:
    """A refused key is told with the setting to look at, and not tried for ever."""
    with (
        feed_server(lambda *_: None) as url,
        opened(url, key="wrong") as stream,
        pytest.raises(SourceError, match="POLYGON_API_KEY"),
    ):
        take_until(stream, 1)


def test_a_full_buffer_drops_and_counts() -> None:
    """When nobody takes, reading goes on: the buffer stays bounded; what is dropped is counted and its time known."""
    sent = threading.Event()

    def play(connection: ServerConnection, _number: int) -> None:
        for start in range(0, 5000, 100):
            connection.send(json.dumps([trade(number) for number in range(start, start + 100)]))
        sent.set()
        time.sleep(5)

    with feed_server(play) as url, opened(url, capacity=1000) as stream:
        assert sent.wait(10)
        until = time.monotonic() + 5
        while stream.counts.received < 5000 and time.monotonic() < until:
            time.sleep(0.05)
        assert (stream.counts.received, stream.counts.dropped) == (5000, 4000)
        assert [event["q"] for event in stream.take(1)] == list(range(1000))
        assert stream.take_gaps()


def test_records_of_events() -> None:
    """Trades and seconds are ticks, minutes are bars that start with the minute; an incomplete event is refused."""
    tick = polygon_stream.record(trade(5), "2024-01-02 00:00:00.000")
    assert (tick.symbol, tick.time, tick.price, tick.volume) == ("AAPL", "2024-01-02 14:30:00.005", 190.5, 7)
    tick = polygon_stream.record(second(3), "2024-01-02 00:00:00.000")
    assert (type(tick), tick.time, tick.price) == (Tick, "2024-01-02 14:30:03.000", 2)
    bar = polygon_stream.record(minute(2), "2024-01-02 00:00:00.000")
    assert (bar.time, bar.interval, bar.open, bar.close, bar.vwap) == ("2024-01-02 14:32:00.000", "1m", 1, 2, 1.5)
    assert polygon_stream.record({"ev": "Q"}, "") is None
    with pytest.raises(ValueError, match="'p'"):
        polygon_stream.record({"ev": "T", "sym": "A", "t": 1}, "")


def test_stream_to_kafka_with_missed_minutes(start: Callable, settings: Settings) -> None:
    """Ticks and minute bars arrive in their topics, minutes missed in a cut are filled from REST once, and the end
    tells the counts.
    """

    def play(connection: ServerConnection, number: int) -> None:
        if number == 0:
            connection.send(json.dumps([second(0), trade(1), minute(0), minute(0, "MSFT")]))
            connection.send(json.dumps([{"ev": "AM", "sym": "AAPL"}, {"ev": "AM", **minute(1, h=0.5)}]))
            time.sleep(1.5)
            connection.close(1011, "cut")
            return
        connection.send(json.dumps([minute(3)]))
        time.sleep(20)

    def rest(path: str, _number: int) -> Answer:
        if "/MSFT/" in path:
            return Answer({"status": "OK"})
        return Answer(
            {
                "status": "OK",
                "results": [
                    {"t": MINUTE + 60_000 * n, "o": 1, "h": 3, "l": 1, "c": 2, "v": 500 + n, "n": 1} for n in range(3)
                ],
            }
        )

    with feed_server(play) as url, api_server(rest) as server:
        process = start(
            "producer.py",
            "stream",
            "--symbols",
            "AAPL,MSFT",
            "--channels",
            "seconds,trades,minutes",
            "--buffer",
            "1000",
            "--log-level",
            "DEBUG",
            "--url",
            url,
            POLYGON_API_KEY=KEY,
            POLYGON_BASE_URL=server.url,
            POLYGON_REQUESTS_PER_MINUTE="0",
        )
        until = time.monotonic() + 30
        while "filling minute bars" not in process.log_path.read_text() and time.monotonic() < until:
            time.sleep(0.2)
        time.sleep(3)
        process.terminate()
        assert process.wait(20) == 0
    said = process.log_path.read_text()
    bars = [decode(Bar, value) for value in committed_values(settings, settings.kafka_topic_bars)]
    ticks = [decode(Tick, value) for value in committed_values(settings, settings.kafka_topic_ticks)]
    assert sorted((bar.symbol, bar.time[11:16], bar.volume) for bar in bars) == [
        ("AAPL", "14:30", 100),
        ("AAPL", "14:31", 501),
        ("AAPL", "14:32", 502),
        ("AAPL", "14:33", 103),
        ("MSFT", "14:30", 100),
    ]
    assert len(ticks) == 2
    assert "2 filled from REST" in said
    assert "not understood 1" in said
    assert "record refused" in said
    assert "reconnected 1 times" in said
    assert KEY not in said
