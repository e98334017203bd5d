"""The analysts' set of PNG files with an index page, from the queries of athena_queries.sql.

python -m dashboards.plots                                        from Athena into plots/
python -m dashboards.plots --csv exports --output /tmp/plots      from exported results, exports/<query>.csv
python -m dashboards.plots --from-dynamodb                        from the DynamoDB table, without Athena
"""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from dashboards import query_results
from dashboards.plots import collection
from dashboards.query_results import Results
from pipeline import terminal
from pipeline.settings import ServiceError, SettingsError, load_settings
from pipeline.sinks.dynamodb.daily_bars import daily_bars


def main() -> None:
    arguments = _parser().parse_args()
    results = (
        from_dynamodb(arguments) if arguments.from_dynamodb else query_results.chosen(arguments)(collection.QUERIES)
    )
    bars = results["daily_bars"]
    whole = None if bars is None else collection.drawable(bars)
    if whole is not None and bars is not None and (lost := len(bars) - len(whole)):
        print(f"left out: {terminal.counted(lost, 'daily bar')} without a price", file=sys.stderr)
    if whole is None or whole.empty:
        raise ServiceError(
            "daily_bars: there are no daily bars to plot; see --csv, --tickers, --from, --to, or land some first"
        )
    count = collection.write(results, arguments.output, now=datetime.now(UTC))
    print(f"{arguments.output / 'index.html'}: {terminal.counted(count, 'plot')}")


def _parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="python -m dashboards.plots", description=(__doc__ or "").splitlines()[0])
    options.add_argument(
        "--output", type=Path, default=Path("plots"), metavar="FOLDER", help="where to write (default: plots)"
    )
    options.add_argument(
        "--from-dynamodb", action="store_true", help="read the daily bars of DYNAMODB_TABLE instead of Athena"
    )
    query_results.add_arguments(options)
    return options


def from_dynamodb(arguments: argparse.Namespace) -> Results:
    """Return what the queries give, from the daily bars of the DynamoDB table; raise SettingsError and ServiceError."""
    if arguments.csv:
        raise SettingsError(["--csv and --from-dynamodb: choose one of them"])
    settings = load_settings({"stock_env": arguments.stock_env})
    terminal.configure_logging(settings)
    symbols = query_results.tickers(arguments.tickers)
    bars = daily_bars(settings, symbols=set(symbols), first_day=arguments.first_day, last_day=arguments.last_day)
    return {"daily_bars": bars, **summaries(bars)}


def summaries(bars: pd.DataFrame) -> Results:
    """Return the results of monthly_performance and volume_by_ticker, from daily bars."""
    month = bars["day"].dt.to_period("M").dt.start_time
    monthly = bars.assign(month=month).groupby(["symbol", "month"], as_index=False)
    volumes = bars.groupby("symbol", as_index=False)
    return {
        "monthly_performance": monthly.agg(average_close=("close", "mean")),
        "volume_by_ticker": volumes.agg(total_volume=("volume", "sum")),
    }


def script() -> None:
    """Run as a command; pyproject.toml names it."""
    terminal.run(main)


if __name__ == "__main__":
    script()
