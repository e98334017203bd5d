"""QuickSight: create the data source, the data sets and the dashboard, by CloudFormation or by QuickSight's API.

python -m dashboards.quicksight template                 print the CloudFormation template
python -m dashboards.quicksight apply --user-arn ARN     create or update by the API; ARN: aws quicksight list-users
python -m dashboards.quicksight delete --user-arn ARN    delete what apply made
"""

import argparse
import re
import time
from collections.abc import Callable
from typing import Any

from dashboards.quicksight import definition
from dashboards.quicksight.template import template_text, volatility_sql
from pipeline import aws, terminal
from pipeline.settings import ServiceError, Settings, SettingsError, load_settings

WAIT_SECONDS = 300.0


def main() -> None:
    arguments = _parser().parse_args()
    if arguments.command == "template":
        print(template_text())
        return
    settings = load_settings({"stock_env": arguments.stock_env})
    terminal.configure_logging(settings)
    account = account_of(arguments.user_arn)
    client = aws.client(settings, "quicksight")
    with aws.naming("--user-arn, ATHENA_WORKGROUP", f"{arguments.user_arn}, {settings.athena_workgroup}"):
        if arguments.command == "apply":
            apply(client, settings, account, arguments.user_arn)
        else:
            delete(client, settings, account)


def _parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="python -m dashboards.quicksight",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = options.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("template", help="print the CloudFormation template")
    for name, purpose in {"apply": "create or update by the API", "delete": "delete what apply made"}.items():
        command = commands.add_parser(name, help=purpose)
        terminal.add_environment(command)
        command.add_argument(
            "--user-arn", required=True, metavar="ARN", help="QuickSight user or group that owns everything"
        )
    return options


def account_of(user_arn: str) -> str:
    """Return the account in a QuickSight user's or group's ARN; raise SettingsError."""
    found = re.fullmatch(r"arn:aws[a-z-]*:quicksight:[a-z0-9-]+:(\d{12}):(?:user|group)/.+", user_arn)
    if not found:
        raise SettingsError(
            [f"--user-arn: {user_arn!r} is not like arn:aws:quicksight:us-east-1:123456789012:user/default/name"]
        )
    return found[1]


def apply(client: Any, settings: Settings, account: str, user_arn: str, *, pause_seconds: float = 2.0) -> None:
    """Create what is missing and update what exists. Safe to run twice."""
    name = definition.name_of(settings.glue_database)
    source_arn = _put(client, "data_source", account, definition.data_source(settings.athena_workgroup, user_arn, name))
    _wait(
        "the data source",
        lambda: client.describe_data_source(AwsAccountId=account, DataSourceId=name)["DataSource"],
        pause_seconds,
    )
    arns = {
        one: _put(
            client,
            "data_set",
            account,
            definition.data_set(one, source_arn, settings.glue_database, volatility_sql(), user_arn, lake_name=name),
        )
        for one in definition.DATA_SETS
    }
    _put(client, "dashboard", account, definition.dashboard(arns, user_arn, name), pause_seconds)


def _put(client: Any, kind: str, account: str, properties: dict[str, Any], pause_seconds: float = 2.0) -> str:
    """Create, or update what has this id already; return the ARN."""
    try:
        arn: str = getattr(client, f"create_{kind}")(AwsAccountId=account, **properties)["Arn"]
        done = "created"
        if kind == "dashboard":
            _wait_for_version(client, account, properties["DashboardId"], 1, pause_seconds)
    except client.exceptions.ResourceExistsException:
        # The owner may have changed the permissions since; a data source's type cannot be changed.
        kept = {key: value for key, value in properties.items() if key not in ("Permissions", "Type")}
        answer = getattr(client, f"update_{kind}")(AwsAccountId=account, **kept)
        arn, done = answer["Arn"], "updated"
        if kind == "dashboard":
            version = int(answer["VersionArn"].rpartition("/")[2])
            _wait_for_version(client, account, properties["DashboardId"], version, pause_seconds)
            client.update_dashboard_published_version(
                AwsAccountId=account, DashboardId=properties["DashboardId"], VersionNumber=version
            )
    print(f"{done} {arn}")
    return arn


def _wait_for_version(client: Any, account: str, dashboard: str, version: int, pause_seconds: float) -> None:
    asked = {"AwsAccountId": account, "DashboardId": dashboard, "VersionNumber": version}
    _wait("the dashboard", lambda: client.describe_dashboard(**asked)["Dashboard"]["Version"], pause_seconds)


def _wait(what: str, describe: Callable[[], dict[str, Any]], pause_seconds: float) -> None:
    """Wait until QuickSight has made it; raise ServiceError with QuickSight's own reasons."""
    end = time.monotonic() + WAIT_SECONDS
    while (state := describe()).get("Status", "CREATION_SUCCESSFUL").endswith("IN_PROGRESS"):
        if time.monotonic() > end:
            raise ServiceError(f"QuickSight has not finished {what} after {WAIT_SECONDS:.0f} s; see its console")
        time.sleep(pause_seconds)
    if state.get("Status", "").endswith("FAILED"):
        errors = state.get("Errors") or [state.get("ErrorInfo", {})]
        raise ServiceError(
            f"QuickSight refused {what}: "
            + "; ".join(f"{error.get('Type')}: {error.get('Message')}" for error in errors)
        )


def delete(client: Any, settings: Settings, account: str) -> None:
    """Delete the dashboard, then what it depends on; what does not exist is skipped."""
    name = definition.name_of(settings.glue_database)
    for kind, key, ids in (
        ("dashboard", "DashboardId", [name]),
        ("data_set", "DataSetId", [definition.data_set_id(one, name) for one in definition.DATA_SETS]),
        ("data_source", "DataSourceId", [name]),
    ):
        for one in ids:
            try:
                getattr(client, f"delete_{kind}")(AwsAccountId=account, **{key: one})
            except client.exceptions.ResourceNotFoundException:
                print(f"there is no {kind.replace('_', ' ')} {one}")
            else:
                print(f"deleted {kind.replace('_', ' ')} {one}")


if __name__ == "__main__":
    terminal.run(main)
