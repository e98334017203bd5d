"""Price CSVs as a source of bars: files, folders, globs, gzip, s3:// and standard input.

Reading is in chunks, in the order of time: a file that stands newest first is read from its end, so that "the last
known close" is never one of the future.
"""

import glob
import hashlib
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice, pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast
from zoneinfo import ZoneInfo

from pipeline.intervals import NEW_YORK
from pipeline.settings import ServiceError, Settings
from pipeline.sources.csv.bars import Chunk, Cleaner
from pipeline.sources.csv.dialects import UnusableFile
from pipeline.sources.csv.reading import Options, Reading, decide
from pipeline.sources.csv.unpacked import DAMAGED, unpacked

if TYPE_CHECKING:
    import s3fs

STANDARD_INPUT = "-"
_SUFFIXES = (".csv", ".csv.gz", ".txt", ".txt.gz", ".tsv", ".tsv.gz")
_CHUNK_LINES, _CHUNK_CHARACTERS = 10_000, 4 << 20
_HEAD_LINES = 20_000  # enough to see two bars of one symbol in a file that is sorted by time


@dataclass(frozen=True)
class PriceFile:
    """A file at hand. `name` is what the user called it, `fingerprint` is of its bytes."""

    name: str
    path: Path
    fingerprint: str
    encoding: str
    written_on: str  # day YYYY-MM-DD in New York; of a stream or a copy from S3 the day of the copy

    @property
    def source(self) -> str:
        return f"csv:{'stdin' if self.name == STANDARD_INPUT else Path(self.name).name}"

    @contextmanager
    def open(self) -> Iterator[io.TextIOWrapper]:
        """Open the file as text, whatever it is packed in."""
        with unpacked(self.path) as raw, io.TextIOWrapper(cast("BinaryIO", raw), self.encoding, newline="") as text:
            yield text

    def lines(self) -> Iterator[str]:
        """Yield the whole file, line by line."""
        with self.open() as text:
            yield from text


def find(places: list[str], settings: Settings) -> list[str]:
    """Return the files that paths, folders, globs and s3:// addresses name, sorted within each.

    Raises UnusableFile for a place without one.
    """
    found: list[str] = []
    for place in places:
        if place == STANDARD_INPUT:
            matches = [place]
        elif place.startswith("s3://"):
            matches = _find_s3(place, settings)
        elif os.path.isdir(place):  # noqa: PTH112 - False, not an error, for a name that is too long
            matches = sorted(
                str(p) for p in Path(place).rglob("*") if p.is_file() and p.name.lower().endswith(_SUFFIXES)
            )
        elif os.path.isfile(place):  # noqa: PTH113
            matches = [place]  # also one with brackets in its name
        else:
            matches = sorted(filter(os.path.isfile, glob.glob(place, recursive=True)))  # noqa: PTH207 - absolute ones too
        if not matches:
            raise UnusableFile(
                f"{place}: there is no such file, and no {', '.join(_SUFFIXES[:2])} in it if it is a folder"
            )
        found += matches
    return list(dict.fromkeys(found))


def _s3(settings: Settings) -> "s3fs.S3FileSystem":
    import s3fs  # noqa: PLC0415 - it takes a third of a second, and most replays read local files

    endpoint = {"endpoint_url": settings.aws_endpoint_url} if settings.aws_endpoint_url else {}
    return s3fs.S3FileSystem(client_kwargs={"region_name": settings.aws_region, **endpoint})


def _find_s3(place: str, settings: Settings) -> list[str]:
    try:
        files = _s3(settings)
        matches = files.glob(place) if "*" in place else files.find(place)
    except Exception as error:  # aiobotocore's and s3fs's errors have no common class
        raise ServiceError(f"AWS_REGION, AWS_ENDPOINT_URL or the credentials: cannot list {place}: {error}") from error
    return sorted(f"s3://{m}" for m in matches if m.lower().endswith(_SUFFIXES) or f"s3://{m}" == place)


