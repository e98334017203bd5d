"""Coverage and back-fill on the embedded stack: real prices with 30 sessions taken out."""

import json
import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from committed import committed_values
from raw_objects import TODAY, bar, land, set_up

from pipeline.athena.client import Athena
from pipeline.athena.queries import queries
from pipeline.coverage.looking import Wanted, coverage
from pipeline.records import Bar, decode
from pipeline.sessions import Exchange
from pipeline.settings import Settings
from pipeline.streams.kafka import checkpoints
from tests.integration.api_server import Answer, api_server

PRICES = Path(__file__).parents[2] / "samples/daily_prices.csv"
FIRST, LAST = date(2008, 1, 2), date(2013, 3, 1)
NOW = datetime.now(UTC)


def polygon_bar(row: tuple) -> dict:
    start = pd.Timestamp(row.Date, tz="America/New_York")
    figures = {"o": row.Open, "h": row.High, "l": row.Low, "c": row.Close, "v": row.Volume}
    return {"t": int(start.timestamp() * 1000), **figures}


class Api:
    """The whole file but one of the bars that were taken out. Its third request hangs until it is let go."""

    def __init__(self, rows: pd.DataFrame, lacks: tuple[str, str]) -> None:
        self.bars = {(row.symbol, row.Date): polygon_bar(row) for row in rows.itertuples()}
        del self.bars[lacks]
        self.hangs, self.may_go = threading.Event(), threading.Event()

    def answer(self, path: str, number: int) -> Answer:
        if number == 2:
            self.hangs.set()
            self.may_go.wait(60)
        symbol, *_, first, last = path.partition("?")[0].split("/")[4:]
        found = [one for (name, day), one in self.bars.items() if name == symbol and first <= day <= last]
        return Answer({"status": "OK", "adjusted": False, "results": found})


def lacking(found: list[dict]) -> set[tuple[str, str]]:
    return {(one["symbol"], day) for one in found for day in one["missing_days"]}


@pytest.mark.usefixtures("credentials")
def test_coverage_names_what_is_missing_and_backfill_brings_it(
    run: Callable, start: Callable, settings: Settings
) -> None:
    """Of real prices without 30 sessions coverage names exactly these, and no holiday; a back-fill that is killed and
    started again brings exactly what the source has of them, after which coverage is clean and no bar is there twice.
    """
    rows = pd.read_csv(PRICES).rename(columns={"Symbol": "symbol"})
    whole = {(row.symbol, row.Date) for row in rows.itertuples() if row.Date != "2012-05-18"}
    taken = set(random.Random(18).sample(sorted(whole), 30))
    kept = [row for row in rows.itertuples() if (row.symbol, row.Date) not in taken]
    before = replace(settings, kafka_topic_bars="landed_before")
    land(before, "bars", [bar(row.symbol, row.Date, row.Close) for row in kept])
    set_up(settings)

    until = ["--to", str(LAST)]
    done = run("-m", "pipeline.coverage", *until, "--no-checkpoints", "--json", "-")
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert lacking(found) == taken
    assert {one["symbol"]: one["expected"] for one in found} == dict.fromkeys(("AAPL", "GOOG", "IBM", "MSFT"), 1300) | {
        "FB": 196
    }
    api = Api(rows, lacks=max(taken))
    with api_server(api.answer) as server:
        changes = {"POLYGON_API_KEY": "k", "POLYGON_BASE_URL": server.url, "POLYGON_REQUESTS_PER_MINUTE": "0"}
        symbols = len({symbol for symbol, _ in taken})
        killed = start("producer.py", "backfill", *until, **changes)
        assert api.hangs.wait(60), killed.log_path.read_text()
        killed.kill()
        killed.wait()
        api.may_go.set()
        again = run("producer.py", "backfill", *until, **changes)
        assert again.returncode == 0, again.stderr
        asked = len(server.requests)
        nothing = run("producer.py", "backfill", "--dry-run", *until, **changes)
        assert "nothing is missing" in nothing.stdout, nothing.stderr
        assert len(server.requests) == asked == symbols + 1
    sent = [decode(Bar, value) for value in committed_values(settings, settings.kafka_topic_bars)]
    assert Counter((one.symbol, one.time[:10]) for one in sent) == Counter(taken - {max(taken)})

    landed = run("consumer.py", "--until-caught-up")
    assert landed.returncode == 0, landed.stderr
    wanted = Wanted(interval="1d", last=LAST)
    after = coverage(settings, wanted, now=NOW, positions=checkpoints.positions(settings))
    assert [(one.symbol, one.missing_bars) for one in after if one.missing] == []
    assert sum(one.empty for one in after) == 1
    counts = Athena(settings).query("SELECT count(*) AS n, count(DISTINCT (symbol, time)) AS keys FROM bars")
    assert counts.iloc[0].tolist() == [len(rows) - 1] * 2


def minutes_of(symbol: str, session: object, *without: int) -> list[Bar]:
    starts = session.starts(timedelta(minutes=1))
    return [
        bar(symbol, "2025-11-28", 10.0, interval="1m", time=f"{at:%Y-%m-%d %H:%M}:00.000")
        for number, at in enumerate(starts)
        if number not in without
    ]


@pytest.mark.usefixtures("credentials")
def test_minutes_of_sessions_with_a_break_an_early_close_and_midnight_in_utc(settings: Settings) -> None:
    """The minutes of New York's early close, of Tokyo with its break and of Sydney, whose session begins on the day
    before, are counted by their own sessions; bars before the opening do not count.
    """
    day = date(2025, 11, 28)
    exchanges = {"AAPL": "XNYS", "7203.T": "XTKS", "BHP.AX": "XASX"}
    lacks = {"AAPL": (0, 1, 209), "7203.T": (149, 150), "BHP.AX": (30,)}
    bars = [bar("AAPL", str(day), 1.0, interval="1m", time=f"{day} 12:00:00.000")]
    for symbol, name in exchanges.items():
        bars += minutes_of(symbol, Exchange(name).session(day), *lacks[symbol])
    land(settings, "bars", bars, day=TODAY)
    own = replace(settings, symbol_exchanges="7203.T=XTKS,BHP.AX=XASX")
    set_up(own)
    wanted = Wanted(interval="1m", first=day, last=day)
    found = {one.symbol: one for one in coverage(own, wanted, now=NOW, positions={})}
    assert {name: (one.expected, one.missing_bars) for name, one in found.items()} == {
        "AAPL": (210, 3),
        "7203.T": (330, 2),
        "BHP.AX": (360, 1),
    }
    assert [(one.first[11:16], one.bars) for one in found["AAPL"].missing] == [("14:30", 2), ("17:59", 1)]
    assert [(one.first[11:16], one.last[11:16]) for one in found["7203.T"].missing] == [("02:29", "03:30")]
    assert found["BHP.AX"].missing[0].first == "2025-11-27 23:30:00.000"
    by_session = Athena(own).query(queries()["minutes_by_session"])
    assert by_session["day"].unique().tolist() == [pd.Timestamp(day)]
    counted = by_session.set_index("symbol")
    assert counted["minutes"].to_dict() == {"AAPL": 210, "7203.T": 330, "BHP.AX": 360}
    assert counted["bars"].to_dict() == {"AAPL": 207, "7203.T": 328, "BHP.AX": 359}
    assert counted["is_early_close"].to_dict() == {"AAPL": True, "7203.T": False, "BHP.AX": False}
