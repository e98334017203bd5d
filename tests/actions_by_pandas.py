"""What splits and dividends make of prices, worked out by pandas."""

import numpy as np
import pandas as pd
from actions_of import dividend, split

SPLIT_DAY, EX_DAY = pd.Timestamp("2012-02-15"), pd.Timestamp("2012-05-08")
ACTIONS = [
    split("AAPL", "2012-02-15", 4),
    dividend("IBM", "2012-05-08", 3),
    dividend("MSFT", "2012-05-10", 1, currency="GBP"),
]


def of_actions(daily: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """What splits and dividends say, and the bases of the bars."""
    groups = daily.groupby("symbol")["close"]
    ibm = daily[daily["symbol"] == "IBM"]
    close_before = ibm.loc[ibm["day"] < EX_DAY, "close"].iloc[-1]
    factor = np.where((daily["symbol"] == "IBM") & (daily["day"] < EX_DAY), 1 - 3 / close_before, 1.0)
    total = (daily["close"] * factor).groupby(daily["symbol"])
    last = daily.groupby("symbol").last()
    paid = pd.Series(0.0, last.index).mask(last.index == "IBM", 3.0)
    return {
        "total_return": daily[["symbol", "day"]].assign(
            price_growth=groups.transform(lambda own: own / own.iloc[0]),
            total_growth=total.transform(lambda own: own / own.iloc[0]),
        ),
        # A day before Apple's split, and before the dividend.
        "prices_on_the_shares_of_a_day": daily.loc[daily["day"] <= "2012-02-14", ["symbol", "day", "close"]]
        .assign(close=lambda rows: rows["close"].where(rows["symbol"] != "AAPL", rows["close"] * 4))
        .assign(total_return_close=lambda rows: rows["close"]),
        "dividend_yield": pd.DataFrame(
            {"last_day": last["day"], "dividends": paid, "dividend_yield": paid / last["close"]}
        ).reset_index(),
        "actions": pd.DataFrame(
            {
                "symbol": ["AAPL", "IBM", "MSFT"],
                "day": [SPLIT_DAY, EX_DAY, pd.Timestamp("2012-05-10")],
                "kind": ["split", "dividend", "dividend"],
                "ratio": [4.0, np.nan, np.nan],
                "amount": [np.nan, 3.0, 1.0],
            }
        ),
        "bars_by_basis": daily.groupby("symbol").size().rename("bars").reset_index().assign(basis="as traded"),
        "suspicious_actions": pd.DataFrame({"symbol": ["MSFT"], "suspicion": ["not in dollars: not applied"]}),
    }
