"""What is missing, and few requests that bring it."""

import random
from datetime import date, timedelta

import pytest

from pipeline.sources.gaps import Gap, Request, fits, minutes, plan

DAY = 86_400
DAYS = [date(2025, 1, 1) + timedelta(days=number) for number in range(400)]
ALL_FIT = fits(DAY, by_month=False)


def gap(symbol: str, *numbers: int) -> Gap:
    days = tuple(DAYS[number] for number in numbers)
    return Gap(symbol=symbol, days=days, ranges=tuple((f"{day} 00", f"{day} 00") for day in days))


def asked(gaps: list[Gap], by_day: str = "") -> tuple[list[str], list[date]]:
    requests = plan(gaps, fits=ALL_FIT, by_day=frozenset(by_day))
    return [one.symbol for one in requests if one.symbol], [one.days[0] for one in requests if not one.symbol]


def test_many_days_of_one_symbol_are_one_request() -> None:
    """A symbol that lacks much is asked for by symbol, also beside another that lacks a day."""
    assert asked([gap("A", *range(300)), gap("B", 7)], "AB") == (["A", "B"], [])


def test_one_day_that_all_lack_is_one_request() -> None:
    """A day that many symbols lack is asked for as a whole, and the rest of a symbol by symbol."""
    many = [gap(name, 5) for name in "BCDEF"]
    assert asked([gap("A", 5, *range(20, 60)), *many], "ABCDEF") == (["A"], [DAYS[5]])
    whole = plan([gap("A", 5, 30), *many], fits=ALL_FIT, by_day=frozenset("ABCDEF"))
    assert whole == [Request(symbol="A", days=(DAYS[30],)), Request(days=(DAYS[5],))]


def test_symbols_that_no_day_request_has_are_asked_for_by_symbol() -> None:
    """Another exchange's symbols are not among the US stocks of a day."""
    found = asked([gap(name, 5) for name in "ABCD"], "AB")
    assert found == (["C", "D"], [DAYS[5]])
    assert asked([gap(name, 5) for name in "ABCD"]) == (["A", "B", "C", "D"], [])


@pytest.mark.parametrize("seed", range(20))
def test_the_requests_bring_all_and_cost_no_more_than_either_way_alone(seed: int) -> None:
    """Each missing day of each symbol is in a request; there are no more of them than symbols, and than days."""
    pick = random.Random(seed)
    names = [chr(65 + number) for number in range(20)]
    gaps = [gap(name, *sorted(pick.sample(range(30), pick.randint(1, 8)))) for name in names]
    requests = plan(gaps, fits=ALL_FIT, by_day=frozenset(names))
    brought = {(one.symbol, day) for one in requests for day in one.days}
    assert not [(one.symbol, day) for one in gaps for day in one.days if not brought & {(one.symbol, day), ("", day)}]
    assert len(requests) <= min(len(gaps), len({day for one in gaps for day in one.days}))


def test_minutes_are_asked_for_by_as_many_days_as_an_answer_holds() -> None:
    """An answer of Polygon holds 50,000 minutes, one of Alpha Vantage a month."""
    lacks = gap("A", *range(0, 100, 10))
    by_page = plan([lacks], fits=fits(60, by_month=False))
    assert [len(one.days) for one in by_page] == [4, 4, 2]
    by_month = plan([lacks], fits=fits(60, by_month=True))
    assert [{day.month for day in one.days} for one in by_month] == [{1}, {2}, {3}, {4}]


def test_the_time_that_requests_take() -> None:
    """The first five requests go at once, and a minute passes before the sixth."""
    assert [minutes(count, 5) for count in (0, 1, 5, 6, 500)] == [0, 0, 0, 1, 99]
    assert minutes(500, 0) == 0


def test_a_bar_is_missing_by_its_day_and_its_time() -> None:
    """A bar within a range counts only on a day that was not sent before."""
    lacks = Gap(
        symbol="A",
        days=(date(2025, 1, 2), date(2025, 1, 6)),
        ranges=(("2025-01-02 14:30", "2025-01-02 15:00"), ("2025-01-03 14:30", "2025-01-06 20:59")),
    )
    is_missing = lacks.bars()
    assert is_missing("2025-01-02", "2025-01-02 15:00")
    assert not is_missing("2025-01-02", "2025-01-02 15:01")
    assert is_missing("2025-01-06", "2025-01-06 14:30")
    assert not is_missing("2025-01-03", "2025-01-03 14:30")
    assert not is_missing("2025-01-07", "2025-01-07 14:30")
