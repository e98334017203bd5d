"""When a record is due: by a rate, by the records' own clock, or at once. And the clock that sources go by."""

import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache

from pipeline.records import Record, time_text_ms

log = logging.getLogger(__name__)

_LONGEST_SLEEP_SECONDS = 0.5  # callers look between sleeps whether they should stop
_SHORTEST_SLEEP_SECONDS = 0.05  # records that are due within it share a transaction


class Interrupted(Exception):
    """The user asked to stop while a source was waiting."""


class Clock:
    """The time, waiting, and the user's wish to stop, as a source sees them."""

    def __init__(self, is_stopping: Callable[[], bool]) -> None:
        self.is_stopping = is_stopping
        # Fast sources ask many times within one millisecond.
        self._text_of_ms = lru_cache(maxsize=8)(time_text_ms)

    def now(self) -> datetime:
        """Return the instant, aware."""
        return datetime.now(UTC)

    def now_text(self) -> str:
        """Return the instant as records write it."""
        return self._text_of_ms(int(time.time() * 1000))

    def monotonic(self) -> float:
        """Return seconds that no change of the wall clock disturbs."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait; raises Interrupted as soon as the user asks to stop."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self.is_stopping():
                raise Interrupted
            time.sleep(min(left, 0.2))


class Pace:
    """Says how many of the next records are due. Give at most one of `rate` (records per second) and `speed` (times
    real time).
    """

    def __init__(
        self,
        *,
        rate: float | None = None,
        speed: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate, self._speed, self._clock, self._sleep = rate, speed, clock, sleep
        self._start: float | None = None
        self._first_time: datetime | None = None
        self._latest_time, self._has_warned = "", False
        self._released = 0

    def due(self, waiting: Sequence[Record]) -> int:
        """Return how many from the front of `waiting` may go now; when none may, sleep a little and return 0."""
        if not self._rate and not self._speed:
            return len(waiting)
        if self._start is None:
            self._start = self._clock()
            self._first_time = datetime.fromisoformat(waiting[0].time)
        elapsed = self._clock() - self._start
        if self._rate:
            count, next_due = self._by_rate(self._rate, waiting, elapsed)
        else:
            count, next_due = self._by_record_time(self._speed or 1, waiting, elapsed)
        if not count:
            self._sleep(min(max(next_due - elapsed, _SHORTEST_SLEEP_SECONDS), _LONGEST_SLEEP_SECONDS))
        self._released += count
        return count

    def _by_rate(self, rate: float, waiting: Sequence[Record], elapsed: float) -> tuple[int, float]:
        due = int(elapsed * rate) + 1 - self._released
        return max(0, min(len(waiting), due)), self._released / rate

    def _by_record_time(self, speed: float, waiting: Sequence[Record], elapsed: float) -> tuple[int, float]:
        first_time = self._first_time or datetime.fromisoformat(waiting[0].time)
        for count, record in enumerate(waiting):
            if record.time < self._latest_time and not self._has_warned:
                self._has_warned = True
                log.warning(
                    "goes back in time",
                    extra={
                        "symbol": record.symbol,
                        "time": record.time,
                        "after": self._latest_time,
                        "so": "sent at once; sort the file by time for the market's own pace",
                    },
                )
            self._latest_time = max(self._latest_time, record.time)
            at = (datetime.fromisoformat(record.time) - first_time).total_seconds() / speed
            if at > elapsed:
                return count, at
        return len(waiting), elapsed
