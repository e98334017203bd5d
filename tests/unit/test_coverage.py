"""Coverage: what the calendar expects beside what is there and what was asked for in vain."""

import csv
import io
import json
from datetime import UTC, date, datetime

from prometheus_client.parser import text_string_to_metric_families

from pipeline.coverage import output
from pipeline.coverage.covered import Range, StoredDay, cover_periods, cover_sessions
from pipeline.intervals import periods
from pipeline.sessions import Exchange
from pipeline.sources.asked import asked
from pipeline.sources.progress import packed

NEW_YORK = Exchange("XNYS")


def november(*days: int) -> set[date]:
    return {date(2025, 11, day) for day in days}


def test_a_day_is_present_empty_or_missing() -> None:
    """Of the sessions around Thanksgiving those that are there, had nothing and are missing are told apart; the
    holiday and the weekends are none of them, and a bar on a holiday is outside.
    """
    wanted = periods(NEW_YORK, "1d", date(2025, 11, 17), date(2025, 12, 1))
    found = cover_periods(
        "A", NEW_YORK, "1d", wanted, present=november(17, 20, 21, 27, 28), empty={"2025-11-18", "2025-11-28"}
    )
    assert (found.expected, found.present, found.empty, found.missing_bars, found.outside) == (10, 4, 1, 5, 1)
    assert found.missing == (
        Range("2025-11-19 00:00:00.000", "2025-11-19 00:00:00.000", 1),
        Range("2025-11-24 00:00:00.000", "2025-11-26 00:00:00.000", 3),
        Range("2025-12-01 00:00:00.000", "2025-12-01 00:00:00.000", 1),
    )
    assert [day.day for day in found.missing_days] == [19, 24, 25, 26, 1]
    assert (found.first, found.last) == (date(2025, 11, 17), date(2025, 12, 1))


def test_a_week_is_there_by_whatever_day_it_is_stamped_with() -> None:
    """Weeks are stamped with their Sunday, their Monday or their last session."""
    wanted = periods(NEW_YORK, "1w", date(2025, 11, 9), date(2025, 11, 30))
    found = cover_periods("A", NEW_YORK, "1w", wanted, present=november(9, 17), empty=set())
    assert (found.expected, found.present, found.sessions) == (4, 2, 19)
    assert found.missing == (Range("2025-11-23 00:00:00.000", "2025-11-30 00:00:00.000", 2),)


def test_the_minutes_of_an_early_close() -> None:
    """A session has the minutes from its opening to its close; of those that are not there, the ones that were asked
    for had nothing.
    """
    wanted = NEW_YORK.sessions(date(2025, 11, 26), date(2025, 11, 28))
    opened = datetime(2025, 11, 28, 14, 30, tzinfo=UTC).timestamp()
    there = frozenset(int(opened) + 60 * minute for minute in range(210) if minute not in (0, 100, 101, 150))
    found = cover_sessions(
        "A",
        NEW_YORK,
        "1m",
        wanted,
        stored={wanted[0].day: StoredDay(bars=390), wanted[1].day: StoredDay(bars=206, starts=there)},
        was_empty=lambda day, time: day == date(2025, 11, 28) and time < "2025-11-28 15:00:00.000",
    )
    assert (found.sessions, found.expected, found.present) == (2, 600, 596)
    assert (found.empty, found.missing_bars) == (1, 3)
    assert found.missing == (
        Range("2025-11-28 16:10:00.000", "2025-11-28 16:11:00.000", 2),
        Range("2025-11-28 17:00:00.000", "2025-11-28 17:00:00.000", 1),
    )
    assert found.missing_days == (date(2025, 11, 28),)


def test_missing_sessions_one_behind_the_other_are_one_range() -> None:
    """Without any bar, the minutes of all sessions are one range from the first opening to the last close."""
    wanted = NEW_YORK.sessions(date(2025, 11, 25), date(2025, 11, 28))
    found = cover_sessions("A", NEW_YORK, "30m", wanted, stored={}, was_empty=lambda *_: False)
    assert found.missing == (Range("2025-11-25 14:30:00.000", "2025-11-28 17:30:00.000", 13 + 13 + 7),)


