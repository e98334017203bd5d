"""Trading sessions: which days, from when to when, and what an exchange that nobody knows gives."""

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.sessions import Exchange, Exchanges
from pipeline.settings import Settings, SettingsError, load_settings

ROOT = Path(__file__).parent.parent.parent
NEW_YORK = Exchange("XNYS")


def test_thanksgiving_has_no_session_and_an_early_close_after_it() -> None:
    """The days around Thanksgiving 2025, with the early close of the Friday at 13:00 in New York."""
    found = NEW_YORK.sessions(date(2025, 11, 26), date(2025, 12, 1))
    assert [(one.day.day, one.closes_at.hour, one.is_early_close) for one in found] == [
        (26, 21, False),
        (28, 18, True),
        (1, 21, False),
    ]


@pytest.mark.parametrize("day", [date(2012, 10, 29), date(2018, 12, 5), date(2025, 1, 9), date(1995, 7, 4)])
def test_days_on_which_new_york_stayed_closed(day: date) -> None:
    """Sandy, two days of mourning and a holiday before 2000 have no session; the year around them has."""
    assert NEW_YORK.session(day) is None
    assert len(NEW_YORK.sessions(day - timedelta(days=30), day + timedelta(days=30))) > 35


def test_the_sample_spans_1300_sessions() -> None:
    """The span of samples/daily_prices.csv has the 1,300 sessions that its four whole tickers have."""
    rows = [line.split(",") for line in (ROOT / "samples/daily_prices.csv").read_text().splitlines()[1:]]
    days = {date.fromisoformat(row[next(n for n, cell in enumerate(row) if cell[:2] == "20")]) for row in rows}
    found = NEW_YORK.sessions(min(days), max(days))
    assert len(found) == 1300
    assert {session.day for session in found} == days


def test_sydneys_session_begins_on_the_day_before_in_utc() -> None:
    """A session that crosses midnight in UTC has the date of its exchange."""
    sydney = Exchange("XASX")
    session = sydney.session(date(2026, 1, 15))
    assert session is not None
    assert session.opens_at == datetime(2026, 1, 14, 23, tzinfo=UTC)
    assert sydney.local_day(session.opens_at) == date(2026, 1, 15)


def test_the_minutes_of_tokyo_leave_out_its_noon() -> None:
    """The minutes of a session with a break are those in which there is trading."""
    session = Exchange("XTKS").session(date(2026, 1, 15))
    assert session is not None
    minutes = session.starts(timedelta(minutes=1))
    assert len(minutes) == 330
    assert session.break_from not in minutes
    assert session.break_until in minutes


def test_hours_are_those_of_the_clock() -> None:
    """A session from 9:30 to 16:00 has seven bars of an hour, of which the first begins at 9:00."""
    session = NEW_YORK.session(date(2025, 11, 26))
    assert session is not None
    hours = session.starts(timedelta(hours=1))
    assert (hours[0], len(hours)) == (datetime(2025, 11, 26, 14, tzinfo=UTC), 7)
    assert session.starts(timedelta(minutes=5))[0] == session.opens_at


def test_crypto_and_currencies_have_days_in_utc() -> None:
    """24/7 has every day, 24/5 the weekdays, each from midnight to midnight in UTC."""
    whole_week = date(2026, 1, 5), date(2026, 1, 11)
    assert len(Exchange("24/7").sessions(*whole_week)) == 7
    weekdays = Exchange("24/5").sessions(*whole_week)
    assert [one.day.day for one in weekdays] == [5, 6, 7, 8, 9]
    assert weekdays[0].closes_at - weekdays[0].opens_at == timedelta(days=1)


@pytest.mark.parametrize(
    ("exchange", "days", "said"),
    [
        ("XXXX", (date(2026, 1, 5), date(2026, 1, 5)), "'XXXX' is no exchange"),
        ("XSHG", (date(2026, 12, 1), date(2027, 1, 5)), "up to 2026-12-31, and 2027-01-05 is asked for"),
        ("XSAU", (date(2019, 1, 1), date(2026, 1, 5)), "from 2021-01-01 on, and 2019-01-01 is asked for"),
    ],
)
def test_what_the_calendar_does_not_know_names_the_setting(exchange: str, days: tuple[date, date], said: str) -> None:
    """An unknown exchange, and days beyond the calendar, are errors that name the setting."""
    with pytest.raises(SettingsError, match=f"^EXCHANGE: .*{said}"):
        Exchange(exchange).sessions(*days)


def test_known_sessions_end_where_the_calendar_ends() -> None:
    """What is published goes as far as the calendar knows, without an error."""
    found = Exchange("XSHG").known_sessions(date(2026, 12, 1), date(2027, 12, 31))
    assert found[-1].day == date(2026, 12, 31)


def test_symbols_have_the_exchange_that_fits_first() -> None:
    """Crypto and currencies have theirs by default, an entry of SYMBOL_EXCHANGES wins over EXCHANGE."""
    exchanges = Exchanges(Settings(symbol_exchanges="7203.T=XTKS,EURUSD=X=24/5,X:*=24/7,C:*=24/5"))
    symbols = ["AAPL", "7203.T", "X:BTCUSD", "C:EURUSD", "EURUSD=X", "7203XT"]
    assert [exchanges.of(symbol).name for symbol in symbols] == ["XNYS", "XTKS", "24/7", "24/5", "24/5", "XNYS"]
    assert [one.name for one in exchanges.all()] == ["XNYS", "XTKS", "24/5", "24/7"]
    assert Exchanges(Settings()).of("X:BTCUSD").name == "24/7"


def test_a_symbol_without_an_exchange_names_the_setting() -> None:
    """With EXCHANGE=none a symbol that no entry names is an error, and so is an entry without an exchange."""
    with pytest.raises(SettingsError, match="SYMBOL_EXCHANGES: AAPL is not in it, and EXCHANGE=none"):
        Exchanges(Settings(exchange="none", symbol_exchanges="7203.T=XTKS")).of("AAPL")
    with pytest.raises(SettingsError, match=r"SYMBOL_EXCHANGES: '7203\.T' has no exchange"):
        load_settings(environ={"SYMBOL_EXCHANGES": "7203.T="}, config_file="/dev/null")


def test_scripts_start_without_the_calendar() -> None:
    """The library, which takes pandas along, is not imported by a script that asks for no session."""
    code = (
        "import sys, pipeline.sessions, pipeline.sources.commands as c; c.all_commands();"
        "print('exchange_calendars' in sys.modules, 'pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
