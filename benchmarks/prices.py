"""What prices on today's shares cost beside prices as stored: python -m local run python benchmarks/prices.py

Minute and daily bars of 500 tickers, and 20 splits and dividends of each, landed as consumer.py lands them and curated
as `glue_setup.py etl` curates them. Then each statement over `bars` and over `adjusted_bars`, in turns: seconds, the
CPU seconds of Trino, and the bytes that it read; the medians of the rounds.
"""

import argparse
import os
import random
import statistics
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.dashboard_lake import LAST_DAY, SYMBOLS, carry_out, put_batch
from benchmarks.scale import Lake, days_of, lake_of_its_own, land_all, noon_ms, step
from local.stack import Stack
from pipeline import records
from pipeline.athena.client import Athena
from pipeline.records import Action
from pipeline.sinks.lake.writer import ObjectWriter
from pipeline.tables.bucket_rules import bucket_changes
from pipeline.tables.provision import Provision

ACTIONS_A_SYMBOL = 20
SUMS = 'count(*) AS n, sum("open") AS o, sum(high) AS h, sum(low) AS l, sum("close") AS c, sum(volume) AS v'
MONTH = f"{LAST_DAY:%Y-%m}"
STATEMENTS = {
    "five sums over all bars": f"SELECT {SUMS} FROM $bars",
    "five sums over a month of minutes": f"SELECT {SUMS} FROM $bars WHERE \"interval\" = '1m' AND month = '{MONTH}'",
    "five sums over a month of days": f"SELECT {SUMS} FROM $bars WHERE \"interval\" = '1d' AND month = '{MONTH}'",
    "one ticker's closes of two years": (
        "SELECT date(time) AS day, \"close\" FROM $bars WHERE symbol = 'S123' AND \"interval\" = '1d' ORDER BY day"
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bars", type=int, default=10_000_000, help="minute bars (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="times each statement runs (default: %(default)s)")
    options = parser.parse_args()
    now = datetime.now(UTC) + timedelta(minutes=5)
    with lake_of_its_own("prices") as lake:
        fill(lake, options.bars, now)
        compare(Athena(lake.settings), options.rounds)


def fill(lake: Lake, count: int, now: datetime) -> None:
    before = now.date() - timedelta(days=4)
    carry_out(bucket_changes(lake.settings))
    step(
        f"{count:,} minute bars and two years of daily bars landed",
        lambda: land_all(lake, days_of(count), count, before),
    )
    values = [records.encode(action) for action in actions()]
    put_batch(
        lake.settings, ObjectWriter(lake.settings, threads=1), values, 0, arrived_ms=noon_ms(before), table="actions"
    )
    carry_out(Provision(lake.settings, today=now.date()).changes())
    step("ETL of bars", lambda: lake.curate("first", now))
    step(f"ETL of {len(values):,} actions", lambda: lake.curate("actions", now, "actions"))


def actions() -> Iterator[Action]:
    """One split and quarterly dividends of each ticker, over five years."""
    chance = random.Random(3)
    for symbol in SYMBOLS:
        first = LAST_DAY - timedelta(days=1800 + chance.randrange(90))
        for number in range(ACTIONS_A_SYMBOL):
            day = first + timedelta(days=91 * number)
            what = (
                {"kind": "dividend", "amount": 0.25}
                if number != 18
                else {"kind": "split", "split_from": 1, "split_to": 2}
            )
            yield Action(
                id=f"{symbol}/{number}",
                symbol=symbol,
                time=f"{day} 00:00:00.000",
                source="csv:made.csv",
                ingested_at="2026-01-01 00:00:00.000",
                **what,
            )


def compare(athena: Athena, rounds: int) -> None:
    print("| statement | bars: s | CPU s | MB read | adjusted_bars: s | CPU s | MB read |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, statement in STATEMENTS.items():
        found: dict[str, list[tuple[float, float, float]]] = {"bars": [], "adjusted_bars": []}
        for _ in range(rounds):
            for view, runs in found.items():
                cpu = cpu_seconds()
                result = athena.run(statement.replace("$bars", view))
                runs.append((result.seconds, cpu_seconds() - cpu, result.scanned_bytes / 1e6))
        figures = [statistics.median(column) for runs in found.values() for column in zip(*runs, strict=True)]
        print(f"| {name} | {' | '.join(f'{figure:,.2f}' for figure in figures)} |", flush=True)


def cpu_seconds() -> float:
    """What Trino's process has used so far, planning and its garbage collector included."""
    process = Stack().process("trino")
    fields = Path(f"/proc/{process.pid if process else 0}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