def test_what_was_asked_is_read_from_every_source() -> None:
    """The checkpoints of all sources of the interval count, those of other intervals, topics and files do not."""
    positions = {
        "polygon/A/1d/as traded/bars": {"done": [["x", "y"]], "empty": packed({"A": ["2025-11-03"]})},
        "alpha_vantage/A/1d/as traded/bars": {"empty": packed({"A": ["2025-11-04"]})},
        "polygon/A,B/grouped/as traded/bars": {"empty": packed({"B": ["2025-11-05"]})},
        "polygon/backfill/1d/as traded/bars": {"empty": packed({"B": ["2025-11-06"]})},
        "polygon/A/1m/as traded/bars": {"empty": packed({"A": ["2025-11-07"]})},
        "polygon/A/1d/as traded/other": {"empty": packed({"A": ["2025-11-08"]})},
        "csv/0123/A/bars/interval=1d": {"row": 7},
    }
    found = asked(positions, "1d", "bars")
    assert found.empty == {"A": {"2025-11-03", "2025-11-04"}, "B": {"2025-11-05", "2025-11-06"}}
    assert found.done["A"] == [("x", "y")]


def test_the_table_the_csv_and_the_json_say_the_same() -> None:
    """Counts and ranges of what is missing are in all three; a symbol that a spreadsheet would run is harmless."""
    wanted = periods(NEW_YORK, "1d", date(2025, 11, 3), date(2025, 11, 28))
    found = [
        cover_periods("=A", NEW_YORK, "1d", wanted, present=november(3, 6, 10, 12, 14), empty={"2025-11-04"}),
        cover_periods("B", NEW_YORK, "1d", wanted, present={one.day for one in wanted}, empty=set()),
    ]
    lines = output.table(found).splitlines()
    assert lines[1].split()[:8] == ["=A", "XNYS", "19", "19", "5", "1", "13", "0"]
    assert lines[1].split()[8] == "9"
    assert "2025-11-05, 2025-11-07, 2025-11-11, and 2 more ranges" in lines[1]
    assert lines[-1] == "2 symbols, 38 bars expected, 13 missing of 1 symbols"
    rows = list(csv.DictReader(io.StringIO(output.as_csv(found))))
    assert (rows[0]["symbol"], rows[0]["missing"], rows[1]["missing_ranges"]) == ("'=A", "13", "")
    assert rows[0]["missing_ranges"].split()[-1] == "2025-11-17..2025-11-28"
    objects = json.loads(output.as_json(found))
    assert objects[0]["missing"] == sum(one["bars"] for one in objects[0]["missing_ranges"]) == 13
    assert len(objects[0]["missing_days"]) == 13
    families = {one.name: one.samples for one in text_string_to_metric_families(output.as_metrics(found))}
    values = {name: {one.labels["symbol"]: one.value for one in samples} for name, samples in families.items()}
    assert values == {"stock_sessions_behind": {"=A": 9, "B": 0}, "stock_bars_missing": {"=A": 13, "B": 0}}


def test_sessions_behind_are_those_at_the_end() -> None:
    """Only the sessions after the last one that something is known of count; one that had nothing is known of."""
    wanted = periods(NEW_YORK, "1d", date(2025, 11, 17), date(2025, 12, 1))
    found = cover_periods("A", NEW_YORK, "1d", wanted, present=november(17, 20), empty={"2025-11-26"})
    assert found.behind == 2
    sessions = NEW_YORK.sessions(date(2025, 11, 24), date(2025, 11, 28))
    stored = {date(2025, 11, 25): StoredDay(bars=1, starts=frozenset([int(sessions[1].opens_at.timestamp())]))}
    by_minute = cover_sessions("A", NEW_YORK, "1m", sessions, stored=stored, was_empty=lambda *_: False)
    assert by_minute.behind == 2
