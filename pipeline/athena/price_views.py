"""The SQL of the views that put prices on today's shares, by whatever names their inputs go: Athena's, or Spark's."""

import re
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Literal

from pipeline.records import Bar, columns

# In the order in which they need each other.
NAMES = ("symbols", "adjustments", "adjusted_bars")
Engine = Literal["athena", "spark"]
# New York's day, on and before which actions count.
TODAY: dict[Engine, str] = {
    "athena": "date(current_timestamp AT TIME ZONE 'America/New_York')",
    "spark": "date(from_utc_timestamp(current_timestamp(), 'America/New_York'))",
}
# Rows in arrays: columns, which are the names of their fields, with Athena's types.
_ROWS = {
    "payment": {"amount": "double", "amount_time": "double"},
    "day_of_actions": {
        "day_time": "double",
        "instant": "double",
        "ratio": "double",
        "spin_off": "double",
        "paid": "array(ROW(amount double, amount_time double))",
        "reference_close": "double",
        "reference_time": "double",
    },
    "span": {"from_day": "date", "until_day": "date", "name": "varchar", "is_before": "boolean"},
}
# What Spark calls otherwise. In its ANSI mode element_at fails where there is no such element; its width_bucket knows
# no array, and there are few actions to go through.
_SPARK = (
    (re.compile(r"\bARRAY\[([^\[\]]*)\]"), r"array(\1)"),
    (re.compile(r"\bwidth_bucket\(([\w.]+), (\w+)\)"), r"size(filter(\2, step -> step <= \1))"),
    (re.compile(r"\bto_unixtime\("), "double("),
    (re.compile(r"\bwith_timezone\("), "to_utc_timestamp("),
    (re.compile(r"\bany_match\("), "exists("),
    (re.compile(r"\belement_at\("), "try_element_at("),
)


def price_view(name: str, inputs: Mapping[str, str], *, today: str = "", engine: Engine = "athena") -> str:
    """Return the query of a view, without the comments of its file. `inputs`: by name the views that it reads. `today`:
    an expression of the last day whose actions count, without it New York's date. Spark has to be in ANSI mode with
    double-quoted identifiers and times in UTC, as the Glue job sets it.
    """
    text = (Path(__file__).parent / f"{name}.sql").read_text(encoding="utf-8")
    sql = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    stored = [*(column.name for column in columns(Bar) if column.name != "symbol"), "month"]
    if engine == "spark":
        for theirs, ours in _SPARK:
            sql = theirs.sub(ours, sql)
    rows = {row: _row(fields, engine) for row, fields in _ROWS.items()}
    names = ", ".join(f'"{one}"' for one in stored)
    return Template(sql).substitute(inputs, **rows, columns=names, today=today or TODAY[engine])


def _row(fields: Mapping[str, str], engine: Engine) -> str:
    names = ", ".join(fields)
    if engine == "spark":
        return f"struct({names})"
    return f"CAST(ROW({names}) AS ROW({', '.join(f'{name} {kind}' for name, kind in fields.items())}))"
