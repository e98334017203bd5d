"""The table trading_sessions and the view symbol_exchanges: when which symbol could be traded.

Each exchange is one Parquet object, written anew by glue_setup.py and before its ETL when the library's calendar has
changed or another year has begun. Exchanges that the settings no longer name keep their object.
"""

from collections.abc import Iterator
from datetime import date
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from etl.curation import text
from pipeline import aws, bucket
from pipeline.sessions import NO_EXCHANGE, Exchange, Exchanges, Session, end_of_next_year
from pipeline.settings import Settings
from pipeline.tables.calls import object_change
from pipeline.tables.catalog import TableInput, location_of, table_input
from pipeline.tables.changes import Change

TRADING_SESSIONS, SYMBOL_EXCHANGES = "trading_sessions", "symbol_exchanges"
FIRST_DAY = date(2000, 1, 1)
COLUMNS = (
    ("exchange", "string", "market identifier code (ISO 10383), or 24/7 or 24/5"),
    ("session", "date", "date of the session at the exchange"),
    ("opens_at", "timestamp", "opening (UTC)"),
    ("closes_at", "timestamp", "close (UTC)"),
    ("is_early_close", "boolean", "whether it closes before the usual hour"),
    ("break_from", "timestamp", "start of a break, null for none (UTC)"),
    ("break_until", "timestamp", "end of the break (UTC)"),
)
EXCHANGE_COLUMNS = (("pattern", "string"), ("exchange", "string"), ("place", "int"))


def table(settings: Settings) -> TableInput:
    """Return the table over the objects of all exchanges."""
    return table_input(
        TRADING_SESSIONS,
        "When the exchanges are open, 2000 to the end of next year, from exchange_calendars.",
        location_of(settings, bucket.curated_folder(settings.s3_root, TRADING_SESSIONS)),
        "parquet",
        columns=list(COLUMNS),
        partitions=[],
        parameters={},
    )


def view_sql(settings: Settings) -> str:
    """Return the query of the view symbol_exchanges: LIKE patterns of symbols, of which the first that fits counts."""
    pairs = [*settings.symbol_exchange_list, *([("*", settings.exchange)] if settings.exchange != NO_EXCHANGE else [])]
    rows = [
        f"(CAST({text(_like(symbol))} AS varchar), CAST({text(name)} AS varchar), {place})"
        for place, (symbol, name) in enumerate(pairs)
    ]
    values = ",\n  ".join(rows) or "('', '', 0)"
    return f"SELECT pattern, exchange, place\nFROM (VALUES\n  {values}\n) AS listed (pattern, exchange, place)"


def _like(symbol: str) -> str:
    """A symbol with * as a pattern of LIKE ... ESCAPE '|'."""
    for character in "|%_":
        symbol = symbol.replace(character, f"|{character}")
    return symbol.replace("*", "%")


def session_changes(settings: Settings, *, today: date) -> Iterator[Change]:
    """Yield the change of each exchange's object. Raises SettingsError for an exchange that does not exist."""
    s3 = aws.client(settings, "s3")
    for exchange in Exchanges(settings).all():
        name = exchange.name.replace("/", "_")
        key = f"{bucket.curated_folder(settings.s3_root, TRADING_SESSIONS)}{name}.parquet"
        sessions = exchange.known_sessions(FIRST_DAY, end_of_next_year(today))
        body = encoded(exchange, sessions)
        why = f"{len(sessions):,} up to {sessions[-1].day}"
        yield object_change(s3, f"sessions of {exchange.name}", body, why=why, Bucket=settings.s3_bucket, Key=key)


def encoded(exchange: Exchange, sessions: list[Session]) -> bytes:
    """Return the sessions as Parquet; the same sessions give the same bytes."""
    types = {"string": pa.string(), "date": pa.date32(), "timestamp": pa.timestamp("ms"), "boolean": pa.bool_()}
    schema = pa.schema([(name, types[kind]) for name, kind, _ in COLUMNS])
    rows: list[dict[str, Any]] = [
        {
            "exchange": exchange.name,
            "session": one.day,
            "opens_at": one.opens_at.replace(tzinfo=None),
            "closes_at": one.closes_at.replace(tzinfo=None),
            "is_early_close": one.is_early_close,
            "break_from": one.break_from and one.break_from.replace(tzinfo=None),
            "break_until": one.break_until and one.break_until.replace(tzinfo=None),
        }
        for one in sessions
    ]
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.Table.from_pylist(rows, schema), sink, compression="zstd")
    return bytes(sink.getvalue())
