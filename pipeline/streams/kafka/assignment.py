"""What the group gives to a member and takes from it, noted on the client's thread and told to the main loop."""

import threading
import time
from collections.abc import Callable, Iterable

from kafka import ConsumerRebalanceListener, TopicPartition

from pipeline.landing.positions import Partition


class Assignment(ConsumerRebalanceListener):  # type: ignore[misc] # kafka-python has no types
    """Notes revoked and assigned partitions, on the client's thread, and calls `on_begun` when a rebalance begins."""

    def __init__(self, on_begun: Callable[[], None]) -> None:
        self._on_begun = on_begun
        self._lock = threading.Lock()
        self._revoked: set[Partition] = set()
        self._assigned: set[Partition] = set()
        self._is_answered = False
        self._missing_since: float | None = time.monotonic()

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        taken = {Partition(*partition) for partition in revoked}
        with self._lock:
            self._revoked |= taken
            self._assigned -= taken
            self._missing_since = time.monotonic()
        self._on_begun()

    # The default of kafka-python's base class would do the same; said here because losing everything depends on it.
    on_partitions_lost = on_partitions_revoked

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        with self._lock:
            self._assigned |= {Partition(*partition) for partition in assigned}
            self._is_answered = True
            self._missing_since = None

    @property
    def is_assigned(self) -> bool:
        """Whether the group has given its partitions, be it none, and not begun to take them since."""
        return self._missing_since is None

    @property
    def missing_seconds(self) -> float:
        """For how long it has not been so; 0 while it is."""
        since = self._missing_since
        return 0.0 if since is None else time.monotonic() - since

    @property
    def has_news(self) -> bool:
        """Whether anything was noted that `take` has not told yet."""
        with self._lock:
            return bool(self._revoked or self._assigned)

    def take(self) -> tuple[set[Partition], set[Partition], bool]:
        """Return what was revoked and what assigned since the last call, and whether the group has answered since: a
        member may be given nothing.
        """
        with self._lock:
            revoked, assigned, is_answered = self._revoked, self._assigned, self._is_answered
            self._revoked, self._assigned, self._is_answered = set(), set(), False
        return revoked, assigned, is_answered
