"""Run queries on Athena: those of athena_queries.sql by name, or any SQL.

python -m pipeline.athena                                  which queries there are
python -m pipeline.athena monthly_performance volatility   run them, print tables
python -m pipeline.athena --all --csv results/             run all, write results/<name>.csv
python -m pipeline.athena --sql "SELECT count(*) AS bars FROM bars" --json -
"""

import argparse
import json
import shutil
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import terminal
from pipeline.athena import belonging, choices
from pipeline.athena.client import AT_THE_SAME_TIME, Athena, QueryFailed, Result
from pipeline.athena.queries import QUERIES_FILE, Query, queries
from pipeline.settings import SettingsError, load_settings
from pipeline.spreadsheet import harmless

_OF_SETTINGS = ("stock_env", "glue_database", "athena_workgroup")


def main() -> int:
    parser = _parser()
    options = parser.parse_args()
    settings = load_settings({name: getattr(options, name) for name in _OF_SETTINGS})
    terminal.configure_logging(settings)
    known = queries(options.file)
    unknown = [name for name in options.names if name not in known]
    if unknown:
        raise SettingsError([f"{name}: is not in {options.file}, which has {', '.join(known)}" for name in unknown])
    chosen = (
        [Query("sql", "", options.sql)]
        if options.sql is not None
        else [known[n] for n in (known if options.all else options.names)]
    )
    if options.as_traded or options.as_of:
        how = {"as_traded": options.as_traded, "as_of": options.as_of or ""}
        chosen = [replace(query, sql=choices.chosen(query.sql, conditions={}, **how)) for query in chosen]
    if not chosen:
        print(*(f"{query.name:<28} {query.description}" for query in known.values()), sep="\n")
        return terminal.EXIT_DONE
    if options.sql is None and options.show_sql:
        print(*(f"-- {query.name}\n{query.sql};\n" for query in chosen), sep="\n")
        return terminal.EXIT_DONE
    _check_places(options, len(chosen))
    if options.glue_database is None:
        belonging.check(settings)
    return _run_all(Athena(settings), chosen, options)


def _check_places(options: argparse.Namespace, count: int) -> None:
    """Raise SettingsError for what could not be run or written, before anything is asked."""
    mistakes = ["--sql: is empty"] if options.sql is not None and not options.sql.strip() else []
    for kind, place in (("csv", options.csv), ("json", options.json)):
        if not place or place == "-":
            continue
        path = Path(place)
        in_way = next((each for each in path.parents if each.exists() and not each.is_dir()), None)
        if in_way:
            mistakes.append(f"--{kind} {place}: {in_way} is a file, not a folder")
        if count > 1 and (path.is_file() or (place.endswith(f".{kind}") and not path.is_dir())):
            mistakes.append(f"--{kind} {place}: {count} queries need a folder, such as results/")
    if mistakes:
        raise SettingsError(mistakes)


