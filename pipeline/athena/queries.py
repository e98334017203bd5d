"""The named queries of athena_queries.sql."""

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.settings import SettingsError

QUERIES_FILE = Path(__file__).parent.parent.parent / "athena_queries.sql"


@dataclass(frozen=True)
class Query:
    """One block of athena_queries.sql. `line` is that of the SQL's first line in the file."""

    name: str
    description: str
    sql: str
    line: int = 1
    path: str = ""


def queries(path: str | Path = QUERIES_FILE) -> dict[str, Query]:
    """The blocks of a file of queries, by name, in their order. A block begins with `-- name: …`; the comment lines
    below that are its description; the rest, up to the next block, is one statement. Raises SettingsError.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SettingsError([f"{path}: cannot be read ({error.strerror})"]) from None
    found: dict[str, Query] = {}
    starts = [number for number, line in enumerate(lines) if line.startswith("-- name:")] + [len(lines)]
    for start, end in itertools.pairwise(starts):
        name = lines[start].removeprefix("-- name:").strip()
        first = next((n for n in range(start + 1, end) if lines[n].strip() and not lines[n].startswith("--")), end)
        description = " ".join(line.removeprefix("--").strip() for line in lines[start + 1 : first]).strip()
        sql = "\n".join(lines[first:end]).strip().removesuffix(";").rstrip()
        if not re.fullmatch(r"\w+", name) or not sql or name in found:
            raise SettingsError(
                [f"{path}:{start + 1}: a block needs a name of its own (letters, digits, _) and a statement: {name!r}"]
            )
        found[name] = Query(name, description, sql, first + 1, str(path))
    return found


def as_traded(query: Query) -> Query:
    """Return the query with the prices of each day as they were traded that day, and volumes likewise."""
    if not re.search(r"\badjusted_bars\b", query.sql):
        return query
    return replace(query, sql=hiding(query.sql, {"adjusted_bars": as_traded_bars()}))


def as_traded_bars(condition: str = "true") -> str:
    """Return a SELECT in place of adjusted_bars whose prices are as traded. `condition` chooses its rows."""
    prices = ", ".join(f'"{name}" * as_traded_factor AS "{name}"' for name in ("open", "high", "low", "close", "vwap"))
    # Only names of ours, and a condition whose texts are quoted.
    return (
        f'SELECT symbol, company, time, "interval", {prices}, volume / as_traded_factor AS volume, trades, source, '  # noqa: S608
        f"ingested_at, month, total_return_close, dividend_factor, basis FROM adjusted_bars WHERE {condition}"
    )


def hiding(sql: str, views: Mapping[str, str]) -> str:
    """Return the statement with a SELECT in place of each view.

    A name given in WITH hides the view of the same name, and only after its own definition. All of it goes on the
    statement's first line, so that the line numbers in Athena's errors stay right.
    """
    named = ", ".join(f"{view} AS ({select})" for view, select in views.items())
    own_with = re.match(r"with\b", sql, re.IGNORECASE)
    return f"WITH {named},{sql[own_with.end() :]}" if own_with else f"WITH {named} {sql}"
