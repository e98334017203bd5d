"""Files that grow: the content of an earlier replay is found at the beginning of a file, whatever the file is called.

"Beginning" is meant in the order of reading. A file that stands oldest first grows at its end, one that stands newest
first behind its header. Line ends and packing do not count.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from pipeline.sources.csv.dialects import UnusableFile
from pipeline.sources.csv.file import PriceFile
from pipeline.sources.csv.reading import Reading
from pipeline.sources.csv.unpacked import DAMAGED
from pipeline.sources.source import Position

MOST_VERSIONS = 20
_CHUNK_LINES = 10_000


@dataclass(frozen=True)
class Content:
    """What one pass over a file says: its lines behind the header, without blank ones at the end, their digest, and a
    digest of the header with the oldest line, which a file that grows keeps.
    """

    lines: int
    digest: str
    oldest: str


@dataclass(frozen=True)
class Version:
    """The content of one replay. `how` says how its rows were read, `key` under which checkpoint they were sent."""

    lines: int
    digest: str
    how: str
    key: str


def content_of(file: PriceFile, reading: Reading) -> Content:
    """Read a file once. One that is damaged has no content to be found again; reading its rows will tell."""
    try:
        return _content_of(file, reading)
    except (UnicodeDecodeError, UnusableFile, *DAMAGED):
        return Content(0, "", "")


def _content_of(file: PriceFile, reading: Reading) -> Content:
    whole, oldest = hashlib.sha256(), hashlib.sha256()
    lines, waiting = 0, ""  # blank lines belong to the content only if others follow
    header = reading.columns.header_lines
    with file.open() as text:
        oldest.update("".join(map(_line, islice(text, header))).encode())
        first = last = ""
        blank = 0
        for some in _chunks(text):
            filled = next((n for n in range(len(some), 0, -1) if some[n - 1].strip()), 0)
            if filled:
                whole.update((waiting + "".join(some[:filled])).encode())
                lines, waiting, blank = lines + blank + filled, "", 0
                first, last = first or some[0], some[filled - 1]
            waiting += "".join(some[filled:])
            blank += len(some) - filled
    oldest.update((last if reading.newest_first else first).encode())
    return Content(lines, whole.hexdigest()[:32], oldest.hexdigest()[:32])


def begins_with(file: PriceFile, reading: Reading, lines: int, lengths: Iterable[int]) -> dict[int, str]:
    """Return, by number of lines, the digest of the beginning of a file that has `lines` of them. Reads it once."""
    digests = {length: hashlib.sha256() for length in lengths if 0 < length <= lines}
    with file.open() as text:
        next(islice(text, reading.columns.header_lines, reading.columns.header_lines), None)
        at = 0
        for some in _chunks(text):
            for length, digest in digests.items():
                first, end = (lines - length, lines) if reading.newest_first else (0, length)
                part = some[max(0, first - at) : max(0, end - at)]
                digest.update("".join(part).encode())
            at += len(some)
    return {length: digest.hexdigest()[:32] for length, digest in digests.items()}


def _chunks(text: Iterable[str]) -> Iterator[list[str]]:
    lines = iter(text)
    while some := [_line(line) for line in islice(lines, _CHUNK_LINES)]:
        yield some


def _line(line: str) -> str:
    return line.rstrip("\r\n") + "\n"


class Versions:
    """The contents of a file that were replayed into one topic, as a checkpoint holds them: oldest replay first."""

    def __init__(self, content: Content, reading: Reading, key: str, topic: str) -> None:
        self._content, self._how, self._key = content, reading.how, key
        self._list_key = f"csv/versions/{content.oldest}/{topic}"

    def known(self, position_of: Callable[[str], Position | None]) -> list[Version]:
        """Return those that were replayed."""
        if not self._content.lines:
            return []
        return [Version(**each) for each in (position_of(self._list_key) or {}).get("versions", ())]

    def grown_from(self, known: Sequence[Version], digests: Callable[[list[int]], dict[int, str]]) -> Version | None:
        """Return the longest version that this content begins with and that was read in the same way with the same
        options, None if there is none. `digests` is asked for the beginnings of some lengths.
        """
        candidates = [v for v in known if v.how == self._how and _options(v.key) == _options(self._key)]
        found = digests(sorted({v.lines for v in candidates})) if candidates else {}
        same = [version for version in candidates if found.get(version.lines) == version.digest]
        return max(same, key=lambda version: version.lines, default=None)

    def since(self, known: Sequence[Version]) -> list[Version]:
        """Return the versions of the same options that were first sent after this content."""
        of_options = [version for version in known if _options(version.key) == _options(self._key)]
        keys = [version.key for version in of_options]
        return of_options[keys.index(self._key) + 1 :] if self._key in keys else []

    def registration(self, known: Sequence[Version]) -> dict[str, Position]:
        """Return what enters this content, to be sent with its first batch; nothing if it is in there."""
        if not self._content.lines or any(version.key == self._key for version in known):
            return {}
        own = Version(self._content.lines, self._content.digest, self._how, self._key)
        return {self._list_key: {"versions": [vars(version) for version in (*known, own)][-MOST_VERSIONS:]}}


def _options(key: str) -> str:
    """What a replay's key says beside the file's fingerprint: csv/<fingerprint>/<symbol>/<topic>[/<options>]."""
    return key.split("/", 2)[2]
