"""Records that were taken back: which they are, and how views and ETL leave them out. Pure.

A retraction is one small object below `retractions/`. The raw objects stay as they were landed. It covers what was
ingested before it was made: a file that is sent again, corrected, is a new record.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

import msgspec

from etl.curation import is_one_of, text
from pipeline import records
from pipeline.records import TABLES


@dataclass(frozen=True, kw_only=True)
class Retraction:
    """Records of one table that are taken back: those that meet every condition given. Days are those of `time`, both
    included; ingestion times are from the first one on and before the last one, UTC.
    """

    id: str
    made_at: str
    table: str
    ingested_before: str
    ingested_from: str = ""
    symbols: tuple[str, ...] = ()
    source: str = ""
    interval: str = ""
    first_day: str = ""
    last_day: str = ""
    reason: str = ""

    @property
    def said(self) -> str:
        """What it takes back, for people."""
        days = (
            self.first_day if self.first_day == self.last_day else f"{self.first_day or '…'} to {self.last_day or '…'}"
        )
        parts = (
            f"symbol {', '.join(self.symbols)}" if self.symbols else "",
            self.source and f"source {self.source}",
            self.interval and f"interval {self.interval}",
            f"of {days}" if days and days != "… to …" else "",
            self.ingested_from and f"ingested from {self.ingested_from}",
        )
        return f"{self.table}: {', '.join(filter(None, parts))}, ingested before {self.ingested_before}"

    def covers(self, row: dict[str, object]) -> bool:
        """Whether a bar, by the names of its fields and with its times as records write them, is taken back."""
        time, ingested_at = str(row.get("time")), str(row.get("ingested_at"))
        return (
            (not self.symbols or row.get("symbol") in self.symbols)
            and (not self.source or row.get("source") == self.source)
            and (not self.interval or row.get("interval") == self.interval)
            and (not self.first_day or time >= self.first_day)
            and (not self.last_day or time < _following(self.last_day))
            and self.ingested_from <= ingested_at < self.ingested_before
        )


def condition(retraction: Retraction) -> str:
    """Return the SQL condition of the rows that it takes back, over typed columns. Trino and Spark both run it."""
    parts = [f'"ingested_at" < TIMESTAMP {text(retraction.ingested_before)}']
    if retraction.ingested_from:
        parts.append(f'"ingested_at" >= TIMESTAMP {text(retraction.ingested_from)}')
    if retraction.symbols:
        parts.append(is_one_of('"symbol"', [*retraction.symbols]))
    for column in ("source", "interval"):
        if value := getattr(retraction, column):
            parts.append(f'"{column}" = {text(value)}')
    if retraction.first_day:
        parts.append(f'"time" >= TIMESTAMP {text(f"{retraction.first_day} 00:00:00")}')
    if retraction.last_day:
        parts.append(f'"time" < TIMESTAMP {text(f"{_following(retraction.last_day)} 00:00:00")}')
    return " AND ".join(parts)


def kept(retractions: Iterable[Retraction]) -> list[str]:
    """Return the conditions of the rows that are not taken back, one for each retraction. A null meets no condition."""
    return [f"NOT coalesce({condition(each)}, false)" for each in retractions]


def scope(retraction: Retraction) -> str:
    """Return the condition of the raw rows whose keys a retraction may touch, over the raw columns of any format."""
    parts = [is_one_of('"symbol"', [*retraction.symbols])] if retraction.symbols else []
    day = "substr(CAST(time AS varchar(23)), 1, 10)"
    parts += [f"{day} >= {text(retraction.first_day)}"] if retraction.first_day else []
    parts += [f"{day} <= {text(retraction.last_day)}"] if retraction.last_day else []
    return " AND ".join(parts) or "true"


def encode(retraction: Retraction) -> bytes:
    """Return a retraction as JSON."""
    return msgspec.json.format(msgspec.json.encode(retraction), indent=1)


def decode(body: bytes) -> Retraction:
    """Read a retraction. Raise msgspec.ValidationError."""
    return msgspec.json.decode(body, type=Retraction)


def has_column(table: str, name: str) -> bool:
    """Whether the records of a table have this field."""
    return any(column.name == name for column in records.columns(TABLES[table]))


def _following(day: str) -> str:
    return (date.fromisoformat(day) + timedelta(days=1)).isoformat()
