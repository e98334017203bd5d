"""Lists of corporate actions: what the APIs answer, what of it is refused, and what changed."""

import shutil
from datetime import date
from pathlib import Path

import pytest
from actions_of import dividend, split

from pipeline.sources import alpha_vantage, alpha_vantage_actions, listing, polygon, polygon_actions
from pipeline.sources.listing import Listing
from pipeline.sources.recorded import Recorded
from pipeline.sources.rest import SourceError

AT = "2026-01-01 00:00:00.000"
TODAY = date(2026, 1, 1)


def now() -> str:
    return AT


def massive(**answers: list | dict) -> polygon.Get:
    """An API with these results of splits, dividends and events."""

    def get(path: str, _parameters: dict) -> dict:
        return {"status": "OK", "results": answers.get(path.rpartition("/")[2], [])}

    return get


SPLIT = {"id": "E1", "ticker": "A", "execution_date": "2024-06-10", "split_from": 1, "split_to": 10}
DIVIDEND = {"id": "E2", "ticker": "A", "ex_dividend_date": "2024-06-11", "cash_amount": 0.01, "currency": "USD"}


def test_massive_splits_and_dividends() -> None:
    """Splits keep from and to, dividends their amount as declared; unknown days and cumulative factors go."""
    item = DIVIDEND | {"declaration_date": "", "pay_date": "2024-06-28", "historical_adjustment_factor": 0.9}
    found = polygon_actions.listing(massive(splits=[SPLIT], dividends=[item]), "A", ingested_at=now)
    one, other = found.actions.values()
    assert (one.id, one.time, one.ratio) == ("E1", "2024-06-10 00:00:00.000", 10.0)
    assert (other.amount, other.currency, other.adjusted_to) == (0.01, "USD", None)
    assert (other.declaration_day, other.pay_day) == (None, "2024-06-28")
    assert not found.refused


@pytest.mark.parametrize(
    "change",
    [
        {"split_to": 0},
        {"split_to": -2},
        {"split_to": None},
        {"split_from": "x"},
        {"execution_date": "None"},
        {"execution_date": "2024-02-30"},
        {"ticker": "B"},
    ],
)
def test_a_split_that_cannot_be_applied_is_refused(change: dict) -> None:
    """A split without a ratio, a day or the symbol that was asked for is counted, and its neighbours are kept."""
    found = polygon_actions.listing(massive(splits=[SPLIT | change, SPLIT | {"id": "E3"}]), "A", ingested_at=now)
    assert list(found.refused) == ["split E1"]
    assert list(found.actions) == ["split E3"]


def test_spans_of_names() -> None:
    """Each name of a symbol is a span of days with the name of today; a symbol with one name has none."""
    events = [
        {"type": "ticker_change", "date": "2022-06-09", "ticker_change": {"ticker": "META"}},
        {"type": "ticker_change", "date": "2012-05-18", "ticker_change": {"ticker": "FB"}},
    ]
    found = polygon_actions.listing(
        massive(events={"composite_figi": "BBG", "events": events}), "META", ingested_at=now
    )
    assert [(a.symbol, a.time[:10], a.until_day, a.new_symbol, a.figi) for a in found.actions.values()] == [
        ("FB", "2012-05-18", "2022-06-09", "META", "BBG"),
        ("META", "2022-06-09", None, "META", "BBG"),
    ]
    assert not polygon_actions.listing(massive(events={"events": events[:1]}), "META", ingested_at=now).actions


def test_a_plan_without_events_still_lists_the_rest() -> None:
    """Where symbol changes are refused, splits are listed; where the API fails, nothing is."""

    def get(status: int) -> polygon.Get:
        def answer(path: str, _parameters: dict) -> dict:
            if path.endswith("/events"):
                raise SourceError("refused", status)
            return massive(splits=[SPLIT])(path, {})

        return answer

    assert list(polygon_actions.listing(get(403), "A", ingested_at=now).actions) == ["split E1"]
    with pytest.raises(SourceError):
        polygon_actions.listing(get(0), "A", ingested_at=now)


def alpha(splits: object, dividends: object) -> alpha_vantage.Get:
    return lambda _path, parameters: {"data": splits if parameters["function"] == "SPLITS" else dividends}


