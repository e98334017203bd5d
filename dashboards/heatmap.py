"""The rows of the monthly heatmap, which the report draws as HTML and the plots as PNG. Pure."""

import numpy as np
import pandas as pd


def heatmap_rows(monthly: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of monthly_performance with what the heatmap shows.

    `index_100` is the average close with the ticker's first month = 100; `row` is ticker and year; `month_of_year` is 1
    to 12. Leaves out months without an average; a ticker whose first average is 0 has no index.
    """
    rows = monthly.dropna(subset=["average_close"]).sort_values(["symbol", "month"])
    first = rows.groupby("symbol")["average_close"].transform("first")
    index_100 = (100 * rows["average_close"] / first).round(1).replace([np.inf, -np.inf], np.nan)
    month = pd.to_datetime(rows["month"])
    return rows.assign(
        index_100=index_100,
        row=rows["symbol"] + " " + month.dt.year.astype(str),
        month_of_year=month.dt.month,
    )
