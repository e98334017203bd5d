"""When a record is due: by a rate, by the records' own clock, or at once. The clock and the sleep are arguments."""

import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime

from pipeline.records import Record

log = logging.getLogger(__name__)

_LONGEST_SLEEP_SECONDS = 0.5  # callers look between sleeps whether they should stop
_SHORTEST_SLEEP_SECONDS = 0.05  # records that are due within it share a transaction


class Pace:
    """Says how many of the next records are due. At most one of `rate` (records a second) and `speed` (times real
    time).
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
        """How many from the front of `waiting` may go now; sleeps a little when it is none, and then says 0."""
        if self._rate is None and self._speed is None:
            return len(waiting)
        if self._start is None:
            self._start = self._clock()
            self._first_time = datetime.fromisoformat(waiting[0].time)
        elapsed = self._clock() - self._start
        count, next_due = (self._by_rate if self._rate else self._by_record_time)(waiting, elapsed)
        if not count:
            self._sleep(min(max(next_due - elapsed, _SHORTEST_SLEEP_SECONDS), _LONGEST_SLEEP_SECONDS))
        self._released += count
        return count

    def _by_rate(self, waiting: Sequence[Record], elapsed: float) -> tuple[int, float]:
        due = int(elapsed * self._rate) + 1 - self._released
        return max(0, min(len(waiting), due)), self._released / self._rate

    def _by_record_time(self, waiting: Sequence[Record], elapsed: float) -> tuple[int, float]:
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
            at = (datetime.fromisoformat(record.time) - self._first_time).total_seconds() / self._speed
            if at > elapsed:
                return count, at
        return len(waiting), elapsed