@contextmanager
def at_hand(name: str, settings: Settings, *, encoding: str = "") -> Iterator[PriceFile]:
    """Give the file, copied to a temporary one first if it is not local: it is read more than once (fingerprint,
    dates, rows). Raises UnusableFile.
    """
    with tempfile.TemporaryDirectory(prefix="replay-") as folder:
        path = Path(name)
        if name == STANDARD_INPUT or name.startswith("s3://"):
            path = Path(folder) / "copy"
            with path.open("wb") as copy:
                _copy(name, copy, settings)
        try:
            with path.open("rb") as raw:
                fingerprint = hashlib.file_digest(raw, "sha256").hexdigest()[:32]
            written_on = datetime.fromtimestamp(path.stat().st_mtime, ZoneInfo(NEW_YORK)).date().isoformat()
            found = PriceFile(name, path, fingerprint, encoding or _encoding(path), written_on)
        except (OSError, *DAMAGED) as error:
            raise UnusableFile(f"cannot be read: {error}") from error
        yield found


def _copy(name: str, copy: IO[bytes], settings: Settings) -> None:
    if name == STANDARD_INPUT:
        shutil.copyfileobj(sys.stdin.buffer, copy)
        return
    try:
        with _s3(settings).open(name) as remote:
            shutil.copyfileobj(remote, copy)
    except OSError as error:
        raise ServiceError(f"AWS_REGION, AWS_ENDPOINT_URL or the credentials: cannot read {name}: {error}") from error


def _encoding(path: Path) -> str:
    with unpacked(path) as raw:
        head = raw.read(1 << 20)
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    try:
        # The last byte of a part may be the first half of a letter; its last line is left out.
        (head if len(head) < 1 << 20 else head[: head.rfind(b"\n")]).decode("utf-8")
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8-sig"


@contextmanager
def _readable(file: PriceFile) -> Iterator[None]:
    """Turn what reading a damaged file raises into UnusableFile."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise UnusableFile(f"cannot be read as {file.encoding} ({error}); --encoding names another") from error
    except DAMAGED as error:
        raise UnusableFile(f"is damaged: {error}") from error


def reading(file: PriceFile, options: Options, **how: Any) -> Reading:
    """Return how the file is read; raises UnusableFile. `how`: `exchange_of`, as decide() takes it."""
    with _readable(file):
        with file.open() as text:
            head = _next_lines(text, _HEAD_LINES)
        name = "" if file.name == STANDARD_INPUT else file.name
        return decide(head, file_name=name, options=options, all_lines=file.lines, written_on=file.written_on, **how)


def chunks(file: PriceFile, reading: Reading, cleaner: Cleaner) -> Iterator[Chunk]:
    """Yield the file's bars, oldest first, some thousand rows at a time. Raises UnusableFile where a damaged file can
    be read no further.
    """
    read = _backwards if reading.newest_first else _forwards
    with _readable(file):
        yield from read(file, reading.columns.header_lines, cleaner)


def _next_lines(text: Iterable[str], most: int) -> list[str]:
    """The next lines, fewer if they are long: files of garbage are read in bounded memory too."""
    lines: list[str] = []
    characters = 0
    while len(lines) < most and characters < _CHUNK_CHARACTERS and (some := list(islice(text, 500))):
        lines += some
        characters += sum(map(len, some))
    return lines


def _forwards(file: PriceFile, header_lines: int, cleaner: Cleaner) -> Iterator[Chunk]:
    with file.open() as text:
        line = 1 + len(list(islice(text, header_lines)))
        while lines := _next_lines(text, _CHUNK_LINES):
            yield cleaner.clean(lines, line)
            line += len(lines)


def _backwards(file: PriceFile, header_lines: int, cleaner: Cleaner) -> Iterator[Chunk]:
    """Chunks from the last to the first: gzip cannot be read backwards, so through a plain copy and where each chunk
    begins.
    """
    with tempfile.TemporaryFile() as plain, file.open() as text:
        line = len(list(islice(text, header_lines)))
        starts = [0]
        while lines := _next_lines(text, _CHUNK_LINES):
            line += len(lines)
            starts.append(starts[-1] + plain.write("".join(lines).encode()))
        for start, end in reversed(list(pairwise(starts))):
            plain.seek(start)
            # Not splitlines(): it would also split at U+2028 and other characters, which are no line ends in a CSV.
            lines = list(io.StringIO(plain.read(end - start).decode(), newline=""))
            yield cleaner.clean(lines[::-1], line, -1)
            line -= len(lines)
