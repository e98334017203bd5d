# ruff: noqa: S608 - the parts of the SQL built here are names of ours, checked days and quoted texts
"""Which bars the lake has, by two queries on Athena that read the months asked for and return a row a symbol and month,
or a row a symbol and session.
"""

from collections.abc import Collection, Iterator
from datetime import date

from pipeline.athena.choices import is_one_of
from pipeline.athena.client import Athena
from pipeline.coverage.covered import StoredDay
from pipeline.intervals import INTERVAL_SECONDS
from pipeline.sessions import Exchange

_DAYS = """SELECT symbol, month, array_join(array_agg(DISTINCT CAST(day(time) AS varchar)), ' ') AS days
FROM bars
WHERE {condition}
GROUP BY symbol, month"""
# The day of a bar is that of its exchange's clock, which joins it with at most one session. The first bar of an hour
# begins before the opening. A whole session needs no list.
_SESSIONS = """WITH of_sessions AS (
  SELECT b.symbol, date(with_timezone(b.time, 'UTC') AT TIME ZONE '{zone}') AS session, b.time,
    s.session IS NULL AS is_outside,
    date_diff('second', s.opens_at, s.closes_at) - coalesce(date_diff('second', s.break_from, s.break_until), 0)
      AS length,
    b.time > s.opens_at - INTERVAL '{seconds}' SECOND AND b.time < s.closes_at
      AND (s.break_from IS NULL OR b.time < s.break_from OR b.time >= s.break_until) AS is_inside
  FROM bars AS b
  LEFT JOIN trading_sessions AS s ON s.exchange = '{exchange}'
    AND s.session = date(with_timezone(b.time, 'UTC') AT TIME ZONE '{zone}')
  WHERE {condition}
)
SELECT symbol, session, count_if(is_inside) AS bars, bool_or(is_outside) AS is_outside,
  IF({seconds} > 900 OR count_if(is_inside) * {seconds} < max(length),
    array_join(array_agg(CAST(CAST(to_unixtime(time) AS bigint) AS varchar)) FILTER (WHERE is_inside), ' ')) AS starts
FROM of_sessions
GROUP BY symbol, session"""


def symbols(athena: Athena, interval: str, first: date | None, last: date) -> list[str]:
    """Return the symbols that have bars of an interval in the months of these days."""
    rows = athena.query(f"SELECT DISTINCT symbol FROM bars WHERE {_condition(interval, (), first, last)}")
    return sorted(rows["symbol"])


def stored_days(
    athena: Athena, interval: str, names: Collection[str], first: date | None, last: date
) -> dict[str, set[date]]:
    """Return by symbol the days that its bars of a day or longer carry, in the months of these days."""
    found: dict[str, set[date]] = {}
    rows = athena.query(_DAYS.format(condition=_condition(interval, names, first, last)))
    for row in rows.to_dict("records"):
        year, month = map(int, row["month"].split("-"))
        found.setdefault(row["symbol"], set()).update(date(year, month, int(day)) for day in row["days"].split())
    return found


def stored_sessions(
    athena: Athena, interval: str, names: Collection[str], first: date, last: date, *, exchange: Exchange
) -> dict[str, dict[date, StoredDay]]:
    """Return by symbol and session the bars within the session, of symbols of one exchange. A day without a session
    that has bars is there with none.
    """
    condition = _condition(interval, names, first, last, prefix="b.")
    filled = {"condition": condition, "zone": exchange.zone.key, "exchange": exchange.name}
    sql = _SESSIONS.format(**filled, seconds=INTERVAL_SECONDS[interval])
    found: dict[str, dict[date, StoredDay]] = {}
    for row in athena.query(sql).to_dict("records"):
        if row["bars"] or row["is_outside"]:
            starts = frozenset(map(int, (row["starts"] or "").split()))
            found.setdefault(row["symbol"], {})[row["session"].date()] = StoredDay(bars=row["bars"], starts=starts)
    return found


def _condition(interval: str, names: Collection[str], first: date | None, last: date, *, prefix: str = "") -> str:
    """The WHERE condition: months, so that Athena skips the others. A day by another clock may be of the next one."""
    conditions = list(_conditions(interval, first, last, prefix))
    if names:
        conditions.append(is_one_of(f"{prefix}symbol", sorted(names)))
    return " AND ".join(conditions)


def _conditions(interval: str, first: date | None, last: date, prefix: str) -> Iterator[str]:
    yield f"{prefix}\"interval\" = '{interval}'"
    before = date.fromordinal(first.toordinal() - 1) if first else date(1970, 1, 1)
    after = date.fromordinal(last.toordinal() + 1)
    yield f"{prefix}month BETWEEN '{before:%Y-%m}' AND '{after:%Y-%m}'"
