"""Whose clock the times of a CSV are by, and stamps that mark a minute's end."""

import os
import tempfile
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from pipeline.records import Bar
from pipeline.sessions import Exchange, Exchanges
from pipeline.settings import Settings
from pipeline.sources.csv import file as csv_file
from pipeline.sources.csv.bars import Cleaner
from pipeline.sources.csv.dialects import UnusableFile
from pipeline.sources.csv.reading import Options, Reading

TOKYO_AND_SYDNEY = Exchanges(Settings(symbol_exchanges="*.T=XTKS,*.AX=XASX"))
DAYS = (date(2025, 11, 26), date(2025, 11, 28))


def read(path: Path, exchanges: Exchanges | None = None, **options: object) -> tuple[list[Bar], Reading]:
    """The bars of a file, and how it was read."""
    exchange_of = (exchanges or Exchanges(Settings())).of
    with csv_file.at_hand(str(path), Settings()) as file:
        reading = csv_file.reading(file, Options(**options), exchange_of=exchange_of)
        cleaner = Cleaner(reading, source="s", ingested_at=lambda: "2026-01-01 00:00:00.000")
        return [bar for chunk in csv_file.chunks(file, reading, cleaner) for bar in chunk.bars], reading


def written(symbol: str, times: list[datetime]) -> Path:
    rows = [f"{time},1,2,1,2,100,{symbol}" for time in times]
    handle, name = tempfile.mkstemp(suffix=".csv")
    os.close(handle)
    Path(name).write_text("Datetime,Open,High,Low,Close,Volume,Symbol\n" + "\n".join(rows) + "\n")
    return Path(name)


def minutes(exchange: str, *, ends: bool, naive: bool = True) -> list[datetime]:
    """The stamps of each minute of the sessions around Thanksgiving, by the exchange's clock."""
    own = Exchange(exchange)
    starts = [at for one in own.sessions(*DAYS) for at in one.starts(timedelta(minutes=1))]
    local = [(at + timedelta(minutes=ends)).astimezone(own.zone) for at in starts]
    return [time.replace(tzinfo=None) if naive else time for time in local]


@pytest.mark.parametrize("symbol", ["AAPL", "MSFT.AX", "7203.T"])
@pytest.mark.parametrize("ends", [False, True])
def test_naive_times_are_the_exchanges_and_ends_are_shifted(symbol: str, ends: bool) -> None:
    """Without any option the minutes of New York, Sydney and Tokyo are those of their sessions, whether the file stamps
    a minute with its start or its end; a note says that it was shifted.
    """
    exchange = TOKYO_AND_SYDNEY.of(symbol)
    bars, reading = read(written(symbol, minutes(exchange.name, ends=ends)), TOKYO_AND_SYDNEY)
    starts = [at for one in exchange.sessions(*DAYS) for at in one.starts(timedelta(minutes=1))]
    assert [bar.time for bar in bars] == [f"{at:%Y-%m-%d %H:%M}:00.000" for at in starts]
    assert any("the time of" in note and exchange.name in note for note in reading.notes)
    assert any("mark the end" in note for note in reading.notes) is ends


def test_what_the_user_says_wins() -> None:
    """--timezone and --stamped-start leave the exchange and the session out of it."""
    stamps = minutes("XNYS", ends=True)
    bars, reading = read(written("AAPL", stamps), ends=False)
    assert bars[0].time == "2025-11-26 14:31:00.000"
    assert not any("mark the end" in note for note in reading.notes)
    bars, _ = read(written("AAPL", stamps), timezone="UTC")
    assert bars[0].time == "2025-11-26 09:31:00.000"


def test_times_with_an_offset_are_shifted_too() -> None:
    """Ends that say their offset are found by the same session."""
    bars, reading = read(written("AAPL", minutes("XNYS", ends=True, naive=False)))
    assert bars[0].time == "2025-11-26 14:30:00.000"
    assert any("mark the end" in note for note in reading.notes)


