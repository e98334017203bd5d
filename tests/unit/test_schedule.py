"""The deployed timers over two real weeks with a holiday and an early close: Thanksgiving 2025, with the clock frozen
at their exact times, against a fake API.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

import producer
from pipeline.records import Bar, time_text
from pipeline.settings import Settings
from pipeline.sources import polygon
from pipeline.sources.commands import all_commands
from pipeline.sources.pacing import Clock
from pipeline.sources.rest import Json

SYSTEMD = Path(__file__).parents[2] / "deploy/systemd"
CRONTAB = SYSTEMD.parent / "crontab.example"
EASTERN = ZoneInfo("America/New_York")
SYMBOLS = ("AAPL", "MSFT", "NVDA")
FIRST, LAST = date(2025, 11, 17), date(2025, 11, 30)
# From the exchange's own notice, and not from the library that the product asks: no session on the 27th, and one on the
# 28th that closes at 13:00.
DAYS = [date(2025, 11, n) for n in (3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 17, 18, 19, 20, 21, 24, 25, 26, 28)]
CLOSES = {day: datetime.combine(day, time(13) if day.day == 28 else time(16), EASTERN).astimezone(UTC) for day in DAYS}
OPENS = {day: datetime.combine(day, time(9, 30), EASTERN).astimezone(UTC) for day in DAYS}
DELAY = timedelta(minutes=15)
WEEKDAYS = {name: number for number, name in enumerate(("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"))}


class FrozenClock(Clock):
    """Stands where it is put."""

    def __init__(self, at: datetime) -> None:
        super().__init__(lambda: False)
        self.at = at

    def now(self) -> datetime:
        return self.at

    def now_text(self) -> str:
        return time_text(self.at)


@dataclass
class Api:
    """What Polygon would answer on a plan that is 15 minutes late: bars that still form, too. The volume of a finished
    bar is 1. Each request takes 12 seconds, for the plan's limit.
    """

    clock: FrozenClock
    asked: list[tuple[datetime, str, date, date]] = field(default_factory=list)

    def get(self, path: str, _parameters: object = None) -> Json:
        _, symbol, _, _, span, first, last = path.removeprefix("/v2/aggs").split("/")[1:]
        first, last = date.fromisoformat(first), date.fromisoformat(last)
        self.clock.at += timedelta(seconds=12)
        self.asked.append((self.clock.at, span, first, last))
        seen = self.clock.at - DELAY
        bars: dict[date, list[date]] = {}
        for day in DAYS:
            stamp = day if span == "day" else day - timedelta(days=(day.weekday() + 1) % 7)
            if OPENS[day] <= seen and first <= stamp <= last:
                bars.setdefault(stamp, []).append(day)
        results = [self._bar(stamp, days, span) for stamp, days in bars.items()]
        return {"status": "DELAYED", "ticker": symbol, "adjusted": False, "results": results}

    def _bar(self, stamp: date, days: list[date], span: str) -> Json:
        whole = [day for day in DAYS if day == stamp] if span == "day" else _week(stamp)
        is_finished = days == whole and CLOSES[whole[-1]] <= self.clock.at - DELAY
        start = int(datetime.combine(stamp, time(), EASTERN).timestamp() * 1000)
        return {"t": start, "o": 1, "h": 2, "l": 1, "c": 2, "v": 1 if is_finished else 0.5}


def _week(sunday: date) -> list[date]:
    return [day for day in DAYS if sunday <= day < sunday + timedelta(days=7)]


def moments_of_systemd() -> Iterator[tuple[datetime, list[str]]]:
    """Each time of the timers of polls in the two weeks, with what it starts."""
    for timer in sorted(SYSTEMD.glob("*.timer")):
        command = re.findall(r"^ExecStart=\S+/python (.+)$", timer.with_suffix(".service").read_text(), re.MULTILINE)[0]
        if " poll " in command:
            for line in re.findall(r"^OnCalendar=(.+)$", timer.read_text(), re.MULTILINE):
                days, clock, zone = line.split()
                first, last = (WEEKDAYS[name] for name in days.split(".."))
                yield from _on(range(first, last + 1), clock, ZoneInfo(zone), command)


def moments_of_cron() -> Iterator[tuple[datetime, list[str]]]:
    """The same of crontab.example."""
    text = CRONTAB.read_text()
    zone = ZoneInfo(re.findall(r"^CRON_TZ=(.+)$", text, re.MULTILINE)[0])
    for line in re.findall(r"^\d.*producer\.py poll.*$", text, re.MULTILINE):
        minute, hours, _, _, weekdays = line.split()[:5]
        first, last = (int(number) - 1 for number in weekdays.split("-"))
        command = re.findall(r"\.venv/bin/python (.+?) *>>", line)[0]
        for hour in hours.split(","):
            yield from _on(range(first, last + 1), f"{hour}:{minute}", zone, command)


def _on(weekdays: range, clock: str, zone: ZoneInfo, command: str) -> Iterator[tuple[datetime, list[str]]]:
    day = FIRST
    while day <= LAST:
        if day.weekday() in weekdays:
            yield datetime.combine(day, time(*map(int, clock.split(":"))), zone).astimezone(UTC), command.split()[1:]
        day += timedelta(days=1)


def consumer_delay() -> timedelta:
    """How long the deployed consumer keeps a record before it lands."""
    text = (SYSTEMD / "stock-market-consumer.service").read_text()
    return timedelta(seconds=int(re.findall(r"--flush-seconds (\d+)", text)[0]))


def longest_delay() -> timedelta:
    """How much later than said a timer may start."""
    said = {
        re.findall(r"^RandomizedDelaySec=(\d+)min$", path.read_text(), re.MULTILINE)[0]
        for path in SYSTEMD.glob("*.timer")
    }
    return timedelta(minutes=int(max(said)))


@dataclass
class Arrival:
    bar: Bar
    at: datetime


def played(moments: list[tuple[datetime, list[str]]], late: timedelta, monkeypatch) -> tuple[list[Arrival], Api]:
    """Run the commands at their times, with the positions of one in the next; what came from the first time on."""
    clock = FrozenClock(datetime(2025, 11, 16, 12, tzinfo=UTC))
    api, positions, arrivals = Api(clock), {}, []
    monkeypatch.setattr(polygon, "client", lambda *_, **__: api.get)
    settings = Settings(symbols=",".join(SYMBOLS), polygon_api_key="k")
    before = [(clock.at, command) for command in {tuple(command) for _, command in moments}]
    for at, arguments in [*before, *((at + late, command) for at, command in sorted(moments))]:
        clock.at = at
        options = producer.parser(all_commands()).parse_args(list(arguments))
        for source in all_commands()["poll"].sources(settings, options, clock):
            for batch in source.batches(positions.get):
                positions |= batch.positions
                arrivals += [Arrival(bar, clock.at) for bars in batch.records.values() for bar in bars]
            assert source.failure == ""
    start = datetime(2025, 11, 17, tzinfo=UTC)
    api.asked = [one for one in api.asked if one[0] >= start]
    return [arrival for arrival in arrivals if arrival.at >= start], api


@pytest.mark.parametrize("moments", [moments_of_systemd, moments_of_cron])
@pytest.mark.parametrize("late", [timedelta(0), longest_delay()], ids=["on time", "late"])
def test_each_bar_arrives_once_and_in_time(moments: Callable, late: timedelta, monkeypatch) -> None:
    """Every daily bar is in the lake within an hour of its close, every weekly one on the evening of its last session,
    each once and whole; no request is for a day without a session.
    """
    arrivals, api = played(list(moments()), late, monkeypatch)
    days = [day for day in DAYS if day >= FIRST]
    weeks = [date(2025, 11, 16), date(2025, 11, 23)]
    wanted = {(name, "1d", str(day)) for name in SYMBOLS for day in days}
    wanted |= {(name, "1w", str(week)) for name in SYMBOLS for week in weeks}
    assert Counter((one.bar.symbol, one.bar.interval, one.bar.time[:10]) for one in arrivals) == dict.fromkeys(
        wanted, 1
    )
    assert {one.bar.volume for one in arrivals} == {1}
    for one in arrivals:
        stamp = date.fromisoformat(one.bar.time[:10])
        closed = CLOSES[stamp if one.bar.interval == "1d" else _week(stamp)[-1]]
        landed = one.at + consumer_delay()
        if one.bar.interval == "1d":
            assert closed <= landed <= closed + timedelta(hours=1), one
        else:
            assert landed.astimezone(EASTERN).date() == closed.astimezone(EASTERN).date(), one
    assert len(api.asked) > len(wanted)
    sundays = {day - timedelta(days=(day.weekday() + 1) % 7) for day in DAYS}
    for at, span, first, last in api.asked:
        assert first in (DAYS if span == "day" else sundays), at
        assert last in DAYS, at
    assert not [one for one in api.asked if one[0].date() == date(2025, 11, 27) and one[1] == "week"]
