"""What the back-fill is given: what coverage finds missing, less what is on its way."""

from datetime import UTC, date, datetime

import pytest

import producer
from pipeline.coverage import gaps as coverage_gaps
from pipeline.coverage.covered import cover_periods
from pipeline.intervals import periods
from pipeline.sessions import Exchange
from pipeline.settings import Settings
from pipeline.sources.commands import all_commands
from pipeline.sources.gaps import Gap
from pipeline.sources.progress import packed

NOW = datetime(2025, 11, 8, tzinfo=UTC)
POSITIONS = {
    "polygon/A/1d/as traded/stock_bars": {"empty": packed({"A": ["2025-11-04"]})},
    "polygon/backfill/1d/as traded/stock_bars": {"sent": packed({"A": ["2025-11-05"]})},
}


@pytest.fixture
def found(monkeypatch):
    """Run with arguments: what is missing of A, which has a bar of the third of November 2025 only."""

    def coverage(_settings, wanted, *, now, positions):
        assert (wanted.first, wanted.symbols, now) == (date(2025, 11, 3), ("A",), NOW)
        empty = {"2025-11-04"} if positions else set()
        spans = periods(Exchange("XNYS"), wanted.interval, wanted.first, date(2025, 11, 7))
        return [cover_periods("A", Exchange("XNYS"), "1d", spans, present={date(2025, 11, 3)}, empty=empty)]

    monkeypatch.setattr(coverage_gaps, "coverage", coverage)
    monkeypatch.setattr(coverage_gaps.checkpoints, "positions", lambda _: POSITIONS)

    def run(*arguments: str) -> list[Gap]:
        given = ["backfill", "--symbols", "A", "--from", "2025-11-03", *arguments]
        options = producer.parser(all_commands()).parse_args(given)
        return coverage_gaps.gaps(Settings(symbols="A"), options, now=NOW)

    return run


def days(gaps: list[Gap]) -> list[int]:
    return [day.day for gap in gaps for day in gap.days]


def test_what_had_nothing_and_what_is_on_its_way_is_left_out(found) -> None:
    """Missing days are left that nobody has asked for in vain, and that no back-fill has sent."""
    assert days(found()) == [6, 7]


def test_options_ask_for_them_too(found) -> None:
    """--empty-too asks again for what had nothing, --restart sends again what was sent."""
    assert days(found("--empty-too")) == [4, 6, 7]
    assert days(found("--restart")) == [5, 6, 7]
    assert days(found("--empty-too", "--restart")) == [4, 5, 6, 7]