@pytest.mark.parametrize(
    "kept",
    [
        pytest.param(lambda number: number % 3 == 0, id="thin"),
        pytest.param(lambda number: number in range(50, 300), id="without opening and close"),
    ],
)
def test_too_few_bars_prove_nothing(kept: object) -> None:
    """A session of which most minutes are missing, or whose opening and close both are, leaves times as they are."""
    stamps = [time for number, time in enumerate(minutes("XNYS", ends=True)[:390]) if kept(number)]
    bars, _ = read(written("AAPL", stamps))
    assert bars[0].time[11:] == f"{stamps[0].replace(tzinfo=ZoneInfo('America/New_York')).astimezone(UTC):%H:%M}:00.000"


def test_extended_hours_prove_nothing() -> None:
    """A file that has bars at the opening and at the close, for it goes on after it, is not shifted."""
    stamps = [datetime(2025, 11, 26, 9) + timedelta(minutes=number) for number in range(500)]
    assert read(written("AAPL", stamps))[0][0].time == "2025-11-26 14:00:00.000"


def test_symbols_of_two_zones_need_a_word() -> None:
    """A file of naive times of New York and Tokyo is refused with the option that helps."""
    path = written("AAPL", minutes("XNYS", ends=False)[:50])
    path.write_text(path.read_text() + "2025-11-26 09:00:00,1,2,1,2,100,7203.T\n")
    with pytest.raises(UnusableFile, match="--timezone"):
        read(path, TOKYO_AND_SYDNEY)


def test_the_day_of_a_daily_bar_in_utc_is_the_exchanges() -> None:
    """Tokyo's midnight in UTC is the afternoon before; its bar carries Tokyo's date, as Sydney's does."""
    for symbol, text in (("7203.T", "2026-01-14 15:00:00+00:00"), ("BHP.AX", "2026-01-14 13:00:00+00:00")):
        later = text.replace("01-14", "01-15")
        path = written(symbol, [text, later])
        assert [bar.time[:10] for bar in read(path, TOKYO_AND_SYDNEY)[0]] == ["2026-01-15", "2026-01-16"]


@pytest.mark.parametrize("symbol", ["AAPL", "AMZN", "SPY", "TSLA"])
def test_real_minutes_are_shifted_to_the_sessions(shared_data: Path, symbol: str) -> None:
    """Real files stamp 09:31 for the first minute: without an option their bars lie in the minutes of the sessions."""
    bars, reading = read(shared_data / f"minute_bars/{symbol}_1min.csv")
    assert any("mark the end" in note for note in reading.notes)
    days = Counter(bar.time[:10] for bar in bars)
    sessions = Exchange("XNYS").sessions(date.fromisoformat(min(days)), date.fromisoformat(max(days)))
    starts = {f"{at:%Y-%m-%d %H:%M}:00.000" for one in sessions for at in one.starts(timedelta(minutes=1))}
    assert len(sessions) == len(days) == 5
    assert {bar.time for bar in bars} <= starts
    assert len(starts - {bar.time for bar in bars}) < 10


def test_real_bars_of_extended_hours_stay(shared_data: Path) -> None:
    """Yahoo's bars of 15 minutes, the hours before the opening included, are stamped with their starts and stay so."""
    bars, reading = read(shared_data / "yahoo/EA-15m-no-bad-divs.csv")
    assert not any("mark the end" in note for note in reading.notes)
    starts = {at for one in Exchange("XNYS").sessions(*_days(bars)) for at in one.starts(timedelta(minutes=15))}
    assert starts <= {datetime.fromisoformat(bar.time).replace(tzinfo=UTC) for bar in bars}


def _days(bars: list[Bar]) -> tuple[date, date]:
    """The first and the last whole day of some bars."""
    days = sorted({date.fromisoformat(bar.time[:10]) for bar in bars})
    return days[1], days[-2]
