"""records.py: what an action and the basis of a bar must be."""

import msgspec
import pytest
from actions_of import dividend, split
from raw_objects import bar

from pipeline import records
from pipeline.records import Action, Bar, InvalidRecord

SPAN = Action(
    id="f/FB/2012-05-18",
    symbol="FB",
    time="2012-05-18 00:00:00.000",
    kind="symbol_change",
    new_symbol="META",
    until_day="2022-06-09",
    figi="BBG000MM2P62",
    source="polygon",
    ingested_at="2026-01-01 00:00:00.000",
)


@pytest.mark.parametrize(
    "action",
    [
        split("NVDA", "2024-06-10", 10),
        split("BRW", "2022-05-20", 0.5, category="reverse_split"),
        dividend("AAPL", "2012-08-09", 2.65, currency="USD", pay_day="2012-08-16", record_day="2012-08-13"),
        dividend("AAPL", "2012-08-09", 0.09, adjusted_to="2026-02-15", cancelled=True),
        SPAN,
    ],
)
def test_json_round_trip(action: Action) -> None:
    """An action that was encoded is decoded to the same action, alone and in bulk."""
    value = records.encode(action)
    assert records.decode(Action, value) == action


@pytest.mark.parametrize(
    ("action", "change", "reason"),
    [
        (split("A", "2024-01-02", 2), {"split_to": None}, "split_to: a split needs one"),
        (split("A", "2024-01-02", 2), {"split_from": 0.0}, "split_from: "),
        (split("A", "2024-01-02", 2), {"split_to": -2.0}, "split_to: "),
        (split("A", "2024-01-02", 2), {"split_from": 1e-300, "split_to": 1e300}, "is no ratio"),
        (split("A", "2024-01-02", 2), {"time": "2024-01-02 09:30:00.000"}, "is not a day at midnight"),
        (split("A", "2024-01-02", 2), {"time": "None"}, "time: "),
        (dividend("A", "2024-01-02", 2), {"amount": None}, "amount: a dividend needs one"),
        (dividend("A", "2024-01-02", 2), {"amount": 0.0}, "amount: "),
        (dividend("A", "2024-01-02", 2), {"amount": -0.5}, "amount: "),
        (dividend("A", "2024-01-02", 2), {"pay_day": "None"}, "pay_day: 'None' is not a day"),
        (dividend("A", "2024-01-02", 2), {"adjusted_to": "unknown"}, "adjusted_to: 'unknown' is not a day"),
        (dividend("A", "2024-01-02", 2), {"record_day": "2024-02-30"}, "record_day: "),
        (SPAN, {"new_symbol": None}, "new_symbol: a symbol_change needs one"),
        (SPAN, {"until_day": "2012-05-17"}, "until_day: "),
        (SPAN, {"new_symbol": "M\x1b[2J"}, "new_symbol: .* has a control character"),
    ],
)
def test_bad_actions_are_refused_on_both_ways(action: Action, change: dict, reason: str) -> None:
    """An action without a ratio, an amount or a real day is neither sent nor landed; the message names the field."""
    bad = msgspec.structs.replace(action, **change)
    with pytest.raises(InvalidRecord, match=reason):
        records.encode(bad)
    with pytest.raises(InvalidRecord):
        records.decode(Action, msgspec.json.encode(bad))


@pytest.mark.parametrize(("basis", "is_good"), [(None, True), ("2024-06-10", True), ("unknown", True), ("x", False)])
def test_a_bar_says_its_basis(basis: str | None, is_good: bool) -> None:
    """A bar's basis is a real day, unknown or absent; another one is refused when sent, alone and in bulk."""
    found = bar("A", "2024-01-02", 10.0, adjusted_to=basis)
    value = msgspec.json.encode(found)
    assert (records.decode_lines(Bar, value + b"\n", 1) == [found]) == is_good
    if is_good:
        assert records.decode(Bar, records.encode(found)) == found
        return
    for refused in (lambda: records.encode(found), lambda: records.decode(Bar, value)):
        with pytest.raises(InvalidRecord, match="adjusted_to: 'x' is neither a day"):
            refused()


def test_a_bar_without_a_basis_has_the_bytes_of_before() -> None:
    """A record that says nothing of its basis has the JSON that it had before there was such a field."""
    assert b"adjusted_to" not in records.encode(bar("A", "2024-01-02", 10.0))
