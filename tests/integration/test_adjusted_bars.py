"""adjusted_bars on real Trino: the arithmetic of splits and dividends, and its edges."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from actions_of import daily, dividend, split
from raw_objects import TODAY, bar, curate, land, set_up, settings_of
from spark_java import java_home

from local.stack import Stack
from pipeline.athena.client import Athena
from pipeline.records import Action, Bar
from pipeline.settings import Settings
from pipeline.tables.prices import SPARK_SETTINGS, spark_statements

NOW = datetime.now(UTC)
TOMORROW = f"{TODAY + timedelta(days=2)}"


def case(symbol: str, actions: list[Action], closes: list[float], **changes: object) -> tuple[list[Action], list[Bar]]:
    return actions, daily(symbol, "2024-01-02", closes, **changes)


# Each: actions and closes from 2024-01-02 on, then the split-adjusted and the total-return closes that they mean.
CASES = {
    "as traded over a split": (
        case("S", [split("S", "2024-01-04", 10)], [100.0, 110.0, 12.0]),
        [10.0, 11.0, 12.0],
        [10.0, 11.0, 12.0],
    ),
    "a reverse split": (case("R", [split("R", "2024-01-04", 0.1)], [1.0, 1.5, 14.0]), [10.0, 15.0, 14.0], None),
    "two splits on a day": (
        case("T", [split("T", "2024-01-03", 2, id="a"), split("T", "2024-01-03", 3, id="b")], [60.0, 11.0]),
        [10.0, 11.0],
        None,
    ),
    "adjusted up to a day between two splits": (
        case(
            "B",
            [split("B", "2024-01-03", 2), split("B", "2024-01-05", 5)],
            [50.0, 50.0, 50.0, 50.0],
            adjusted_to="2024-01-04",
        ),
        [10.0, 10.0, 10.0, 10.0],
        None,
    ),
    "a dividend": (case("D", [dividend("D", "2024-01-03", 2)], [100.0, 98.0]), [100.0, 98.0], [98.0, 98.0]),
    "two dividends on a day": (
        case("DD", [dividend("DD", "2024-01-03", 2, id="a"), dividend("DD", "2024-01-03", 3, id="b")], [100.0, 95.0]),
        [100.0, 95.0],
        [95.0, 95.0],
    ),
    # 275 yen as declared of a share before 5:1 are 55 of today's.
    "a split and a dividend on a day": (
        case("SD", [split("SD", "2024-01-03", 5), dividend("SD", "2024-01-03", 275)], [5500.0, 1000.0]),
        [1100.0, 1000.0],
        [1045.0, 1000.0],
    ),
    "a dividend stated on later shares": (
        case(
            "L",
            [split("L", "2024-01-04", 2), dividend("L", "2024-01-03", 1, adjusted_to="2025-01-01")],
            [100.0, 96.0, 48.0],
        ),
        [50.0, 48.0, 48.0],
        [49.0, 48.0, 48.0],
    ),
    "a dividend larger than the price": (
        case("X", [dividend("X", "2024-01-03", 100.5)], [100.0, 98.0]),
        [100.0, 98.0],
        [100.0, 98.0],
    ),
    "a dividend in another currency": (
        case("C", [dividend("C", "2024-01-03", 2, currency="GBP")], [100.0, 98.0]),
        [100.0, 98.0],
        [100.0, 98.0],
    ),
    "actions in the future": (
        case("F", [split("F", TOMORROW, 2), dividend("F", TOMORROW, 3, id="d")], [100.0, 98.0]),
        [100.0, 98.0],
        [100.0, 98.0],
    ),
    "actions before the first bar": (
        case("P", [split("P", "2023-06-01", 2), dividend("P", "2023-07-03", 3)], [100.0, 98.0]),
        [100.0, 98.0],
        [100.0, 98.0],
    ),
    "an action that was withdrawn": (
        case("W", [split("W", "2024-01-03", 2, cancelled=True)], [100.0, 98.0]),
        [100.0, 98.0],
        None,
    ),
    "a split that is listed twice": (
        case("M", [split("M", "2024-01-03", 10), split("M", "2024-01-05", 10)], [100.0, 100.0, 100.0, 10.0]),
        [10.0, 10.0, 10.0, 10.0],
        None,
    ),
    "a spin-off": (
        case("SO", [split("SO", "2024-01-03", 1.046)], [104.6, 100.0]),
        [104.6, 100.0],
        [100.0, 100.0],
    ),
    "a stock dividend of 5 %": (case("ST", [split("ST", "2024-01-03", 1.05)], [105.0, 100.0]), [100.0, 100.0], None),
    "one source of two": (
        case(
            "O",
            [
                split("O", "2024-01-03", 2),
                split("O", "2024-01-03", 2, source="csv:O.csv"),
                dividend("O", "2024-01-04", 1, source="csv:O.csv"),
                dividend("O", "2024-01-04", 1, source="csv:P.csv", ingested_at="2026-01-02 00:00:00.000"),
            ],
            [200.0, 100.0, 99.0],
        ),
        [100.0, 100.0, 99.0],
        [99.0, 99.0, 99.0],
    ),
}


@pytest.fixture(scope="module")
def lake(stack: Stack, bucket: str) -> Settings:
    """All cases in one lake, curated once."""
    settings = settings_of(stack, bucket)
    cases = [found for found, _, _ in CASES.values()]
    land(settings, "actions", [action for actions, _ in cases for action in actions])
    land(settings, "bars", [one for _, bars in cases for one in bars] + NO_BAR + UNKNOWN + INTRADAY + NAMED)
    land(settings, "actions", NO_BAR_ACTIONS + NAMES, start=1000)
    set_up(settings)
    for record in ("bars", "actions"):
        curate(settings, record, now=NOW, run="one")
    return settings


# Friday and Monday with actions on the weekend between them.
NO_BAR = [bar("N", "2024-01-05", 100.0), bar("N", "2024-01-08", 49.0)]
NO_BAR_ACTIONS = [
    split("N", "2024-01-06", 2),
    dividend("N", "2024-01-07", 1),
    split("U", "2024-01-03", 2),
    dividend("U", "2024-01-03", 1),
    split("I", "2024-01-03", 2),
    dividend("I", "2024-07-02", 1),
]
UNKNOWN = daily("U", "2024-01-02", [100.0, 50.0], source="csv:prices.csv")
# Of the evening of 2 January in New York and of the midnight after it; and before and after a dividend.
INTRADAY = [
    bar("I", "2024-01-02", 100.0, interval="1h", time="2024-01-03 00:00:00.000"),
    bar("I", "2024-01-02", 50.0, interval="1h", time="2024-01-03 05:00:00.000"),
    bar("I", "2024-07-01", 50.0, interval="1h", time="2024-07-01 23:00:00.000"),
    bar("I", "2024-07-02", 49.0, interval="1h", time="2024-07-02 12:00:00.000"),
]
SPAN = {
    "kind": "symbol_change",
    "source": "polygon",
    "ingested_at": "2026-01-01 00:00:00.000",
    "new_symbol": "META",
}
NAMES = [
    Action(id="1", symbol="FB", time="2012-05-18 00:00:00.000", until_day="2022-06-11", **SPAN),
    Action(id="2", symbol="META", time="2022-06-11 00:00:00.000", **SPAN),
    split("META", "2024-01-03", 2),
    split("FB", "2020-01-03", 5),
]
NAMED = [
    bar("FB", "2019-12-31", 1000.0, source="polygon"),
    bar("FB", "2022-06-08", 200.0, source="polygon"),
    # Two days before the change as the source has it.
    bar("META", "2022-06-09", 202.0, source="polygon"),
    bar("META", "2024-01-03", 100.0, source="polygon"),
    bar("META", "2021-11-01", 15.0, source="polygon"),
    bar("META", "2022-06-08", 199.0, source="csv:META.csv", adjusted=False, ingested_at="2025-01-01 00:00:00.000"),
    bar("META", "2018-01-02", 1010.0, source="csv:META.csv", adjusted=False),
    bar("OTHER", "2022-06-08", 5.0),
]
SPARK_SCRIPT = """
import json
from pyspark.sql import SparkSession
builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
builder = builder.config("spark.sql.shuffle.partitions", "1").config("spark.driver.bindAddress", "127.0.0.1")
spark = builder.config("spark.sql.parquet.inferTimestampNTZ.enabled", "false").getOrCreate()
for name in ("bars", "actions"):
    spark.read.parquet(f"{name}.parquet").createOrReplaceTempView(name)
