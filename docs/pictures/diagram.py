"""The architecture as an SVG drawing that follows light and dark. Pure."""

import html
from dataclasses import dataclass

_STYLE = """
  text { font: 14px system-ui, -apple-system, 'Segoe UI', sans-serif; fill: #16191d; text-anchor: middle; }
  .small { font-size: 12px; fill: #565d66; } .title { font-weight: 600; }
  rect { fill: #ffffff; stroke: #c3c8ce; } .ours { fill: #e8f0fb; stroke: #1f66c1; }
  path { fill: none; stroke: #565d66; stroke-width: 1.5; marker-end: url(#end); } marker path { fill: #565d66; stroke: none; }
  @media (prefers-color-scheme: dark) {
    text { fill: #eceef1; } .small { fill: #a4abb5; }
    rect { fill: #1a1d22; stroke: #4a515b; } .ours { fill: #1c2f4a; stroke: #6ea8fe; }
    path { stroke: #a4abb5; } marker path { fill: #a4abb5; }
  }
"""


@dataclass(frozen=True, kw_only=True)
class Box:
    """Something that holds or moves records; `ours` is a script of this project."""

    x: int
    y: int
    width: int
    lines: tuple[str, ...]
    ours: bool = False

    @property
    def height(self) -> int:
        return 18 + 20 * len(self.lines)

    @property
    def middle(self) -> int:
        return self.y + self.height // 2


BOXES = {
    "sources": Box(
        x=10,
        y=30,
        width=170,
        lines=(
            "Sources",
            "Polygon (Massive) REST",
            "and WebSocket",
            "Alpha Vantage",
            "CSV files, s3://",
            "simulator, news",
        ),
    ),
    "producer": Box(x=220, y=60, width=150, lines=("producer.py", "transactions with", "their checkpoint"), ours=True),
    "kafka": Box(x=410, y=50, width=150, lines=("Apache Kafka", "stock_bars", "stock_live_feed", "stock_news")),
    "consumer": Box(
        x=600, y=60, width=150, lines=("consumer.py", "plan, upload, commit", "each record once"), ours=True
    ),
    "s3": Box(x=790, y=50, width=180, lines=("Amazon S3", "raw/bars/dt=…/", "curated/bars/", "dead_letter/")),
    "glue": Box(x=600, y=220, width=150, lines=("glue_setup.py", "tables, views,", "crawler, ETL"), ours=True),
    "catalog": Box(x=790, y=220, width=180, lines=("Glue Data Catalog", "raw_bars, curated_bars,", "view bars")),
    "athena": Box(x=790, y=350, width=180, lines=("Amazon Athena", "athena_queries.sql")),
    "live": Box(x=410, y=220, width=150, lines=("live page", "dashboards/live/__main__.py"), ours=True),
    "dashboards": Box(
        x=410, y=350, width=340, lines=("dashboards/report/__main__.py, plots.py", "HTML report, PNG plots"), ours=True
    ),
    "vendors": Box(
        x=10, y=350, width=360, lines=("Tableau · QuickSight · Power BI", "definitions made by dashboards/")
    ),
    "dynamodb": Box(x=10, y=220, width=170, lines=("Amazon DynamoDB", "StockMkt")),
}
ARROWS = [
    "sources>producer",
    "producer>kafka",
    "kafka>consumer",
    "consumer>s3",
    "s3|catalog",
    "glue>catalog",
    "catalog|athena",
    "athena<dashboards",
    "kafka|live",
]


def architecture() -> str:
    parts = (
        [_box(box) for box in BOXES.values()]
        + [_arrow(arrow) for arrow in ARROWS]
        + [
            # Past the dashboards' box, below everything.
            '<path d="M880,408 V436 H190 V412"/>',
            # From the consumer under Kafka's row to DynamoDB.
            '<path d="M640,138 V190 H95 V214"/>',
        ]
    )
    drawn = "\n".join(parts)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 980 450" role="img" '
        'aria-label="From sources through producer.py, Kafka and consumer.py to S3, Glue, Athena and the dashboards">\n'
        f"<style>{_STYLE}</style>\n"
        '<defs><marker id="end" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto-start-reverse">'
        '<path d="M0,0 L8,4 L0,8 z" marker-end="none"/></marker></defs>\n'
        f"{drawn}\n</svg>\n"
    )


def _box(box: Box) -> str:
    texts = "".join(
        f'<text x="{box.x + box.width // 2}" y="{box.y + 24 + 20 * number}" class="{"small" if number else "title"}">{html.escape(line)}</text>'
        for number, line in enumerate(box.lines)
    )
    ours = ' class="ours"' if box.ours else ""
    return f'<rect x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}" rx="8"{ours}/>{texts}'


def _arrow(arrow: str) -> str:
    """`a>b` runs right, `a<b` left, `a|b` down."""
    sign = next(character for character in "<>|" if character in arrow)
    start, end = (BOXES[name] for name in arrow.split(sign))
    if sign == "|":
        x = start.x + start.width // 2
        return f'<path d="M{x},{start.y + start.height} V{end.y - 4}"/>'
    y = end.middle
    if sign == "<":
        return f'<path d="M{start.x},{y} H{end.x + end.width + 4}"/>'
    return f'<path d="M{start.x + start.width},{y} H{end.x - 4}"/>'
