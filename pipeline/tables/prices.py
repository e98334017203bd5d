"""The views that put prices on the shares of today: adjustments and adjusted_bars. Pure, but for reading their SQL.

Both are Athena's own SQL (width_bucket over an array is a binary search there). They read other views, so they need no
change when the ETL runs.
"""

from pathlib import Path
from string import Template

from pipeline.records import Bar, columns
from pipeline.settings import Settings

_DOUBLES = "array<double>"
# What adjusted_bars has beside the columns of bars.
ADDED_TO_BARS = ("total_return_close", "close_as_traded", "as_traded_factor", "split_factor", "dividend_factor")
# Of each view, in the order in which they need each other: its columns with their types, and the views that it reads.
PRICE_VIEWS: dict[str, tuple[tuple[tuple[str, str], ...], tuple[str, ...]]] = {
    "adjustments": (
        (
            ("symbol", "string"),
            ("days", _DOUBLES),
            ("instants", _DOUBLES),
            ("split_factors", _DOUBLES),
            ("spin_off_factors", _DOUBLES),
            ("dividend_factors", _DOUBLES),
        ),
        ("actions",),
    ),
    "adjusted_bars": (
        (
            *((column.name, column.type) for column in columns(Bar)),
            ("month", "string"),
            *((name, "double") for name in ADDED_TO_BARS),
            ("basis", "string"),
        ),
        ("bars", "adjustments"),
    ),
}


def view_sql(settings: Settings, name: str) -> str:
    """Return the query of a view, without the comments of its file."""
    text = (Path(__file__).parent / f"{name}.sql").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
    return Template("\n".join(lines)).substitute(database=settings.glue_database)
