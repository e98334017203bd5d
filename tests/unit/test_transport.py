"""The connection that reads in bulk, on a real pair of sockets."""

import random
import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import kafka.protocol.parser
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.protocol.frame import KafkaBytes

from pipeline.streams.kafka.compatibility import BulkTransport
from pipeline.streams.kafka.transport import BUFFER_BYTES, Frame


@pytest.fixture
def ends() -> Iterator[tuple[BulkTransport, socket.socket]]:
    """A transport and the socket at its other end."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield BulkTransport(None, ours, "localhost"), theirs


def test_what_has_arrived_is_read_in_order(ends: tuple[BulkTransport, socket.socket]) -> None:
    """Every byte comes once and in order, more than 4 KB of them in one call."""
    transport, theirs = ends
    sent = bytes(range(256)) * 256
    theirs.sendall(sent)
    pieces = []
    while sum(map(len, pieces)) < len(sent):
        piece, error = transport._sock_recv()
        assert error is None
        pieces.append(bytes(piece))
    assert b"".join(pieces) == sent
    assert len(pieces) < len(sent) / 4096


def test_nothing_there_is_no_error(ends: tuple[BulkTransport, socket.socket]) -> None:
    """A socket without data gives no bytes and stays open."""
    piece, error = ends[0]._sock_recv()
    assert (len(piece), error) == (0, None)


def test_the_other_end_closes(ends: tuple[BulkTransport, socket.socket]) -> None:
    """What came before the close is read; then there is an error, as kafka-python expects."""
    transport, theirs = ends
    theirs.sendall(b"last")
    theirs.close()
    piece, error = transport._sock_recv()
    assert (bytes(piece), error) == (b"last", None)
    piece, error = transport._sock_recv()
    assert len(piece) == 0
    assert "disconnected" in str(error)


def test_a_socket_that_is_gone(ends: tuple[BulkTransport, socket.socket]) -> None:
    """A socket closed under the transport is an error of the connection, not of the thread that reads."""
    ends[0]._sock.close()
    assert ends[0]._sock_recv()[1] is not None


def test_answers_come_whole(ends: tuple[BulkTransport, socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
    """kafka-python's parser gets every answer, byte by byte as it was sent, whether it was received in place or not."""
    monkeypatch.setattr(kafka.protocol.parser, "KafkaBytes", Frame)
    transport, theirs = ends
    parser = kafka.protocol.parser.KafkaProtocol()
    parser._process_response = lambda frame: bytes(frame.read())
    transport._protocol = SimpleNamespace(parser=parser)
    chance = random.Random(1)
    sizes = [0, 1, 70_000, BUFFER_BYTES - 1, BUFFER_BYTES, 5, 3_000_000, 2 * BUFFER_BYTES, 0, 1_000_000]
    sent = [chance.randbytes(size) for size in sizes]
    sender = threading.Thread(
        target=theirs.sendall, args=(b"".join(len(one).to_bytes(4, "big") + one for one in sent),)
    )
    sender.start()
    came, in_place = [], 0
    for _ in range(1_000_000):
        piece, error = transport._sock_recv()
        assert error is None
        in_place += len(piece) if parser._rbuffer is not None and piece.obj is parser._rbuffer.rest.obj else 0
        came += parser.receive_bytes(piece)
        if len(came) == len(sent):
            break
    sender.join(10)
    assert came == sent
    assert in_place > sum(sizes) / 2


@given(st.binary(max_size=40), st.lists(st.one_of(st.none(), st.integers(0, 50)), max_size=8))
def test_a_frame_reads_as_kafka_pythons(data: bytes, sizes: list[int | None]) -> None:
    """Whatever is asked for in turn, the same bytes come, and the same place is reached."""
    ours, theirs = Frame(len(data)), KafkaBytes(len(data))
    for frame in (ours, theirs):
        frame.write(data)
        frame.seek(0)
    for size in sizes:
        assert ours.read(size) == theirs.read(size)
        assert ours.tell() == theirs.tell()
    assert len(ours) == len(data)
