"""Say which bars are missing: what the exchanges' calendars expect, beside what the lake has.

python -m pipeline.coverage                                      daily bars, each symbol from its first one on
python -m pipeline.coverage --symbols AAPL,MSFT --from 2024-01-01 --to 2024-12-31
python -m pipeline.coverage --interval 1m --from 2025-11-03      the minutes of each session
python -m pipeline.coverage --csv coverage.csv                   a line a symbol; --json FILE has every range
python -m pipeline.coverage --prometheus coverage.prom           gauges, for node_exporter's textfile collector

A bar that is not there is `empty` if a source was asked for it and had nothing, as the checkpoints in Kafka say, and
`missing` if nobody asked, or it was sent and has not landed. `outside` are days with bars and without a session,
`behind` the sessions at the end that nothing is known of. A session is expected from 45 minutes after its close and
POLYGON_DELAY_MINUTES on. Exit code 1 when something is missing; `producer.py backfill` asks for it. Athena reads the
months asked for, and of them the columns of the view `bars` that it needs.
"""

import argparse
import sys
from datetime import UTC, date, datetime
from pathlib import Path

from pipeline import terminal
from pipeline.coverage import output
from pipeline.coverage.looking import Wanted, coverage
from pipeline.intervals import INTERVAL_SECONDS
from pipeline.settings import SettingsError, load_settings
from pipeline.sources.options import symbols
from pipeline.streams.kafka import checkpoints

INTERVALS = tuple(name for name in INTERVAL_SECONDS if name not in ("1s", "5d", "3mo", "1y"))


def main() -> int:
    options = _parser().parse_args()
    settings = load_settings(required=["s3_bucket"])
    terminal.configure_logging(settings)
    if options.first and options.last and options.first > options.last:
        raise SettingsError([f"--from {options.first} is after --to {options.last}"])
    wanted = Wanted(
        interval=options.interval,
        symbols=tuple(options.symbols.split(",")) if options.symbols else (),
        first=options.first,
        last=options.last,
    )
    positions = {} if options.no_checkpoints else checkpoints.positions(settings)
    found = coverage(settings, wanted, now=datetime.now(UTC), positions=positions)
    for write, place in (
        (output.as_csv, options.csv),
        (output.as_json, options.json),
        (output.as_metrics, options.prometheus),
    ):
        if place == "-":
            sys.stdout.write(write(found))
        elif place:
            _write(Path(place), write(found))
    if "-" not in (options.csv, options.json, options.prometheus):
        print(terminal.printable(output.table(found)) if found else f"no bars of {options.interval} in the lake")
    return terminal.EXIT_FAILED if any(one.missing for one in found) else terminal.EXIT_DONE


def _write(path: Path, text: str) -> None:
    """Write a file at once: a collector that reads it meanwhile sees the old one or the new one."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.coverage", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--symbols", type=symbols, metavar="A,B", help="tickers, or a file of them (default: all that the lake has)"
    )
    parser.add_argument("--interval", choices=INTERVALS, default="1d", help="length of the bars (default 1d)")
    parser.add_argument(
        "--from",
        dest="first",
        type=date.fromisoformat,
        metavar="DAY",
        help="first day (default: of each symbol's first bar; of bars within the day: 30 days ago)",
    )
    parser.add_argument("--to", dest="last", type=date.fromisoformat, metavar="DAY", help="last day (default: today)")
    parser.add_argument("--csv", metavar="FILE", help="write CSV, - for standard output")
    parser.add_argument("--json", metavar="FILE", help="write JSON, - for standard output")
    parser.add_argument("--prometheus", metavar="FILE", help="write metrics, such as sessions behind by symbol")
    parser.add_argument(
        "--no-checkpoints", action="store_true", help="do without Kafka: what was asked for in vain counts as missing"
    )
    return parser


def script() -> None:
    """Run as a command; pyproject.toml names it."""
    terminal.run(main)


if __name__ == "__main__":
    script()
