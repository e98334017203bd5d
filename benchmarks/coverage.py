"""What coverage and back-fill cost for 500 tickers and five years of daily bars.

    python -m local run python -m benchmarks.coverage [--tickers 500] [--first 2021-01-04] [--last 2025-12-31]

Coverage of a curated lake that lacks every hundredth bar and one whole session: seconds and bytes scanned. Requests and
minutes at a plan's limit for what is missing then, and where everything is missing. And the back-fill of all of it from
a local API that answers at once: seconds and requests, the sending to Kafka included.
"""

import argparse
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from zoneinfo import ZoneInfo

import msgspec
import numpy as np

from benchmarks.dashboard_lake import BARS_AN_OBJECT, SYMBOLS, carry_out, put_batch
from benchmarks.queries import curate
from pipeline import records
from pipeline.athena.client import Athena, Result
from pipeline.coverage.covered import Covered
from pipeline.coverage.looking import Wanted, coverage
from pipeline.records import Bar
from pipeline.sessions import Exchange
from pipeline.settings import Settings, load_settings
from pipeline.sinks.lake.writer import ObjectWriter
from pipeline.sources import gaps
from pipeline.sources.gaps import Gap
from pipeline.tables.provision import Provision
from pipeline.tables.removal import removals

DAY = 86_400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tickers", type=int, default=len(SYMBOLS))
    parser.add_argument("--first", type=date.fromisoformat, default=date(2021, 1, 4))
    parser.add_argument("--last", type=date.fromisoformat, default=date(2025, 12, 31))
    options = parser.parse_args()
    names = {"s3_prefix": "benchmark", "glue_database": "benchmark", "athena_workgroup": "benchmark"}
    settings = replace(load_settings(required=["s3_bucket"]), **names)
    now = datetime.now(UTC)
    remove(settings)
    days = [session.day for session in Exchange("XNYS").sessions(options.first, options.last)]
    symbols = SYMBOLS[: options.tickers]
    print(f"{len(symbols)} tickers, {len(days):,} sessions, {len(symbols) * len(days):,} bars")
    plans("everything is missing", [gap(symbol, days) for symbol in symbols])
    plans("the last session of all", [gap(symbol, days[-1:]) for symbol in symbols])
    week = [gap(symbol, days[-5:] if number else days) for number, symbol in enumerate(symbols)]
    plans("all of one, and the last week of the others", week)
    try:
        carry_out(Provision(settings, today=now.date()).changes())
        land(settings, symbols, days, now)
        curate(settings, now)
        found = look(settings, Wanted(interval="1d", first=options.first, last=options.last), now)
        plans("one session of all and 1 % of the others", [gap(one.symbol, one.missing_days) for one in found])
        fill(settings, options, sum(one.missing_bars for one in found))
    finally:
        remove(settings)


def gap(symbol: str, days: object) -> Gap:
    return Gap(symbol=symbol, days=tuple(days), ranges=tuple((f"{day} 00:00:00.000",) * 2 for day in days))


def plans(name: str, lacking: list[Gap]) -> None:
    """Requests by symbol, by day and mixed, and the minutes of the last at five a minute."""
    began = time.perf_counter()
    mixed = gaps.plan(lacking, fits=gaps.fits(DAY, by_month=False), by_day=frozenset(one.symbol for one in lacking))
    seconds = time.perf_counter() - began
    days = {day for one in lacking for day in one.days}
    by_day = sum(not request.symbol for request in mixed)
    print(
        f"{name}: by symbol {len(lacking)}, by day {len(days)}, planned {len(mixed)} ({by_day} by day) "
        f"in {seconds:.2f} s; {gaps.minutes(len(mixed), 5)} minutes at 5 a minute"
    )


def bars(symbols: list[str], days: list[date]) -> Iterator[Bar]:
    for day in days:
        for symbol in symbols:
            yield Bar(
                symbol=symbol,
                time=f"{day} 00:00:00.000",
                interval="1d",
                open=10.0,
                high=11.0,
                low=9.0,
                close=10.5,
                volume=1000.0,
                source="simulated",
                ingested_at="2026-01-01 00:00:00.000",
            )


def land(settings: Settings, symbols: list[str], days: list[date], now: datetime) -> None:
    """All bars but those of one session and every hundredth of the others, by chance."""
    random = np.random.default_rng(1)
    kept = [one for one in days if one != days[len(days) // 2]]
    values = [records.encode(bar) for bar in bars(symbols, kept) if random.random() >= 0.01]
    writer = ObjectWriter(settings, threads=2)
    for start in range(0, len(values), BARS_AN_OBJECT):
        put_batch(settings, writer, values[start : start + BARS_AN_OBJECT], start, int(now.timestamp() * 1000))


def look(settings: Settings, wanted: Wanted, now: datetime) -> list[Covered]:
    """Coverage three times; the median's seconds, and the bytes that a query scanned."""
    scanned: list[int] = []
    run = Athena.run

    def noting(athena: Athena, query: object) -> Result:
        result = run(athena, query)
        scanned.append(result.scanned_bytes)
        return result

    Athena.run = noting
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        found = coverage(settings, wanted, now=now, positions={})
        seconds.append(time.perf_counter() - began)
    Athena.run = run
    missing = sum(one.missing_bars for one in found)
    print(f"coverage: {sorted(seconds)[1]:.1f} s, {scanned[-1] / 1e6:.1f} MB scanned, {missing:,} bars missing")
    return found


def fill(settings: Settings, options: argparse.Namespace, missing: int) -> None:
    """producer.py backfill as a user runs it, from an API on loopback."""
    with Api() as api:
        own = {
            name.upper(): str(getattr(settings, name)) for name in ("s3_prefix", "glue_database", "athena_workgroup")
        }
        topics = {
            "KAFKA_TOPIC_BARS": f"benchmark_{os.getpid()}",
            "KAFKA_TOPIC_CHECKPOINTS": f"checkpoints_{os.getpid()}",
        }
        polygon = {"POLYGON_API_KEY": "k", "POLYGON_BASE_URL": api.url, "POLYGON_REQUESTS_PER_MINUTE": "0"}
        command = ["producer.py", "backfill", "--from", str(options.first), "--to", str(options.last)]
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *command, "--log-level", "WARNING"],
            env={**os.environ, **own, **topics, **polygon},
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - began
    print(done.stdout.strip().splitlines()[-1] if done.returncode == 0 else done.stderr)
    print(f"back-fill of {missing:,} bars: {seconds:.1f} s, {api.requests} requests")


class Api:
    """Answers each range of days with a bar a session, and each day with a bar of each ticker."""

    def __init__(self) -> None:
        self.requests, new_york = 0, Exchange("XNYS")
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                api.requests += 1
                words = self.path.partition("?")[0].split("/")
                if "grouped" in words:
                    found = [bar_of(symbol, date.fromisoformat(words[-1])) for symbol in SYMBOLS]
                else:
                    first, last = map(date.fromisoformat, words[-2:])
                    found = [bar_of(words[4], session.day) for session in new_york.sessions(first, last)]
                body = msgspec.json.encode({"status": "OK", "adjusted": False, "results": found})
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()


def bar_of(symbol: str, day: date) -> dict[str, object]:
    start = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo("America/New_York"))
    return {"T": symbol, "t": int(start.timestamp() * 1000), "o": 10, "h": 11, "l": 9, "c": 10.5, "v": 1000}


def remove(settings: Settings) -> None:
    carry_out(removals(settings, with_roles=False, with_data=True))


if __name__ == "__main__":
    main()
