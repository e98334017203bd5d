"""What the back-fill is to bring: what coverage finds missing, less what a back-fill has sent already."""

from argparse import Namespace
from dataclasses import replace
from datetime import date, datetime
from typing import Any

from pipeline.coverage.covered import Covered
from pipeline.coverage.looking import Wanted, coverage
from pipeline.settings import Settings
from pipeline.sources.asked import asked
from pipeline.sources.gaps import Gap
from pipeline.streams.kafka import checkpoints


def gaps(settings: Settings, options: Namespace, *, now: datetime) -> list[Gap]:
    """Return what each symbol lacks, as the options of `producer.py backfill` choose it. Raises ServiceError and
    SettingsError.
    """
    positions = checkpoints.positions(settings)
    wanted = Wanted(
        interval=options.interval,
        symbols=settings.symbol_list if options.symbols else (),
        first=options.first,
        last=options.last,
    )
    known: dict[str, Any] = {} if options.empty_too else positions
    found = coverage(settings, wanted, now=now, positions=known)
    sent = {} if options.restart else asked(positions, options.interval, settings.kafka_topic_bars).sent
    return [gap for one in found if (gap := without(_gap(one), sent.get(one.symbol, set()))).days]


def _gap(one: Covered) -> Gap:
    return Gap(symbol=one.symbol, days=one.missing_days, ranges=tuple((each.first, each.last) for each in one.missing))


def without(gap: Gap, sent: set[str]) -> Gap:
    """Return a gap without the days that were sent; their bars are on the way to the lake."""
    days: tuple[date, ...] = tuple(day for day in gap.days if str(day) not in sent)
    return replace(gap, days=days)
