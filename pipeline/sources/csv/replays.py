"""The checkpoint keys of one file: the same bytes with other options are other records, and so another replay. Pure."""

from collections.abc import Callable, Iterator

from pipeline.sources.csv.reading import Options
from pipeline.sources.source import Position


class Replays:
    """The replays of one file's bytes into one topic.

    Each set of options that changes the records has a key of its own. Without such options it is the key of earlier
    versions, so that their checkpoints count. One more key holds a list of them all.
    """

    def __init__(self, fingerprint: str, named_symbol: str, topic: str) -> None:
        self._file, self._topic = f"csv/{fingerprint}", topic
        self._plain = f"{self._file}/{named_symbol}/{topic}"
        self._list_key = f"{self._file}/{topic}"
        self._without_symbol = f"{self._file}//{topic}"

    def key(self, options: Options, encoding: str = "") -> str:
        """Return the checkpoint key of a replay with these options."""
        order = {True: "day-first", False: "month-first", None: ""}[options.day_first]
        changes = (
            options.symbol_column and f"symbol-column={options.symbol_column}",
            options.interval and f"interval={options.interval}",
            options.timezone and f"timezone={options.timezone}",
            order,
            {True: "stamped-end", False: "stamped-start", None: ""}[options.ends],
            "missing=fill" if options.missing == "fill" else "",
            encoding and f"encoding={encoding}",
            options.basis and f"basis={options.basis}",
        )
        return "/".join([self._plain, *filter(None, [",".join(filter(None, changes))])])

    def registration(self, key: str, position_of: Callable[[str], Position | None]) -> dict[str, Position]:
        """Return what enters a key into the list, to be sent with its first batch; nothing if it is in there."""
        known = self._known(position_of)
        return {} if key in known else {self._list_key: {"replays": [*known, key]}}

    def notes(self, key: str, position_of: Callable[[str], Position | None]) -> Iterator[str]:
        """Say of each other replay of the file how much it has sent, and with which options."""
        # Earlier versions kept no list.
        for other in dict.fromkeys([*self._known(position_of), self._plain, self._without_symbol]):
            position = position_of(other)
            if other == key or not position:
                continue
            symbol, _, changes = other.removeprefix(f"{self._file}/").partition(f"/{self._topic}")
            said = ", ".join(filter(None, [symbol and f"symbol {symbol}", changes.lstrip("/")])) or "none"
            sent = f"{position['sent']:,} records" if "sent" in position else f"up to {position.get('row', 0):,} rows"
            yield f"the same file was sent before with other options ({said}): {sent}, which stay; this is a new replay"

    def _known(self, position_of: Callable[[str], Position | None]) -> list[str]:
        return list((position_of(self._list_key) or {}).get("replays", ()))
