"""Land Kafka topics in S3, each record in exactly one object, and verify what was landed; or keep bars in DynamoDB.

  python consumer.py --until-caught-up            land what is there, then stop
  python consumer.py --flush-seconds 300          run as a service, one object per partition every five minutes
  python consumer.py --format parquet --topics stock_bars
  python consumer.py verify --deep                show that nothing is missing and nothing is twice
  python consumer.py --sink dynamodb --topics demo --create-table      one item per company and date

Delivery: exactly once. The group commits each batch's plan (offsets, layout) before the upload and its end after it.
A consumer that finds a plan in the group's commit repeats it to the byte, so a kill at any instant changes nothing.
DynamoDB needs no plans: writing an item again has no effect, and an item never replaces a later revision.
"""

import argparse
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from pipeline import terminal
from pipeline.landing.buffer import Limits
from pipeline.landing.lane import Lane, held_bytes, to_pause
from pipeline.landing.plan import UnreadablePlan, end_mark, read_plan
from pipeline.landing.positions import Committed, Partition, Standing
from pipeline.landing.resume import Contradiction
from pipeline.process import memory, workers
from pipeline.process.uploads import Uploads
from pipeline.process.watch import Watch
from pipeline.settings import ServiceError, Settings, load_settings
from pipeline.sinks import sink as sinks
from pipeline.sinks.lake import verify
from pipeline.sinks.lake.repair import repair
from pipeline.sinks.options import limits_of, parser_of, refuse_options_of_others
from pipeline.sinks.sink import Sink, WriteAbandoned
from pipeline.streams.kafka import reader
from pipeline.streams.kafka.member import Member
from pipeline.streams.kafka.producer import AcknowledgedProducer
from pipeline.streams.stream import Polled

log = logging.getLogger("consumer")

STOP_WITHIN_SECONDS = 7  # a service manager kills after 10 s, and leaving the group takes a moment
POLL_MS = 100
DRAINING_POLL_MS = 10  # when only uploads are waited for, which do not end a poll
SINKS = sinks.kinds()


def main() -> int:
    arguments = sys.argv[1:]
    if not arguments or arguments[0] not in ("land", "verify"):
        arguments = ["land", *arguments]  # also --help, for land is the default
    parser, of_sinks = parser_of(SINKS, __doc__)
    options = parser.parse_args(arguments)
    kind = SINKS[options.sink]
    settings = load_settings(vars(options), required=kind.required)
    terminal.configure_logging(settings)
    settings = kind.settings_of(settings, is_group_given=options.kafka_group is not None)
    topics = options.topics or kind.topics_of(settings)
    if options.command == "verify":
        return _verify(settings, topics, options)
    refuse_options_of_others(options, of_sinks)
    kind.check(settings, topics, vars(options))
    if options.from_beginning:
        standings = reader.standings(settings, topics)
        kind.check_replay(settings, standings)
        reader.commit(settings, {p: Committed(s.oldest, end_mark(s.generation or "")) for p, s in standings.items()})
    if options.abandon_plan:
        _abandon_plans(settings, topics)
    if options.workers > 1:
        _tell_of_idle_workers(settings, topics, options.workers)
        return workers.run(partial(_work, settings, topics, options), options.workers)
    return land(settings, topics, options)


def _verify(settings: Settings, topics: list[str], options: argparse.Namespace) -> int:
    standings, read_range = reader.standings(settings, topics), partial(reader.read_range, settings)
    if options.repair:
        return repair(
            settings, topics, standings, read_range, partial(reader.commit, settings) if options.yes else None
        )
    return verify.report(settings, topics, standings, read_range if options.deep else None)


def _tell_of_idle_workers(settings: Settings, topics: list[str], count: int) -> None:
    partitions = len(reader.standings(settings, topics))
    if 0 < partitions < count:
        log.warning(
            "more workers than partitions: those beyond have nothing to do",
            extra={"workers": count, "partitions": partitions},
        )


def _abandon_plans(settings: Settings, topics: list[str]) -> None:
    """Take the plans out of the group's commits, so that their records are landed as the settings are now."""
    given_up = {}
    for partition, standing in reader.standings(settings, topics).items():
        if standing.committed and (plan := read_plan(partition, standing.committed)):
            log.warning(
                "plan given up; objects of it that were put stay, and its records are landed anew",
                extra={"partition": str(partition), "start": plan.start, "end": plan.end, "bucket": plan.layout.bucket},
            )
            given_up[partition] = Committed(plan.start, end_mark(plan.generation))
    if given_up:
        reader.commit(settings, given_up)


