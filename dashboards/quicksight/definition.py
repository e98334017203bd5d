"""The QuickSight assets: an Athena data source, three data sets and the dashboard, as the arguments of QuickSight's
API. Pure.

The same values are the properties of the CloudFormation template. An ARN or a name may be a text, or an intrinsic
function of CloudFormation's: nothing here looks into it.
"""

from collections.abc import Mapping
from typing import Any

from pipeline import records

Value = str | dict[str, Any]  # a text, or {"Ref": …}, {"Fn::GetAtt": …}
DATA_SOURCE, DASHBOARD = "stock-market", "stock-market"
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


def data_source(workgroup: Value, owner: Value) -> dict[str, Any]:
    return {
        "DataSourceId": DATA_SOURCE,
        "Name": "Stock market (Athena)",
        "Type": "ATHENA",
        "DataSourceParameters": {"AthenaParameters": {"WorkGroup": workgroup}},
        "Permissions": [{"Principal": owner, "Actions": DATA_SOURCE_ACTIONS}],
    }


def columns(name: str) -> dict[str, str]:
    """A data set's columns with their QuickSight types. A yes-or-no column has no chart, and is left out."""
    if name == "volatility":
        return {"symbol": "STRING", "day": "DATETIME", "volatility": "DECIMAL"}
    return {
        column.name: _TYPES[column.type] for column in records.columns(records.TABLES[name]) if column.type in _TYPES
    }


