"""The views that put prices on today's shares: symbols, adjustments and adjusted_bars. Their SQL is in
pipeline/athena.

They read other views, so they need no change when the ETL runs. Spark has the same prices to the last bit, by the
same text with some functions called otherwise.
"""

from pipeline.athena.price_views import NAMES, price_view
from pipeline.records import Bar, columns
from pipeline.settings import Settings
from pipeline.tables.catalog import view_columns

# What the text needs of a Spark session: Athena's quotes, errors in place of silent nulls, times in UTC.
SPARK_SETTINGS = {
    "spark.sql.ansi.enabled": "true",
    "spark.sql.ansi.doubleQuotedIdentifiers": "true",
    "spark.sql.session.timeZone": "UTC",
}

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


def spark_statements(settings: Settings) -> list[str]:
    """Return statements that make the views bars, actions, symbols, adjustments and adjusted_bars of a Spark session,
    over the curated tables of the Glue catalogue: Spark sees no projected partitions, so what the ETL has not read yet
    is not in them.
    """
    selects = {}
    for record, condition in {"bars": "true", "actions": "NOT coalesce(cancelled, false)"}.items():
        names = ", ".join(f'"{name}"' for name in view_columns(record))
        selects[record] = f"SELECT {names}\nFROM `{settings.glue_database}`.`curated_{record}`\nWHERE {condition}"
    own = {name: name for name in (*selects, *NAMES)}
    selects |= {name: price_view(name, own, engine="spark") for name in NAMES}
    return [
        *(f"SET {name}={value}" for name, value in SPARK_SETTINGS.items()),
        *(f"CREATE OR REPLACE TEMPORARY VIEW {name} AS\n{select}" for name, select in selects.items()),
    ]