def _work(settings: Settings, topics: list[str], options: argparse.Namespace, number: int) -> int:
    """Land as one of several. A static member name and a port are one process's, so each has its own."""
    terminal.configure_logging(settings)  # where there are no forks it is a new interpreter
    instance = f"{settings.kafka_instance}-{number}" if settings.kafka_instance else ""
    own = argparse.Namespace(**vars(options))
    own.metrics_port = options.metrics_port + number if options.metrics_port else None
    return land(replace(settings, kafka_instance=instance), topics, own)


def land(settings: Settings, topics: list[str], options: argparse.Namespace) -> int:
    """The loop: poll, close what is due, commit plans and ends, upload beside polling."""
    memory.keep_for_reuse()
    kind, poll_ms = SINKS[options.sink], POLL_MS
    with (
        terminal.stop_signals() as is_stopping,
        Member(settings, topics) as member,
        Watch(options.metrics_port) as watch,
    ):
        existing = _check_topics(member, topics, options)
        ends = member.end_offsets(existing) if options.until_caught_up else None
        how = "until caught up, then stop" if options.until_caught_up else "on and on; --until-caught-up would stop"
        log.info("landing begins", extra={"topics": ",".join(topics), "group": settings.kafka_group, "how": how})
        watch.expect(ends)
        sink = kind(settings, vars(options), partial(AcknowledgedProducer, settings))
        with Uploads(sink.write, sink.stop, threads=options.uploads) as uploads:
            landing = Landing(settings, member, sink, uploads, watch, ends, limits_of(kind, options), options)
            while not landing.is_over:
                polled = member.poll(poll_ms)
                landing.take(polled, is_stopping=is_stopping(), now=time.monotonic())
                landing.close_what_is_due()
                landing.commit()
                landing.upload()
                poll_ms = landing.pause()
                watch.tick(landing.lanes, member.lag, landing.now, failing_seconds=sink.failing_seconds())
            is_done = landing.stopped_at is None or landing.has_reached_its_end
        watch.finish(is_done=is_done)
    if not is_done:
        raise ServiceError("--until-caught-up: stopped before everything was landed; the same command goes on")
    return terminal.EXIT_DONE


