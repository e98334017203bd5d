"""The QuickSight assets: an Athena data source, three data sets and the dashboard, as arguments of its API. Pure.

The same values are the properties of the CloudFormation template, so an ARN or a name may be a text or one of
CloudFormation's intrinsic functions.
"""

from collections.abc import Mapping
from typing import Any

from dashboards.quicksight import sheets
from pipeline import records

Value = str | dict[str, Any]  # a text, or {"Ref": …}, {"Fn::GetAtt": …}
NAME = "stock-market"  # of the assets on the database stock_market; the CloudFormation template has it too
DATA_SETS = ("bars", "ticks", "volatility")
_TYPES = {"string": "STRING", "double": "DECIMAL", "bigint": "INTEGER", "timestamp": "DATETIME"}
# What an owner may do, as QuickSight's own console grants it.
_READ_SOURCE = ("DescribeDataSource", "DescribeDataSourcePermissions", "PassDataSource")
DATA_SOURCE_ACTIONS = [
    f"quicksight:{action}"
    for action in (*_READ_SOURCE, "UpdateDataSource", "DeleteDataSource", "UpdateDataSourcePermissions")
]
DATA_SET_ACTIONS = [
    f"quicksight:{action}"
    for action in (
        "DescribeDataSet",
        "DescribeDataSetPermissions",
        "PassDataSet",
        "DescribeIngestion",
        "ListIngestions",
        "UpdateDataSet",
        "DeleteDataSet",
        "CreateIngestion",
        "CancelIngestion",
        "UpdateDataSetPermissions",
    )
]
DASHBOARD_ACTIONS = [
    f"quicksight:{action}"
    for action in (
        "DescribeDashboard",
        "ListDashboardVersions",
        "UpdateDashboardPermissions",
        "QueryDashboard",
        "UpdateDashboard",
        "DeleteDashboard",
        "DescribeDashboardPermissions",
        "UpdateDashboardPublishedVersion",
    )
]


def name_of(database: str) -> str:
    """Return the id of the assets on a database: each lake has its own."""
    return database.replace("_", "-")


def data_set_id(set_name: str, name: str = NAME) -> str:
    """Return the id of a data set."""
    return f"{name}-{set_name}"


def _title(name: str) -> str:
    return name.replace("-", " ").capitalize()


def data_source(workgroup: Value, owner: Value, name: str = NAME) -> dict[str, Any]:
    """Return CreateDataSource's arguments, AwsAccountId excepted. `name`: the id of the lake's assets."""
    return {
        "DataSourceId": name,
        "Name": f"{_title(name)} (Athena)",
        "Type": "ATHENA",
        "DataSourceParameters": {"AthenaParameters": {"WorkGroup": workgroup}},
        "Permissions": [{"Principal": owner, "Actions": DATA_SOURCE_ACTIONS}],
    }


def columns(name: str) -> dict[str, str]:
    """Return a data set's columns with their QuickSight types, without booleans, which no chart shows."""
    if name == "volatility":
        return {"symbol": "STRING", "day": "DATETIME", "volatility": "DECIMAL"}
    return {
        column.name: _TYPES[column.type] for column in records.columns(records.TABLES[name]) if column.type in _TYPES
    }


def data_set(
    name: str, data_source_arn: Value, database: Value, volatility_sql: str, owner: Value, *, lake_name: str = NAME
) -> dict[str, Any]:
    """Return CreateDataSet's arguments: a view, or for the volatility the statement of athena_queries.sql.

    QuickSight queries it directly, so a dashboard shows what has landed without a refresh.
    """
    inputs = [{"Name": column, "Type": kind} for column, kind in columns(name).items()]
    if name == "volatility":
        table = {
            "CustomSql": {"DataSourceArn": data_source_arn, "Name": name, "SqlQuery": volatility_sql, "Columns": inputs}
        }
    else:
        table = {
            "RelationalTable": {
                "DataSourceArn": data_source_arn,
                "Catalog": "AwsDataCatalog",
                "Schema": database,
                # A chart over time needs prices on the shares of one day.
                "Name": "adjusted_bars" if name == "bars" else name,
                "InputColumns": inputs,
            }
        }
    return {
        "DataSetId": data_set_id(name, lake_name),
        "Name": f"{_title(lake_name)}: {name}",
        "ImportMode": "DIRECT_QUERY",
        "PhysicalTableMap": {name: table},
        "Permissions": [{"Principal": owner, "Actions": DATA_SET_ACTIONS}],
    }


def dashboard(data_set_arns: Mapping[str, Value], owner: Value, name: str = NAME) -> dict[str, Any]:
    """Return CreateDashboard's arguments, from the data sets' ARNs by name."""
    return {
        "DashboardId": name,
        "Name": _title(name),
        "Permissions": [{"Principal": owner, "Actions": DASHBOARD_ACTIONS}],
        "DashboardPublishOptions": {
            "AdHocFilteringOption": {"AvailabilityStatus": "ENABLED"},
            "ExportToCSVOption": {"AvailabilityStatus": "ENABLED"},
        },
        "Definition": {
            "DataSetIdentifierDeclarations": [
                {"Identifier": name, "DataSetArn": data_set_arns[name]} for name in DATA_SETS
            ],
            "Sheets": [sheets.prices(), sheets.live()],
            "FilterGroups": sheets.filter_groups(),
        },
    }
