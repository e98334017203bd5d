"""kafka-python's connection, reading more than 4 KB at a time, and copying less."""

import kafka.net.manager
import kafka.protocol.parser
import numpy as np
from kafka.errors import KafkaConnectionError
from kafka.net.transport import KafkaTCPTransport

_BUFFER_BYTES = 256 * 1024


def install() -> None:
    """Let connections that this process opens from now on, without TLS, read what has arrived in one call, to where it
    stays.

    kafka-python 3.0.12 asks the socket for 4 KB again and again and lets go of Python's lock each time, so that other
    threads at work stretch the reading of a fetch, and copies what it got four times before it is decoded.
    """
    kafka.net.manager.KafkaTCPTransport = _BulkTransport
    kafka.protocol.parser.KafkaBytes = _Frame


class _BulkTransport(KafkaTCPTransport):
    """kafka-python's transport, receiving large answers in place and the rest in a buffer of its own."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)
        self._received = memoryview(bytearray(_BUFFER_BYTES))

    def _sock_recv(self) -> tuple[memoryview, KafkaConnectionError | None]:
        """What has arrived, valid until the next call, or the error that ends the connection. Called when there is
        something.
        """
        room = self._room()
        try:
            count = self._sock.recv_into(room)
        except (BlockingIOError, InterruptedError):
            return room[:0], None
        except Exception as error:
            return room[:0], KafkaConnectionError(error)
        return room[:count], None if count else KafkaConnectionError("socket disconnected")

    def _room(self) -> memoryview:
        """Where to receive: the rest of the answer that the parser is at, if that is much."""
        frame = self._protocol.parser._rbuffer if self._protocol else None
        return frame.rest if type(frame) is _Frame and len(frame.rest) >= _BUFFER_BYTES else self._received


class _Frame:
    """An answer for kafka-python's parser, instead of its KafkaBytes: written to the end, in order, then read."""

    def __init__(self, size: int) -> None:
        # Not cleared beforehand, as a bytearray would be.
        self._data = memoryview(np.empty(size, np.uint8))
        self._at = 0

    def __len__(self) -> int:
        return len(self._data)

    @property
    def rest(self) -> memoryview:
        """What is behind the current place."""
        return self._data[self._at :]

    def tell(self) -> int:
        return self._at

    def seek(self, at: int) -> None:
        self._at = at

    def write(self, data: bytes | memoryview) -> None:
        """Put the next bytes; those that were received in place are there already."""
        if type(data) is not memoryview or data.obj is not self._data.obj:
            self._data[self._at : self._at + len(data)] = data
        self._at += len(data)

    def read(self, nbytes: int | None = None) -> bytes | memoryview:
        """The next bytes, fewer at the end, or all that are left; if these are many they are not copied."""
        data = self.rest if nbytes is None else self.rest[:nbytes]
        self._at += len(data)
        return data.toreadonly() if nbytes is None and len(data) >= _BUFFER_BYTES else bytes(data)
