"""The closes that the live page shows the change since, from real Trino."""

from datetime import timedelta

from actions_of import split
from raw_objects import TODAY, bar, land, set_up

from dashboards.live.closes import previous_closes
from pipeline.settings import Settings


def test_the_close_before_today_is_on_todays_shares(settings: Settings, credentials: None) -> None:
    """A close before a split is on the new shares; bars of today, of weeks ago, of hours and of an unknown basis do not
    count.
    """
    # In New York it may still be yesterday.
    before, split_day = (str(TODAY - timedelta(days=days)) for days in (4, 2))
    bars = [
        bar("A", str(TODAY - timedelta(days=5)), 90.0),
        bar("A", before, 100.0),
        bar("A", str(TODAY + timedelta(days=1)), 77.0),
        bar("A", before, 70.0, interval="1h", time=f"{before} 20:00:00.000"),
        bar("OLD", str(TODAY - timedelta(days=30)), 5.0),
        bar("UNKNOWN", before, 5.0, source="csv:prices.csv"),
    ]
    land(settings, "bars", bars)
    land(settings, "actions", [split("A", split_day, 2)])
    set_up(settings)
    assert previous_closes(settings) == {"A": 50.0}
