"""producer.py backfill on a fake API and on files: exactly what is missing, what had nothing, and what it costs."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

import producer
from pipeline.settings import Settings, SettingsError
from pipeline.sources import alpha_vantage, polygon
from pipeline.sources.commands import all_commands
from pipeline.sources.gaps import Gap
from pipeline.sources.pacing import Clock
from pipeline.sources.progress import empty_days, sent_days
from pipeline.sources.rest import SourceError

OPENING = int(datetime(2025, 11, 26, 14, 30, tzinfo=UTC).timestamp() * 1000)


def days_missing(symbol: str, *days: int) -> Gap:
    of_november = tuple(date(2025, 11, day) for day in days)
    return Gap(symbol=symbol, days=of_november, ranges=tuple((f"{day} 00:00:00.000",) * 2 for day in of_november))


class Api:
    """Has the bars of every symbol but those of `without`, and notes the paths."""

    def __init__(self, *without: tuple[str, int], refuses: str = "nothing") -> None:
        self.without, self.refuses, self.paths = without, refuses, []

    def get(self, path: str, _parameters: object = None) -> dict:
        self.paths.append(path)
        if self.refuses in path:
            raise SourceError("not this one", 500)
        if "/grouped/" in path:
            days, symbols = [int(path[-2:])], ["A", "B", "C", "Z"]
        elif "/minute/" in path:
            bars = [{"t": OPENING + 60_000 * n, "o": 1, "h": 1, "l": 1, "c": 1, "v": n} for n in range(-5, 390)]
            return {"results": bars}
        else:
            first, last = (int(text[-2:]) for text in path.split("/")[-2:])
            days, symbols = range(first, last + 1), [path.split("/")[4]]
        return {
            "results": [self._bar(name, day) for name in symbols for day in days if (name, day) not in self.without]
        }

    def _bar(self, symbol: str, day: int) -> dict:
        stamp = int(datetime(2025, 11, day, 5, tzinfo=UTC).timestamp() * 1000)
        return {"T": symbol, "t": stamp, "o": 1, "h": 1, "l": 1, "c": 1, "v": day}


def backfilled(gaps: list[Gap], *arguments: str, api: Api | None = None, positions: dict | None = None, monkeypatch):
    """Run the command; its bars as symbol and time, and its failure."""
    if api:
        monkeypatch.setattr(polygon, "client", lambda *_, **__: api.get)
        monkeypatch.setattr(alpha_vantage, "client", lambda *_, **__: api.get)
    options = producer.parser(all_commands()).parse_args(["backfill", *arguments])
    options.gaps = gaps
    sent, failure, positions = [], "", {} if positions is None else positions
    for source in all_commands()["backfill"].sources(Settings(symbols="A,B"), options, Clock(lambda: False)):
        for batch in source.batches(positions.get):
            positions |= batch.positions
            sent += [(bar.symbol, bar.time) for bars in batch.records.values() for bar in bars]
        failure = source.failure
        assert source.summary().startswith(f"backfill: sent {len(sent)} bars")
    return sent, failure


def test_only_what_is_missing_is_sent(monkeypatch) -> None:
    """The answer has more days than are missing; those that are missing are sent, and one that has no bar is noted."""
    api, positions = Api(("A", 7)), {}
    gaps = [days_missing("A", 3, 5, 7, 10), days_missing("B", 4, 6, 12)]
    sent, failure = backfilled(gaps, api=api, positions=positions, monkeypatch=monkeypatch)
    assert [(name, time[8:10]) for name, time in sent] == [
        *[("A", day) for day in ("03", "05", "10")],
        *[("B", day) for day in ("04", "06", "12")],
    ]
    assert failure == ""
    assert [path.split("/")[4] for path in api.paths] == ["A", "B"]
    [state] = positions.values()
    assert empty_days(state) == {"A": {"2025-11-07"}}
    assert sent_days(state)["B"] == {"2025-11-04", "2025-11-06", "2025-11-12"}


def test_a_day_that_all_lack_is_one_grouped_request(monkeypatch) -> None:
    """One request brings a day of several symbols, and nothing of those that lack nothing."""
    api, positions = Api(("C", 5)), {}
    gaps = [days_missing(name, 5) for name in "ABC"]
    sent, _ = backfilled(gaps, api=api, positions=positions, monkeypatch=monkeypatch)
    assert [name for name, _ in sent] == ["A", "B"]
    assert [path.split("/")[-1] for path in api.paths] == ["2025-11-05"]
    assert empty_days(next(iter(positions.values()))) == {"C": {"2025-11-05"}}


def test_a_request_that_fails_leaves_the_others(monkeypatch) -> None:
    """A failed request is counted, its days are neither sent nor noted as empty, and the others are sent."""
    api, positions = Api(refuses="/A/"), {}
    gaps = [days_missing("A", 3, 4), days_missing("B", 5, 6)]
    sent, failure = backfilled(gaps, api=api, positions=positions, monkeypatch=monkeypatch)
    assert {name for name, _ in sent} == {"B"}
    assert failure == "1 of 2 requests failed; the log says why"
    assert empty_days(next(iter(positions.values()))) == {}


def test_minutes_of_the_missing_ranges(monkeypatch) -> None:
    """Of a day's minutes those are sent that are missing; what the day has no bar for is noted with the day."""
    gap = Gap(
        symbol="A",
        days=(date(2025, 11, 26),),
        ranges=(("2025-11-26 14:30:00.000", "2025-11-26 14:31:00.000"), ("2025-11-26 20:58:00.000",) * 2),
    )
    api, positions = Api(), {}
    sent, _ = backfilled([gap], "--interval", "1m", api=api, positions=positions, monkeypatch=monkeypatch)
    assert [time[11:16] for _, time in sent] == ["14:30", "14:31", "20:58"]
    assert empty_days(next(iter(positions.values()))) == {"A": {"2025-11-26"}}


