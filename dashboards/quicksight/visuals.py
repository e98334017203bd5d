"""The charts of the QuickSight dashboard, as its API describes them. Pure."""

from typing import Any

_DECIMALS = {"DecimalPlacesConfiguration": {"DecimalPlaces": 2}}
DOLLARS = {"CurrencyDisplayFormatConfiguration": {"Symbol": "USD", **_DECIMALS}}
PERCENT = {"PercentageDisplayFormatConfiguration": {"DecimalPlacesConfiguration": {"DecimalPlaces": 1}}}
_SHARES = {"NumberDisplayFormatConfiguration": {"NumberScale": "AUTO"}}


def column(data_set: str, name: str) -> dict[str, str]:
    """Return a reference to a data set's column."""
    return {"DataSetIdentifier": data_set, "ColumnName": name}


def _category(field: str, data_set: str, name: str = "symbol") -> dict[str, Any]:
    return {"CategoricalDimensionField": {"FieldId": field, "Column": column(data_set, name)}}


def _date(field: str, data_set: str, name: str, granularity: str) -> dict[str, Any]:
    return {"DateDimensionField": {"FieldId": field, "Column": column(data_set, name), "DateGranularity": granularity}}


def _measure(
    field: str, data_set: str, name: str, aggregation: str | None, number_format: dict[str, Any]
) -> dict[str, Any]:
    measure = {
        "FieldId": field,
        "Column": column(data_set, name),
        "FormatConfiguration": {"FormatConfiguration": number_format},
    }
    if aggregation:
        measure["AggregationFunction"] = {"SimpleNumericalAggregation": aggregation}
    return {"NumericalMeasureField": measure}


def _title(text: str) -> dict[str, Any]:
    return {"Visibility": "VISIBLE", "FormatText": {"PlainText": text}}


def line(
    visual: str, title: str, *, data_set: str, time: str, granularity: str, value: str, number_format: dict[str, Any]
) -> dict[str, Any]:
    """Return a line per ticker: the average of `value` by `time`."""
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


def heatmap() -> dict[str, Any]:
    """Return the average close per month and ticker."""
    return {
        "HeatMapVisual": {
            "VisualId": "monthly-heatmap",
            "Title": _title("Average close by month and ticker, $"),
            "ChartConfiguration": {
                "FieldWells": {
                    "HeatMapAggregatedFieldWells": {
                        "Rows": [_date("monthly-heatmap-month", "bars", "time", "MONTH")],
                        "Columns": [_category("monthly-heatmap-ticker", "bars")],
                        "Values": [_measure("monthly-heatmap-value", "bars", "close", "AVERAGE", DOLLARS)],
                    }
                },
                "ColorScale": {"ColorFillType": "GRADIENT", "Colors": [{"Color": "#E6EFF8"}, {"Color": "#0B4A86"}]},
                "DataLabels": {"Visibility": "VISIBLE", "Overlap": "DISABLE_OVERLAP"},
            },
        }
    }


def volume_bars() -> dict[str, Any]:
    """Return the shares traded per ticker, the greatest first."""
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


def box_plot() -> dict[str, Any]:
    """Return the spread of the closes per ticker. Its quartiles are those of the single closes, not of an aggregate."""
    return {
        "BoxPlotVisual": {
            "VisualId": "box-plot",
            "Title": _title("Spread of the closing prices, $"),
            "ChartConfiguration": {
                "FieldWells": {
                    "BoxPlotAggregatedFieldWells": {
                        "GroupBy": [_category("box-plot-ticker", "bars")],
                        "Values": [_measure("box-plot-value", "bars", "close", None, DOLLARS)],
                    }
                },
                "BoxPlotOptions": {"OutlierVisibility": "VISIBLE", "AllDataPointsVisibility": "HIDDEN"},
            },
        }
    }