def data_set(name: str, data_source_arn: Value, database: Value, volatility_sql: str, owner: Value) -> dict[str, Any]:
    """A view, or for the volatility the statement of athena_queries.sql. Queried directly: what is landed is seen at
    once.
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
                "Name": name,
                "InputColumns": inputs,
            }
        }
    return {
        "DataSetId": f"stock-market-{name}",
        "Name": f"Stock market: {name}",
        "ImportMode": "DIRECT_QUERY",
        "PhysicalTableMap": {name: table},
        "Permissions": [{"Principal": owner, "Actions": DATA_SET_ACTIONS}],
    }


def dashboard(data_set_arns: Mapping[str, Value], owner: Value) -> dict[str, Any]:
    return {
        "DashboardId": DASHBOARD,
        "Name": "Stock market",
        "Permissions": [{"Principal": owner, "Actions": DASHBOARD_ACTIONS}],
        "DashboardPublishOptions": {
            "AdHocFilteringOption": {"AvailabilityStatus": "ENABLED"},
            "ExportToCSVOption": {"AvailabilityStatus": "ENABLED"},
        },
        "Definition": {
            "DataSetIdentifierDeclarations": [
                {"Identifier": name, "DataSetArn": data_set_arns[name]} for name in DATA_SETS
            ],
            "Sheets": [_prices_sheet(), _live_sheet()],
            "FilterGroups": _filter_groups(),
        },
    }


def _prices_sheet() -> dict[str, Any]:
    visuals = [
        _line(
            "price-trend",
            "Closing price by day, $",
            data_set="bars",
            time="time",
            granularity="DAY",
            value="close",
            number_format=_DOLLARS,
        ),
        _line(
            "volatility",
            "Volatility of the last 20 days, a year",
            data_set="volatility",
            time="day",
            granularity="DAY",
            value="volatility",
            number_format=_PERCENT,
        ),
        _heatmap(),
        _volume_bars(),
        _box_plot(),
    ]
    return _sheet(
        "prices",
        "Prices",
        visuals,
        places={
            "price-trend": (0, 0, 36, 12),
            "volatility": (0, 12, 18, 10),
            "volume": (18, 12, 18, 10),
            "monthly-heatmap": (0, 22, 18, 18),
            "box-plot": (18, 22, 18, 18),
        },
    )


def _live_sheet() -> dict[str, Any]:
    visual = _line(
        "live-fluctuations",
        "Price by minute over the last 24 hours, $",
        data_set="ticks",
        time="time",
        granularity="MINUTE",
        value="price",
        number_format=_DOLLARS,
    )
    return _sheet("live", "Live", [visual], places={"live-fluctuations": (0, 0, 36, 18)})


def _sheet(
    sheet_id: str, name: str, visuals: list[dict], *, places: dict[str, tuple[int, int, int, int]]
) -> dict[str, Any]:
    elements = [
        {
            "ElementId": visual,
            "ElementType": "VISUAL",
            "ColumnIndex": column,
            "RowIndex": row,
            "ColumnSpan": width,
            "RowSpan": height,
        }
        for visual, (column, row, width, height) in places.items()
    ]
    canvas = {"ScreenCanvasSizeOptions": {"ResizeOption": "RESPONSIVE"}}
    return {
        "SheetId": sheet_id,
        "Name": name,
        "ContentType": "INTERACTIVE",
        "Visuals": visuals,
        "Layouts": [{"Configuration": {"GridLayout": {"Elements": elements, "CanvasSizeOptions": canvas}}}],
    }


_DECIMALS = {"DecimalPlacesConfiguration": {"DecimalPlaces": 2}}
_DOLLARS = {"CurrencyDisplayFormatConfiguration": {"Symbol": "USD", **_DECIMALS}}
_PERCENT = {"PercentageDisplayFormatConfiguration": {"DecimalPlacesConfiguration": {"DecimalPlaces": 1}}}
_SHARES = {"NumberDisplayFormatConfiguration": {"NumberScale": "AUTO"}}


def _column(data_set: str, name: str) -> dict[str, str]:
    return {"DataSetIdentifier": data_set, "ColumnName": name}


def _category(field: str, data_set: str, name: str = "symbol") -> dict[str, Any]:
    return {"CategoricalDimensionField": {"FieldId": field, "Column": _column(data_set, name)}}


def _date(field: str, data_set: str, name: str, granularity: str) -> dict[str, Any]:
    return {"DateDimensionField": {"FieldId": field, "Column": _column(data_set, name), "DateGranularity": granularity}}


def _measure(field: str, data_set: str, name: str, aggregation: str | None, number_format: dict) -> dict[str, Any]:
    measure = {
        "FieldId": field,
        "Column": _column(data_set, name),
        "FormatConfiguration": {"FormatConfiguration": number_format},
    }
    if aggregation:
        measure["AggregationFunction"] = {"SimpleNumericalAggregation": aggregation}
    return {"NumericalMeasureField": measure}


def _title(text: str) -> dict[str, Any]:
    return {"Visibility": "VISIBLE", "FormatText": {"PlainText": text}}


def _line(
    visual: str, title: str, *, data_set: str, time: str, granularity: str, value: str, number_format: dict
) -> dict[str, Any]:
    day = f"{visual}-time"
    return {
        "LineChartVisual": {
            "VisualId": visual,
            "Title": _title(title),
            "ChartConfiguration": {
                "Type": "LINE",
                "FieldWells": {
                    "LineChartAggregatedFieldWells": {
                        "Category": [_date(day, data_set, time, granularity)],
                        "Values": [_measure(f"{visual}-value", data_set, value, "AVERAGE", number_format)],
                        "Colors": [_category(f"{visual}-ticker", data_set)],
                    }
                },
                "SortConfiguration": {"CategorySort": [{"FieldSort": {"FieldId": day, "Direction": "ASC"}}]},
            },
        }
    }


def _heatmap() -> dict[str, Any]:
    return {
        "HeatMapVisual": {
            "VisualId": "monthly-heatmap",
            "Title": _title("Average close by month and ticker, $"),
            "ChartConfiguration": {
                "FieldWells": {
                    "HeatMapAggregatedFieldWells": {
                        "Rows": [_date("monthly-heatmap-month", "bars", "time", "MONTH")],
                        "Columns": [_category("monthly-heatmap-ticker", "bars")],
                        "Values": [_measure("monthly-heatmap-value", "bars", "close", "AVERAGE", _DOLLARS)],
                    }
                },
                "ColorScale": {"ColorFillType": "GRADIENT", "Colors": [{"Color": "#E6EFF8"}, {"Color": "#0B4A86"}]},
                "DataLabels": {"Visibility": "VISIBLE", "Overlap": "DISABLE_OVERLAP"},
            },
        }
    }


def _volume_bars() -> dict[str, Any]:
    return {
        "BarChartVisual": {
            "VisualId": "volume",
            "Title": _title("Shares traded by ticker"),
            "ChartConfiguration": {
                "Orientation": "HORIZONTAL",
                "BarsArrangement": "CLUSTERED",
                "FieldWells": {
                    "BarChartAggregatedFieldWells": {
                        "Category": [_category("volume-ticker", "bars")],
                        "Values": [_measure("volume-value", "bars", "volume", "SUM", _SHARES)],
                    }
                },
                "SortConfiguration": {
                    "CategorySort": [{"FieldSort": {"FieldId": "volume-value", "Direction": "DESC"}}]
                },
            },
        }
    }


def _box_plot() -> dict[str, Any]:
    """The quartiles are those of the single closes: they are not aggregated first."""
    return {
        "BoxPlotVisual": {
            "VisualId": "box-plot",
            "Title": _title("Spread of the closing prices, $"),
            "ChartConfiguration": {
                "FieldWells": {
                    "BoxPlotAggregatedFieldWells": {
                        "GroupBy": [_category("box-plot-ticker", "bars")],
                        "Values": [_measure("box-plot-value", "bars", "close", None, _DOLLARS)],
                    }
                },
                "BoxPlotOptions": {"OutlierVisibility": "VISIBLE", "AllDataPointsVisibility": "HIDDEN"},
            },
        }
    }


def _filter_groups() -> list[dict[str, Any]]:
    """Daily bars only; a ticker list and a range of days above the charts; the last 24 hours of ticks."""
    everywhere = {"AllSheets": {}}
    daily = {
        "CategoryFilter": {
            "FilterId": "daily",
            "Column": _column("bars", "interval"),
            "Configuration": {"FilterListConfiguration": {"MatchOperator": "CONTAINS", "CategoryValues": ["1d"]}},
        }
    }
    ticker = {
        "CategoryFilter": {
            "FilterId": "ticker",
            "Column": _column("bars", "symbol"),
            "Configuration": {
                "FilterListConfiguration": {"MatchOperator": "CONTAINS", "SelectAllOptions": "FILTER_ALL_VALUES"}
            },
            "DefaultFilterControlConfiguration": {
                "Title": "Ticker",
                "ControlOptions": {"DefaultDropdownOptions": {"Type": "MULTI_SELECT"}},
            },
        }
    }
    days = {
        "TimeRangeFilter": {
            "FilterId": "days",
            "Column": _column("bars", "time"),
            "NullOption": "NON_NULLS_ONLY",
            "TimeGranularity": "DAY",
            "IncludeMinimum": True,
            "IncludeMaximum": True,
            "RangeMinimumValue": {"StaticValue": "1970-01-01T00:00:00Z"},
            "RangeMaximumValue": {
                "RollingDate": {
                    "DataSetIdentifier": "bars",
                    "Expression": "addDateTime(1, 'DD', truncDate('DD', now()))",
                }
            },
            "DefaultFilterControlConfiguration": {
                "Title": "Days",
                "ControlOptions": {"DefaultDateTimePickerOptions": {"Type": "DATE_RANGE"}},
            },
        }
    }
    recent = {
        "RelativeDatesFilter": {
            "FilterId": "recent",
            "Column": _column("ticks", "time"),
            "AnchorDateConfiguration": {"AnchorOption": "NOW"},
            "TimeGranularity": "HOUR",
            "RelativeDateType": "LAST",
            "RelativeDateValue": 24,
            "NullOption": "NON_NULLS_ONLY",
        }
    }
    return [
        {
            "FilterGroupId": f"{name}-filters",
            "Filters": [one],
            "ScopeConfiguration": everywhere,
            "CrossDataset": across,
            "Status": "ENABLED",
        }
        for name, one, across in (
            ("daily", daily, "SINGLE_DATASET"),
            ("ticker", ticker, "ALL_DATASETS"),
            ("days", days, "SINGLE_DATASET"),
            ("recent", recent, "SINGLE_DATASET"),
        )
    ]


def template(volatility_sql: str) -> dict[str, Any]:
    """The same as a CloudFormation template."""
    account, owner = {"Ref": "AWS::AccountId"}, {"Ref": "UserArn"}
    source_arn = {"Fn::GetAtt": ["DataSource", "Arn"]}
    sets = {name: f"{name.capitalize()}DataSet" for name in DATA_SETS}
    resources = {
        "DataSource": {
            "Type": "AWS::QuickSight::DataSource",
            "Properties": {"AwsAccountId": account, **data_source({"Ref": "WorkGroup"}, owner)},
        },
        **{
            resource: {
                "Type": "AWS::QuickSight::DataSet",
                "Properties": {
                    "AwsAccountId": account,
                    **data_set(name, source_arn, {"Ref": "Database"}, volatility_sql, owner),
                },
            }
            for name, resource in sets.items()
        },
        "Dashboard": {
            "Type": "AWS::QuickSight::Dashboard",
            "Properties": {
                "AwsAccountId": account,
                **dashboard({name: {"Fn::GetAtt": [resource, "Arn"]} for name, resource in sets.items()}, owner),
            },
        },
    }
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "QuickSight on the stock market lake: Athena data source, data sets and dashboard. "
        "Made by python -m dashboards.quicksight template",
        "Parameters": {
            "UserArn": {
                "Type": "String",
                "Description": "ARN of the QuickSight user or group who owns it all; "
                "aws quicksight list-users shows it",
                "AllowedPattern": "arn:aws[a-z-]*:quicksight:.*",
            },
            "WorkGroup": {
                "Type": "String",
                "Default": "stock_market",
                "Description": "Athena workgroup, ATHENA_WORKGROUP",
            },
            "Database": {"Type": "String", "Default": "stock_market", "Description": "Glue database, GLUE_DATABASE"},
        },
        "Resources": resources,
        "Outputs": {"DashboardArn": {"Description": "The dashboard", "Value": {"Fn::GetAtt": ["Dashboard", "Arn"]}}},
    }