def test_a_dry_run_says_what_it_would_cost(monkeypatch, capsys) -> None:
    """It names the days and the requests at the plan's limit, asks nothing and sends nothing."""
    api = Api()
    gaps = [days_missing(name, 3, 5) for name in "ABCDEFGH"]
    assert backfilled(gaps, "--dry-run", api=api, monkeypatch=monkeypatch) == ([], "")
    said = capsys.readouterr().out
    assert "16 days of 8 symbols are missing, 2025-11-03 to 2025-11-05" in said
    assert "2 requests, 0 by symbol and 2 by day, at 5 a minute: about 0 minutes" in said
    assert "A: 2025-11-03, 2025-11-05" in said
    assert api.paths == []
    by_symbol = backfilled(gaps, "--dry-run", "--source", "alpha_vantage", api=api, monkeypatch=monkeypatch)
    assert by_symbol == ([], "")
    assert "8 requests, 8 by symbol and 0 by day, at 5 a minute: about 1 minutes" in capsys.readouterr().out


def test_a_file_brings_what_it_has(tmp_path: Path, monkeypatch) -> None:
    """From a file exactly the missing bars are sent; what it lacks is not noted as empty."""
    file = tmp_path / "A.csv"
    rows = [f"2025-11-{day:02},1,2,1,2,100" for day in (3, 4, 5, 6)]
    file.write_text("Date,Open,High,Low,Close,Volume\n" + "\n".join(rows) + "\n")
    positions: dict = {}
    gaps = [days_missing("A", 4, 6, 7)]
    sent, _ = backfilled(gaps, str(file), "--symbol", "A", positions=positions, monkeypatch=monkeypatch)
    assert [time[8:10] for _, time in sent] == ["04", "06"]
    [(key, state)] = positions.items()
    assert (key, empty_days(state)) == ("csv/backfill/1d/as traded/stock_bars", {})


@pytest.mark.parametrize("gaps", [[], [days_missing("A", 3)]])
def test_nothing_missing_is_said(gaps: list[Gap], monkeypatch, capsys) -> None:
    """Without a gap there is no source and no request; with one there is."""
    api = Api()
    sent, _ = backfilled(gaps, api=api, monkeypatch=monkeypatch)
    assert len(sent) == len(api.paths) == len(gaps)
    assert ("nothing is missing" in capsys.readouterr().out) is not bool(gaps)


def test_flat_files_need_keys_of_their_own_and_have_days_and_minutes(monkeypatch, capsys) -> None:
    """The keys are asked for before anything is contacted; other lengths of bars and adjusted prices are refused."""
    command = all_commands()["backfill"]

    def parsed(*arguments: str):
        options = producer.parser(all_commands()).parse_args(["backfill", "--source", "flat_files", *arguments])
        options.gaps = [days_missing("A", 3, 5), days_missing("B", 5)]
        return options

    assert command.required(parsed()) == ["s3_bucket", "flat_files_access_key", "flat_files_secret_key"]
    assert command.required(parsed("--dry-run")) == ["s3_bucket"]
    assert command.sources(Settings(), parsed("--dry-run"), Clock(lambda: False)) == []
    assert "2 files" in capsys.readouterr().out
    for refused in (["--interval", "5m"], ["--adjusted"]):
        with pytest.raises(SettingsError, match=refused[0]):
            command.sources(Settings(), parsed(*refused), Clock(lambda: False))
