"""The simulated market: the same seed, the same records; all of them valid; volume as a trading day has it."""

from datetime import UTC, datetime
from itertools import islice, pairwise

from pipeline.records import encode
from pipeline.sources import simulated

START = datetime(2024, 1, 2, 14, 30, tzinfo=UTC)
HOW = {"start": START, "ingested_at": lambda: "2024-01-02 14:30:00.000"}


def test_the_same_seed_gives_the_same_ticks() -> None:
    """Two runs of a seed are equal, another seed is not."""

    def of(seed: int) -> list:
        return list(islice(simulated.ticks(["A", "B"], seed=seed, rate=10, **HOW), 1000))

    assert of(7) == of(7)
    assert of(7) != of(8)


def test_ticks_are_valid_and_keep_the_rate_by_their_own_time() -> None:
    """Every tick keeps to its definition and they are as far apart as the rate says."""
    ticks = list(islice(simulated.ticks(["A", "B", "C"], seed=1, rate=1000, **HOW), 5001))
    assert all(encode(tick) for tick in ticks)
    assert (datetime.fromisoformat(ticks[-1].time) - datetime.fromisoformat(ticks[0].time)).total_seconds() == 5
    assert {tick.symbol for tick in ticks} == {"A", "B", "C"}
    assert len({tick.price for tick in ticks}) > 3


def test_bars_are_valid_and_lie_in_trading_hours() -> None:
    """Minute bars of a day are 390 a symbol from 09:30 in New York on, none on a weekend, and each opens where the last
    closed.
    """
    bars = list(islice(simulated.bars(["A"], "1m", seed=1, **HOW), 390 * 6))
    assert all(encode(bar) for bar in bars)
    assert [bars[0].time, bars[389].time, bars[390].time] == [
        "2024-01-02 14:30:00.000",
        "2024-01-02 20:59:00.000",
        "2024-01-03 14:30:00.000",
    ]
    assert all(datetime.fromisoformat(bar.time).weekday() < 5 for bar in bars)
    assert all(bar.low <= bar.open <= bar.high and bar.low <= bar.close <= bar.high for bar in bars)
    assert all(after.open == before.close for before, after in pairwise(bars))


def test_daily_bars_are_dated() -> None:
    """Daily bars carry their trading date at midnight."""
    assert [bar.time for bar in islice(simulated.bars(["A"], "1d", seed=1, **HOW), 2)] == [
        "2024-01-02 00:00:00.000",
        "2024-01-03 00:00:00.000",
    ]


def test_volume_has_the_shape_of_a_day() -> None:
    """The opening and the close are busier than noon, noon than the night, and a day's minutes average to 1."""
    opening, noon, close, night = (simulated.volume_shape(minute) for minute in (570, 765, 959, 1200))
    assert min(opening, close) > 1.5 > noon > night
    assert abs(sum(simulated.volume_shape(minute) for minute in range(570, 960)) / 390 - 1) < 0.01