def _run_all(athena: Athena, chosen: list[Query], options: argparse.Namespace) -> int:
    """Run a few at a time, show them in order; one that fails does not keep the others from running."""
    failed, finished = 0, []
    with _sigterm_as_ctrl_c(), ThreadPoolExecutor(AT_THE_SAME_TIME) as pool:
        futures = [pool.submit(athena.run, query) for query in chosen]
        try:
            for query, future in zip(chosen, futures, strict=True):
                try:
                    result = future.result()
                except QueryFailed as error:
                    failed += 1
                    print(f"error: {error}", file=sys.stderr)
                    continue
                finished.append(result)
                _show(query, result, options, is_one=len(chosen) == 1)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            athena.cancel()
            raise
    if len(chosen) > 1:
        scanned, cost = sum(r.scanned_bytes for r in finished), sum(r.cost_usd for r in finished)
        count = terminal.counted(len(finished), "query", "queries")
        print(
            f"{count}, {failed} failed, {_size(scanned)} scanned, {cost:.6f} USD at list price",
            file=sys.stderr,
        )
    return terminal.EXIT_FAILED if failed else terminal.EXIT_DONE


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """SIGTERM does what Ctrl-C does: nothing is left running in Athena."""

    def interrupt(_signum: int, _frame: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _show(query: Query, result: Result, options: argparse.Namespace, *, is_one: bool) -> None:
    cost = (
        f"{terminal.counted(len(result.rows), 'row')}, {result.seconds:.2f} s, {_size(result.scanned_bytes)} scanned, "
        f"{result.cost_usd:.6f} USD at list price"
    )
    for kind, place in (("csv", options.csv), ("json", options.json)):
        if place:
            print(f"{query.name}: {cost}{_write(result.rows, kind, place, query.name, is_one=is_one)}", file=sys.stderr)
    if options.csv or options.json:
        return
    print(*filter(None, [f"\n{query.name}", query.description]), sep="\n", end="\n\n")
    most = options.rows if options.rows is not None else 40 if sys.stdout.isatty() else 0
    shown = result.rows.head(most) if most else result.rows
    if not result.rows.empty:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print(
            shown.to_string(
                index=False,
                na_rep="",
                line_width=width,
                float_format=lambda number: f"{number:,.4f}".rstrip("0").rstrip("."),
            )
        )
    if len(shown) < len(result.rows):
        print(f"… {len(result.rows) - len(shown):,} more rows: --rows 0 prints all, --csv FILE writes all")
    print(f"\n({cost})")


def _write(rows: pd.DataFrame, kind: str, place: str, name: str, *, is_one: bool) -> str:
    """Write to standard output (-), to a file, or into a folder as <name>.csv; return what to say about where."""
    text = _csv(rows) if kind == "csv" else _json(rows)
    if place == "-":
        sys.stdout.write(text)
        return ""
    is_folder = not is_one or place.endswith("/") or Path(place).is_dir()
    path = Path(place) / f"{name}.{kind}" if is_folder else Path(place)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return f" -> {path}"


def _csv(rows: pd.DataFrame) -> str:
    """Text cells are made harmless for spreadsheets; numbers stay numbers."""
    shown = rows.copy()
    for place, kind in enumerate(rows.dtypes):
        if pd.api.types.is_object_dtype(kind):
            shown.isetitem(place, [harmless(cell) for cell in rows.iloc[:, place]])
    text: str = shown.to_csv(index=False)
    return text


def _json(rows: pd.DataFrame) -> str:
    """Not pandas' own writer, which rounds doubles. NaN is not JSON."""
    objects = rows.astype(object).where(rows.notna(), None).to_dict("records")

    for name in rows.attrs.get("dates", ()):
        for row in objects:
            row[name] = row[name] and f"{row[name]:%Y-%m-%d}"

    def shown(value: Any) -> str:
        return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)

    return json.dumps(objects, indent=1, default=shown) + "\n"


def _size(size_bytes: int) -> str:
    for unit, name in ((2**30, "GB"), (2**20, "MB"), (2**10, "KB")):
        if size_bytes >= unit:
            return f"{size_bytes / unit:.1f} {name}"
    return f"{size_bytes} bytes"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.athena", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="queries of the file; none: list them")
    parser.add_argument("--all", action="store_true", help="every query of the file")
    parser.add_argument("--sql", help="this statement instead of a named query")
    parser.add_argument("--file", default=str(QUERIES_FILE), help="another file of named queries")
    parser.add_argument(
        "--csv", metavar="FILE", help="write CSV: a file, a folder (<name>.csv each), or - for standard output"
    )
    parser.add_argument("--json", metavar="FILE", help="write JSON, an array of objects, likewise")
    parser.add_argument(
        "--rows", type=int, metavar="N", help="print at most N rows, 0 for all (default 40 on a terminal)"
    )
    parser.add_argument(
        "--as-traded",
        action="store_true",
        help="prices of adjusted_bars as they were traded, with the jumps that splits make",
    )
    parser.add_argument(
        "--as-of",
        type=choices.instant,
        metavar="TIME",
        help="what had been read by then (UTC), prices on the shares of that day; reads all raw objects",
    )
    parser.add_argument("--show-sql", action="store_true", help="print the SQL and run nothing")
    terminal.add_environment(parser)
    parser.add_argument("--database", dest="glue_database", help="GLUE_DATABASE")
    parser.add_argument("--workgroup", dest="athena_workgroup", help="ATHENA_WORKGROUP")
    return parser


def script() -> None:
    """Run as a command; pyproject.toml names it."""
    terminal.run(main)


if __name__ == "__main__":
    script()
