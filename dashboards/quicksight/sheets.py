"""The sheets and filters of the QuickSight dashboard. Pure."""

from typing import Any

from dashboards.quicksight import visuals


def prices() -> dict[str, Any]:
    """Return the sheet of the daily bars."""
    charts = [
        visuals.line(
            "price-trend",
            "Closing price by day, $",
            data_set="bars",
            time="time",
            granularity="DAY",
            value="close",
            number_format=visuals.DOLLARS,
        ),
        visuals.line(
            "volatility",
            "Volatility of the last 20 days, annualized",
            data_set="volatility",
            time="day",
            granularity="DAY",
            value="volatility",
            number_format=visuals.PERCENT,
        ),
        visuals.heatmap(),
        visuals.volume_bars(),
        visuals.box_plot(),
    ]
    return _sheet(
        "prices",
        "Prices",
        charts,
        places={
            "price-trend": (0, 0, 36, 12),
            "volatility": (0, 12, 18, 10),
            "volume": (18, 12, 18, 10),
            "monthly-heatmap": (0, 22, 18, 18),
            "box-plot": (18, 22, 18, 18),
        },
    )


def live() -> dict[str, Any]:
    """Return the sheet of the latest ticks."""
    chart = visuals.line(
        "live-fluctuations",
        "Price by minute over the last 24 hours, $",
        data_set="ticks",
        time="time",
        granularity="MINUTE",
        value="price",
        number_format=visuals.DOLLARS,
    )
    return _sheet("live", "Live", [chart], places={"live-fluctuations": (0, 0, 36, 18)})


def _sheet(
    sheet_id: str, name: str, charts: list[dict[str, Any]], *, places: dict[str, tuple[int, int, int, int]]
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
        "Visuals": charts,
        "Layouts": [{"Configuration": {"GridLayout": {"Elements": elements, "CanvasSizeOptions": canvas}}}],
    }


def filter_groups() -> list[dict[str, Any]]:
    """Return the filters: daily bars only; a ticker list and a range of days above the charts; 24 hours of ticks."""
    return [
        _group("daily", _daily_bars()),
        _group("ticker", _tickers(), across="ALL_DATASETS"),
        _group("days", _days()),
        _group("recent", _last_day_of_ticks()),
    ]


def _group(name: str, one_filter: dict[str, Any], *, across: str = "SINGLE_DATASET") -> dict[str, Any]:
    return {
        "FilterGroupId": f"{name}-filters",
        "Filters": [one_filter],
        "ScopeConfiguration": {"AllSheets": {}},
        "CrossDataset": across,
        "Status": "ENABLED",
    }


def _daily_bars() -> dict[str, Any]:
    return {
        "CategoryFilter": {
            "FilterId": "daily",
            "Column": visuals.column("bars", "interval"),
            "Configuration": {"FilterListConfiguration": {"MatchOperator": "CONTAINS", "CategoryValues": ["1d"]}},
        }
    }


def _tickers() -> dict[str, Any]:
    return {
        "CategoryFilter": {
            "FilterId": "ticker",
            "Column": visuals.column("bars", "symbol"),
            "Configuration": {
                "FilterListConfiguration": {"MatchOperator": "CONTAINS", "SelectAllOptions": "FILTER_ALL_VALUES"}
            },
            "DefaultFilterControlConfiguration": {
                "Title": "Ticker",
                "ControlOptions": {"DefaultDropdownOptions": {"Type": "MULTI_SELECT"}},
            },
        }
    }


def _days() -> dict[str, Any]:
    return {
        "TimeRangeFilter": {
            "FilterId": "days",
            "Column": visuals.column("bars", "time"),
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


def _last_day_of_ticks() -> dict[str, Any]:
    return {
        "RelativeDatesFilter": {
            "FilterId": "recent",
            "Column": visuals.column("ticks", "time"),
            "AnchorDateConfiguration": {"AnchorOption": "NOW"},
            "TimeGranularity": "HOUR",
            "RelativeDateType": "LAST",
            "RelativeDateValue": 24,
            "NullOption": "NON_NULLS_ONLY",
        }
    }