for statement in json.load(open("views.json")):
    spark.sql(statement)
spark.table("adjusted_bars").toPandas().to_parquet("adjusted_bars")
"""


def adjusted(settings: Settings, symbol: str) -> pd.DataFrame:
    return Athena(settings).query(f"SELECT * FROM adjusted_bars WHERE symbol = '{symbol}' ORDER BY time")


@pytest.mark.parametrize("name", CASES)
def test_arithmetic(lake: Settings, name: str) -> None:
    """Each kind of action, alone and with others, gives the prices that it means; what is wrong is not applied."""
    (_, bars), closes, returns = CASES[name]
    found = adjusted(lake, bars[0].symbol)
    assert found["close"].tolist() == pytest.approx(closes, rel=1e-12)
    assert found["total_return_close"].tolist() == pytest.approx(returns or closes, rel=1e-12)
    assert (found["close"] * found["volume"]).tolist() == pytest.approx([b.close * b.volume for b in bars], rel=1e-12)
    for one, price in zip(bars, found.itertuples(), strict=True):
        assert price.high / price.close == pytest.approx(one.high / one.close, rel=1e-12)


def test_actions_on_days_without_a_bar(lake: Settings) -> None:
    """A split and a dividend of a weekend hold for Friday and not for Monday."""
    found = adjusted(lake, "N")
    assert found["close"].tolist() == [50.0, 49.0]
    assert found["total_return_close"].tolist() == pytest.approx([49.0, 49.0])


def test_an_unknown_basis_is_left_alone_and_said(lake: Settings) -> None:
    """Bars of an unknown basis keep their prices, say so, and claim no total return."""
    found = adjusted(lake, "U")
    assert found["basis"].tolist() == ["unknown"] * 2
    assert found["close"].tolist() == [100.0, 50.0]
    assert found["total_return_close"].isna().all()


def test_intraday_bars_change_at_midnight_in_new_york(lake: Settings) -> None:
    """A bar of the evening in New York, which is the next day in UTC, is still on the old shares."""
    found = adjusted(lake, "I")
    assert found["close"].tolist() == [50.0, 50.0, 50.0, 49.0]
    assert found["total_return_close"].tolist() == pytest.approx([49.0, 49.0, 49.0, 49.0])


def test_prices_as_traded_are_a_column(lake: Settings) -> None:
    """close_as_traded undoes the adjustment of every basis."""
    assert adjusted(lake, "S")["close_as_traded"].tolist() == pytest.approx([100.0, 110.0, 12.0])
    assert adjusted(lake, "B")["close_as_traded"].tolist() == pytest.approx([100.0, 50.0, 50.0, 10.0])


def test_a_history_is_stitched_over_its_names(lake: Settings) -> None:
    """FB's bars are META's, with META's later split; what Massive has of the ticker META before has another name and
    is on no share of Meta's; a file that has the whole history under META is not torn apart; no day is there twice.
    """
    rows = Athena(lake).query(
        'SELECT symbol, date(time) AS day, "close" FROM adjusted_bars '
        "WHERE symbol LIKE 'META%' OR symbol IN ('FB', 'OTHER') ORDER BY symbol, day"
    )
    assert [(row.symbol, f"{row.day:%Y-%m-%d}", row.close) for row in rows.itertuples()] == [
        ("META", "2018-01-02", 101.0),
        ("META", "2019-12-31", 100.0),
        ("META", "2022-06-08", 100.0),
        ("META", "2022-06-09", 101.0),
        ("META", "2024-01-03", 100.0),
        ("META before 2022-06-11", "2021-11-01", 15.0),
        ("OTHER", "2022-06-08", 5.0),
    ]


def test_spark_gives_the_same_to_the_last_bit(lake: Settings, tmp_path: Path) -> None:
    """Spark's form of the views gives what Athena's gives, row by row and bit by bit, for all cases."""
    athena = Athena(lake)
    (tmp_path / "run.py").write_text(SPARK_SCRIPT)
    for name in ("bars", "actions"):
        athena.query(f"SELECT * FROM {name}").to_parquet(tmp_path / f"{name}.parquet")
    views = [text for text in spark_statements(lake) if "curated_" not in text]
    assert len(views) == len(SPARK_SETTINGS) + 3
    (tmp_path / "views.json").write_text(json.dumps(views))
    environ = os.environ | {"JAVA_HOME": str(java_home()), "SPARK_LOCAL_IP": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, "run.py"], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    ours, theirs = athena.query("SELECT * FROM adjusted_bars"), pd.read_parquet(tmp_path / "adjusted_bars")
    assert len(ours) > 50
    ours, theirs = (
        rows.sort_values(["symbol", "time"], ignore_index=True)[list(ours.columns)] for rows in (ours, theirs)
    )
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True, check_dtype=False)


@pytest.mark.parametrize(
    ("changes", "basis"),
    [
        ({"adjusted": True, "source": "polygon", "ingested_at": "2024-03-01 03:00:00.000"}, "2024-02-29"),
        ({"adjusted": False, "source": "csv:flat.csv"}, "as traded"),
        ({"source": "polygon"}, "as traded"),
        ({"source": "csv:prices.csv"}, "unknown"),
        ({"source": "csv:prices.csv", "adjusted_to": "2024-02-01"}, "2024-02-01"),
    ],
)
def test_the_basis_of_bars_that_were_landed_before(stack: Stack, bucket: str, changes: dict, basis: str) -> None:
    """What a bar of an earlier version is based on follows from its source, its adjusted and its ingested_at."""
    settings = settings_of(stack, bucket)
    land(settings, "bars", [bar("A", "2024-01-02", 100.0, **changes)])
    set_up(settings)
    assert adjusted(settings, "A")["basis"].tolist() == [basis]
