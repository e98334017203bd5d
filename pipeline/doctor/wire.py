"""What a listener speaks, asked of the listener itself: TLS or not, SASL or not, and which mechanisms.

Kafka's SaslHandshake is answered before any login. A listener without SASL says ILLEGAL_SASL_STATE; one with SASL lists
its mechanisms. Source: https://kafka.apache.org/protocol#The_Messages_SaslHandshake
"""

import socket
import ssl
import struct
from dataclasses import dataclass

_SASL_HANDSHAKE, _VERSION = 17, 1
_ILLEGAL_SASL_STATE = 34
_SECONDS = 5
_MOST_BYTES = 64 * 1024


@dataclass(frozen=True)
class Spoken:
    """`protocol` as KAFKA_SECURITY_PROTOCOL names it, empty when nothing answered as Kafka does."""

    protocol: str
    mechanisms: tuple[str, ...] = ()


def reach(host: str, port: int) -> str:
    """Why no connection to an address is possible from here; empty when one is."""
    try:
        socket.create_connection((host, port), timeout=_SECONDS).close()
    except socket.gaierror:
        return f"the name {host} is not known here"
    except TimeoutError:
        return f"no answer in {_SECONDS} s: a security group, a firewall, or an address of another network"
    except OSError as error:
        return f"{error.strerror or error}"
    return ""


def spoken(host: str, port: int) -> Spoken:
    """Ask over TLS first, then without."""
    for is_tls in (True, False):
        try:
            with _connect(host, port, is_tls=is_tls) as connection:
                code, mechanisms = _sasl_handshake(connection)
        except ssl.SSLError as error:
            if "certificate required" in str(error).lower() or "CERTIFICATE_REQUIRED" in str(error):
                return Spoken("SSL")
            continue
        except (OSError, struct.error):
            continue
        sasl = "" if code == _ILLEGAL_SASL_STATE else "SASL_"
        return Spoken(f"{sasl}{'SSL' if is_tls else 'PLAINTEXT'}", mechanisms)
    return Spoken("")


def certificate_fault(host: str, port: int, cafile: str) -> str:
    """Why a client that checks certificates would refuse this one; empty when it would not."""
    context = ssl.create_default_context(cafile=cafile or None)
    try:
        with (
            socket.create_connection((host, port), timeout=_SECONDS) as raw,
            context.wrap_socket(raw, server_hostname=host),
        ):
            return ""
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except (ssl.SSLError, OSError):
        return ""  # What is wrong here is not the server's certificate; the login will say it.


def _connect(host: str, port: int, *, is_tls: bool) -> socket.socket:
    raw = socket.create_connection((host, port), timeout=_SECONDS)
    if not is_tls:
        return raw
    # Only the protocol is asked for here, and nothing secret is sent: whose certificate it is, certificate_fault looks
    # at.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        return context.wrap_socket(raw, server_hostname=host)
    except BaseException:
        raw.close()
        raise


def _sasl_handshake(connection: socket.socket) -> tuple[int, tuple[str, ...]]:
    body = struct.pack(">hhih", _SASL_HANDSHAKE, _VERSION, 1, -1) + _text("none")
    connection.sendall(struct.pack(">i", len(body)) + body)
    (size,) = struct.unpack(">i", _read(connection, 4))
    if not 10 <= size <= _MOST_BYTES:
        raise OSError("not an answer of Kafka")
    answer = _read(connection, size)
    _correlation, error, count = struct.unpack_from(">ihi", answer)
    names, place = [], 10
    for _ in range(count):
        (length,) = struct.unpack_from(">h", answer, place)
        names.append(answer[place + 2 : place + 2 + length].decode())
        place += 2 + length
    return error, tuple(names)


def _text(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()


def _read(connection: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        part = connection.recv(count - len(found))
        if not part:
            raise OSError("closed")
        found += part
    return found
