"""When records are due, with a clock that only sleep moves."""

import pytest

from pipeline.records import Tick
from pipeline.sources.pacing import Pace


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def ticks(count: int, minutes_apart: int = 1) -> list[Tick]:
    return [
        Tick(
            symbol="A",
            time=f"2024-01-02 {n * minutes_apart // 60:02}:{n * minutes_apart % 60:02}:00.000",
            price=1,
            volume=1,
            source="s",
            ingested_at="x",
        )
        for n in range(count)
    ]


@pytest.mark.parametrize("rate", [1, 10, 1000, 100_000])
def test_a_rate_is_held_within_two_percent(rate: int) -> None:
    """Over ten seconds and more, as many records are released as the rate says, whatever the size of what waits."""
    clock = Clock()
    pace = Pace(rate=rate, clock=clock, sleep=clock.sleep)
    waiting, released = ticks(50), 0
    while clock.now < 60 and released < 500_000:
        released += pace.due(waiting)
        clock.now += 0.0001  # the work between two calls
    assert released == pytest.approx(rate * clock.now, rel=0.02, abs=1.5)


def test_speed_follows_the_records_clock() -> None:
    """At 60 times real time a minute passes in a second."""
    clock = Clock()
    pace = Pace(speed=60, clock=clock, sleep=clock.sleep)
    waiting = ticks(11)
    while waiting:
        waiting = waiting[pace.due(waiting) :]
    assert clock.now == pytest.approx(10, abs=0.1)


def test_without_a_pace_all_is_due() -> None:
    """Neither rate nor speed: as fast as it goes, without a look at the clock."""
    assert Pace(clock=None, sleep=None).due(ticks(5)) == 5
