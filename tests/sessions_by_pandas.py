"""What the queries over trading_sessions should give, worked out by pandas. The sessions are the days of the file."""

import pandas as pd


def of_sessions(daily: pd.DataFrame, news: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Query name to rows; only the columns that are compared."""
    calendar = coverage(daily)
    by_month = calendar.assign(month=calendar["day"].dt.to_period("M").dt.to_timestamp())
    months = by_month.groupby(["symbol", "month"])["bars"].agg(sessions="count", bars="sum").reset_index()
    behind = daily.loc[daily["day"] > "2013-01-31", "day"].nunique()
    return {
        "missing_sessions": pd.DataFrame(
            {"symbol": ["IBM"], "exchange": ["XNYS"], "day": [pd.Timestamp("2012-03-06")], "is_early_close": [False]}
        ),
        "coverage_by_month": months.assign(missing=months["sessions"] - months["bars"]),
        "coverage_calendar": calendar,
        "stale_symbols": pd.DataFrame(
            {"symbol": ["IBM"], "last_time": [pd.Timestamp("2013-01-31")], "sessions_behind": [behind]}
        ),
        "news_and_next_day_return": after_news(daily, news),
    }


def coverage(daily: pd.DataFrame) -> pd.DataFrame:
    """A row a symbol and session of its span, with whether it has a bar."""
    sessions = pd.Series(sorted(daily["day"].unique()))
    parts = []
    for symbol, own in daily.groupby("symbol"):
        within = sessions[sessions.between(own["day"].min(), own["day"].max())]
        parts.append(pd.DataFrame({"symbol": symbol, "day": within, "bars": within.isin(own["day"]).astype(int)}))
    return pd.concat(parts, ignore_index=True)


def after_news(daily: pd.DataFrame, news: pd.DataFrame) -> pd.DataFrame:
    """Returns from the session of an article, or that before it, to the next session, where both have a bar."""
    sessions = pd.Series(sorted(daily["day"].unique()))
    closes = daily.set_index(["symbol", "day"])["close"]
    rows = []
    for item in news.itertuples():
        place = sessions.searchsorted(item.time.normalize(), side="right") - 1
        keys = [(item.symbol, day) for day in sessions.iloc[max(place, 0) : place + 2]]
        if len(keys) == 2 and all(key in closes.index for key in keys):
            rows.append((item.symbol, item.sentiment or "unknown", closes[keys[1]] / closes[keys[0]] - 1))
    frame = pd.DataFrame(rows, columns=["symbol", "sentiment", "change"])
    grouped = frame.groupby(["symbol", "sentiment"])["change"]
    return grouped.agg(
        articles="count", average_next_day_return="mean", share_of_rises=lambda own: (own > 0).mean()
    ).reset_index()
