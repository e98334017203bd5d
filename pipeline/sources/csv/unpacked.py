"""The bytes of a price file, unpacked, within bounds: no archive fills the memory or the disk."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from pipeline.sources.csv.dialects import UnusableFile

DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)  # what reading a damaged or cut gzip stream raises
# Price CSVs pack to a third or a tenth of their size; the same row over and over again to a hundredth.
MOST_TIMES_ITS_SIZE, ALWAYS_ALLOWED_BYTES = 250, 64 << 20
# The csv module refuses fields of more than 131,072 characters, of four bytes at most: what is cut is refused as well.
LONGEST_LINE_BYTES = 1 << 20


@contextmanager
def unpacked(path: Path) -> Iterator[io.BufferedIOBase]:
    """Open a file, packed by gzip or not. Reading raises one of DAMAGED, or UnusableFile for a compression bomb."""
    with path.open("rb") as raw:
        is_packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        with cast("BinaryIO", gzip.open(raw)) if is_packed else raw as plain:
            yield _Bounded(plain, path.stat().st_size if is_packed else None)


class _Bounded(io.BufferedIOBase):
    """Passes bytes on, cuts lines that are too long, and raises UnusableFile for an archive that grows too much."""

    def __init__(self, plain: BinaryIO, packed_bytes: int | None) -> None:
        self._plain = plain
        self._most = None if packed_bytes is None else max(ALWAYS_ALLOWED_BYTES, MOST_TIMES_ITS_SIZE * packed_bytes)
        self._at = self._line_bytes = 0

    def readable(self) -> bool:
        return True

    def read1(self, size: int = -1) -> bytes:
        """Return some bytes, none at the end only."""
        while data := cast("io.BufferedReader", self._plain).read1(size):
            began, self._at = self._at, self._at + len(data)
            if self._most is not None and self._at > self._most:
                raise UnusableFile(
                    f"a compression bomb: it unpacks to more than {MOST_TIMES_ITS_SIZE} times its size and more than "
                    f"{ALWAYS_ALLOWED_BYTES >> 20} MB; unpack it yourself if it is not one"
                )
            if kept := self._without_long_lines(data, began):
                return kept
        return b""

    def read(self, size: int | None = -1) -> bytes:
        """Return so many bytes, fewer at the end only."""
        parts, wanted = [], size if size is not None and size >= 0 else 1 << 62
        while wanted > 0 and (data := self.read1(min(wanted, 1 << 16))):
            parts.append(data)
            wanted -= len(data)
        return b"".join(parts)

    def _without_long_lines(self, data: bytes, began: int) -> bytes:
        """The bytes less what is beyond the longest line. Cuts are at even offsets, for UTF-16."""
        was_too_long = self._line_bytes > LONGEST_LINE_BYTES
        last_end = max(data.rfind(b"\n"), data.rfind(b"\r"))
        if last_end < 0:
            self._line_bytes += len(data)
            if was_too_long:
                return b""
            return data[: began % 2] if self._line_bytes > LONGEST_LINE_BYTES else data
        self._line_bytes = len(data) - last_end - 1
        if not was_too_long:
            return data
        first_end = min(at for at in (data.find(b"\n"), data.find(b"\r")) if at >= 0)
        return data[max(0, first_end - (began + first_end) % 2) :]
