"""adjusted_bars beside the vendors' own adjusted columns, on real files and real Trino.

Yahoo's Adj Close is the total return by 1 - D / close before, as ours. Alpha Vantage and Quandl use close / (close + D)
instead: their factors are made from the file's dividends here, and what is left is the split part, and ours.
"""

import random
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pandas as pd
import pytest
from raw_objects import curate, land, set_up, settings_of

from local.stack import Stack
from pipeline.athena.client import Athena
from pipeline.records import Action, Bar
from pipeline.settings import Settings
from pipeline.sources.csv import file as csv_file
from pipeline.sources.csv.bars import Cleaner
from pipeline.sources.csv.reading import Options

NOW = datetime.now(UTC)
YAHOO = {
    "CALM": "yahoo/CALM-1d-no-bad-divs.csv",
    "IBE": "yahoo/IBE-MC-1d-no-bad-divs.csv",
    "EWG": "yahoo/EWG-1d-no-bad-divs.csv",
    "EA": "yahoo/EA-15m-no-bad-divs.csv",
    "DODFX": "adjusted/DODFX-1d-cg-double-count-fixed.csv",
}
NVDA, WIKI = (
    "adjusted/alphavantage_daily_adjusted_NVDA_2006_2018.csv",
    "adjusted/quandl_wiki_2014_AAPL_BRK_A_MSFT_ZEN.csv",
)
WORST = 1e-4
FLAT_SPLIT = Action(
    id="E1",
    symbol="NVDA.FLAT",
    time="2024-06-10 00:00:00.000",
    kind="split",
    split_from=1,
    split_to=10,
    source="polygon",
    ingested_at="2026-01-01 00:00:00.000",
)


def read(path: Path, symbol: str = "", basis: str = "") -> tuple[list[Bar], list[Action]]:
    """The bars and actions of a file, as `producer.py replay` reads them."""
    with csv_file.at_hand(str(path), Settings()) as file:
        reading = csv_file.reading(file, Options(symbol=symbol, basis=basis))
        cleaner = Cleaner(reading, source=f"csv:{path.name}", ingested_at=lambda: "2026-01-01 00:00:00.000")
        chunks = list(csv_file.chunks(file, reading, cleaner))
    return [bar for chunk in chunks for bar in chunk.bars], [one for chunk in chunks for _, one in chunk.actions]


@pytest.fixture(scope="module")
def lake(stack: Stack, bucket: str, shared_data: Path) -> Settings:
    """All files in one lake, NVDA four times on different bases, curated once."""
    settings = settings_of(stack, bucket)
    flat, _ = read(shared_data / "polygon_flat/day_aggs_NVDA_2024-06.csv")
    bars = [msgspec.structs.replace(bar, symbol="NVDA.FLAT") for bar in flat]
    actions = [FLAT_SPLIT]
    for name, file in [*YAHOO.items(), ("NVDA", NVDA), ("", WIKI)]:
        found = read(shared_data / file, name)
        bars, actions = bars + found[0], actions + found[1]
    for name, own_bars in on_other_bases(*read(shared_data / NVDA, "NVDA")).items():
        bars += [msgspec.structs.replace(bar, symbol=name) for bar in own_bars]
        actions += [
            msgspec.structs.replace(one, symbol=name, id=f"{one.id}/{name}") for one in actions if one.symbol == "NVDA"
        ]
    for place in range(0, len(bars), 10_000):
        land(settings, "bars", bars[place : place + 10_000], start=place)
    land(settings, "actions", actions)
    set_up(settings)
    for record in ("bars", "actions"):
        curate(settings, record, now=NOW, run="one")
    return settings


def on_other_bases(bars: list[Bar], actions: list[Action]) -> dict[str, list[Bar]]:
    """The same bars adjusted to the last day, to random days of each, and mixed with those as traded."""
    chance = random.Random(7)
    days = [bar.time[:10] for bar in bars]
    splits = [(one.time[:10], one.ratio) for one in actions if one.kind == "split"]

    def adjusted(bar: Bar, to: str) -> Bar:
        factor = 1.0
        for day, ratio in splits:
            factor *= ratio if bar.time[:10] < day <= to else 1.0
        prices = {name: getattr(bar, name) * (1 / factor) for name in ("open", "high", "low", "close")}
        return msgspec.structs.replace(bar, adjusted=True, adjusted_to=to, volume=bar.volume * factor, **prices)

    last = max(days)
    anywhere = [adjusted(bar, max(bar.time[:10], chance.choice(days))) for bar in bars]
    mixed = [chance.choice([bar, adjusted(bar, last), other]) for bar, other in zip(bars, anywhere, strict=True)]
    return {"NVDA.LAST": [adjusted(bar, last) for bar in bars], "NVDA.ANY": anywhere, "NVDA.MIXED": mixed}


def adjusted(settings: Settings, symbol: str) -> pd.DataFrame:
    found = Athena(settings).query(f"SELECT * FROM adjusted_bars WHERE symbol = '{symbol}' ORDER BY time")
    return found.set_index("time")


