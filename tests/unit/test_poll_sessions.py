"""poll and the calendar: what was asked for in vain is remembered, and what appears later is still taken."""

from datetime import UTC, datetime

import pytest

import producer
from pipeline.records import time_text
from pipeline.settings import Settings
from pipeline.sources import polygon
from pipeline.sources.commands import all_commands
from pipeline.sources.pacing import Clock
from pipeline.sources.progress import empty_days

MIDNIGHTS = {day: int(datetime(2025, 11, day, 5, tzinfo=UTC).timestamp() * 1000) for day in range(3, 30)}

WEEKDAYS = {day for day in MIDNIGHTS if datetime(2025, 11, day, tzinfo=UTC).weekday() < 5 and day != 27}


class World:
    """A clock, an API that has the bars of `days` and notes what it is asked for, and the checkpoints."""

    def __init__(self, now: str, days: set[int]) -> None:
        self.at, self.days = datetime.fromisoformat(now).replace(tzinfo=UTC), days
        self.paths: list[str] = []
        self.positions: dict = {}

    def get(self, path: str, _parameters: object = None) -> dict:
        self.paths.append(path)
        first, last = (int(text[-2:]) for text in path.split("/")[-2:]) if "range" in path else (int(path[-2:]),) * 2
        found = [
            {"T": "A", "t": MIDNIGHTS[day], "o": 1, "h": 2, "l": 1, "c": 2, "v": day}
            for day in sorted(self.days)
            if first <= day <= last
        ]
        return {"status": "OK", "results": found}

    def poll(self, monkeypatch, *arguments: str) -> list[str]:
        """Run once; the days of the bars that it sent."""
        clock = Clock(lambda: False)
        clock.now, clock.now_text = lambda: self.at, lambda: time_text(self.at)
        monkeypatch.setattr(polygon, "client", lambda *_, **__: self.get)
        command = all_commands()["poll"]
        options = producer.parser(all_commands()).parse_args(["poll", *arguments])
        sent = []
        for source in command.sources(Settings(symbols="A"), options, clock):
            for batch in source.batches(self.positions.get):
                self.positions |= batch.positions
                sent += [record.time[8:10] for records in batch.records.values() for record in records]
        return sent

    @property
    def empty(self) -> set[str]:
        return {day for state in self.positions.values() for days in empty_days(state).values() for day in days}


@pytest.mark.parametrize("how", [[], ["--grouped"]], ids=["by symbol", "grouped"])
def test_a_session_without_a_bar_is_remembered_and_a_late_bar_is_taken(monkeypatch, how: list[str]) -> None:
    """A session that the source had nothing for is in the checkpoint, the days that were not asked for are not; weeks
    later its bar is taken when that time is asked for again, and only it.
    """
    world = World("2025-11-14 22:00", WEEKDAYS - {6} - set(range(15, 30)))
    assert world.poll(monkeypatch, "--from", "2025-11-05", *how) == ["05", "07", "10", "11", "12", "13", "14"]
    assert world.empty == {"2025-11-06"}
    world.at, world.days = datetime(2025, 11, 28, 22, tzinfo=UTC), WEEKDAYS
    assert world.poll(monkeypatch, *how) == ["17", "18", "19", "20", "21", "24", "25", "26", "28"]
    assert world.empty == {"2025-11-06"}
    assert world.poll(monkeypatch, "--from", "2025-11-05", *how) == ["06"]
    assert world.empty == set()
    assert world.poll(monkeypatch, "--from", "2025-11-05", *how) == []


def test_a_bar_that_comes_hours_late_is_taken(monkeypatch) -> None:
    """A session that had nothing yet at its close is asked for again by the next poll."""
    world = World("2025-11-14 21:20", WEEKDAYS - {14})
    assert world.poll(monkeypatch, "--from", "2025-11-07") == ["07", "10", "11", "12", "13"]
    assert world.empty == {"2025-11-14"}
    world.at, world.days = datetime(2025, 11, 15, 3, 30, tzinfo=UTC), WEEKDAYS
    assert world.poll(monkeypatch) == ["14"]
    assert world.empty == set()


def test_no_request_on_days_without_a_session(monkeypatch) -> None:
    """Between two sessions nothing is asked for but what corrections may come for, and later nothing at all."""
    world = World("2025-11-14 22:00", WEEKDAYS)
    world.poll(monkeypatch, "--from", "2025-11-12")
    world.paths.clear()
    world.at = datetime(2025, 11, 16, 12, tzinfo=UTC)
    assert world.poll(monkeypatch) == []
    assert [path.split("/")[-2:] for path in world.paths] == [["2025-11-12", "2025-11-14"]]
    world.paths.clear()
    world.at = datetime(2025, 11, 17, 14, tzinfo=UTC)
    assert world.poll(monkeypatch) == []
    assert world.paths == []


def test_grouped_asks_for_sessions_only(monkeypatch) -> None:
    """One request for each session, none for the holiday or the weekend."""
    world = World("2025-11-30 12:00", WEEKDAYS)
    world.poll(monkeypatch, "--grouped", "--from", "2025-11-24")
    assert [path[-2:] for path in world.paths] == ["24", "25", "26", "28"]


def test_minutes_of_a_whole_session_without_a_bar_are_remembered(monkeypatch) -> None:
    """A session without any minute is noted once it is over, also the last ones that were asked for."""
    world = World("2025-11-16 12:00", set())
    stamps = [datetime(2025, 11, day, 15, minute, tzinfo=UTC) for day in (12, 13, 17) for minute in (0, 1)]

    def get(path: str, _parameters: object = None) -> dict:
        world.paths.append(path)
        first, last = (int(text) for text in path.split("/")[-2:])
        found = [int(stamp.timestamp() * 1000) for stamp in stamps if stamp <= world.at]
        bars = [{"t": at, "o": 1, "h": 1, "l": 1, "c": 1, "v": 1} for at in found if first <= at <= last]
        return {"status": "OK", "results": bars}

    world.get = get
    arguments = ["--interval", "1m", "--from", "2025-11-12"]
    assert world.poll(monkeypatch, *arguments) == ["12", "12", "13", "13"]
    assert world.empty == {"2025-11-14"}
    world.at = datetime(2025, 11, 17, 9, tzinfo=UTC)
    world.paths.clear()
    world.poll(monkeypatch, "--interval", "1m")
    assert len(world.paths) == 1  # a day that has begun may have minutes before the opening
    world.at = datetime(2025, 11, 18, 4, tzinfo=UTC)
    assert world.poll(monkeypatch, "--interval", "1m") == ["17", "17"]
    assert world.empty == {"2025-11-14"}
    world.at = datetime(2025, 11, 23, 12, tzinfo=UTC)
    world.poll(monkeypatch, "--interval", "1m")
    assert world.empty == {f"2025-11-{day}" for day in (14, 18, 19, 20, 21)}
