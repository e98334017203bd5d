"""What the queries of athena_queries.sql give for a CSV of daily prices, worked out by pandas: the figures that the
pages must show.
"""

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from sessions_by_pandas import coverage

DAILY_PRICES = Path(__file__).parents[2] / "samples/daily_prices.csv"


def daily_prices() -> pd.DataFrame:
    frame = pd.read_csv(DAILY_PRICES, parse_dates=["Date"])
    frame = frame.rename(
        columns={"Date": "day", **{name: name.lower() for name in ("Open", "High", "Low", "Close", "Volume", "Symbol")}}
    )
    return frame.drop(columns="Company Name").sort_values(["symbol", "day"], ignore_index=True)


def results(daily: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Query name to rows, of bars sorted by symbol and day."""
    month = daily["day"].dt.to_period("M").dt.to_timestamp().rename("month")
    by_symbol = daily.groupby("symbol")
    day = daily[["symbol", "day"]]
    change = by_symbol["close"].pct_change()
    rolling = {
        f"average_{days}_days": by_symbol["close"].transform(lambda own, n=days: own.rolling(n).mean())
        for days in (10, 30, 50)
    }
    deviation = np.log1p(change).groupby(daily["symbol"]).transform(lambda own: own.rolling(20).std())
    close = by_symbol["close"]
    return {
        "monthly_performance": daily.groupby(["symbol", month])["close"].mean().rename("average_close").reset_index(),
        "closing_trend": daily[["symbol", "day", "close"]],
        "moving_averages": daily[["symbol", "day", "close"]].assign(**rolling),
        "volume_by_ticker": by_symbol["volume"]
        .agg(total_volume="sum", average_volume="mean", days="count")
        .reset_index(),
        "spread_of_prices": close.agg(
            minimum="min",
            quartile_1=lambda own: own.quantile(0.25),
            median="median",
            quartile_3=lambda own: own.quantile(0.75),
            maximum="max",
        ).reset_index(),
        "volatility": day.assign(volatility=deviation * np.sqrt(252)),
        "drawdown": day.assign(drawdown=daily["close"] / close.cummax() - 1),
        "returns": day.assign(daily_return=change).dropna(),
        "correlation": _pairs_by_symbol(daily),
        "correlation_of_returns": _pairs(
            day.assign(change=change).pivot_table(index="day", columns="symbol", values="change"),
            "first_symbol",
            "second_symbol",
        ),
        "coverage_calendar": coverage(daily),
        "daily_bars": daily[["symbol", "day", "open", "high", "low", "close", "volume"]],
        "news_sentiment": pd.DataFrame(columns=["symbol", "month", "positive", "neutral", "negative", "unknown"]),
        "data_quality": pd.DataFrame(
            [
                {
                    "table_name": "bars",
                    "row_count": len(daily),
                    "symbols": daily["symbol"].nunique(),
                    "first_time": daily["day"].min(),
                    "last_time": daily["day"].max(),
                    "last_ingested_at": pd.Timestamp("2026-11-21 08:15:00"),
                }
            ]
        ),
    }


def _pairs(frame: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    correlations = frame.corr()
    return pd.DataFrame(
        [
            {first: one, second: other, "correlation": correlations.loc[one, other]}
            for one, other in combinations(frame.columns, 2)
        ]
    )


def _pairs_by_symbol(daily: pd.DataFrame) -> pd.DataFrame:
    columns = ["open", "high", "low", "close", "volume"]
    return pd.concat(
        [
            _pairs(own[columns], "first_column", "second_column").assign(symbol=symbol)
            for symbol, own in daily.groupby("symbol")
        ],
        ignore_index=True,
    )


def export(frames: dict[str, pd.DataFrame], folder: Path) -> Path:
    """Write each frame as FOLDER/<query>.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in frames.items():
        frame.to_csv(folder / f"{name}.csv", index=False)
    return folder
