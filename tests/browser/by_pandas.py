"""What the queries of athena_queries.sql give for a CSV of daily prices, worked out by pandas: the figures that the pages must show."""

from pathlib import Path

import pandas as pd

DAILY_PRICES = Path(__file__).parents[2] / "samples/daily_prices.csv"


def daily_prices() -> pd.DataFrame:
    frame = pd.read_csv(DAILY_PRICES, parse_dates=["Date"])
    frame = frame.rename(columns={"Date": "day", **{name: name.lower() for name in ("Open", "High", "Low", "Close", "Volume", "Symbol")}})
    return frame.drop(columns="Company Name").sort_values(["symbol", "day"], ignore_index=True)


def results(daily: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Query name to rows."""
    month = daily["day"].dt.to_period("M").dt.to_timestamp().rename("month")
    monthly = daily.groupby(["symbol", month])["close"].mean().rename("average_close").reset_index()
    volumes = daily.groupby("symbol")["volume"].agg(total_volume="sum", average_volume="mean", days="count").reset_index()
    return {
        "monthly_performance": monthly,
        "closing_trend": daily[["symbol", "day", "close"]],
        "volume_by_ticker": volumes,
    }


def export(frames: dict[str, pd.DataFrame], folder: Path) -> Path:
    """Write each frame as FOLDER/<query>.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in frames.items():
        frame.to_csv(folder / f"{name}.csv", index=False)
    return folder