def of_file(path: Path) -> pd.DataFrame:
    """A file by the times of its records, with names in lower case and without blanks."""
    frame = pd.read_csv(path).rename(columns=lambda name: name.lower().replace(" ", "_").replace("-", "_"))
    name = next(name for name in ("datetime", "date", "timestamp") if name in frame)
    if "15m" in path.name:
        times = pd.to_datetime(frame[name], utc=True).dt.tz_localize(None)
    else:
        times = pd.to_datetime(frame[name].str[:10])
    return frame.assign(time=times.astype("datetime64[ms]")).set_index("time").sort_index()


def worst(found: pd.Series, expected: pd.Series) -> float:
    assert len(found) > 5
    assert (found.index == expected.index).all()
    return float((found / expected - 1).abs().max())


@pytest.mark.parametrize("symbol", YAHOO)
def test_yahoo(lake: Settings, shared_data: Path, symbol: str) -> None:
    """Close and total return of every row of Yahoo's files are Yahoo's Close and Adj Close."""
    found, vendor = adjusted(lake, symbol), of_file(shared_data / YAHOO[symbol])
    assert worst(found["close"], vendor["close"]) < 1e-12
    assert worst(found["total_return_close"], vendor["adj_close"]) < WORST


def ex_close_factors(vendor: pd.DataFrame, dividend: str) -> pd.Series:
    """The factor of later dividends in the other convention, close / (close + D), known on the ex-day only."""
    factor = vendor["close"] / (vendor["close"] + vendor[dividend])
    return factor[::-1].cumprod()[::-1].shift(-1, fill_value=1.0)


def previous_close_factors(vendor: pd.DataFrame, dividend: str, split: str) -> pd.Series:
    """The same in ours, made with pandas: 1 - D / close before, both of a share before the day."""
    factor = 1 - vendor[dividend] / vendor["close"].shift(1)
    assert not ((vendor[dividend] > 0) & (vendor[split] != 1)).any()
    return factor.fillna(1.0)[::-1].cumprod()[::-1].shift(-1, fill_value=1.0)


def test_alpha_vantage(lake: Settings, shared_data: Path) -> None:
    """Alpha Vantage's adjusted_close is our close times the dividends in its own convention, and our total return that
    of the same dividends in ours, over a 2:1 and a 3:2 split.
    """
    found, vendor = adjusted(lake, "NVDA"), of_file(shared_data / NVDA)
    assert worst(found["close"] * ex_close_factors(vendor, "dividend_amount"), vendor["adjusted_close"]) < WORST
    ours = previous_close_factors(vendor, "dividend_amount", "split_coefficient")
    assert worst(found["total_return_close"], found["close"] * ours) < 1e-12


@pytest.mark.parametrize("symbol", ["AAPL", "BRK_A", "MSFT", "ZEN"])
def test_quandl(lake: Settings, shared_data: Path, symbol: str) -> None:
    """Quandl's adj_close and adj_volume are ours, up to dividends after the file's end, over a 7:1 split."""
    vendor = of_file(shared_data / WIKI)
    vendor = vendor[vendor["ticker"] == symbol]
    found = adjusted(lake, symbol)
    made = found["close"] * ex_close_factors(vendor, "ex_dividend")
    made *= vendor["adj_close"].iloc[-1] / made.iloc[-1]
    assert worst(made, vendor["adj_close"]) < WORST
    assert worst(found["volume"], vendor["adj_volume"]) < 1e-12
    ours = previous_close_factors(vendor, "ex_dividend", "split_ratio")
    assert worst(found["total_return_close"], found["close"] * ours) < 1e-12


def test_a_flat_file_over_a_split(lake: Settings, shared_data: Path) -> None:
    """Massive's flat file of the month of NVDA's 10:1 split is as traded, and continuous in the view."""
    found, vendor = adjusted(lake, "NVDA.FLAT"), pd.read_csv(shared_data / "polygon_flat/day_aggs_NVDA_2024-06.csv")
    assert found["close"].pct_change().abs().max() < 0.06
    is_before = found.index < pd.Timestamp("2024-06-10")
    assert (is_before.sum(), len(found)) == (5, 10)
    assert found["close"].tolist() == pytest.approx(vendor["close"].where(~is_before, vendor["close"] / 10).tolist())
    assert found["volume"].tolist() == pytest.approx(vendor["volume"].where(~is_before, vendor["volume"] * 10).tolist())


@pytest.mark.parametrize("symbol", ["NVDA.LAST", "NVDA.ANY", "NVDA.MIXED"])
def test_the_same_to_the_last_bit_on_every_basis(lake: Settings, symbol: str) -> None:
    """A real series gives the same prices to the last bit, however each of its bars was adjusted when it was stored."""
    columns = ["open", "high", "low", "close", "total_return_close", "dividend_factor"]
    one, other = adjusted(lake, "NVDA"), adjusted(lake, symbol)
    assert (one["basis"] != other["basis"]).sum() > 1000
    pd.testing.assert_frame_equal(one[columns], other[columns], check_exact=True)
    assert worst(one["volume"], other["volume"]) < 1e-15
