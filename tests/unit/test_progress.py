"""What of a series was sent: ranges that are done, corrections, and gaps."""

from datetime import timedelta

from pipeline.progress import Progress
from pipeline.records import Bar

TWO_DAYS = timedelta(days=2)


def day(number: int) -> str:
    return f"2024-01-{number:02} 00:00:00.000"


def bar(number: int, close: float = 1.0) -> tuple[str, Bar]:
    return day(number), Bar(symbol="A", time=day(number), interval="1d", open=1, high=9, low=1, close=close, volume=1, source="s", ingested_at="x")


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
    assert sorted(progress.state["recent"]) == [day(26), day(27), day(28)]
    assert progress.state["done"] == [[day(1), day(28)]]
