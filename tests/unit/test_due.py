"""What a series is asked for: sessions that are over, weeks at their last one, and nothing where there was none."""

from datetime import UTC, datetime, timedelta

import pytest

from pipeline.intervals import finished_at
from pipeline.records import Bar
from pipeline.sessions import Exchange
from pipeline.settings import SettingsError
from pipeline.sources.due import Asking, Due

QUARTER, TWO_DAYS = timedelta(minutes=15), timedelta(days=2)


def asking(interval: str, exchange: str = "XNYS", **how: bool) -> Asking:
    return Asking(exchange=Exchange(exchange), interval=interval, delay=QUARTER, revise=TWO_DAYS, **how)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def nothing_done(_time: str) -> bool:
    return False


def due(asked: Asking, first: str, last: str, now: str, done: object = nothing_done) -> Due | None:
    return asked.due((f"{first}.000", f"{last}.000"), at(now), done)


@pytest.mark.parametrize(
    ("interval", "time", "over"),
    [
        ("1d", "2025-11-26", "2025-11-26 21:00"),
        ("1d", "2025-11-28", "2025-11-28 18:00"),
        ("1w", "2025-11-23", "2025-11-28 18:00"),
        ("1w", "2025-11-24", "2025-11-28 18:00"),
        ("1mo", "2025-11-01", "2025-11-28 18:00"),
        ("3mo", "2025-10-01", "2025-12-31 21:00"),
        ("1y", "2025-01-01", "2025-12-31 21:00"),
        ("1d", "2025-11-27", "2025-11-28 05:00"),
        ("1m", "2025-11-28 14:30", "2025-11-28 14:31"),
    ],
)
def test_a_bar_is_over_when_its_last_session_closes(interval: str, time: str, over: str) -> None:
    """Days, weeks, months, quarters and years end with the close of their last session, an early one included; a bar
    of a day without a session ends at midnight in New York.
    """
    clock = time[11:] or "00:00"
    bar = Bar(
        symbol="A",
        time=f"{time[:10]} {clock}:00.000",
        interval=interval,
        open=1,
        high=1,
        low=1,
        close=1,
        volume=1,
        source="s",
        ingested_at="x",
    )
    assert finished_at(bar, Exchange("XNYS")) == at(over)


def test_days_without_a_session_are_not_asked_for() -> None:
    """A part of time is cut down to its sessions that are over; a weekend or a holiday alone is nothing to ask for."""
    found = due(asking("1d"), "2025-11-22 00:00:00", "2025-11-30 12:00:00", "2025-11-30 12:00")
    assert found is not None
    assert (found.first, found.last) == ("2025-11-24 00:00:00.000", "2025-11-28 23:59:59.999")
    assert found.days == ("2025-11-24", "2025-11-25", "2025-11-26", "2025-11-28")
    assert due(asking("1d"), "2025-11-29 00:00:00", "2025-11-30 12:00:00", "2025-11-30 12:00") is None
    assert due(asking("1d"), "2025-11-27 00:00:00", "2025-11-27 23:59:59", "2025-12-01 12:00") is None


def test_a_session_is_asked_for_after_the_sources_delay() -> None:
    """A plan that is late may refuse to answer before: at 18:14 the early close of 18:00 is not asked for, at 18:15 it
    is, and that it has no bar is then believed.
    """
    first = "2025-11-26 00:00:00"
    early = due(asking("1d"), first, "2025-11-28 18:14:00", "2025-11-28 18:14")
    assert early is not None
    assert (early.last, early.days) == ("2025-11-26 23:59:59.999", ("2025-11-26",))
    late = due(asking("1d"), first, "2025-11-28 18:15:00", "2025-11-28 18:15")
    assert late is not None
    assert (late.last, late.days) == ("2025-11-28 18:15:00.000", ("2025-11-26", "2025-11-28"))


def test_open_bars_are_asked_for_once_the_session_has_opened() -> None:
    """With --include-open the session of the day is asked for from its opening on."""
    open_too = asking("1d", include_open=True)
    assert due(open_too, "2025-11-28 00:00:00", "2025-11-28 14:31:00", "2025-11-28 14:31") is not None
    assert due(open_too, "2025-11-28 00:00:00", "2025-11-28 14:29:00", "2025-11-28 14:29") is None
    assert due(open_too, "2025-11-27 00:00:00", "2025-11-27 20:00:00", "2025-11-27 20:00") is None


def test_what_is_done_is_asked_for_again_for_two_days() -> None:
    """A session that was sent is asked for again while corrections may come, and then no more."""

    def all_done(_time: str) -> bool:
        return True

    span = "2025-11-26 00:00:00", "2025-11-30 23:00:00"
    assert due(asking("1d"), *span, "2025-11-30 17:00", all_done) is not None
    assert due(asking("1d"), *span, "2025-11-30 18:01", all_done) is None


def test_minutes_are_asked_for_by_whole_days_of_the_exchange() -> None:
    """Minutes before the opening and after the close count, from midnight to midnight in New York; a holiday between
    two sessions is left out at the ends, and the day that goes on is not settled.
    """
    found = due(asking("1m"), "2025-11-27 10:00:00", "2025-11-28 16:00:00", "2025-11-28 16:00")
    assert found is not None
    assert (found.first, found.last) == ("2025-11-28 05:00:00.000", "2025-11-28 16:00:00.000")
    assert (found.days, found.settled_until) == ((), "")
    over = due(asking("1m"), "2025-11-26 15:00:00", "2025-11-30 12:00:00", "2025-11-30 12:00")
    assert over is not None
    assert (over.first, over.last) == ("2025-11-26 15:00:00.000", "2025-11-29 04:59:59.999")
    assert (over.days, over.settled_until) == (("2025-11-28",), "2025-11-29 04:59:59.999")
    assert due(asking("1m"), "2025-11-29 06:00:00", "2025-11-30 12:00:00", "2025-11-30 12:00") is None


def test_sydney_is_asked_for_by_its_own_days() -> None:
    """The minutes of a session that begins on the day before in UTC belong to its day."""
    sydney = asking("1m", "XASX")
    assert sydney.day_of("2026-01-14 23:30:00.000") == "2026-01-15"
    found = due(sydney, "2026-01-14 13:00:00", "2026-01-15 20:00:00", "2026-01-15 20:00")
    assert found is not None
    assert found.days == ("2026-01-15",)


def test_minutes_of_the_last_day_that_the_calendar_knows() -> None:
    """On its last day a calendar is still of use; a day later the error names the setting."""
    shanghai = asking("1m", "XSHG")
    assert due(shanghai, "2026-12-31 00:00:00", "2026-12-31 08:00:00", "2026-12-31 08:00") is not None
    with pytest.raises(SettingsError, match=r"EXCHANGE.*up to 2026-12-31"):
        due(shanghai, "2027-01-04 00:00:00", "2027-01-04 08:00:00", "2027-01-04 08:00")
