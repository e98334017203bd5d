"""Tableau: the workbook and data source for Athena, or a packaged workbook with its data for Tableau Public.

python -m dashboards.tableau workbook              stock_market.twb and .tds, for Athena
python -m dashboards.tableau public                stock_market.csv and .twbx, a workbook with the CSV inside
python -m dashboards.tableau public --extract      the .twbx with a Hyper extract instead (pip install tableauhyperapi)
"""

import argparse
import tempfile
import zipfile
from pathlib import Path

import pandas as pd

from dashboards import query_results
from dashboards.tableau import source, workbook
from pipeline import records, terminal
from pipeline.settings import ServiceError, SettingsError, load_settings
from pipeline.spreadsheet import harmless


def main() -> None:
    arguments = _parser().parse_args()
    arguments.command(arguments)


def _parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="python -m dashboards.tableau", description=(__doc__ or "").splitlines()[0])
    commands = options.add_subparsers(required=True, metavar="COMMAND")
    for_athena = commands.add_parser(
        "workbook", help="stock_market.twb and .tds that connect to Athena, by AWS_REGION and GLUE_DATABASE"
    )
    terminal.add_environment(for_athena)
    for_athena.add_argument("--output", type=Path, default=Path("dashboards/tableau"), metavar="FOLDER")
    for_athena.set_defaults(command=_workbook)
    for_public = commands.add_parser(
        "public", help="stock_market.csv and .twbx with the daily bars inside, for Tableau Public"
    )
    for_public.add_argument("--output", type=Path, default=Path("tableau"), metavar="FOLDER")
    for_public.add_argument(
        "--extract", action="store_true", help="a Hyper extract in the .twbx; needs tableauhyperapi"
    )
    query_results.add_arguments(for_public)
    for_public.set_defaults(command=_public)
    return options


def _workbook(arguments: argparse.Namespace) -> None:
    settings = load_settings({"stock_env": arguments.stock_env})
    connection = source.athena(settings.aws_region, settings.glue_database)
    arguments.output.mkdir(parents=True, exist_ok=True)
    texts = workbook.files(connection) | {source.PROPERTIES_FILE: source.properties(settings.athena_workgroup)}
    for name, text in texts.items():
        (arguments.output / name).write_text(text, encoding="utf-8")
        print(arguments.output / name)


def _public(arguments: argparse.Namespace) -> None:
    daily = query_results.chosen(arguments)(["daily_bars"])["daily_bars"]
    if daily is None or daily.empty:
        raise ServiceError(
            "daily_bars: there are no daily bars; see --csv, --tickers, --from, --to, or land some first"
        )
    bars = as_bars(daily)
    arguments.output.mkdir(parents=True, exist_ok=True)
    csv_path, package = arguments.output / "stock_market.csv", arguments.output / "stock_market.twbx"
    shown = bars.assign(**{name: bars[name].map(harmless, na_action="ignore") for name in ("symbol", "company")})
    shown.to_csv(csv_path, index=False, date_format="%Y-%m-%d %H:%M:%S")
    with tempfile.TemporaryDirectory() as folder:
        if arguments.extract:
            data = Path(folder) / "stock_market.hyper"
            write_extract(bars, data)
            connection = source.hyper_file(f"Data/{data.name}")
        else:
            data, connection = csv_path, source.csv_file(csv_path.name, "Data")
        with zipfile.ZipFile(package, "w", zipfile.ZIP_DEFLATED) as zipped:
            zipped.writestr("stock_market.twb", workbook.workbook(connection))
            zipped.write(data, f"Data/{data.name}")
    print(csv_path, package, sep="\n")


def as_bars(daily: pd.DataFrame) -> pd.DataFrame:
    """Return daily_bars with every column of the view, in its order; what the query leaves out is empty."""
    bars = daily.rename(columns={"day": "time"}).assign(interval="1d")
    return bars.reindex(columns=[column.name for column in records.columns(records.Bar)])


def write_extract(bars: pd.DataFrame, path: Path) -> None:
    """Write a Hyper file with the table "Extract"."bars"."""
    try:
        import tableauhyperapi as hyper  # noqa: PLC0415 - not in requirements.txt: its licence is Tableau's own
    except ImportError:
        raise SettingsError(["--extract: needs Tableau's library: pip install tableauhyperapi"]) from None
    types = {
        "string": hyper.SqlType.text,
        "double": hyper.SqlType.double,
        "bigint": hyper.SqlType.big_int,
        "boolean": hyper.SqlType.bool,
        "timestamp": hyper.SqlType.timestamp,
    }
    table = hyper.TableDefinition(
        hyper.TableName("Extract", "bars"),
        [hyper.TableDefinition.Column(column.name, types[column.type]()) for column in records.columns(records.Bar)],
    )
    with (
        hyper.HyperProcess(hyper.Telemetry.DO_NOT_SEND_USAGE_DATA_TO_TABLEAU, parameters={"log_config": ""}) as process,
        hyper.Connection(process.endpoint, str(path), hyper.CreateMode.CREATE_AND_REPLACE) as connection,
    ):
        connection.catalog.create_schema("Extract")
        connection.catalog.create_table(table)
        with hyper.Inserter(connection, table) as inserter:
            inserter.add_rows(
                [None if pd.isna(value) else value for value in row] for row in bars.itertuples(index=False)
            )
            inserter.execute()


if __name__ == "__main__":
    terminal.run(main)
