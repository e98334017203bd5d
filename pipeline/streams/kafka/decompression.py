"""The records of a compressed batch, within a bound: a batch of a megabyte can decompress to gigabytes.

The codecs are those of Kafka: https://kafka.apache.org/documentation/#recordbatch
"""

import gzip
import io
import struct
from collections.abc import Iterator

import lz4.frame
import zstandard

GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
# A producer's batch is at most some megabytes before it is compressed.
MOST_BYTES = 128 * 1024 * 1024
_PIECE_BYTES = 1024 * 1024
_XERIAL = b"\x82SNAPPY\0"
_XERIAL_HEADER_BYTES = 16


class TooLarge(ValueError):
    """The records are more than may be in memory."""


def decompress(codec: int, data: memoryview, most: int = MOST_BYTES) -> bytes | None:
    """Return what was compressed; None of snappy, which says beforehand how much it is, and of unknown codecs.

    Raises TooLarge, and for damaged data what the codec's library raises.
    """
    if codec == SNAPPY and (declared := _snappy_bytes(bytes(data))) > most:
        raise TooLarge(f"decompresses to {declared:,} bytes, more than the {most:,} that are read")
    pieces = {GZIP: _gzip, LZ4: _lz4, ZSTD: _zstd}.get(codec)
    if pieces is None:
        return None
    found, size = [], 0
    for piece in pieces(data):
        found.append(piece)
        if (size := size + len(piece)) > most:
            raise TooLarge(f"decompresses to more than the {most:,} bytes that are read")
    return found[0] if len(found) == 1 else b"".join(found)


def _gzip(data: memoryview) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as reader:
        while piece := reader.read(_PIECE_BYTES):
            yield piece


def _zstd(data: memoryview) -> Iterator[bytes]:
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
        while piece := reader.read(_PIECE_BYTES):
            yield piece


def _lz4(data: memoryview) -> Iterator[bytes]:
    frame = lz4.frame.LZ4FrameDecompressor()
    piece = frame.decompress(bytes(data), _PIECE_BYTES)
    yield piece
    while not frame.eof:
        if not (piece := frame.decompress(b"", _PIECE_BYTES)) and frame.needs_input:
            raise EOFError("the frame has no end")
        yield piece


def _snappy_bytes(data: bytes) -> int:
    """How many bytes snappy says that it holds, as one block or in the framing of Java's clients."""
    if not data.startswith(_XERIAL):
        return _snappy_block_bytes(data)
    at, found = _XERIAL_HEADER_BYTES, 0
    while at + 4 <= len(data):
        (length,) = struct.unpack_from(">i", data, at)
        found += _snappy_block_bytes(data[at + 4 : at + 14])
        at += 4 + max(length, 0)
    return found


def _snappy_block_bytes(block: bytes) -> int:
    """The varint at the beginning of a block, whatever follows."""
    number = 0
    for place, byte in enumerate(block[:5]):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            break
    return number
