"""One self-contained HTML page with the dashboards, from the queries of athena_queries.sql.

python -m dashboards.report                                       from Athena into report.html
python -m dashboards.report --tickers AAPL,MSFT --from 2012-01-01 --open
python -m dashboards.report --csv exports                         from exported results, exports/<query>.csv
"""

import argparse
import webbrowser
from datetime import UTC, datetime
from pathlib import Path

from dashboards import query_results
from dashboards.report.page import build
from pipeline import terminal


def main() -> None:
    arguments = parser().parse_args()
    query_results.check_output(arguments.output)
    choices = {"as_traded": arguments.as_traded, "as_of": arguments.as_of or ""}
    page = build(query_results.chosen(arguments), now=datetime.now(UTC), **choices)
    arguments.output.write_text(page, encoding="utf-8")
    print(f"{arguments.output}: {len(page.encode()) / 1e6:.1f} MB")
    if arguments.open:
        webbrowser.open(arguments.output.resolve().as_uri())


def parser() -> argparse.ArgumentParser:
    """Return the command's options."""
    options = argparse.ArgumentParser(prog="python -m dashboards.report", description=(__doc__ or "").splitlines()[0])
    options.add_argument(
        "--output", type=Path, default=Path("report.html"), metavar="FILE", help="where to write (default: report.html)"
    )
    options.add_argument("--open", action="store_true", help="open the page in the browser")
    query_results.add_arguments(options)
    return options


def script() -> None:
    """Run as a command; pyproject.toml names it."""
    terminal.run(main)


if __name__ == "__main__":
    script()
