# ruff: noqa: S608 - the parts of the SQL built here are names of ours, checked times and conditions whose texts are quoted
"""What a reader may choose of every query: some of the rows, prices as traded, and what was known at a time. Pure, but
for reading SQL files.

A name given in WITH hides the view of the same name, so a choice needs no other text of the query.
"""

import re
from argparse import ArgumentTypeError
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from string import Template

from pipeline.athena import price_views

VIEWS = ("adjusted_bars", "bars", "ticks", "news", "actions", "symbols", "adjustments")
_ETL_OF_ACTIONS = Path(__file__).parent.parent.parent / "etl" / "actions.sql"
_THEN = "_then"
# Of equal ones what the views choose, too (pipeline/tables/catalog.py).
_LATEST = {
    "bars": ('symbol, "interval", time, month', 'ingested_at DESC, source DESC, "close" DESC, volume DESC'),
    "news": ("id, symbol, month", "ingested_at DESC, source DESC, title DESC, time DESC"),
    "actions": ("source, kind, id", "ingested_at DESC, time DESC, amount DESC, split_to DESC, cancelled DESC"),
}


def chosen(sql: str, *, conditions: Mapping[str, str], as_traded: bool = False, as_of: str = "") -> str:
    """Return the statement with these choices.

    `conditions` has by view a condition of its rows. `as_traded` gives the prices of each day as they were. `as_of`, a
    UTC time as records write it, leaves what was read by then: it reads all that had landed, from the raw objects,
    with prices on the shares of that day.
    """
    used = [view for view in VIEWS if re.search(rf"\b(?:from|join)\s+{view}\b", sql, re.IGNORECASE)]
    suffix, selects = _THEN if as_of else "", {}
    for view in used:
        condition = conditions.get(view, "")
        if as_traded and view == "adjusted_bars":
            selects[view] = as_traded_bars(condition or "true", view + suffix)
        elif condition or as_of:
            selects[view] = f"SELECT * FROM {view}{suffix} WHERE {condition or 'true'}"
    return hiding(sql, (_views_then(as_of) if as_of else {}) | selects) if selects else sql


def as_traded_bars(condition: str, view: str) -> str:
    """Return a SELECT in place of adjusted_bars whose prices are as traded. `condition` chooses its rows."""
    prices = ", ".join(f'"{name}" * as_traded_factor AS "{name}"' for name in ("open", "high", "low", "close", "vwap"))
    return (
        f'SELECT symbol, company, time, "interval", {prices}, volume / as_traded_factor AS volume, trades, source, '
        f"ingested_at, month, total_return_close, dividend_factor, basis FROM {view} WHERE {condition}"
    )


def hiding(sql: str, views: Mapping[str, str]) -> str:
    """Return the statement with a SELECT in place of each view.

    All of it goes on the statement's first line, so that the line numbers in Athena's errors stay right.
    """
    named = ", ".join(f"{view} AS ({' '.join(select.splitlines())})" for view, select in views.items())
    own_with = re.match(r"with\b", sql, re.IGNORECASE)
    return f"WITH {named},{sql[own_with.end() :]}" if own_with else f"WITH {named} {sql}"


def _views_then(as_of: str) -> dict[str, str]:
    """Every view as it would have been, under another name: from what had landed, with the closes before dividends
    that the ETL would have found.
    """
    landed = {
        record: f"SELECT * FROM landed_{record} WHERE ingested_at <= TIMESTAMP '{as_of}'"
        for record in ("bars", "ticks", "news", "actions")
    }
    found = {}
    for record, (key, order) in _LATEST.items():
        latest = f"SELECT *, row_number() OVER (PARTITION BY {key} ORDER BY {order}) AS turn FROM ({landed[record]})"
        found[f"{record}{_THEN}"] = f"SELECT * FROM ({latest}) WHERE turn = 1"
    lines = _ETL_OF_ACTIONS.read_text(encoding="utf-8").splitlines()
    etl = Template("\n".join(line for line in lines if not line.lstrip().startswith("--")))
    nothing = f"({landed['actions']} AND false)"
    rows = etl.substitute(raw=landed["actions"], curated=nothing, touched="true", bars=f"bars{_THEN}")
    # Names need no closes, and are read several times.
    found[f"listed{_THEN}"] = f"SELECT * FROM ({found[f'actions{_THEN}']}) WHERE NOT coalesce(cancelled, false)"
    found[f"actions{_THEN}"] = f"SELECT * FROM ({rows}) WHERE NOT coalesce(cancelled, false)"
    found[f"ticks{_THEN}"] = landed["ticks"]
    inputs = {name: f"{name}{_THEN}" for name in VIEWS}
    for name in price_views.NAMES:
        own = inputs | {"actions": f"listed{_THEN}"} if name == "symbols" else inputs
        found[f"{name}{_THEN}"] = price_views.price_view(name, own, today=f"DATE '{as_of[:10]}'")
    return found


def is_one_of(column: str, values: Iterable[str]) -> str:
    """Return the condition that a column is one of these texts."""
    quoted = ("'" + value.replace("'", "''") + "'" for value in values)
    return f"{column} IN ({', '.join(quoted)})"


def instant(text: str) -> str:
    """Return the UTC time, as records write it, of a time or of the end of a day. Raises ArgumentTypeError."""
    try:
        found = datetime.fromisoformat(f"{text} 23:59:59.999" if len(text) == 10 else text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a day or time such as 2024-06-10 or 2024-06-10T14:30Z") from None
    if found.tzinfo is not None:
        found = found.astimezone(UTC).replace(tzinfo=None)
    return found.isoformat(sep=" ", timespec="milliseconds")
