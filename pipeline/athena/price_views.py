"""The SQL of the views that put prices on today's shares, by whatever names their inputs go."""

from collections.abc import Mapping
from pathlib import Path
from string import Template

from pipeline.records import Bar, columns

# In the order in which they need each other.
NAMES = ("symbols", "adjustments", "adjusted_bars")
# New York's day, on and before which actions count.
TODAY = "date(current_timestamp AT TIME ZONE 'America/New_York')"


def price_view(name: str, inputs: Mapping[str, str], *, today: str = TODAY) -> str:
    """Return the query of a view, without the comments of its file. `inputs`: by name the views that it reads."""
    text = (Path(__file__).parent / f"{name}.sql").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
    stored = [*(column.name for column in columns(Bar) if column.name != "symbol"), "month"]
    return Template("\n".join(lines)).substitute(inputs, columns=", ".join(f'"{one}"' for one in stored), today=today)
