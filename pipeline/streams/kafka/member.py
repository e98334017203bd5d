"""A member of a Kafka consumer group that manages its own offsets: a stream.Member.

kafka-python runs the group's protocol on a thread of its own and calls the rebalance listener there, where a commit
raises. So the listener only notes what happened; `poll` tells the main loop, in order: what was taken away, what was
given together with its committed offset and metadata, and only then new records.
"""

import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Self

from kafka import KafkaConsumer, OffsetAndMetadata
from kafka import errors as kafka_errors

from pipeline.landing.block import Block
from pipeline.landing.positions import Committed, Partition, Standing
from pipeline.settings import ServiceError, Settings
from pipeline.streams.kafka import compatibility, decoder, reader
from pipeline.streams.kafka.assignment import Assignment
from pipeline.streams.kafka.connection import MOVED_ON, READER, connection, of_kafka, partitions_of, reaching
from pipeline.streams.stream import Polled

log = logging.getLogger(__name__)

_LOOK_EVERY_SECONDS = 10
_RETRY_MS = 20
# What a restarting or overloaded broker causes; the same request may succeed a moment later.
_PASSING = (kafka_errors.RetriableError, kafka_errors.KafkaConnectionError)
# What seek says of a partition that was taken away since the last poll.
_TAKEN = (ValueError, KeyError)


