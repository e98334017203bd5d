"""One self-contained HTML page with the dashboards, from the queries of athena_queries.sql.

python -m dashboards.report                                       from Athena into report.html
python -m dashboards.report --tickers AAPL,MSFT --from 2012-01-01 --open
python -m dashboards.report --csv exports                         from exported results, exports/<query>.csv
"""

import argparse
import json
import re
import webbrowser
from datetime import UTC, date, datetime
from pathlib import Path

import altair as alt
import jinja2
import pandas as pd
import vl_convert

from dashboards import query_results
from dashboards.report import charts
from dashboards.report.sections import QUERIES, Section, Tile, sections, symbols_of, tiles
from pipeline import terminal

HERE = Path(__file__).parent
RANGES = [("50", 50), ("1 year", 252), ("3 years", 756), ("all", 0)]
NOTHING = (
    "The queries gave no price. Has anything been produced (python producer.py replay samples/daily_prices.csv), landed "
    "(python consumer.py --until-caught-up) and catalogued (python glue_setup.py)? And do --tickers, --from and --to leave anything?"
)


def main() -> None:
    arguments = parser().parse_args()
    page = build(query_results.chosen(arguments), now=datetime.now(UTC))
    arguments.output.write_text(page, encoding="utf-8")
    print(f"{arguments.output}: {len(page.encode()) / 1e6:.1f} MB")
    if arguments.open:
        webbrowser.open(arguments.output.resolve().as_uri())


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="python -m dashboards.report", description=__doc__.splitlines()[0])
    options.add_argument("--output", type=Path, default=Path("report.html"), metavar="FILE")
    options.add_argument("--open", action="store_true", help="show the page in the browser")
    query_results.add_arguments(options)
    return options


def build(read: query_results.Read, *, now: datetime) -> str:
    """The page's text."""
    results = read(QUERIES)
    days = _days(results)
    shown, symbols = sections(results), symbols_of(results)
    rows = {part.name: part.rows for section in shown for part in section.parts}
    contents = {
        "tables": {name: columns(frame) for name, frame in rows.items()},
        "charts": {part.name: _spec(part.chart, part.name) for section in shown for part in section.parts},
        "colours": charts.ticker_colours(symbols),
        "days": [f"{day:%Y-%m-%d}" for day in days],
    }
    return _render(
        symbols=symbols,
        first_day=days[0] if days else None,
        last_day=days[-1] if days else None,
        sections=shown,
        tiles=tiles(results["data_quality"], now=now),
        nothing="" if rows else NOTHING,
        made=now,
        queries=sorted(rows),
        contents=_json(contents),
    )


def _days(results: dict[str, pd.DataFrame | None]) -> list[pd.Timestamp]:
    """Every trading day of the charts over time, in order."""
    found = [frame["day"] for frame in results.values() if frame is not None and "day" in frame]
    return sorted(pd.concat(found).dropna().unique()) if found else []


def _render(
    *,
    symbols: list[str],
    first_day: date | None,
    last_day: date | None,
    sections: list[Section],
    tiles: list[Tile],
    nothing: str,
    made: datetime,
    queries: list[str],
    contents: str,
) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    span = f" · {first_day:%d %b %Y} to {last_day:%d %b %Y}" if first_day is not None else ""
    return environment.get_template("report.html").render(
        title="Stock market",
        subtitle=f"{', '.join(symbols)}{span}",
        symbols=symbols,
        shown_first=len(charts.SERIES),
        ranges=RANGES,
        sections=sections,
        tiles=tiles,
        nothing=nothing,
        made=f"{made:%d %b %Y %H:%M}",
        queries=queries,
        contents=contents,
        style=(HERE.parent / "page.css").read_text(encoding="utf-8"),
        script=(HERE / "report.js").read_text(encoding="utf-8"),
        library=_library(),
    )


def _spec(chart: alt.TopLevelMixin, name: str) -> dict:
    """Vega-Lite's JSON; the page's script finds the rows by the name in it."""
    spec = chart.to_dict()
    return {**spec, "config": charts.config(), "usermeta": {**spec.get("usermeta", {}), "table": name}}


def columns(frame: pd.DataFrame) -> dict[str, list | dict]:
    """The columns as the page's script reads them: numbers as a list, of anything else each distinct value once."""
    return {name: _column(frame[name]) for name in frame.columns}


def _column(column: pd.Series) -> list | dict:
    if pd.api.types.is_numeric_dtype(column):
        return [None if pd.isna(number) else _short(number) for number in column]
    at, of = pd.factorize(column, use_na_sentinel=False)
    if pd.api.types.is_datetime64_any_dtype(column):
        of = of.strftime("%Y-%m-%d")
    return {"of": [None if pd.isna(value) else str(value) for value in of], "at": at.tolist()}


def _short(number: float) -> float:
    """Six decimals, or eight digits of what is less than 1: half the bytes of all digits, and cents stay right after
    another rounding.
    """
    if number % 1 == 0:
        return int(number)
    return round(float(number), 6) if abs(number) >= 1 else float(f"{number:.8g}")


def _json(value: object) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, of the version that altair writes for."""
    version = re.match(r"v(\d+\.\d+)", alt.SCHEMA_VERSION).group(1)
    return vl_convert.javascript_bundle(vl_version=version).replace("</script", "<\\/script")


if __name__ == "__main__":
    terminal.run(main)
