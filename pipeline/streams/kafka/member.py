"""A member of a consumer group that keeps its offsets in its own hands.

kafka-python runs the group's protocol on a thread of its own and calls the rebalance listener there, where a commit
raises. So the listener only notes what happened; `poll` tells the main loop, in order: what was taken away, what was
given together with its committed offset and metadata, and only then new records.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from kafka import ConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata
from kafka import errors as kafka_errors

from pipeline.landing.block import Block
from pipeline.landing.positions import Committed, Partition, Standing
from pipeline.settings import ServiceError, Settings
from pipeline.streams.kafka import decoder
from pipeline.streams.kafka.producer import connection, reaching
from pipeline.streams.kafka.reader import READER

log = logging.getLogger(__name__)

_LOOK_EVERY_SECONDS = 10
_RETRY_MS = 20
# What a restarting or overloaded broker causes; the same request may succeed a moment later.
_PASSING = (kafka_errors.RetriableError, kafka_errors.KafkaConnectionError)
# What seek says of a partition that was taken away since the last poll.
_TAKEN = (ValueError, KeyError)
# The group has gone on without this member, or is about to.
_MOVED_ON = (
    kafka_errors.CommitFailedError,
    kafka_errors.RebalanceInProgressError,
    kafka_errors.IllegalGenerationError,
    kafka_errors.UnknownMemberIdError,
)


@dataclass
class Polled:
    """What one poll brought. Everything buffered of a revoked or given partition must be dropped first."""

    revoked: set[Partition] = field(default_factory=set)
    given: dict[Partition, Committed] = field(default_factory=dict)
    blocks: dict[Partition, list[Block]] = field(default_factory=dict)


class _Listener(ConsumerRebalanceListener):
    """Notes revoked and assigned partitions; runs on the client's thread. `on_begun` is called when a rebalance begins."""

    def __init__(self, on_begun: Callable[[], None]) -> None:
        self._on_begun = on_begun
        self._lock = threading.Lock()
        self._revoked: set[Partition] = set()
        self._assigned: set[Partition] = set()
        self.is_assigned = False

    def on_partitions_revoked(self, revoked: Iterable[Partition]) -> None:
        with self._lock:
            self._revoked |= set(revoked)
            self._assigned -= set(revoked)
            self.is_assigned = False
        self._on_begun()

    # The default of kafka-python's base class would do the same; said here because losing everything depends on it.
    on_partitions_lost = on_partitions_revoked

    def on_partitions_assigned(self, assigned: Iterable[Partition]) -> None:
        with self._lock:
            self._assigned |= set(assigned)
            self.is_assigned = True

    @property
    def has_news(self) -> bool:
        """Whether anything was noted that `take` has not told yet."""
        with self._lock:
            return bool(self._revoked or self._assigned)

    def take(self) -> tuple[set[Partition], set[Partition]]:
        with self._lock:
            revoked, assigned = self._revoked, self._assigned
            self._revoked, self._assigned = set(), set()
        return revoked, assigned


