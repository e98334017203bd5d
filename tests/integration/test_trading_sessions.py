"""The table trading_sessions as glue_setup.py and its ETL publish it, read by Trino."""

from collections.abc import Callable
from datetime import date

import pandas as pd
import pytest
from raw_objects import set_up

from pipeline import aws
from pipeline.athena.client import Athena
from pipeline.settings import Settings
from pipeline.tables.sessions import session_changes

KEY = "curated/trading_sessions"


@pytest.mark.usefixtures("credentials")
def test_sessions_are_published_and_refreshed(run: Callable, settings: Settings) -> None:
    """The table has New York's sessions from 2000 to the end of next year, the view the exchange of each symbol; the
    ETL puts an object that is old right, and leaves that of an exchange which the settings no longer name.
    """
    set_up(settings, today=date(2025, 11, 20))
    athena = Athena(settings)
    rows = athena.query("SELECT * FROM trading_sessions WHERE exchange = 'XNYS' ORDER BY session")
    assert (rows["session"].min(), rows["session"].max()) == (pd.Timestamp("2000-01-03"), pd.Timestamp("2026-12-31"))
    thanksgiving = rows[rows["session"].between("2025-11-26", "2025-11-28")]
    assert thanksgiving["closes_at"].tolist() == [pd.Timestamp("2025-11-26 21:00"), pd.Timestamp("2025-11-28 18:00")]
    assert thanksgiving["is_early_close"].tolist() == [False, True]
    fits = "SELECT exchange FROM symbol_exchanges WHERE '{}' LIKE pattern ESCAPE '|' ORDER BY place LIMIT 1"
    assert athena.query(fits.format("X:BTCUSD"))["exchange"].tolist() == ["24/7"]
    assert athena.query(fits.format("AAPL"))["exchange"].tolist() == ["XNYS"]

    tokyo = {"EXCHANGE": "XTKS", "SYMBOL_EXCHANGES": "AAPL=XNYS"}
    done = run("glue_setup.py", "etl", "--tables", "bars", **tokyo)
    assert done.returncode == 0, done.stderr
    assert "created      sessions of XTKS" in done.stdout
    exchanges = athena.query("SELECT DISTINCT exchange FROM trading_sessions ORDER BY exchange")["exchange"]
    assert exchanges.tolist() == ["24/5", "24/7", "XNYS", "XTKS"]
    assert "sessions of" not in run("glue_setup.py", "etl", "--tables", "bars", **tokyo).stdout


def test_an_unknown_exchange_is_told_before_anything_is_made(run: Callable, settings: Settings) -> None:
    """A mistake in EXCHANGE is one line that names it, with exit code 2."""
    made = run("glue_setup.py", "etl", EXCHANGE="NYC")
    assert (made.returncode, "EXCHANGE: 'NYC' is no exchange" in made.stderr) == (2, True)
    assert "Traceback" not in made.stderr


@pytest.mark.usefixtures("credentials")
def test_a_run_that_finds_the_same_sessions_writes_nothing(settings: Settings) -> None:
    """The same calendar in the same year keeps the object; in the next year it is written with another year."""
    set_up(settings, today=date(2025, 11, 20))
    assert {change.action for change in session_changes(settings, today=date(2025, 12, 31))} == {"keep"}
    after = {change.what: change for change in session_changes(settings, today=date(2026, 1, 1))}
    assert (after["sessions of XNYS"].action, "2027-12-31" in after["sessions of XNYS"].why) == ("update", True)
    folder = f"{settings.s3_root}{KEY}/"
    listed = aws.client(settings, "s3").list_objects_v2(Bucket=settings.s3_bucket, Prefix=folder)["Contents"]
    assert {item["Key"].removeprefix(folder) for item in listed} == {"XNYS.parquet", "24_7.parquet", "24_5.parquet"}
