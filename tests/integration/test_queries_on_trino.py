"""Every block of athena_queries.sql on Trino, the engine of Athena 3, with results worked out anew by pandas,
to 1e-9.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from actions_by_pandas import ACTIONS, SPLIT_DAY, of_actions
from raw_objects import TODAY, curate, land, set_up, settings_of
from sessions_by_pandas import of_sessions

from local.stack import Stack
from pipeline import records
from pipeline.athena.choices import chosen
from pipeline.athena.client import Athena
from pipeline.athena.queries import queries
from pipeline.records import Bar, NewsItem, Tick

PRICES = Path(__file__).parents[2] / "samples/daily_prices.csv"
SENTIMENTS = ("positive", "negative", "neutral", None)
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def daily() -> pd.DataFrame:
    """Real daily prices of five tickers over two years, with a day taken out of one, and one that ends early."""
    frame = pd.read_csv(PRICES, parse_dates=["Date"]).rename(columns=str.lower).rename(columns={"date": "day"})
    frame = frame[frame["day"].between("2011-06-01", "2013-02-28")]
    frame = frame[~((frame["symbol"] == "IBM") & ((frame["day"] == "2012-03-06") | (frame["day"] > "2013-01-31")))]
    return frame.sort_values(["symbol", "day"], ignore_index=True)


@pytest.fixture(scope="module")
def news(daily: pd.DataFrame) -> pd.DataFrame:
    random = np.random.default_rng(1)
    rows = daily.sample(200, random_state=1)
    # Some on days without trade, some after the last day, one before the session whose bar is missing.
    days = rows["day"] + pd.to_timedelta(random.integers(0, 4, 200), unit="D")
    days.iloc[0] = pd.Timestamp("2012-03-05")
    return pd.DataFrame(
        {
            "id": [f"article-{number}" for number in range(200)],
            "symbol": ["IBM", *rows["symbol"].iloc[1:]],
            "time": (days + pd.Timedelta("15:30:00")).to_numpy(),
            "sentiment": pd.Series([SENTIMENTS[number % 4] for number in range(200)], dtype=object),
        }
    )


@pytest.fixture(scope="module")
def ticks() -> pd.DataFrame:
    random = np.random.default_rng(2)
    time = pd.Timestamp("2026-01-05 14:30:00") + pd.to_timedelta(np.arange(600) * 997, unit="ms")
    return pd.DataFrame(
        {
            "symbol": np.where(np.arange(600) % 2, "AAPL", "MSFT"),
            "time": time,
            "price": random.uniform(99, 101, 600),
            "volume": random.uniform(1, 50, 600),
        }
    )


@pytest.fixture(scope="module")
def athena(stack: Stack, bucket: str, daily: pd.DataFrame, news: pd.DataFrame, ticks: pd.DataFrame) -> Athena:
    """A lake that holds the frames, some bars in an older version first, some twice, and a few dead letters."""
    settings = settings_of(stack, bucket)
    early, late = (records.time_text(NOW - timedelta(hours=hours)) for hours in (3, 2))
    bars = [_bar(row, late) for row in daily.itertuples()]
    revised = [_bar(row, early, factor=1.01) for row in daily.head(30).itertuples()]
    land(settings, "bars", [*revised, *bars, *bars[:10]], day=TODAY - timedelta(days=1))
    land(
        settings,
        "bars",
        [b'{"symbol":"A","close":"x"}', b'{"symbol":"B","close":"yy"}', b"not json", *bars[10:15]],
        start=10_000,
    )
    land(
        settings,
        "news",
        [
            NewsItem(
                id=row.id,
                symbol=row.symbol,
                time=records.time_text(row.time),
                title='A "quoted", title',
                publisher="p",
                url="u",
                sentiment=row.sentiment,
                source="test",
                ingested_at=late,
            )
            for row in news.itertuples()
        ],
    )
    land(
        settings,
        "ticks",
        [
            Tick(
                symbol=row.symbol,
                time=records.time_text(row.time),
                price=row.price,
                volume=row.volume,
                source="test",
                ingested_at=late,
            )
            for row in ticks.itertuples()
        ],
    )
    land(settings, "actions", ACTIONS)
    set_up(settings)
    for record in ("bars", "actions"):
        curate(settings, record, now=NOW, run="one")
    return Athena(settings)


def _bar(row: object, ingested_at: str, factor: float = 1.0) -> Bar:
    # Stored as traded: four old shares were worth one of today's before the split.
    shares = 4 if row.symbol == "AAPL" and row.day < SPLIT_DAY else 1
    prices = {name: getattr(row, name) * factor * shares for name in ("open", "high", "low", "close")}
    # A few bars of the CSV have an open outside of high and low; the records allow that.
    vwap = (row.close + 0.25) * shares if row.symbol == "AAPL" else None
    return Bar(
        symbol=row.symbol,
        time=records.time_text(row.day),
        interval="1d",
        volume=float(row.volume) / shares,
        vwap=vwap,
        **prices,
        source="test",
        ingested_at=ingested_at,
    )


def by_symbol(daily: pd.DataFrame, of: Callable[[pd.Series], pd.Series], column: str = "close") -> pd.Series:
    return daily.groupby("symbol")[column].transform(of)


def windows(column: pd.Series, size: int, of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """A function of the last `size` values, each window worked out on its own: pandas' rolling sums carry
    errors along.
    """
    values = np.full(len(column), np.nan)
    if len(column) >= size:
        values[size - 1 :] = of(np.lib.stride_tricks.sliding_window_view(column.to_numpy(), size))
    return values


def expected(daily: pd.DataFrame, news: pd.DataFrame, ticks: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Query name to rows; only the columns that are compared."""
    return {
        **of_prices(daily),
        **of_volumes(daily),
        **indicators(daily),
        **of_actions(daily),
        "tick_fluctuation": by_minute(ticks),
        "news_sentiment": sentiment_by_month(news),
        **of_sessions(daily, news),
    }


