"""kafka-python's connection, reading more than 4 KB at a time, and copying less."""

import kafka.net.manager
import kafka.protocol.parser
from kafka.errors import KafkaConnectionError
from kafka.net.transport import KafkaTCPTransport
from kafka.protocol.frame import KafkaBytes

_BUFFER_BYTES = 256 * 1024


def install() -> None:
    """Let connections that this process opens from now on, without TLS, read what has arrived in one call.

    kafka-python 3.0.12 asks the socket for 4 KB again and again and lets go of Python's lock each time, so that other threads at
    work stretch the reading of a fetch, and copies what it got twice more.
    """
    kafka.net.manager.KafkaTCPTransport = _BulkTransport
    kafka.protocol.parser.KafkaBytes = _Frame


class _BulkTransport(KafkaTCPTransport):
    """kafka-python's transport with a buffer of its own."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)
        self._received = memoryview(bytearray(_BUFFER_BYTES))

    def _sock_recv(self) -> tuple[memoryview, KafkaConnectionError | None]:
        """What has arrived, valid until the next call, or the error that ends the connection. Called when there is something."""
        try:
            count = self._sock.recv_into(self._received)
        except (BlockingIOError, InterruptedError):
            return self._received[:0], None
        except Exception as error:  # noqa: BLE001 - as in kafka-python: whatever it is, it ends the connection
            return self._received[:0], KafkaConnectionError(error)
        return self._received[:count], None if count else KafkaConnectionError("socket disconnected")


class _Frame(KafkaBytes):
    """kafka-python's buffer of an answer."""

    def read(self, nbytes: int | None = None) -> bytes:
        """The next bytes, fewer at the end; copied once, where kafka-python's own cuts out a bytearray and copies that."""
        begin, end = self._idx, len(self) if nbytes is None else min(self._idx + nbytes, len(self))
        self._idx = end
        with memoryview(self) as view:
            return bytes(view[begin:end])
