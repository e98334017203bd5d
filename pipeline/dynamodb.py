"""One price by key from the DynamoDB table, without SQL.

  python -m pipeline.dynamodb get Apple 2025-04-15               a day's bar; for shorter ones "2025-04-15 13:30:00.000"
  python -m pipeline.dynamodb range Apple 2025-01-01 2025-03-31  all bars of these days, both included
  python -m pipeline.dynamodb latest                             the last bar of every company, or of those named
  python -m pipeline.dynamodb create                             create the table

`consumer.py --sink dynamodb` fills it. Companies are spelled as the records spell them; a bar without a company stands
under its symbol.
"""

import argparse
import csv
import itertools
import re
import sys
from decimal import Decimal

import msgspec

from pipeline import records, terminal
from pipeline.records import Bar
from pipeline.settings import load_settings
from pipeline.sinks.dynamodb.table import Item, PriceTable


def main() -> int:
    options = _parser().parse_args()
    settings = load_settings(vars(options))
    terminal.configure_logging(settings)
    table = PriceTable(settings)
    if options.command == "create":
        print(f"{table.name}: {'created' if table.create() else 'is there already, with these keys'}")
        return terminal.EXIT_DONE
    table.check()
    if options.command == "get":
        found = [item for item in [table.get(options.company, options.date)] if item]
    elif options.command == "range":
        found = list(table.range(options.company, options.first, options.last, interval=options.interval))
    else:
        companies = options.companies or sorted(table.companies())
        found = [item for company in companies if (item := table.latest(company, interval=options.interval))]
    if not found:
        print(
            f"{table.name}: no item for this; `python -m pipeline.dynamodb latest` lists the companies as they "
            "are spelled",
            file=sys.stderr,
        )
        return terminal.EXIT_FAILED
    _print(table, found, options.format)
    return terminal.EXIT_DONE


def _print(table: PriceTable, found: list[Item], form: str) -> None:
    """Columns in the order of the record, those that no item has left out. Numbers are written as they are stored."""
    order = dict.fromkeys([table.keys.partition, table.keys.sort, *(column.name for column in records.columns(Bar))])
    present = set(itertools.chain.from_iterable(found))
    names = [name for name in order if name in present] + sorted(present - set(order))
    rows = [{name: _written(item.get(name)) for name in names} for item in found]
    if form == "json":
        print(msgspec.json.format(msgspec.json.Encoder(decimal_format="number").encode(rows), indent=1).decode())
        return
    # Not by pandas, whose import takes longer than all the rest.
    if form == "csv":
        writer = csv.DictWriter(sys.stdout, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return
    # On a terminal the prices matter, where they came from does not; CSV and JSON have everything.
    shown = [name for name in names if name not in ("time", "source", "ingested_at")]
    lines = [shown, *(["" if row[name] is None else str(row[name]) for name in shown] for row in rows)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    for line in lines:
        print(" ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def _written(field: object) -> object:
    """Numbers without an exponent: 158168416 and not 1.58168416E+8."""
    return Decimal(f"{field:f}") if isinstance(field, Decimal) else field


def _date(text: str) -> str:
    """A day, a time, or a day with the interval of a longer bar."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\d( .*)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not YYYY-MM-DD, nor YYYY-MM-DD HH:MM:SS.SSS")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.dynamodb", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="get|range|latest|create")
    common = argparse.ArgumentParser(add_help=False)
    terminal.add_environment(common)
    common.add_argument("--table", dest="dynamodb_table", help="DYNAMODB_TABLE")
    common.add_argument("--partition-key", dest="dynamodb_partition_key", metavar="NAME", help="DYNAMODB_PARTITION_KEY")
    common.add_argument("--sort-key", dest="dynamodb_sort_key", metavar="NAME", help="DYNAMODB_SORT_KEY")
    reading = argparse.ArgumentParser(add_help=False, parents=[common])
    reading.add_argument("--format", choices=["table", "csv", "json"], default="table", help="default table")
    several = argparse.ArgumentParser(add_help=False, parents=[reading])
    several.add_argument(
        "--interval", choices=records.INTERVALS, metavar="1d", default="", help="bars of this length only"
    )
    get = commands.add_parser("get", parents=[reading], help="one bar")
    get.add_argument("company")
    get.add_argument("date", type=_date, help="YYYY-MM-DD, or the whole time of a shorter bar")
    ranged = commands.add_parser("range", parents=[several], help="all bars from one day to another")
    ranged.add_argument("company")
    ranged.add_argument("first", type=_date, help="YYYY-MM-DD, or a time")
    ranged.add_argument("last", type=_date, help="likewise; included")
    latest = commands.add_parser("latest", parents=[several], help="the last bar of each company")
    latest.add_argument("companies", nargs="*", metavar="company", help="default: all that the table has")
    commands.add_parser("create", parents=[common], help="create the table")
    return parser


def script() -> None:
    """Run as a command; pyproject.toml names it."""
    terminal.run(main)


if __name__ == "__main__":
    script()
