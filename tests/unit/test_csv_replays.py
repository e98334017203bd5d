"""Which checkpoint a replay has: options that change its records make it another one."""

import pytest

from pipeline.sources.csv.reading import Options
from pipeline.sources.csv.replays import Replays


def test_without_options_the_key_is_that_of_earlier_versions() -> None:
    """A replay that was begun by an earlier version resumes; --missing refuse changes no record that is sent."""
    replays = Replays("f00d", "AAPL", "stock_bars")
    assert replays.key(Options()) == "csv/f00d/AAPL/stock_bars"
    assert replays.key(Options(symbol="AAPL", missing="refuse")) == "csv/f00d/AAPL/stock_bars"


OPTIONS = [
    Options(),
    Options(symbol_column="Listing"),
    Options(interval="1m"),
    Options(interval="1d"),
    Options(timezone="America/New_York"),
    Options(day_first=True),
    Options(day_first=False),
    Options(ends=True),
    Options(ends=False),
    Options(missing="fill"),
    Options(interval="1m", ends=True),
]


def test_each_option_that_changes_the_records_has_a_key_of_its_own() -> None:
    """No two sets of options share a checkpoint, and the encoding and the symbol count too."""
    keys = [Replays("f00d", "AAPL", "t").key(options) for options in OPTIONS]
    keys.append(Replays("f00d", "AAPL", "t").key(Options(), "cp1252"))
    keys.append(Replays("f00d", "MSFT", "t").key(Options()))
    keys.append(Replays("beef", "AAPL", "t").key(Options()))
    keys.append(Replays("f00d", "AAPL", "u").key(Options()))
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("symbol", ["", "AAPL", "BF/B"])
def test_a_new_replay_tells_of_the_others(symbol: str) -> None:
    """Each other replay of the file is shown with its options and how much it sent, also one of an earlier version."""
    replays, positions = Replays("f00d", symbol, "t"), {}
    first, second = replays.key(Options(interval="1m")), replays.key(Options(interval="1d", ends=True))
    assert list(replays.notes(first, positions.get)) == []
    for key in (first, second):
        positions |= replays.registration(key, positions.get)
        positions[key] = {"row": 12, "sent": 1234}
    assert replays.registration(second, positions.get) == {}
    (note,) = replays.notes(second, positions.get)
    assert f"({symbol and f'symbol {symbol}, '}interval=1m): 1,234 records" in note
    positions[replays.key(Options())] = {"row": 99}
    assert any("up to 99 rows" in note for note in replays.notes(second, positions.get))
