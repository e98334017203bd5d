"""--as-of: what was known then, on real Trino."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from io import StringIO

import pandas as pd
import pytest
from actions_of import daily, dividend, split
from raw_objects import TODAY, land, set_up

from pipeline.athena import choices
from pipeline.athena.client import Athena
from pipeline.athena.queries import queries
from pipeline.settings import Settings

MOST_STAGES = 150  # of Trino's query.max-stage-count, which Athena leaves as it is

# In New York it may still be the day before, and a split counts from its midnight there.
FIRST, SECOND, SPLIT_DAY = (TODAY - timedelta(days=days) for days in (4, 3, 2))


@pytest.fixture
def lake(settings: Settings) -> Iterator[Settings]:
    """Four days of prices and a dividend, read three days ago; a correction, a split and a cancellation since."""
    days = [str(TODAY - timedelta(days=10 - number)) for number in range(4)]
    then, later = (f"{day} 12:00:00.000" for day in (FIRST, SECOND))
    paid = dividend("A", days[2], 2, ingested_at=then)
    land(settings, "bars", daily("A", days[0], [100.0, 100.0, 98.0, 99.0], ingested_at=then), day=FIRST)
    land(settings, "actions", [paid], day=FIRST)
    corrected = daily("A", days[3], [98.0], ingested_at=later)
    land(settings, "bars", corrected, day=SECOND, start=100)
    gone = dividend("A", days[2], 2, ingested_at=later, cancelled=True)
    land(settings, "actions", [split("A", str(SPLIT_DAY), 2, ingested_at=later), gone], day=SECOND, start=100)
    # A query as of a time lists a folder for each day since this one.
    set_up(replace(settings, first_day=str(FIRST)))
    return settings


def rows(run: Callable, name: str, *choices: str) -> pd.DataFrame:
    done = run("-m", "pipeline.athena", name, "--csv", "-", *choices)
    assert done.returncode == 0, done.stderr
    return pd.read_csv(StringIO(done.stdout))


def test_what_was_known_then(lake: Settings, run: Callable) -> None:
    """A query as of a time has neither a later correction, nor a split that was told later, and has a dividend that was
    withdrawn later, with its close; prices are on the shares of that day. Before everything there is nothing.
    """
    now = rows(run, "closing_trend")["close"].tolist()
    assert now == pytest.approx([50.0, 50.0, 49.0, 49.0])
    then = ("--as-of", str(FIRST))
    assert rows(run, "closing_trend", *then)["close"].tolist() == pytest.approx([100.0, 100.0, 98.0, 99.0])
    assert rows(run, "total_return", *then)["total_growth"].tolist() == pytest.approx([1, 1, 1, 99 / 98])
    assert rows(run, "closing_trend", "--as-of", f"{FIRST}T11:59:00Z").empty
    later = rows(run, "closing_trend", "--as-of", f"{SECOND}T13:00:00Z")["close"].tolist()
    # The split is known by then, and its day has not come.
    assert later == pytest.approx([100.0, 100.0, 98.0, 98.0])
    traded = rows(run, "closing_trend", "--as-traded", "--as-of", str(TODAY))["close"].tolist()
    assert traded == pytest.approx([100.0, 100.0, 98.0, 98.0])


def test_every_query_and_the_report_as_of(lake: Settings, run: Callable, tmp_path) -> None:
    """Every query is sound as of a day, the largest is below what Athena takes, and the report runs."""
    athena, as_of = Athena(lake), f"{FIRST} 23:59:59.999"
    then = {name: choices.chosen(query.sql, conditions={}, as_of=as_of) for name, query in queries().items()}
    assert len(then) > 30
    for sql in then.values():
        athena.query(f"EXPLAIN (TYPE VALIDATE) {sql}")
    plan = athena.query(f"EXPLAIN (TYPE DISTRIBUTED) {then['unexplained_jumps']}")
    assert 20 < len(re.findall(r"^Fragment \d+", plan.iloc[0, 0], re.MULTILINE)) < MOST_STAGES / 2
    page = tmp_path / "report.html"
    done = run("-m", "dashboards.report", "--output", page, "--as-of", str(FIRST), "--tickers", "A")
    assert done.returncode == 0, done.stderr
    assert f"as of {FIRST} 23:59:59.999" in page.read_text(encoding="utf-8")