class Member:
    """One member of the settings' group, reading whole record batches.

    Raises ServiceError when the cluster cannot be reached, refuses us, or no longer holds the offset to read next.
    """

    def __init__(self, settings: Settings, topics: Iterable[str]) -> None:
        self._settings = settings
        self._assignment = Assignment(self._finish_rebalance)
        # A partition that the group assigned goes through these: its standing is to be read, it was given, it is read.
        self._assigned: set[Partition] = set()
        self._given: dict[Partition, str | None] = {}  # and the generation that it was given with
        self._positions: dict[Partition, int] = {}
        self._committed: dict[Partition, int] = {}  # or where it was started
        self._read_to: dict[Partition, int] = {}  # behind the last record
        self._epochs: dict[Partition, dict[int, int]] = {}  # the leader's epoch of what precedes an offset
        self._damaged: dict[Partition, tuple[int, str]] = {}  # the offset that cannot be read, and why
        self._is_asked_singly = False
        with reaching(settings):
            self._consumer = _consumer(settings)
            compatibility.ask_for_metadata_again_after(self._consumer, _RETRY_MS)
            compatibility.read_in_blocks(self._consumer)
            self._wanted, self._looked = set(topics), time.monotonic()
            self._subscribe(self.existing(self._wanted))

    def _finish_rebalance(self) -> None:
        """See to it that a rebalance which has begun is brought to its end.

        When kafka-python 3.0.12 joins anew because a topic's metadata changed, that reason is gone once the leader has
        assigned the partitions. If the poll's time is over at that moment, the next poll sees no reason to go on, and
        the member has no partitions, and no heartbeat, for ever. A request to join holds until the group has been
        joined. Where it cannot be made, `_rejoin_if_lost` leaves and joins again.
        """
        compatibility.request_to_join(self._consumer)

    def poll(self, timeout_ms: int) -> Polled:
        """Wait at most this long for records, a revocation or an assignment."""
        self._stop_at_damage()
        fetched, positions = dict[Partition, list[Block]](), dict[Partition, int]()
        gone: Exception | None = None
        of: Iterable[Partition] = ()
        with reaching(self._settings):
            try:
                self._look_at_topics()
                self._rejoin_if_lost()
                fetched = decoder.poll(self._consumer, timeout_ms)
                positions = self._read_positions()
            except (kafka_errors.OffsetOutOfRangeError, kafka_errors.NoOffsetForPartitionError) as error:
                gone, of = error, error.args[0]
            except kafka_errors.LogTruncationError as error:
                gone, of = error, error.divergent_offsets
            except kafka_errors.CorruptRecordError as error:
                self._look_for_damage(error)
            except _PASSING as error:
                # A broker that restarts answers like this for a while; it is asked again.
                log.warning("poll unanswered", extra={"error": type(error).__name__})
                time.sleep(min(timeout_ms, 1_000) / 1000)
        # Only now: a partition that was taken away while all this was read has another position, and what was fetched
        # is void.
        revoked, assigned, is_answered = self._assignment.take()
        if revoked or is_answered:
            log.info("rebalance", extra={"revoked": _names(revoked), "assigned": _names(assigned)})
        for partition in revoked | assigned:
            self._forget(partition)
        self._assigned = (self._assigned - revoked) | assigned
        # What this poll returned for a partition that was not started was read from where an earlier assignment stood.
        fetched = {p: found for p, found in fetched.items() if p in self._positions}
        read_to = {p: int(found[-1].offsets[-1]) + 1 for p, found in fetched.items()}
        self._read_to |= read_to
        self._positions |= {p: at for p, at in (read_to | positions).items() if p in self._positions}
        if gone is not None and not self._positions.keys().isdisjoint(of):
            self.generations({partition.topic for partition in of})
            raise ServiceError(self._gone(gone)) from gone
        return Polled(revoked | assigned, self._give(), fetched)

    def _forget(self, partition: Partition) -> None:
        """Drop what is known of a partition that was taken away, or is given anew."""
        for known in (self._given, self._positions, self._committed, self._read_to, self._epochs, self._damaged):
            known.pop(partition, None)

    def _look_for_damage(self, error: Exception) -> None:
        """Find which partition cannot be read on, for kafka-python does not always say, and read no more of it."""
        found = {p: damage for p, at in self._positions.items() if (damage := reader.damage(self._settings, p, at))}
        self._damaged |= found
        self.pause(set(self._consumer.paused()))
        if found:
            log.error("records cannot be read", extra={"partitions": _names(found), "error": str(error)})
        elif self._assignment.has_news or not self.is_settled:
            # The poll that joins the group may fetch as well, from where kafka-python thinks right. A partition that
            # was not started is read again when it was, and then damage has a place. To join anew would only lead here.
            log.warning("a damaged answer before all partitions were started", extra={"error": str(error)})
        else:
            # It was of this one answer. Without private parts kafka-python holds on to that.
            log.warning("a damaged answer, asking again", extra={"error": str(error)})
            self._rejoin()

    def _stop_at_damage(self) -> None:
        """Raise ServiceError when all that precedes damaged records is committed, so that nothing else is left out."""
        for partition, (offset, reason) in self._damaged.items():
            if self._committed[partition] >= self._read_to[partition]:
                group, servers = self._settings.kafka_group, self._settings.kafka_bootstrap_servers
                raise ServiceError(
                    f"{partition} at offset {offset}: the records from there on cannot be read ({reason}). "
                    "What precedes them was landed, and nothing was skipped. If one broker's disk is damaged, another "
                    "replica may have them. To leave them out, stop the consumers and set the group behind that batch: "
                    f"kafka-consumer-groups.sh --bootstrap-server {servers} --group {group} --topic "
                    f"{partition.topic}:{partition.partition} --reset-offsets --to-offset OFFSET --execute"
                )

    def _read_positions(self) -> dict[Partition, int]:
        """What kafka-python would read next: behind the last record, and behind control records that it returns to
        nobody.

        Asked about a partition that has none, kafka-python waits for the committed offset, and goes there; so only the
        partitions that were started are asked about, and the answers count only if `take` has no news of them
        afterwards.
        """
        found = {}
        for partition in self._positions:
            with suppress(kafka_errors.IllegalStateError):
                if (position := self._consumer.position(of_kafka(partition), timeout_ms=0)) is not None:
                    found[partition] = position
                    epoch = compatibility.epoch_before(self._consumer, partition, position)
                    self._epochs.setdefault(partition, {}).setdefault(position, epoch)
        return found

    def _subscribe(self, topics: Iterable[str]) -> None:
        """Only topics that exist: kafka-python complains at every rebalance about one that does not."""
        if topics:
            self._consumer.subscribe(topics=sorted(topics), listener=self._assignment)

    def _look_at_topics(self) -> None:
        """Every ten seconds, join those of the missing topics that were made since, and see if one was made anew."""
        if time.monotonic() - self._looked < _LOOK_EVERY_SECONDS:
            return
        self._looked = time.monotonic()
        self.generations({partition.topic for partition in self._given})
        subscribed = self._consumer.subscription() or set()
        if subscribed != self._wanted and (found := set(self._existing(self._wanted)) - subscribed):
            log.info("topics found", extra={"topics": ",".join(sorted(found))})
            self._subscribe(subscribed | found)

    def _rejoin_if_lost(self) -> None:
        """Without a request to join, a rebalance may have no end (`_finish_rebalance`).

        The group has forgotten this member by the time that its session is over. To wait for others longer than that is
        nothing unusual; to leave and join again then costs them nothing.
        """
        session_seconds = self._settings.kafka_session_timeout_ms / 1000
        is_overdue = self._assignment.missing_seconds > session_seconds
        if is_overdue and not compatibility.is_open() and self._consumer.subscription():
            log.warning("no partitions for the time of a session, joining again")
            self._rejoin()

    def _give(self) -> dict[Partition, Standing]:
        """Return the standing of every partition that was assigned.

        All are asked about at once, and after a question without an answer one by one: a partition without a leader
        must not hold up the others. What has no answer now is asked again at the next poll.
        """
        wanted = sorted(self._assigned)
        found: dict[Partition, Standing] = {}
        for some in [[partition] for partition in wanted] if self._is_asked_singly else [wanted] if wanted else []:
            with reaching(self._settings):
                try:
                    found |= self._standings(some)
                except _PASSING as error:
                    log.warning(
                        "standing unanswered", extra={"partitions": _names(some), "error": type(error).__name__}
                    )
        for partition, standing in found.items():
            self._given[partition] = standing.generation
            if standing.committed:
                self._epochs[partition] = {standing.committed.offset: standing.committed.epoch}
        self._assigned -= set(found)
        self._is_asked_singly = bool(self._assigned)
        return found

    def _standings(self, partitions: list[Partition]) -> dict[Partition, Standing]:
        if compatibility.forget_late_answers(self._consumer):
            return reader.read_standings(self._settings, self._consumer, partitions, self._consumer)
        with reader.of_group(self._settings) as fresh:
            return reader.read_standings(self._settings, self._consumer, partitions, fresh)

    def start_at(self, partition: Partition, offset: int) -> None:
        """Read a partition that was given from this offset on.

        Also when the partition has stayed with this member: its position is past records that were buffered and
        dropped. If it was taken away since, the next poll says so.
        """
        if partition not in self._given:
            return
        self._positions[partition] = self._committed[partition] = self._read_to[partition] = offset
        try:
            self._consumer.seek(of_kafka(partition), offset)
        except _TAKEN:
            log.info("taken away before it was started", extra={"partition": str(partition)})

    def generations(self, topics: Iterable[str]) -> dict[str, str | None]:
        """Ask now which generations the topics of this member's partitions have; leave out what gets no answer.

        Raises ServiceError if a topic was made anew since its partitions were given.
        """
        wanted = set(topics)
        partitions = [partition for partition in self._given if partition.topic in wanted]
        if not partitions:
            return {}
        with reaching(self._settings):
            try:
                found = reader.generations(self._settings, self._consumer, partitions)
            except _PASSING as error:
                log.warning("generations unanswered", extra={"error": type(error).__name__})
                return {}
        for partition in partitions:
            if (now := found[partition.topic]) != (given := self._given[partition]):
                raise ServiceError(
                    f"KAFKA_GROUP={self._settings.kafka_group}: the topic {partition.topic} was deleted and made anew "
                    f"while it was read (its id is {now}, it was {given}). Nothing of the new topic was landed. Start "
                    "again: the consumer then says how to go on"
                )
        return found

    def _gone(self, detail: object) -> str:
        return (
            f"KAFKA_GROUP={self._settings.kafka_group}: its next records are no longer in the topic, retention deleted "
            f"them before they were landed, or the topic was made anew ({detail}). Nothing was skipped. To go on from "
            "what is left, reset the group's offsets with kafka-consumer-groups.sh, or use a new group and a new "
            "S3_PREFIX"
        )

    def commit(self, offsets: Mapping[Partition, Committed]) -> bool:
        """Commit offsets and metadata. False when it did not happen, or nobody knows whether it did: all partitions are
        then given up and taken anew, and what the broker has stored by that time says how to go on.
        """
        if self._assignment.has_news:
            # The member may be in the group anew, and then the broker would take from it what it meant to say before.
            return False
        wanted = {
            of_kafka(p): OffsetAndMetadata(c.offset, c.metadata, self._epochs.get(p, {}).get(c.offset, -1))
            for p, c in offsets.items()
        }
        with reaching(self._settings):
            try:
                self._consumer.commit(wanted, timeout_ms=5_000)
            except MOVED_ON as error:
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
        for partition, committed in offsets.items():
            self._committed[partition] = committed.offset
            known = self._epochs.get(partition, {})
            self._epochs[partition] = {at: epoch for at, epoch in known.items() if at >= committed.offset}
        return True

    def _rejoin(self) -> None:
        """Leave the group and join it again. An unanswered commit may still be on its way; as the word of a member that
        has left, the broker refuses it, so that it cannot undo a later one.
        """
        self._assignment.on_partitions_revoked(self._consumer.assignment())
        topics = self._consumer.subscription()
        self._consumer.unsubscribe()
        self._subscribe(topics)

    @property
    def is_settled(self) -> bool:
        """Whether the group has given this member its partitions, be it none, and all of them were started. Not so
        between a revocation and the assignment after it: having no partitions then says nothing.
        """
        return self._assignment.is_assigned and not self._assigned and self._given.keys() == self._positions.keys()

    def others_have_committed(self, ends: Mapping[Partition, int]) -> bool:
        """Whether the group has come to these offsets wherever this member has no part in it."""
        others = [of_kafka(partition) for partition in ends if partition not in self._positions]
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
            end = self._consumer.highwater(of_kafka(partition))
        return None if end is None else max(end - self.position(partition), 0)

    def position(self, partition: Partition) -> int:
        """Return the offset behind everything that the last poll returned, or passed over, of a partition given."""
        return self._positions[partition]

    def existing(self, topics: Iterable[str]) -> list[str]:
        """Those of the topics that the cluster has."""
        with reaching(self._settings):
            return self._existing(topics)

    def _existing(self, topics: Iterable[str]) -> list[str]:
        """The same with Kafka's own errors: a poll waits out a broker that is away, and a start does not."""
        return [topic for topic in topics if self._consumer.partitions_for_topic(topic)]

    def end_offsets(self, topics: Iterable[str]) -> dict[Partition, int]:
        """Per partition, the offset behind the last record that a read_committed reader can see now."""
        with reaching(self._settings):
            ends = self._consumer.end_offsets(list(map(of_kafka, partitions_of(self._consumer, topics))))
            return {Partition(*partition): end for partition, end in ends.items()}

    def pause(self, wanted: set[Partition]) -> None:
        """Stop fetching exactly these partitions, and those that cannot be read on; the others go on."""
        wanted = wanted | self._damaged.keys()
        assigned, paused = self._consumer.assignment(), self._consumer.paused()
        with suppress(KeyError):  # taken away this moment
            self._consumer.resume(*((paused - wanted) & assigned))
            self._consumer.pause(*(set(map(of_kafka, wanted - paused)) & assigned))

    def close(self) -> None:
        self._consumer.close(autocommit=False, timeout_ms=5_000)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _consumer(settings: Settings) -> KafkaConsumer:
    return KafkaConsumer(
        **connection(settings),
        # A committed offset that is gone must be an error; kafka-python's default skips to the newest record. And a
        # drained partition's fetch must not hold up its broker's other partitions for the default's 500 ms.
        **READER,
        group_id=settings.kafka_group,
        group_instance_id=settings.kafka_instance or None,
        session_timeout_ms=settings.kafka_session_timeout_ms,
        # A member learns of a rebalance by its next heartbeat, and another one may wait for that; the default is 3000.
        heartbeat_interval_ms=max(min(300, settings.kafka_session_timeout_ms // 3), 1),
        # Also how long a poll sleeps while everything is paused; the default is 100.
        retry_backoff_ms=_RETRY_MS,
        metrics_enabled=False,
        max_partition_fetch_bytes=2 * 1024 * 1024,
        fetch_max_bytes=32 * 1024 * 1024,
        max_poll_records=50_000,
        max_poll_interval_ms=settings.kafka_max_poll_interval_ms,
    )


def _names(partitions: Iterable[Partition]) -> str:
    return ",".join(map(str, sorted(partitions))) or "none"
