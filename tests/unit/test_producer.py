"""producer.py without Kafka: its command line, and the names under which it resumes."""

import shlex
from pathlib import Path

import pytest

import producer
from pipeline.settings import Settings
from pipeline.sources.commands import all_commands
from pipeline.sources.csv.dialects import UnusableFile
from pipeline.sources.pacing import Clock

EXAMPLES = [(name, example) for name, command in all_commands().items() for example in command.examples]
NAMES = {
    "poll --adjusted": (
        ("polygon/A/1d/adjusted/stock_bars", "polygon/B/1d/adjusted/stock_bars"),
        "poll-100a557d77365614",
    ),
    "poll --adjusted --grouped": (("polygon/A,B/grouped/adjusted/stock_bars",), "poll-59d8ad1142eaf85d"),
    "news": (("polygon/news/A/stock_news", "polygon/news/B/stock_news"), "news-cd0b072ecfe1528e"),
    "stream": (
        ("polygon/stream/seconds,minutes/A,B", "polygon/stream/seconds,minutes/A,B/ticks"),
        "stream-3c2f66e7c42ddd8c",
    ),
    "simulate --seed 5 --bars 1m --symbols SIM1,SIM2": (
        ("simulated/5/1m/SIM1,SIM2//stock_bars",),
        "simulate-7c828d2849bef8cd",
    ),
    "simulate --seed 5 --id mine --symbols A": (("simulated/5/ticks/SIM:A/10.0/stock_live_feed",), "mine"),
}


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_every_example_of_the_help_is_understood(
    name: str, example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each example of a command's help parses, and so do the defaults."""
    (tmp_path / "watchlist.txt").write_text("AAPL\n")
    monkeypatch.chdir(tmp_path)
    options = producer.parser(all_commands()).parse_args([name, *shlex.split(example.partition("<")[0])])
    assert options.command == name


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("poll", "as traded"),
        ("poll --interval 1m", "as traded"),
        ("poll --grouped", "as traded"),
        ("poll --interval 1w", "adjusted"),
        ("poll --interval 1mo", "adjusted"),
        ("poll --interval 1w --no-adjusted", "as traded"),
        ("poll --adjusted", "adjusted"),
        ("poll --previous-close --adjusted", "adjusted"),
    ],
)
def test_poll_asks_for_prices_as_traded(arguments: str, expected: str) -> None:
    """Days and shorter bars are asked for as traded, weeks and months adjusted, unless the user says otherwise; the two
    have checkpoints of their own.
    """
    options = producer.parser(all_commands()).parse_args(arguments.split())
    settings = Settings(symbols="A,B", polygon_api_key="k")
    (source,) = all_commands()["poll"].sources(settings, options, Clock(lambda: False))
    assert {key.split("/")[-2] for key in source.keys} == {expected}


def test_two_hundred_tickers_on_the_command_line() -> None:
    """A list of tickers that is longer than a file name may be is a list of tickers."""
    tickers = ",".join(f"TICK{number}" for number in range(200))
    options = producer.parser(all_commands()).parse_args(["poll", "--symbols", tickers])
    assert options.symbols == tickers


@pytest.mark.parametrize(
    "arguments",
    [
        ["replay", "x.csv", "--encoding", "klingon"],
        ["replay", "x.csv", "--encoding", "base64"],
        ["replay", "x.csv", "--timezone", "Mars/Olympus"],
        ["replay", "x.csv", "--rate", "inf"],
        ["poll", "--every", "99999999999999999999w"],
        ["poll", "--revise", "9" * 400],
        ["poll", "--from", "yesterday"],
        ["simulate", "--start", "9999-01-01"],
        ["poll", "--symbols", " , "],
        ["stream", "--channels", "trades,quotes"],
        ["poll", "--symbols", "no_such_watchlist.txt"],
        ["simulate", "--count", "1e3"],
        ["replay", "x.csv", "--basis", "adjusted"],
        ["replay", "x.csv", "--basis", "2024-02-30"],
    ],
)
def test_options_that_make_no_sense_are_refused(arguments: list[str], capsys: pytest.CaptureFixture) -> None:
    """A value that cannot be used is wrong use, with a sentence that names the option."""
    with pytest.raises(SystemExit) as ended:
        producer.parser(all_commands()).parse_args(arguments)
    assert ended.value.code == 2
    assert f"argument {arguments[-2]}: " in capsys.readouterr().err


def test_a_place_with_a_name_that_is_too_long() -> None:
    """What can be no file's name is a place without files."""
    options = producer.parser(all_commands()).parse_args(["replay", "x" * 5000])
    with pytest.raises(UnusableFile, match="there is no such file"):
        all_commands()["replay"].sources(Settings(), options, Clock(lambda: False))


@pytest.mark.parametrize("line", NAMES)
def test_checkpoint_keys_and_ids_stay(line: str) -> None:
    """They are those of earlier versions, so that an upgraded producer resumes where they ended."""
    options = producer.parser(all_commands()).parse_args(line.split())
    settings = Settings(symbols="A,B", polygon_api_key="k")
    (source,) = all_commands()[options.command].sources(settings, options, Clock(lambda: False))
    assert (source.keys, producer.producer_id(source, options, settings)) == NAMES[line]