@dataclass
class Landing:
    """What the loop has in hand, and its steps."""

    settings: Settings
    member: Member
    sink: Sink
    uploads: Uploads
    watch: Watch
    ends: dict[Partition, int] | None  # where to stop; None: go on
    limits: Limits
    options: argparse.Namespace
    lanes: dict[Partition, Lane] = field(default_factory=dict)
    now: float = field(default_factory=time.monotonic)
    confirmed_at: float = field(default_factory=time.monotonic)  # the group's member since then, as far as is known
    stopped_at: float | None = None
    is_draining: bool = False  # nothing more is read; what was read is landed

    def take(self, polled: Polled, *, is_stopping: bool, now: float) -> None:
        """Drop what was taken away, begin what was given, and add what was read."""
        self.now = now
        for partition in polled.revoked:
            self.lanes.pop(partition, None)
        # Not before: the group would take the plan of another member's partition too.
        self._confirm()
        for partition, standing in polled.given.items():
            lane = self.lanes[partition] = _begin(self.settings, self.sink, partition, standing)
            self.member.start_at(partition, lane.buffer.start)
            self.watch.begun((self.ends or {}).get(partition, 0) - lane.buffer.start)
        for partition, blocks in polled.blocks.items():
            self.lanes[partition].buffer.add(blocks, now)
        if is_stopping and self.stopped_at is None:
            self.stopped_at = now
        self.is_draining = self.stopped_at is not None or self._is_caught_up

    def _confirm(self) -> None:
        """After a pause in which the group may have put this member out, let nothing be written before the group has
        taken the plans once more: it takes them from a member only.
        """
        if self.now - self.confirmed_at > self.settings.kafka_session_timeout_ms / 1000:
            commits = {partition: again for partition, lane in self.lanes.items() if (again := lane.under_way)}
            if commits and not self.member.commit(commits):
                return
        self.confirmed_at = self.now

    def _permit(self, lane: Lane) -> Callable[[], None]:
        """See sinks.sink.Permit."""
        longest_seconds = self.settings.kafka_session_timeout_ms / 1000

        def wait_until_known() -> None:
            while True:
                if self.lanes.get(lane.partition) is not lane:
                    raise WriteAbandoned
                if time.monotonic() - self.confirmed_at <= longest_seconds:
                    return
                time.sleep(POLL_MS / 1000)

        return wait_until_known

    def close_what_is_due(self) -> None:
        """Fix the batches that are due; all that there is when draining, or when memory is half used up."""
        at_once = self.is_draining or held_bytes(self.lanes) >= self.options.buffer_bytes // 2
        planned_ms = int(time.time() * 1000)
        for partition, lane in self.lanes.items():
            position = self.member.position(partition)
            lane.close(self.limits, position, self.now, planned_ms=planned_ms, at_once=at_once)

    def commit(self) -> None:
        """Commit all plans and ends that are wanted, in one commit. Raise what an upload has raised."""
        commits = {partition: wanted for partition, lane in self.lanes.items() if (wanted := lane.commit_wanted())}
        # Before the commit: it says that these uploads have succeeded.
        batches = {partition: self.lanes[partition].written() for partition in commits}
        if not commits or not self.member.commit(commits):
            return
        for partition, batch in batches.items():
            plan = self.lanes[partition].committed()
            if plan and batch:
                self.watch.written(plan, batch)
        if self.options.max_bad is not None and self.watch.bad > self.options.max_bad:
            raise ServiceError(
                f"--max-bad {self.options.max_bad}: {self.watch.bad} bad records are in dead_letter/; stopped"
            )

    def upload(self) -> None:
        """Begin the uploads whose plans are committed, of topics that are the same as when they were read."""
        ready = [lane for lane in self.lanes.values() if lane.uploading and lane.upload is None]
        known = self.member.generations({lane.partition.topic for lane in ready}) if ready else {}
        for lane in ready:
            if lane.uploading and lane.partition.topic in known:
                lane.upload = self.uploads.begin(lane.uploading.plan, lane.uploading.blocks, self._permit(lane))

    def pause(self) -> int:
        """Pause what must not be read on. Return how long the next poll may take, in ms."""
        self.member.pause(to_pause(self.lanes, 0 if self.is_draining else self.options.buffer_bytes))
        return DRAINING_POLL_MS if self.is_draining and not self._is_idle else POLL_MS

    @property
    def is_over(self) -> bool:
        """Whether everything is landed that was to be, or a stop has waited for long enough."""
        if self.is_draining and self._is_idle:
            # One of several workers that left before the others would make them begin their batches anew.
            if self.stopped_at is not None or self.options.workers == 1:
                return True
            return self.member.others_have_committed(self.ends or {})
        if self.stopped_at is not None and self.now - self.stopped_at > STOP_WITHIN_SECONDS:
            log.warning("stopped with uploads under way; the next start completes them")
            return True
        return False

    @property
    def has_reached_its_end(self) -> bool:
        """Whether nothing is left of what the run was to land; a run without an end has reached it at any time."""
        return self.ends is None or (self._is_idle and self._is_caught_up)

    @property
    def _is_idle(self) -> bool:
        return all(lane.is_idle for lane in self.lanes.values())

    @property
    def _is_caught_up(self) -> bool:
        """Whether every partition that this member has was read to the end that was seen at the start."""
        if self.ends is None or not self.member.is_settled:
            return False
        return all(
            not lane.found and self.member.position(partition) >= self.ends.get(partition, 0)
            for partition, lane in self.lanes.items()
        )


def _begin(settings: Settings, sink: Sink, partition: Partition, standing: Standing) -> Lane:
    try:
        lane = sink.begin(partition, standing)
    except Contradiction as error:
        # A process that slept between the question to the group and the look at the lake has seen two different times:
        # meanwhile another member may have landed more.
        now = reader.standings(settings, [partition.topic]).get(partition)
        if now is not None and now.committed != standing.committed:
            return _begin(settings, sink, partition, now)
        raise ServiceError(
            f"KAFKA_GROUP={settings.kafka_group}, {partition}: {error}. Nothing was landed or skipped"
        ) from error
    except UnreadablePlan as error:
        raise ServiceError(f"KAFKA_GROUP: {error}; each sink needs a group of its own") from error
    if lane.found:
        where = {"topic": partition.topic, "partition": partition.partition}
        log.info(
            "repeating a batch that was under way", extra=where | {"start": lane.found.start, "end": lane.found.end}
        )
    return lane


def _check_topics(member: Member, topics: list[str], options: argparse.Namespace) -> list[str]:
    """Return the topics that exist. One that was named and does not is a mistake; one that is only configured may come
    later.
    """
    existing = member.existing(topics)
    if missing := [topic for topic in topics if topic not in existing]:
        if options.topics or (options.until_caught_up and not existing):
            raise ServiceError(f"KAFKA_TOPIC_* or --topics: the cluster has no topic {', '.join(missing)}")
        log.info("topics not there yet", extra={"topics": ",".join(missing)})
    return existing


def script() -> None:
    """Run as a command; pyproject.toml names it."""
    terminal.run(main)


if __name__ == "__main__":
    script()