class Member:
    """One member of the settings' group, reading whole record batches.

    Raises ServiceError when the cluster cannot be reached, refuses us, or no longer holds the offset to read next.
    """

    def __init__(self, settings: Settings, topics: Iterable[str], *, stock_decoder: bool = False) -> None:
        self._settings = settings
        self._listener = _Listener(self._finish_rebalance)
        self._unstarted: set[Partition] = set()  # given by the group, committed offset not read yet
        self._positions: dict[Partition, int] = {}  # of all others
        with reaching(settings):
            self._consumer = KafkaConsumer(
                **connection(settings),
                group_id=settings.kafka_group,
                group_instance_id=settings.kafka_instance or None,
                session_timeout_ms=settings.kafka_session_timeout_ms,
                # A member learns of a rebalance by its next heartbeat, and another one may wait for that; the default
                # is 3000.
                heartbeat_interval_ms=max(min(300, settings.kafka_session_timeout_ms // 3), 1),
                enable_auto_commit=False,
                # A committed offset that is gone must be an error; kafka-python's default skips to the newest record.
                auto_offset_reset="none",
                isolation_level="read_committed",
                allow_auto_create_topics=False,
                # A drained partition's fetch holds up its broker's other partitions for this long; the default is 500.
                fetch_max_wait_ms=50,
                # Also how long a poll sleeps while everything is paused; the default is 100.
                retry_backoff_ms=_RETRY_MS,
                metrics_enabled=False,
                max_partition_fetch_bytes=2 * 1024 * 1024,
                fetch_max_bytes=32 * 1024 * 1024,
                max_poll_records=50_000,
                max_poll_interval_ms=settings.kafka_max_poll_interval_ms,
            )
            # kafka-python 3.0.12 does not pass it on to what asks for metadata. The default delays the first question,
            # and the one after subscribing so much that the member joins before it has the answer, and for it a second
            # time.
            with suppress(AttributeError):  # another version may keep it elsewhere
                self._consumer._cluster.config["retry_backoff_ms"] = _RETRY_MS
            decoder.install(self._consumer, stock=stock_decoder)
            self._wanted, self._looked = set(topics), time.monotonic()
            self._subscribe(self.existing(self._wanted))

    def _finish_rebalance(self) -> None:
        """See to it that a rebalance which has begun is brought to its end.

        When kafka-python 3.0.12 joins anew because a topic's metadata changed, that reason is gone once the leader has
        assigned the partitions. If the poll's time is over at that moment, the next poll sees no reason to go on, and
        the member has no partitions, and no heartbeat, for ever. A request to join holds until the group has been
        joined.
        """
        self._consumer._coordinator.request_rejoin()

    def poll(self, timeout_ms: int) -> Polled:
        """Wait at most this long for records, a revocation or an assignment."""
        fetched, positions, gone = {}, {}, None
        with reaching(self._settings):
            try:
                self._look_for_topics()
                fetched = decoder.poll(self._consumer, timeout_ms)
                positions = self._read_positions()
            except (kafka_errors.OffsetOutOfRangeError, kafka_errors.NoOffsetForPartitionError) as error:
                gone = error
            except _PASSING as error:
                # A broker that restarts answers like this for a while; it is asked again.
                log.warning("poll unanswered", extra={"error": type(error).__name__})
                time.sleep(min(timeout_ms, 1_000) / 1000)
        # Only now: a partition that was taken away while all this was read has another position, and what was fetched
        # is void.
        revoked, assigned = self._listener.take()
        if revoked or assigned:
            log.info("rebalance", extra={"revoked": _names(revoked), "assigned": _names(assigned)})
        self._unstarted = (self._unstarted - revoked) | assigned
        moved = {p: int(found[-1].offsets[-1]) + 1 for p, found in fetched.items()} | positions
        self._positions = {
            p: at for p, at in (self._positions | moved).items() if p not in revoked and p not in self._unstarted
        }
        # A partition just given has no position of ours yet; _start decides about it.
        if gone is not None and not set(gone.args[0]) <= self._unstarted:
            raise ServiceError(self._gone(gone)) from gone
        # What this poll returned for a partition just given was read from where an earlier assignment stood.
        fetched = {p: found for p, found in fetched.items() if p not in self._unstarted and p not in revoked}
        return Polled(revoked | assigned, self._start_all(), fetched)

    def _read_positions(self) -> dict[Partition, int]:
        """What kafka-python would read next: behind the last record, and behind control records that it returns to
        nobody.

        Asked about a partition that has none, kafka-python waits for the committed offset, and goes there; so only the
        partitions that were begun are asked about, and the answers count only if `take` has no news of them afterwards.
        """
        found = {}
        for partition in self._positions:
            with suppress(kafka_errors.IllegalStateError):
                if (position := self._consumer.position(partition, timeout_ms=0)) is not None:
                    found[partition] = position
        return found

    def _subscribe(self, topics: Iterable[str]) -> None:
        """Only topics that exist: kafka-python complains at every rebalance about one that does not."""
        if topics:
            self._consumer.subscribe(topics=sorted(topics), listener=self._listener)

    def _look_for_topics(self) -> None:
        """Every ten seconds, join those of the missing topics that were made since."""
        subscribed = self._consumer.subscription() or set()
        if subscribed == self._wanted or time.monotonic() - self._looked < _LOOK_EVERY_SECONDS:
            return
        self._looked = time.monotonic()
        if found := set(self.existing(self._wanted)) - subscribed:
            log.info("topics found", extra={"topics": ",".join(sorted(found))})
            self._subscribe(subscribed | found)

    def _start_all(self) -> dict[Partition, Committed]:
        """Begin every partition that was given and not begun; one whose offset cannot be read now is tried at the next
        poll.
        """
        given = {}
        for partition in sorted(self._unstarted):
            with reaching(self._settings):
                try:
                    given[partition] = self._start(partition)
                    self._positions[partition] = given[partition].offset
                except _TAKEN:
                    log.info("taken away before it was begun", extra={"partition": _names([partition])})
                except _PASSING as error:
                    log.warning(
                        "committed offset unanswered",
                        extra={"partition": _names([partition]), "error": type(error).__name__},
                    )
        self._unstarted -= set(given)
        return given

    def _start(self, partition: Partition) -> Committed:
        """Read the group's committed offset and go there, also when the partition has stayed with this member: its
        position is past records that were buffered and dropped.
        """
        stored = self._consumer.committed(partition, metadata=True, timeout_ms=10_000)
        oldest = self._consumer.beginning_offsets([partition], timeout_ms=10_000)[partition]
        # A group that never committed here begins with the oldest record, so that nothing is left out.
        committed = _committed(stored) or Committed(oldest, "")
        if committed.offset < oldest:
            raise ServiceError(
                self._gone(f"{partition.topic}-{partition.partition} is at {committed.offset}, oldest is {oldest}")
            )
        self._consumer.seek(partition, committed.offset)
        return committed

    def _gone(self, detail: object) -> str:
        return (
            f"KAFKA_GROUP={self._settings.kafka_group}: its next records are no longer in the topic, retention deleted them "
            f"before they were landed, or the topic was made anew ({detail}). Nothing was skipped. To go on from what is left, "
            "reset the group's offsets with kafka-consumer-groups.sh, or use a new group and a new S3_PREFIX"
        )

    def commit(self, offsets: Mapping[Partition, Committed]) -> bool:
        """Commit offsets and metadata. False when it did not happen, or nobody knows whether it did: all partitions are
        then given up and taken anew, and what the broker has stored by that time says how to go on.
        """
        if self._listener.has_news:
            # The member may be in the group anew, and then the broker would take from it what it meant to say before.
            return False
        wanted = {p: OffsetAndMetadata(c.offset, c.metadata, -1) for p, c in offsets.items()}
        with reaching(self._settings):
            try:
                self._consumer.commit(wanted, timeout_ms=5_000)
            except _MOVED_ON as error:
                # The next poll tells which partitions are gone.
                log.info("commit refused, the group is rebalancing", extra={"error": type(error).__name__})
                return False
            except kafka_errors.FencedInstanceIdError as error:
                raise ServiceError(
                    f"KAFKA_INSTANCE={self._settings.kafka_instance}: another consumer took this name"
                ) from error
            except _PASSING as error:
                log.warning("commit unanswered", extra={"partitions": len(wanted), "error": type(error).__name__})
                self._rejoin()
                return False
        return True

    def _rejoin(self) -> None:
        """Leave the group and join it again. An unanswered commit may still be on its way; as the word of a member that
        has left, the broker refuses it, so that it cannot undo a later one.
        """
        self._listener.on_partitions_revoked(self._consumer.assignment())
        topics = self._consumer.subscription()
        self._consumer.unsubscribe()
        self._subscribe(topics)

    @property
    def is_settled(self) -> bool:
        """Whether the group has given this member its partitions, be it none, and all of them are begun. Not so between
        a revocation and the assignment after it: having no partitions then says nothing.
        """
        return self._listener.is_assigned and not self._unstarted

    def others_have_committed(self, ends: Mapping[Partition, int]) -> bool:
        """Whether the group has come to these offsets wherever this member has no part in it."""
        others = [partition for partition in ends if partition not in self._positions]
        with reaching(self._settings):
            try:
                oldest = self._consumer.beginning_offsets(others, timeout_ms=5_000) if others else {}
                # Nobody commits where there is nothing to read.
                return all((self._consumer.committed(p, timeout_ms=5_000) or oldest[p]) >= ends[p] for p in others)
            except _PASSING:
                return False

    def lag(self, partition: Partition) -> int | None:
        """Records between what was read and the partition's end, None before the first answer."""
        end = None
        with suppress(kafka_errors.IllegalStateError):
            end = self._consumer.highwater(partition)
        return None if end is None else max(end - self.position(partition), 0)

    def position(self, partition: Partition) -> int:
        """The offset behind everything that the last poll has returned, or passed over, of a partition that was given."""
        return self._positions[partition]

    def existing(self, topics: Iterable[str]) -> list[str]:
        """Those of the topics that the cluster has."""
        with reaching(self._settings):
            return [topic for topic in topics if self._consumer.partitions_for_topic(topic)]

    def end_offsets(self, topics: Iterable[str]) -> dict[Partition, int]:
        """Per partition, the offset behind the last record that a read_committed reader can see now."""
        with reaching(self._settings):
            partitions = [
                Partition(topic, number) for topic in topics for number in self._consumer.partitions_for_topic(topic)
            ]
            return self._consumer.end_offsets(partitions)

    def pause(self, wanted: set[Partition]) -> None:
        """Stop fetching exactly these partitions; the others go on."""
        assigned, paused = self._consumer.assignment(), self._consumer.paused()
        with suppress(KeyError):  # taken away this moment
            self._consumer.resume(*((paused - wanted) & assigned))
            self._consumer.pause(*((wanted - paused) & assigned))

    def close(self) -> None:
        self._consumer.close(autocommit=False, timeout_ms=5_000)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _names(partitions: Iterable[Partition]) -> str:
    return ",".join(f"{partition.topic}-{partition.partition}" for partition in sorted(partitions)) or "none"


def standings(settings: Settings, topics: Iterable[str]) -> dict[Partition, Standing]:
    """The settings' group in each partition of the topics; joins no group. A topic that does not exist has no
    partitions.
    """
    with reaching(settings), KafkaConsumer(**connection(settings), **READER, group_id=settings.kafka_group) as reader:
        partitions = [Partition(topic, n) for topic in topics for n in sorted(reader.partitions_for_topic(topic) or ())]
        oldest, ends = reader.beginning_offsets(partitions), reader.end_offsets(partitions)
        found = {}
        for partition in partitions:
            stored = reader.committed(partition, metadata=True, timeout_ms=10_000)
            found[partition] = Standing(oldest[partition], ends[partition], _committed(stored))
        return found


def _committed(stored: OffsetAndMetadata | None) -> Committed | None:
    return Committed(stored.offset, stored.metadata or "") if stored is not None and stored.offset >= 0 else None


def reset_to_oldest(settings: Settings, topics: Iterable[str]) -> None:
    """Commit the oldest offset of every partition; refused by the broker while the group has members."""
    oldest = {p: OffsetAndMetadata(s.oldest, "", -1) for p, s in standings(settings, topics).items()}
    with reaching(settings), KafkaConsumer(**connection(settings), **READER, group_id=settings.kafka_group) as reader:
        reader.assign(list(oldest))
        try:
            reader.commit(oldest, timeout_ms=10_000)
        except _MOVED_ON as error:
            raise ServiceError(
                f"KAFKA_GROUP={settings.kafka_group}: stop its consumers before it begins anew"
            ) from error