def of_prices(daily: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Prices, and how they change from day to day."""
    month = daily["day"].dt.to_period("M").dt.to_timestamp().rename("month")
    groups, monthly = daily.groupby("symbol"), daily.groupby(["symbol", month])
    day, close, change = daily[["symbol", "day"]], daily["close"], groups["close"].pct_change()
    highest = groups["close"].cummax()
    return {
        "monthly_performance": monthly["close"]
        .agg(average_close="mean", first_close="first", last_close="last", days="count")
        .reset_index(),
        "closing_trend": daily[["symbol", "day", "close"]],
        "daily_bars": daily[["symbol", "day", "open", "high", "low", "close", "volume"]],
        "daily_average_price": day.assign(
            average_price=(daily["open"] + daily["high"] + daily["low"] + close) / 4, bars=1
        ),
        "returns": day.assign(
            daily_return=change,
            weekly_return=groups["close"].pct_change(5),
            monthly_return=groups["close"].pct_change(21),
        )[change.notna()],
        "best_and_worst_days": best_and_worst(day.assign(daily_return=change)),
        "correlation_of_returns": correlations(day.assign(change=change)),
        "correlation": correlations_of_columns(daily),
        "drawdown": day.assign(highest_close=highest, drawdown=close / highest - 1),
        "spread_of_prices": groups["close"]
        .agg(
            minimum="min",
            quartile_1=lambda own: own.quantile(0.25),
            median="median",
            quartile_3=lambda own: own.quantile(0.75),
            maximum="max",
        )
        .reset_index(),
    }


def of_volumes(daily: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """How much was traded, and at which average price."""
    month = daily["day"].dt.to_period("M").dt.to_timestamp().rename("month")
    close = daily["close"]
    price = pd.Series(np.where(daily["symbol"] == "AAPL", close + 0.25, (daily["high"] + daily["low"] + close) / 3))
    traded = pd.DataFrame(
        {"symbol": daily["symbol"], "month": month, "amount": price * daily["volume"], "volume": daily["volume"]}
    )
    traded = traded.groupby(["symbol", "month"]).sum()
    volume = daily.groupby(["symbol", month])["volume"].sum().rename("total_volume").reset_index()
    return {
        "volume_by_ticker": daily.groupby("symbol")["volume"]
        .agg(total_volume="sum", average_volume="mean", highest_volume="max", days="count")
        .reset_index(),
        "volume_by_month": volume.assign(
            share_of_month=volume["total_volume"] / volume.groupby("month")["total_volume"].transform("sum")
        ),
        "vwap": (traded["amount"] / traded["volume"]).rename("vwap").reset_index(),
    }


def indicators(daily: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """What is worked out over a window of days."""
    groups, day = daily.groupby("symbol"), daily[["symbol", "day"]]
    logs, difference = pd.Series(np.log1p(groups["close"].pct_change())), groups["close"].diff()
    rolling = {
        days: by_symbol(daily, lambda own, n=days: windows(own, n, lambda w: w.mean(axis=1)))
        for days in (10, 20, 30, 50)
    }
    deviation = by_symbol(daily, lambda own: windows(own, 20, lambda w: w.std(axis=1)))
    volatility = logs.groupby(daily["symbol"]).transform(
        lambda own: windows(own, 20, lambda w: w.std(axis=1, ddof=1))
    ) * np.sqrt(252)
    gains, losses = (
        side.groupby(daily["symbol"]).transform(lambda own: windows(own, 14, lambda w: w.sum(axis=1)))
        for side in (difference.clip(lower=0), (-difference).clip(lower=0))
    )
    return {
        "moving_averages": day.assign(**{f"average_{days}_days": rolling[days] for days in (10, 30, 50)}),
        "volatility": day.assign(volatility=volatility),
        "rsi": day.assign(rsi=100 * gains / (gains + losses)),
        "bollinger_bands": day.assign(
            middle_band=rolling[20], upper_band=rolling[20] + 2 * deviation, lower_band=rolling[20] - 2 * deviation
        ),
    }


def best_and_worst(returns: pd.DataFrame) -> pd.DataFrame:
    parts = []
    for symbol, own in returns.dropna().groupby("symbol"):
        for kind, rows in (("best", own.nlargest(5, "daily_return")), ("worst", own.nsmallest(5, "daily_return"))):
            parts.append(rows.assign(symbol=symbol, kind=kind, place=range(1, 6)))
    return pd.concat(parts)[["symbol", "kind", "place", "day", "daily_return"]]


def correlations(changes: pd.DataFrame) -> pd.DataFrame:
    wide = changes.pivot_table(index="day", columns="symbol", values="change")
    rows = []
    for one, other in combinations(wide.columns, 2):
        both = wide[[one, other]].dropna()
        rows.append(
            {"first_symbol": one, "second_symbol": other, "correlation": np.corrcoef(both.T)[0, 1], "days": len(both)}
        )
    return pd.DataFrame(rows)


def correlations_of_columns(daily: pd.DataFrame) -> pd.DataFrame:
    rows = [
        {
            "symbol": symbol,
            "first_column": one,
            "second_column": other,
            "correlation": np.corrcoef(own[one], own[other])[0, 1],
        }
        for symbol, own in daily.groupby("symbol")
        for one, other in combinations(["open", "high", "low", "close", "volume"], 2)
    ]
    return pd.DataFrame(rows).sort_values(["symbol", "first_column", "second_column"])


def by_minute(ticks: pd.DataFrame) -> pd.DataFrame:
    grouped = ticks.groupby(["symbol", ticks["time"].dt.floor("min").rename("minute")])
    rows = grouped["price"].agg(
        first_price="first", last_price="last", lowest_price="min", highest_price="max", ticks="count"
    )
    rows["fluctuation"] = (rows["highest_price"] - rows["lowest_price"]) / rows["first_price"]
    return rows.assign(volume=grouped["volume"].sum()).reset_index()


def sentiment_by_month(news: pd.DataFrame) -> pd.DataFrame:
    month = news["time"].dt.to_period("M").dt.to_timestamp().rename("month")
    counted = pd.crosstab([news["symbol"], month], news["sentiment"].fillna("unknown"))
    return counted.reset_index().rename_axis(columns=None)[
        ["symbol", "month", "positive", "neutral", "negative", "unknown"]
    ]


@pytest.fixture(scope="module")
def wanted(daily: pd.DataFrame, news: pd.DataFrame, ticks: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return expected(daily, news, ticks)


CHECKED_APART = {"data_quality", "duplicates_and_revisions", "dead_letters_by_reason", "landing_freshness"}
CHECKED_APART |= {"unexplained_jumps"}  # tests/integration/test_price_flags.py
CHECKED_APART |= {"minutes_by_session"}  # tests/integration/test_backfill.py


@pytest.mark.parametrize("name", [name for name in queries() if name not in CHECKED_APART])
def test_block_gives_what_pandas_gives(name: str, athena: Athena, wanted: dict[str, pd.DataFrame]) -> None:
    """A block's rows are those of pandas over the same prices, to 1e-9."""
    rows, right = athena.query(queries()[name]), wanted[name]
    assert len(right) > 0
    keys = [column for column in right.columns if not pd.api.types.is_float_dtype(right[column])]
    sort = [
        c
        for c in (
            "symbol",
            "first_symbol",
            "second_symbol",
            "first_column",
            "second_column",
            "month",
            "day",
            "minute",
            "kind",
            "place",
            "sentiment",
        )
        if c in keys
    ]
    rows, right = (frame[list(right.columns)].sort_values(sort, ignore_index=True) for frame in (rows, right))
    pd.testing.assert_frame_equal(rows, right, check_dtype=False, rtol=1e-9, atol=1e-12)


def test_prices_as_traded_are_one_choice_away(athena: Athena, daily: pd.DataFrame) -> None:
    """With --as-traded a query has the prices of each day as they were, with the jump of the split."""
    rows = athena.query(chosen(queries()["closing_trend"].sql, conditions={}, as_traded=True))
    shares = np.where((daily["symbol"] == "AAPL") & (daily["day"] < SPLIT_DAY), 4, 1)
    assert rows["close"].tolist() == pytest.approx((daily["close"] * shares).tolist(), rel=1e-12)


def test_data_quality_counts_everything(
    athena: Athena, daily: pd.DataFrame, news: pd.DataFrame, ticks: pd.DataFrame
) -> None:
    """Every table has its row of counts, revised bars counted once, dead letters included."""
    rows = athena.query(queries()["data_quality"]).set_index("table_name")
    assert rows["row_count"].to_dict() == {
        "bars": len(daily),
        "news": len(news),
        "ticks": len(ticks),
        "actions": len(ACTIONS),
        "dead_letters": 3,
    }
    assert rows["symbols"]["bars"] == daily["symbol"].nunique()
    assert rows["last_time"]["bars"] == daily["day"].max()


def test_duplicates_and_revisions_are_counted_from_what_landed(athena: Athena, daily: pd.DataFrame) -> None:
    """30 bars came in two versions, 15 came twice the same, and none is hidden by the view's choice of the latest."""
    rows = athena.query(queries()["duplicates_and_revisions"])
    assert rows["bars"].sum() == len(daily)
    assert (rows["revisions"].sum(), rows["duplicates"].sum()) == (30, 15)


def test_dead_letters_of_one_kind_are_counted_together(athena: Athena) -> None:
    """Two records refused for the like reason with other values are one line, with one reason in full."""
    rows = athena.query(queries()["dead_letters_by_reason"])
    assert rows["dead_letters"].sum() == 3
    assert len(rows) == 2
    assert rows["dead_letters"].iloc[0] == 2


def test_landing_freshness_is_a_duration(athena: Athena) -> None:
    """The age of the newest record is told in minutes: two hours here."""
    rows = athena.query(queries()["landing_freshness"]).set_index("table_name")
    assert set(rows.index) == {"bars", "news", "ticks", "actions"}
    assert rows.drop("actions")["minutes_since"].between(119, 240).all()
