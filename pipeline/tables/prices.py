"""The views that put prices on today's shares: symbols, adjustments and adjusted_bars. Their SQL is in
pipeline/athena.

They are Athena's own SQL (width_bucket over an array is a binary search there). They read other views, so they need no
change when the ETL runs.
"""

from pipeline.athena.price_views import price_view
from pipeline.records import Bar, columns
from pipeline.settings import Settings

_DOUBLES = "array<double>"
# What adjusted_bars has beside the columns of bars.
ADDED_TO_BARS = ("total_return_close", "close_as_traded", "as_traded_factor", "split_factor", "dividend_factor")
# Of each view, in the order in which they need each other: its columns with their types, and the views that it reads.
PRICE_VIEWS: dict[str, tuple[tuple[tuple[str, str], ...], tuple[str, ...]]] = {
    "symbols": (
        (
            ("symbol", "string"),
            ("name", "string"),
            ("from_day", "date"),
            ("until_day", "date"),
            ("figi", "string"),
            ("is_before", "boolean"),
        ),
        ("actions",),
    ),
    "adjustments": (
        (
            ("symbol", "string"),
            ("days", _DOUBLES),
            ("instants", _DOUBLES),
            ("split_factors", _DOUBLES),
            ("spin_off_factors", _DOUBLES),
            ("dividend_factors", _DOUBLES),
        ),
        ("actions", "symbols"),
    ),
    "adjusted_bars": (
        (
            *((column.name, column.type) for column in columns(Bar)),
            ("month", "string"),
            *((name, "double") for name in ADDED_TO_BARS),
            ("basis", "string"),
        ),
        ("bars", "symbols", "adjustments"),
    ),
}


def view_sql(settings: Settings, name: str) -> str:
    """Return the query of a view of the settings' database."""
    _, inputs = PRICE_VIEWS[name]
    return price_view(name, {view: f'"{settings.glue_database}"."{view}"' for view in inputs})
