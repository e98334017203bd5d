"""What adjusted_bars costs beside the bars that it reads: seconds and bytes of the same sums.

    python -m local run python -m benchmarks.prices [--bars 10000000]

Hourly bars of 500 tickers over 60 months in one Parquet table, and 20 actions a ticker: 500 splits and 9,500 dividends
with their closes. `bars` and `actions` are plain views of tables here, so what is measured is the adjustment alone.
Each query runs by turns over both; the seconds are the median of the turns.
"""

import argparse
import statistics
from dataclasses import replace
from typing import Any

from pipeline import aws
from pipeline.athena.client import Athena
from pipeline.settings import Settings, load_settings
from pipeline.tables import prices

TICKERS, MONTHS = 500, 60
TURNS = 5
SUMS = {
    "all months, five sums": 'sum("open"), sum(high), sum(low), sum("close"), sum(volume) FROM {view}',
    "one month": "sum(\"close\") FROM {view} WHERE month = '2024-03'",
    "one ticker": "sum(\"close\") FROM {view} WHERE symbol = 'S007'",
    "one ticker, one month": "sum(\"close\") FROM {view} WHERE symbol = 'S007' AND month = '2024-03'",
}
BARS = """CREATE TABLE stored_bars
WITH (format = 'PARQUET', write_compression = 'ZSTD', external_location = '{place}bars/',
  partitioned_by = ARRAY['month']) AS
"""
YEAR = """SELECT 'S' || lpad(CAST(s AS varchar), 3, '0') AS symbol, CAST(NULL AS varchar) AS company,
  date_add('month', m, TIMESTAMP '2021-01-01 00:00:00.000') + n * INTERVAL '1' HOUR AS time, '1h' AS "interval",
  100e0 + s + (n * 7) % 13 AS "open", 113e0 + s AS high, 99e0 + s AS low, 100e0 + s + (n * 5) % 13 AS "close",
  1000e0 + n AS volume, CAST(NULL AS double) AS vwap, CAST(NULL AS bigint) AS trades, s % 3 = 0 AS adjusted,
  'polygon' AS source, TIMESTAMP '2024-01-01 00:00:00.000' AS ingested_at, CAST(NULL AS varchar) AS adjusted_to,
  date_format(date_add('month', m, DATE '2021-01-01'), '%Y-%m') AS month
FROM UNNEST(sequence(1, {hours})) AS hours (n) CROSS JOIN UNNEST(sequence(0, {tickers} - 1)) AS tickers (s)
CROSS JOIN UNNEST(sequence({first}, {last})) AS months (m)"""
ACTIONS = """CREATE TABLE stored_actions WITH (format = 'PARQUET', external_location = '{place}actions/') AS
SELECT CAST(s AS varchar) || '/' || CAST(n AS varchar) AS id, 'S' || lpad(CAST(s AS varchar), 3, '0') AS symbol,
  date_add('day', 85 * n + s % 80, TIMESTAMP '2021-01-10 00:00:00.000') AS time,
  IF(n = 10, 'split', 'dividend') AS kind,
  IF(n = 10, 1e0) AS split_from, IF(n = 10, 2e0) AS split_to, IF(n <> 10, 0.5e0) AS amount, 'USD' AS currency,
  CAST(NULL AS varchar) AS adjusted_to, 'polygon' AS source, TIMESTAMP '2024-01-01 00:00:00.000' AS ingested_at,
  100e0 AS reference_close, '2021-01-09' AS reference_adjusted_to
FROM UNNEST(sequence(0, {tickers} - 1)) AS tickers (s) CROSS JOIN UNNEST(sequence(1, 20)) AS numbers (n)"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bars", type=int, default=10_000_000)
    options = parser.parse_args()
    settings = replace(
        load_settings(required=["s3_bucket"]), glue_database="benchmark_prices", athena_workgroup="primary"
    )
    glue = aws.client(settings, "glue")
    remove(settings, glue)
    glue.create_database(DatabaseInput={"Name": settings.glue_database})
    try:
        athena = Athena(settings)
        rows = make(settings, athena, options.bars)
        print(f"{rows:,} bars of {TICKERS} tickers, {TICKERS * 20:,} actions; median of {TURNS} turns\n")
        print("| | bars: seconds | MB | adjusted_bars: seconds | MB |\n|---|---:|---:|---:|---:|")
        for name, sums in SUMS.items():
            measured: dict[str, list[Any]] = {"bars": [], "adjusted_bars": []}
            for _ in range(TURNS):
                for view, runs in measured.items():
                    runs.append(athena.run(f"SELECT {sums.format(view=view)}"))
            cells = [f"{seconds(runs):.2f} | {runs[0].scanned_bytes / 1e6:.1f}" for runs in measured.values()]
            print(f"| {name} | {' | '.join(cells)} |")
    finally:
        remove(settings, glue)


def make(settings: Settings, athena: Athena, bars: int) -> int:
    """Make the tables and the views; return how many bars there are."""
    place = f"s3://{settings.s3_bucket}/benchmark_prices/"
    hours = max(1, bars // TICKERS // MONTHS)
    for first in range(0, MONTHS, 12):
        year = YEAR.format(hours=hours, tickers=TICKERS, first=first, last=first + 11)
        athena.run(f"INSERT INTO stored_bars {year}" if first else f"{BARS.format(place=place)}{year}")
    athena.run(ACTIONS.format(place=place, tickers=TICKERS))
    for record in ("bars", "actions"):
        athena.run(f"CREATE VIEW {record} AS SELECT * FROM stored_{record}")
    for name in prices.PRICE_VIEWS:
        athena.run(f"CREATE VIEW {name} AS {prices.view_sql(settings, name)}")
    return int(athena.query("SELECT count(*) AS n FROM bars")["n"][0])


def seconds(runs: list[Any]) -> float:
    return statistics.median(run.seconds for run in runs)


def remove(settings: Settings, glue: Any) -> None:
    """Drop the database, if there is one, and delete the objects."""
    try:
        glue.delete_database(Name=settings.glue_database)
    except glue.exceptions.EntityNotFoundException:
        return
    s3 = aws.client(settings, "s3")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=settings.s3_bucket, Prefix="benchmark_prices/")
    for page in pages:
        for found in page.get("Contents", []):
            s3.delete_object(Bucket=settings.s3_bucket, Key=found["Key"])


if __name__ == "__main__":
    main()