def test_alpha_vantage_lists() -> None:
    """Text becomes numbers, the text None no day; without ids two dividends of a day stay two."""
    item = {"ex_dividend_date": "2020-11-09", "payment_date": "None", "amount": "1.63"}
    items = [item, item | {"amount": "2"}, item | {"ex_dividend_date": "None"}, item | {"amount": "None"}]
    found = alpha_vantage_actions.listing(
        alpha([{"effective_date": "2021-11-04", "split_factor": "1.0460"}], items), "IBM", ingested_at=now
    )
    assert [(a.id, a.ratio, a.amount, a.pay_day) for a in found.actions.values()] == [
        ("split/IBM/2021-11-04", 1.046, None, None),
        ("dividend/IBM/2020-11-09", 1.0, 1.63, None),
        ("dividend/IBM/2020-11-09/2", 1.0, 2.0, None),
    ]
    assert len(found.refused) == 2


def test_an_answer_without_a_list_is_an_error() -> None:
    """What Alpha Vantage answers where it refuses is no empty list, which would cancel everything."""
    with pytest.raises(SourceError, match="SPLITS without a list"):
        alpha_vantage_actions.listing(lambda *_: {}, "IBM", ingested_at=now)


def of(*actions: object) -> Listing:
    found = Listing()
    for action in actions:
        found.add(action.kind, action.id, lambda _, action=action: action)
    return found


def test_only_changes_are_sent() -> None:
    """A list that says the same sends nothing; a moved split and a new dividend are sent, what is gone is found."""
    before = of(
        split("A", "2025-06-22", 10, id="1"), dividend("A", "2025-07-01", 1, id="2"), split("A", "2025-01-02", 2)
    )
    assert listing.changes(before.actions, before) == []
    later = of(
        split("A", "2025-06-29", 10, id="1"), dividend("A", "2025-08-01", 1, id="3"), split("A", "2025-01-02", 2)
    )
    assert [(a.id, a.time[:10]) for a in listing.changes(before.actions, later)] == [
        ("1", "2025-06-29"),
        ("3", "2025-08-01"),
    ]
    assert list(listing.gone(before.actions, later, today=TODAY)) == ["dividend 2"]
    unpacked = listing.unpacked(listing.packed(later.actions))
    assert listing.changes(unpacked, later) == []


def test_what_a_plan_no_longer_shows_is_not_cancelled() -> None:
    """An action that grew older than what the source lists stays; so does one that the source lists damaged."""
    before = of(split("A", "2000-06-21", 2), split("A", "2020-08-31", 4), split("A", "2025-08-31", 3))
    later = of(split("A", "2025-08-31", 3))
    assert listing.gone(before.actions, later, today=TODAY) == {}
    damaged = of(split("A", "2000-06-21", 2), split("A", "2020-08-31", 4), split("A", "2025-08-31", 3, split_to=0.0))
    assert damaged.refused
    assert listing.gone(before.actions, damaged, today=TODAY) == {}


def test_recorded_answers(shared_data: Path, tmp_path: Path) -> None:
    """Answers that were recorded of both APIs give the actions that they hold."""
    recorded = shared_data / "actions"
    names = {
        "massive_stocks_v1_splits_AAPL_recorded": "splits_AAPL",
        "massive_stocks_v1_dividends_AAPL_recorded": "dividends_AAPL",
        "massive_ticker_events_META_recorded": "ticker_events_META",
        "alpha_vantage_SPLITS_IBM_excerpt": "SPLITS_IBM",
        "alpha_vantage_DIVIDENDS_IBM_excerpt": "DIVIDENDS_IBM",
    }
    for name, ours in names.items():
        shutil.copy(recorded / f"{name}.json", tmp_path / f"{ours}.json")
    get = Recorded(str(tmp_path), polygon.recorded_name).get
    found = polygon_actions.listing(get, "AAPL", ingested_at=now)
    assert [a.ratio for a in found.actions.values() if a.kind == "split"] == [4.0, 7.0]
    assert [a.amount for a in found.actions.values() if a.kind == "dividend"] == [2.65, 2.65]
    assert [a.symbol for a in polygon_actions.listing(get, "META", ingested_at=now).actions.values()] == ["FB", "META"]
    get = Recorded(str(tmp_path), alpha_vantage.recorded_name).get
    assert len(alpha_vantage_actions.listing(get, "IBM", ingested_at=now).actions) == 6
