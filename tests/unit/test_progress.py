"""What of a series was sent: ranges that are done, corrections, and gaps."""

from datetime import timedelta

import msgspec

from pipeline.records import Bar
from pipeline.sources.progress import Progress, SentMinutes, checksum

TWO_DAYS = timedelta(days=2)


def day(number: int) -> str:
    return f"2024-01-{number:02} 00:00:00.000"


def bar(number: int, close: float = 1.0) -> tuple[str, Bar]:
    return day(number), Bar(
        symbol="A",
        time=day(number),
        interval="1d",
        open=1,
        high=9,
        low=1,
        close=close,
        volume=1,
        source="s",
        ingested_at="x",
    )


def sent(progress: Progress, first: int, last: int) -> Progress:
    """The progress after all days of a range, read back from its checkpoint."""
    progress.sent([bar(n) for n in range(first, last + 1)], day(first), day(last))
    return Progress(progress.state, revise=TWO_DAYS)


def test_first_time_everything_is_missing() -> None:
    """Without a checkpoint the whole range is asked for, and every record is new."""
    progress = Progress(None, revise=TWO_DAYS)
    assert progress.missing(day(1), day(9)) == [(day(1), day(9))]
    assert progress.is_new(*bar(1))
    assert progress.last is None


def test_goes_on_and_asks_for_the_end_again() -> None:
    """After a range the rest is asked for, with the last days once more."""
    progress = sent(Progress(None, revise=TWO_DAYS), 1, 10)
    assert progress.missing(day(1), day(20)) == [(day(8), day(20))]
    assert not progress.is_new(*bar(9))
    assert not progress.is_new(*bar(3))
    assert progress.is_new(*bar(11))


def test_a_correction_is_new_once() -> None:
    """A changed bar of the last days is sent as a revision, and the same correction not again."""
    progress = sent(Progress(None, revise=TWO_DAYS), 1, 10)
    assert progress.is_new(*bar(9, close=2.0))
    progress.sent([bar(9, close=2.0)], day(8), day(10))
    assert not Progress(progress.state, revise=TWO_DAYS).is_new(*bar(9, close=2.0))


def test_a_late_bar_between_known_ones_is_new() -> None:
    """A bar of the last days that was not there before is new, though its neighbours were sent."""
    progress = Progress(None, revise=TWO_DAYS)
    progress.sent([bar(8), bar(10)], day(1), day(10))
    assert progress.is_new(*bar(9))


def test_earlier_days_are_filled_and_closed() -> None:
    """A start before what is done asks for the part before it only; done to its end, both are one range."""
    progress = sent(Progress(None, revise=TWO_DAYS), 20, 25)
    assert progress.missing(day(1), day(25)) == [(day(1), day(20)), (day(23), day(25))]
    progress = sent(progress, 1, 10)
    assert progress.missing(day(1), day(25)) == [(day(10), day(20)), (day(23), day(25))]
    assert progress.is_new(*bar(12))
    progress.sent([], day(10), day(20))
    assert progress.missing(day(1), day(25)) == [(day(23), day(25))]
    assert not progress.is_new(*bar(5))


def test_the_checkpoint_stays_small() -> None:
    """Only the last days are kept record by record."""
    progress = sent(Progress(None, revise=TWO_DAYS), 1, 28)
    assert [n for n in range(1, 32) if progress.is_new(*bar(n, close=5))] == [26, 27, 28, 29, 30, 31]
    assert progress.state["done"] == [[day(1), day(28)]]


def test_every_us_stock_fits_into_a_message() -> None:
    """Three days of twelve thousand tickers make a checkpoint of less than Kafka's 1 MB."""
    progress = Progress(None, revise=TWO_DAYS)
    for number in (1, 2, 3):
        many = [(f"T{n * 7919 % 12_000} {day(number)}", bar(number, close=n / 100)[1]) for n in range(12_000)]
        progress.sent(many, day(1), day(number))
    assert 100_000 < len(msgspec.json.encode(progress.state)) < 900_000


def minute(symbol: str, number: int, close: float = 1.0) -> Bar:
    return Bar(
        symbol=symbol,
        time=f"2024-01-02 15:{number:02}:00.000",
        interval="1m",
        open=1,
        high=9,
        low=1,
        close=close,
        volume=1,
        source="s",
        ingested_at="x",
    )


def test_minutes_of_a_stream_are_known_again_after_a_restart() -> None:
    """The checkpoint holds who had a bar in the last two minutes; a changed bar differs from a repeated one."""
    sent = SentMinutes(None)
    sent.add([minute("A", 1), minute("A", 2), minute("B", 2), minute("A", 3)])
    assert not sent.is_new(minute("A", 3))
    assert sent.is_new(minute("A", 3, close=2.0))
    again = SentMinutes(sent.state)
    assert again.last == minute("A", 3).time
    assert [again.has(bar) for bar in (minute("A", 1), minute("B", 2), minute("B", 3))] == [False, True, False]
    sent.forget(but_minutes=1)
    assert [sent.has(bar) for bar in (minute("A", 2), minute("A", 3))] == [False, True]


def test_a_later_basis_alone_is_no_news() -> None:
    """A bar with the prices of before is not sent again because they are adjusted up to a later day."""
    fields = {"symbol": "A", "time": "2024-01-07 00:00:00.000", "interval": "1w", "open": 1.0, "high": 1.0, "low": 1.0}
    fields |= {"close": 1.0, "volume": 1.0, "source": "s", "ingested_at": "2024-01-15 00:00:00.000"}
    first, later = (Bar(**fields, adjusted=True, adjusted_to=day) for day in ("2024-01-15", "2024-01-16"))
    assert checksum(first) == checksum(later)


def test_days_that_had_nothing_are_kept_and_told_from_those_that_were_never_asked() -> None:
    """A checkpoint holds the days that were asked for in vain; a bar of one of them is new, however late it comes."""
    progress = Progress(None, revise=TWO_DAYS)
    progress.sent([bar(1), bar(9)], day(1), day(9))
    assert progress.settle("A", ["2024-01-01", "2024-01-02", "2024-01-09"], {"2024-01-01", "2024-01-09"})
    assert not progress.settle("A", ["2024-01-02"], set())
    again = Progress(progress.state, revise=TWO_DAYS)
    assert again.was_empty("A", "2024-01-02")
    assert not again.was_empty("A", "2024-01-03")
    assert again.empty_parts(day(1), day(9)) == [(day(2), "2024-01-02 23:59:59.999")]
    assert again.empty_parts(day(3), day(9)) == []
    assert again.settle("A", ["2024-01-02"], {"2024-01-02"})
    assert "empty" not in again.state
