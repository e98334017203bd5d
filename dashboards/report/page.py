"""The report's text: its sections, its rows and the scripts that draw them, in one HTML page."""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import altair as alt
import jinja2
import pandas as pd

from dashboards import PAGE_STYLE
from dashboards.query_results import Read, Results, left_out
from dashboards.report import charts, tiles
from dashboards.report.library import library
from dashboards.report.sections import QUERIES, Section, sections, symbols_of

HERE = Path(__file__).parent
RANGES = [("50", 50), ("1 year", 252), ("3 years", 756), ("all", 0)]
NOTHING = (
    "The queries returned no price. Have you produced some (python producer.py replay samples/daily_prices.csv), "
    "landed them (python consumer.py --until-caught-up) and made the tables (python glue_setup.py)? "
    "And do --tickers, --from and --to leave any?"
)
# A column of numbers is a list; of any other column each distinct value stands once: {"of": values, "at": positions}.
Cells = list[int | float | None] | dict[str, list[Any]]


def build(read: Read, *, now: datetime, as_traded: bool = False, as_of: str = "") -> str:
    """Return the page's text. `as_traded`, `as_of`: what the reader was told, which the page says."""
    results = read(QUERIES)
    days, symbols = _days(results), symbols_of(results)
    shown = sections(results)
    rows = {part.name: part.rows for section in shown for part in section.parts}
    contents = {
        "tables": {name: columns(frame) for name, frame in rows.items()},
        "charts": {part.name: _spec(part.chart, part.name) for section in shown for part in section.parts},
        "colours": charts.ticker_colours(symbols),
        "days": [f"{day:%Y-%m-%d}" for day in days],
    }
    span = f" · {days[0]:%d %b %Y} to {days[-1]:%d %b %Y}" if days else ""
    return _render(
        subtitle=f"{', '.join(symbols)}{span} · prices {_basis(as_traded=as_traded, as_of=as_of)}",
        symbols=symbols,
        sections=shown,
        tiles=tiles.tiles(results["data_quality"], now=now),
        nothing="" if rows else NOTHING,
        made=f"{now:%d %b %Y %H:%M}",
        left_out=left_out(results),
        queries=sorted(rows),
        contents=_json(contents),
    )


def _basis(*, as_traded: bool, as_of: str) -> str:
    """What the page says of its prices."""
    known = f", as of {as_of} UTC" if as_of else ""
    return ("as traded" if as_traded else f"on the shares of {as_of[:10] or 'today'}") + known


def _days(results: Results) -> list[pd.Timestamp]:
    """Return every trading day of the charts over time, in order."""
    found = [frame["day"] for frame in results.values() if frame is not None and "day" in frame]
    return sorted(pd.concat(found).dropna().unique()) if found else []


def _render(*, sections: Sequence[Section], symbols: Sequence[str], **values: object) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        title="Stock market",
        sections=sections,
        symbols=symbols,
        shown_first=len(charts.SERIES),
        ranges=RANGES,
        style=PAGE_STYLE.read_text(encoding="utf-8"),
        script=(HERE / "report.js").read_text(encoding="utf-8"),
        library=library(),
        **values,
    )


def _spec(chart: alt.TopLevelMixin, name: str) -> dict[str, Any]:
    """Return Vega-Lite's JSON; the page's script finds the rows by the name in it."""
    spec = chart.to_dict()
    return {**spec, "config": charts.config(), "usermeta": {**spec.get("usermeta", {}), "table": name}}


def columns(frame: pd.DataFrame) -> dict[str, Cells]:
    """Return the columns as the page's script reads them."""
    return {name: _column(frame[name]) for name in frame.columns}


def _column(column: "pd.Series[Any]") -> Cells:
    if pd.api.types.is_numeric_dtype(column):
        return [None if pd.isna(number) else _short(number) for number in column]
    if pd.api.types.is_datetime64_any_dtype(column):
        column = column.dt.strftime("%Y-%m-%d")
    at, of = pd.factorize(column, use_na_sentinel=False)
    return {"of": [None if pd.isna(value) else str(value) for value in of], "at": at.tolist()}


def _short(number: float) -> float:
    """Round to six decimals, or what is less than 1 to eight digits: half the bytes of all digits, and cents stay right
    when they are rounded again.
    """
    if number % 1 == 0:
        return int(number)
    return round(float(number), 6) if abs(number) >= 1 else float(f"{number:.8g}")


def _json(value: object) -> str:
    """Return JSON that cannot end the script element around it."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
