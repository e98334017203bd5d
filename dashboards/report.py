"""One self-contained HTML page with the dashboards, from the queries of athena_queries.sql.

python -m dashboards.report                        from Athena into report.html
python -m dashboards.report --csv exports          from exported results, exports/<query>.csv
"""

import argparse
import json
import re
import webbrowser
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import altair as alt
import jinja2
import pandas as pd
import vl_convert

from dashboards import charts, query_results
from pipeline import terminal

HERE = Path(__file__).parent
RANGES = [("50", 50), ("1 year", 252), ("3 years", 756), ("all", 0)]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One chart of a section; `data` names the query that it shows."""

    name: str
    data: str
    chart: alt.TopLevelMixin
    description: str
    caption: str = ""
    tickers: tuple[str, ...] = ()
    key: dict | None = None


@dataclass(frozen=True, kw_only=True)
class Section:
    name: str
    title: str
    note: str
    parts: list[Part] = field(default_factory=list)
    missing: str = ""


def main() -> None:
    arguments = _arguments()
    read = query_results.from_exports(arguments.csv)
    page = build(read, now=datetime.now(UTC))
    arguments.output.write_text(page, encoding="utf-8")
    print(f"{arguments.output}: {len(page.encode()) / 1e6:.1f} MB")
    if arguments.open:
        webbrowser.open(arguments.output.resolve().as_uri())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m dashboards.report", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("report.html"), metavar="FILE")
    parser.add_argument("--csv", type=Path, metavar="FOLDER", help="read exported results instead of Athena")
    parser.add_argument("--open", action="store_true", help="show the page in the browser")
    return parser.parse_args()


def build(read: query_results.Read, *, now: datetime) -> str:
    """The page's text."""
    results = {name: read(name) for name in ("monthly_performance", "closing_trend", "volume_by_ticker")}
    results["monthly_performance"] = charts.heatmap_rows(results["monthly_performance"])
    sections = [
        Section(
            name="monthly", title="Monthly performance: average close by ticker and month",
            note="Text is the average close in $. Colour is the same with the ticker's first month = 100, so that tickers of "
            "different prices compare.",
            parts=[Part(name="monthly_performance", data="monthly_performance",
                        chart=charts.monthly_heatmap(results["monthly_performance"]),
                        description="Heatmap of the average close by ticker, year and month",
                        key=_heatmap_key(results["monthly_performance"]))],
        ),
        Section(
            name="trend", title="Closing price over time", note="",
            parts=[Part(name="closing_trend", data="closing_trend", chart=charts.closing_trend(),
                        description="Line chart of closing prices by day and ticker; arrow keys move between days")],
        ),
        Section(
            name="volume", title="Shares traded by ticker", note="",
            parts=[Part(name="volume_by_ticker", data="volume_by_ticker",
                        chart=charts.volume_comparison(results["volume_by_ticker"]),
                        description="Bar chart of shares traded by ticker")],
        ),
    ]
    symbols = sorted(results["closing_trend"]["symbol"].unique())
    return _page(sections, results, symbols=symbols, now=now)


def _heatmap_key(rows: pd.DataFrame) -> dict:
    edges = charts.index_edges(rows["index_100"])
    texts = [f"below {edges[0]:g}", *(f"{low:g} to {high:g}" for low, high in pairwise(edges)), f"{edges[-1]:g} or more"]
    entries = [{"colour": colour, "text": text} for colour, text in zip(charts.DIVERGING, texts, strict=True)]
    return {"label": "First month = 100", "entries": entries}


def _page(sections: list[Section], results: dict[str, pd.DataFrame], *, symbols: list[str], now: datetime) -> str:
    parts = [part for section in sections for part in section.parts]
    days = results["closing_trend"]["day"]
    contents = {
        "tables": {part.data: columns(results[part.data]) for part in parts},
        "charts": {part.name: _spec(part) for part in parts},
        "days": sorted(str(day)[:10] for day in days.unique()),
    }
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template("report.html").render(
        title="Stock market", subtitle=f"{', '.join(symbols)}: {days.min():%d %b %Y} to {days.max():%d %b %Y}",
        sections=sections, symbols=symbols, ranges=RANGES, nothing="", tiles=[],
        footer=f"Made {now:%d %b %Y %H:%M} UTC from the queries {', '.join(sorted(contents['tables']))} of athena_queries.sql.",
        style=(HERE / "report.css").read_text(),
        script=(HERE / "report.js").read_text(),
        library=_library(),
        contents=_json(contents),
    )


def _spec(part: Part) -> dict:
    spec = part.chart.to_dict()
    return {**spec, "config": charts.config(), "usermeta": {**spec.get("usermeta", {}), "table": part.data}}


def columns(frame: pd.DataFrame) -> dict[str, list | dict]:
    """The columns as the page's script reads them: numbers as a list, of anything else each distinct value once."""
    return {name: _column(frame[name]) for name in frame.columns}


def _column(column: pd.Series) -> list | dict:
    if pd.api.types.is_numeric_dtype(column):
        # Eight digits: cents stay right after a second rounding, and it is half the bytes of sixteen.
        return [None if pd.isna(number) else float(f"{number:.8g}") if number % 1 else int(number) for number in column]
    at, of = pd.factorize(column, use_na_sentinel=False)
    if pd.api.types.is_datetime64_any_dtype(column):
        of = of.strftime("%Y-%m-%d")
    return {"of": [None if pd.isna(value) else str(value) for value in of], "at": at.tolist()}


def _json(value: object) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, of the version that altair writes for."""
    version = re.match(r"v(\d+\.\d+)", alt.SCHEMA_VERSION).group(1)
    return vl_convert.javascript_bundle(vl_version=version).replace("</script", "<\\/script")


if __name__ == "__main__":
    terminal.run(main)
