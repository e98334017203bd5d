"""The sessions of the last weeks: which tickers are behind, and which bars are missing between others.

Runs one query on Athena over the last two months of daily bars.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from pipeline.athena.client import Athena
from pipeline.coverage.covered import Covered
from pipeline.coverage.looking import Wanted, coverage
from pipeline.doctor.finding import Finding, ok, warning
from pipeline.doctor.tables import has_tables
from pipeline.settings import ServiceError, Settings
from pipeline.streams.kafka import checkpoints

_LOOK_BACK = timedelta(days=30)
_SHOWN = 5
_CURE = "python -m pipeline.coverage says which; `producer.py backfill` asks for them"
_LAST_SESSIONS = (
    "SELECT exchange, max(session) AS last_session FROM trading_sessions GROUP BY exchange ORDER BY exchange"
)


def findings(settings: Settings, *, now: datetime) -> Iterator[Finding]:
    """Yield what is missing of the last 30 days; nothing without the tables, which the tables' area reports."""
    if not settings.s3_bucket or not has_tables(settings, "bars", "trading_sessions"):
        return
    yield from _ends(settings, now)
    try:
        positions = checkpoints.positions(settings)
    except ServiceError:
        positions = {}  # the area kafka says why
    wanted = Wanted(interval="1d", first=(now - _LOOK_BACK).date())
    found = coverage(settings, wanted, now=now, positions=positions)
    if not found:
        yield ok("coverage", "there are no daily bars of the last two months to look at")
        return
    behind = [one for one in found if one.behind]
    lacking = [one for one in found if one.missing_bars > one.behind]
    if behind:
        yield warning("coverage", f"behind: {_listed(behind, 'behind')} sessions", _CURE)
    if lacking:
        yield warning("coverage", f"missing since {wanted.first}: {_listed(lacking, 'missing_bars')} bars", _CURE)
    if not behind and not lacking:
        yield ok("coverage", f"{len(found):,} tickers have every session since {wanted.first}")


def _listed(found: list[Covered], count: str) -> str:
    worst = sorted(found, key=lambda one: (-getattr(one, count), one.symbol))
    shown = ", ".join(f"{one.symbol} {getattr(one, count):,}" for one in worst[:_SHOWN])
    return f"{shown} and {len(worst) - _SHOWN:,} more tickers" if len(worst) > _SHOWN else shown


def _ends(settings: Settings, now: datetime) -> Iterator[Finding]:
    """The table of sessions is written by glue_setup.py and its ETL, and not by the Glue job on its own schedule."""
    for row in Athena(settings).query(_LAST_SESSIONS).to_dict("records"):
        last = row["last_session"].date()
        if last < (now + _LOOK_BACK).date():
            yield warning(
                "coverage",
                f"the sessions of {row['exchange']} in trading_sessions end on {last}",
                "python glue_setup.py writes them up to the end of next year, as far as the calendar knows them",
            )
