"""Corporate actions from the topic to the view, on real Trino."""

import gzip
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import msgspec
import pyarrow.parquet as pq
import pytest
from actions_of import daily, dividend, split
from raw_objects import TODAY, curate, land, set_up, settings_of

from local.stack import Stack
from pipeline.athena.client import Athena
from pipeline.settings import Settings

NOW = datetime.now(UTC)
RECORDS = [
    split("NVDA", "2024-06-10", 10, category="forward_split"),
    dividend("NVDA", "2024-06-11", 0.01, currency="USD", pay_day="2024-06-28"),
    split("SHOP", "2022-06-22", 10, id="S1"),
]


@pytest.fixture
def lake(stack: Stack, bucket: str) -> Iterator[Settings]:
    return settings_of(stack, bucket)


def actions(settings: Settings) -> list[tuple]:
    rows = Athena(settings).query(
        "SELECT symbol, kind, date(time) AS day, split_to, amount, reference_close, reference_adjusted_to "
        "FROM actions ORDER BY symbol, time, kind"
    )
    return [
        (r.symbol, r.kind, f"{r.day:%Y-%m-%d}", r.split_to, r.amount, r.reference_close, r.reference_adjusted_to)
        for r in rows.astype(object).where(rows.notna(), None).itertuples()
    ]


@pytest.mark.parametrize("form", ["json", "csv", "parquet"])
def test_actions_of_every_format(lake: Settings, form: str) -> None:
    """Actions that were landed in any format are in the view at once, and after the ETL with the close before each
    dividend.
    """
    land(lake, "actions", RECORDS, format=form)
    land(lake, "bars", daily("NVDA", "2024-06-07", [1200.0, 1201.0, 1202.0, 121.0]), format=form)
    set_up(lake)
    expected = [
        ("NVDA", "split", "2024-06-10", 10.0, None, None, None),
        ("NVDA", "dividend", "2024-06-11", None, 0.01, None, None),
        ("SHOP", "split", "2022-06-22", 10.0, None, None, None),
    ]
    assert actions(lake) == expected
    for record in ("bars", "actions"):
        curate(lake, record, now=NOW, run="one")
    expected[1] = ("NVDA", "dividend", "2024-06-11", None, 0.01, 121.0, "2024-06-10")
    assert actions(lake) == expected


def test_a_moved_split_and_a_cancelled_dividend(lake: Settings) -> None:
    """Of one id the last record counts, also in another month, and a cancelled action is gone; before the ETL and
    after it, and when an older record lands late.
    """
    moved = replace_of(RECORDS[2], time="2022-07-01 00:00:00.000", ingested_at="2026-01-02 00:00:00.000")
    cancelled = replace_of(RECORDS[1], cancelled=True, ingested_at="2026-01-02 00:00:00.000")
    land(lake, "actions", RECORDS, day=TODAY - timedelta(days=2))
    set_up(lake)
    curate(lake, "actions", now=NOW, run="one")
    assert len(actions(lake)) == 3
    land(lake, "actions", [moved, cancelled], start=10)
    expected = [
        ("NVDA", "split", "2024-06-10", 10.0, None, None, None),
        ("SHOP", "split", "2022-07-01", 10.0, None, None, None),
    ]
    assert actions(lake) == expected
    curate(lake, "actions", now=NOW, run="two")
    assert actions(lake) == expected
    land(lake, "actions", RECORDS, start=20)
    curate(lake, "actions", now=NOW, run="three")
    assert actions(lake) == expected


def test_a_close_that_lands_later_is_found(lake: Settings) -> None:
    """A dividend whose bars land after it gets its close with the next run of the ETL, though no new action came; a bar
    of an unknown basis gives none.
    """
    land(lake, "actions", RECORDS[1:2])
    land(lake, "bars", daily("NVDA", "2024-06-10", [122.0], source="csv:prices.csv"))
    set_up(lake)
    for run in ("one", "two"):
        for record in ("bars", "actions"):
            outcome = curate(lake, record, now=NOW, run=run)
    assert outcome.why_not == "nothing new since the last run"
    assert actions(lake)[0][5:] == (None, None)
    land(lake, "bars", daily("NVDA", "2024-06-07", [1200.0], adjusted_to="2026-01-01"), start=10)
    for record in ("bars", "actions"):
        curate(lake, record, now=NOW, run="three")
    assert actions(lake)[0][5:] == (1200.0, "2026-01-01")


def test_bad_actions_are_dead_letters(lake: Settings) -> None:
    """Actions that cannot be applied lie in the dead letters with their reason, and their neighbours land."""
    bad = [
        msgspec.json.encode(replace_of(RECORDS[0], split_to=0.0)),
        msgspec.json.encode(replace_of(RECORDS[0], time="None")),
        msgspec.json.encode(replace_of(RECORDS[1], amount=None)),
        msgspec.json.encode(replace_of(RECORDS[1], amount=-1.0)),
    ]
    land(lake, "actions", [*bad, RECORDS[2]])
    set_up(lake)
    assert [row[0] for row in actions(lake)] == ["SHOP"]
    reasons = Athena(lake).query(f"SELECT reason FROM dead_letters WHERE dt = '{TODAY}' ORDER BY \"offset\"")["reason"]
    assert [reason.partition(" ")[0] for reason in reasons] == ["Expected", "Expected", "amount:", "Expected"]


def replace_of(record: object, **changes: object) -> object:
    return msgspec.structs.replace(record, **changes)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_objects_of_before_the_basis_are_read(lake: Settings, s3: object, form: str) -> None:
    """Objects that an earlier version landed, without the last column, are read beside new ones, before and after the
    ETL.
    """
    one, other = daily("A", "2024-01-02", [10.0, 11.0], adjusted=True, ingested_at="2024-02-01 12:00:00.000")
    key = land(lake, "bars", [one], format=form)[0]
    body = s3.get_object(Bucket=lake.s3_bucket, Key=key)["Body"].read()
    if form == "csv":
        lines = [line.rpartition(",")[0] for line in gzip.decompress(body).decode().splitlines()]
        body = gzip.compress("\n".join([*lines, ""]).encode())
    else:
        shorter = pq.read_table(io.BytesIO(body)).drop_columns(["adjusted_to"])
        made = io.BytesIO()
        pq.write_table(shorter, made)
        body = made.getvalue()
    s3.put_object(Bucket=lake.s3_bucket, Key=key, Body=body, Metadata={})
    land(lake, "bars", [replace_of(other, adjusted_to="2024-01-31")], format=form, start=10)
    set_up(lake)
    for run in ("before", "after"):
        rows = Athena(lake).query('SELECT "close", basis FROM adjusted_bars ORDER BY time')
        assert list(rows.itertuples(index=False, name=None)) == [(10.0, "2024-02-01"), (11.0, "2024-01-31")], run
        curate(lake, "bars", now=NOW, run="one")
