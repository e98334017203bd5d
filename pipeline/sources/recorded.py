"""Recorded answers of an API in place of the network: for tests, demos and support.

A folder of JSON files, one per page, named after what was asked: `aggs_AAPL_1_day.json`,
`grouped_daily_2020-10-14.json`, `previous_close_AAPL.json`, `news_page1.json`, `TIME_SERIES_DAILY_IBM.json`. Files
whose names begin alike are pages, in the order of their names.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from pipeline.sources.rest import Json, SourceError

log = logging.getLogger(__name__)


class Recorded:
    """Answers like Rest. `name_of` returns how the file names of a path and its parameters begin."""

    def __init__(self, folder: str, name_of: Callable[[str, Json], str]) -> None:
        self._folder, self._name_of = Path(folder), name_of
        self._left: list[Path] = []
        if not self._folder.is_dir():
            raise SourceError(f"--load {folder}: there is no such folder")

    def get(self, path: str, parameters: Mapping[str, object] | None = None) -> Json:
        """Return the next recorded page of a path, an empty object if none was recorded. Raises SourceError."""
        if not (parameters or {}).get("cursor"):
            name = self._name_of(path, dict(parameters or {}))
            self._left = sorted(
                p for p in self._folder.glob("*.json") if p.stem == name or p.stem.startswith(f"{name}_")
            )
        if not self._left:
            log.info("not recorded", extra={"path": path, "folder": str(self._folder)})
            return {}
        page = self._left.pop(0)
        try:
            body = msgspec.json.decode(page.read_bytes())
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SourceError(f"{page}: {error}") from None
        if not isinstance(body, dict):
            raise SourceError(f"{page}: is not a JSON object")
        if self._left and not body.get("next_url"):
            body["next_url"] = f"{path}?cursor=recorded-{len(self._left)}"
        return body
