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
from pipeline.landing.plan import UnreadablePlan
from pipeline.landing.positions import Committed, Partition
from pipeline.process import memory, workers
from pipeline.process.uploads import Uploads
from pipeline.process.watch import Watch
from pipeline.settings import ServiceError, Settings, SettingsError, load_settings
from pipeline.sinks import sink as sinks
from pipeline.sinks.lake import verify
from pipeline.sinks.sink import Sink
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
    if not arguments or (arguments[0] not in ("land", "verify") and arguments[0] not in ("-h", "--help")):
        arguments = ["land", *arguments]
    parser, of_sinks = _parser()
    options = parser.parse_args(arguments)
    kind = SINKS[options.sink]
    settings = load_settings(vars(options), required=kind.required)
    terminal.configure_logging(settings)
    settings = kind.settings_of(settings, is_group_given=options.kafka_group is not None)
    topics = options.topics or kind.topics_of(settings)
    if options.command == "verify":
        standings = reader.standings(settings, topics)
        return verify.report(
            settings, topics, standings, partial(reader.read_range, settings) if options.deep else None
        )
    _refuse_options_of_others(options, of_sinks)
    kind.check(settings, topics, vars(options))
    if options.from_beginning:
        kind.check_replay(settings, topics)
        reader.reset_to_oldest(settings, topics)
    if options.workers > 1:
        return workers.run(partial(_work, settings, topics, options), options.workers)
    return land(settings, topics, options)


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
        watch.expect(ends)
        sink = kind(settings, vars(options), partial(AcknowledgedProducer, settings))
        with Uploads(sink.write, sink.stop, threads=options.uploads) as uploads:
            landing = Landing(member, sink, uploads, watch, ends, _limits(kind, options), options)
            while not landing.is_over:
                polled = member.poll(poll_ms)
                landing.take(polled, is_stopping=is_stopping(), now=time.monotonic())
                landing.close_what_is_due()
                landing.commit()
                landing.upload()
                poll_ms = landing.pause()
                watch.tick(landing.lanes, member.lag, landing.now)
        watch.finish()
    return terminal.EXIT_DONE


@dataclass
class Landing:
    """What the loop has in hand, and its steps."""

    member: Member
    sink: Sink
    uploads: Uploads
    watch: Watch
    ends: dict[Partition, int] | None  # where to stop; None: go on
    limits: Limits
    options: argparse.Namespace
    lanes: dict[Partition, Lane] = field(default_factory=dict)
    now: float = 0.0
    stopped_at: float | None = None
    is_draining: bool = False  # nothing more is read; what was read is landed

    def take(self, polled: Polled, *, is_stopping: bool, now: float) -> None:
        """Drop what was taken away, begin what was given, and add what was read."""
        self.now = now
        for partition in polled.revoked:
            self.lanes.pop(partition, None)
        for partition, committed in polled.given.items():
            self.lanes[partition] = _begin(self.sink, partition, committed)
            self.watch.begun((self.ends or {}).get(partition, 0) - committed.offset)
        for partition, blocks in polled.blocks.items():
            self.lanes[partition].buffer.add(blocks, now)
        if is_stopping and self.stopped_at is None:
            self.stopped_at = now
        self.is_draining = self.stopped_at is not None or self._is_caught_up

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
        """Begin the uploads whose plans are committed."""
        for lane in self.lanes.values():
            if lane.uploading and lane.upload is None:
                lane.upload = self.uploads.begin(lane.uploading.plan, lane.uploading.blocks)

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


def _begin(sink: Sink, partition: Partition, committed: Committed) -> Lane:
    try:
        lane = sink.begin(partition, committed)
    except UnreadablePlan as error:
        raise ServiceError(f"KAFKA_GROUP: {error}; each sink needs a group of its own") from error
    if lane.found:
        where = {"topic": partition.topic, "partition": partition.partition}
        log.info(
            "repeating a batch that was under way", extra=where | {"start": lane.found.start, "end": lane.found.end}
        )
    return lane


def _limits(kind: type[Sink], options: argparse.Namespace) -> Limits:
    return Limits(
        flush_seconds=kind.limits.flush_seconds if options.flush_seconds is None else options.flush_seconds,
        flush_records=options.flush_records or kind.limits.flush_records,
        flush_bytes=options.flush_bytes,
    )


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


def _refuse_options_of_others(options: argparse.Namespace, of_sinks: dict[str, list[argparse.Action]]) -> None:
    """Refuse the options that only another sink has."""
    mistakes = [
        f"{action.option_strings[0]}: belongs to --sink {name}; this is --sink {options.sink}"
        for name, actions in of_sinks.items()
        for action in actions
        if name != options.sink and getattr(options, action.dest)
    ]
    if mistakes:
        raise SettingsError(mistakes)


def _topics(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _size(text: str) -> int:
    """64MB, 512KB or a plain number of bytes; units of 1024."""
    units = {"KB": 1024, "MB": 1024**2, "GB": 1024**3}
    number, factor = (text[:-2], units[text[-2:].upper()]) if text[-2:].upper() in units else (text, 1)
    if not number.strip().isdecimal() or int(number) * factor < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 64MB")
    return int(number) * factor


def _positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    def convert(text: str) -> float:
        if (number := kind(text)) <= 0:
            raise argparse.ArgumentTypeError(f"{text!r} is not more than 0")
        return number

    convert.__name__ = f"positive {kind.__name__}"  # argparse names the type in its message
    return convert


def _parser() -> tuple[argparse.ArgumentParser, dict[str, list[argparse.Action]]]:
    """Return the parser, and the options that only one sink has by the sink's name."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    commands = parser.add_subparsers(dest="command", required=True, metavar="land|verify")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--topics", "--topic", type=_topics, metavar="A,B", help="topics (default: those of bars, ticks and news)"
    )
    common.add_argument(
        "--group",
        dest="kafka_group",
        help="consumer group; one per S3_PREFIX or table (KAFKA_GROUP; --sink dynamodb adds _dynamodb to it)",
    )
    common.add_argument("--log-format", dest="log_format", choices=["text", "json"], help="LOG_FORMAT")
    land_parser = commands.add_parser(
        "land", parents=[common], help="land topics (the default)", description=__doc__, formatter_class=form
    )
    of_sinks = _add_sinks(land_parser)
    _add_batches(land_parser.add_argument_group("when a batch is closed, whichever comes first"))
    _add_running(land_parser.add_argument_group("how it runs"))
    verify_parser = commands.add_parser(
        "verify",
        parents=[common],
        help="check the objects against the offsets",
        description="From the objects' names: gaps and overlaps of offsets, per partition.",
    )
    verify_parser.set_defaults(sink="s3")
    verify_parser.add_argument(
        "--deep", action="store_true", help="read every object, and the topic where it still holds the records"
    )
    return parser, of_sinks


def _add_sinks(parser: argparse.ArgumentParser) -> dict[str, list[argparse.Action]]:
    what = "; ".join(f"{name}: {kind.purpose}" for name, kind in SINKS.items())
    parser.add_argument("--sink", choices=list(SINKS), default="s3", help=f"default s3; {what}")
    return {name: kind.add_options(parser.add_argument_group(f"--sink {name}")) for name, kind in SINKS.items()}


def _add_batches(group: argparse._ArgumentGroup) -> None:
    seconds = ", ".join(f"{name} {kind.limits.flush_seconds:g}" for name, kind in SINKS.items())
    count = ", ".join(f"{name} {kind.limits.flush_records}" for name, kind in SINKS.items())
    group.add_argument("--flush-seconds", type=_positive(float), metavar="S", help=f"default: {seconds}")
    group.add_argument(
        "--flush-records",
        type=_positive(int),
        metavar="N",
        help=f"default: {count}; 1 = one object per record",
    )
    group.add_argument(
        "--flush-bytes", type=_size, default="64MB", metavar="SIZE", help="before compression, default 64MB"
    )


def _add_running(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--until-caught-up", action="store_true", help="stop at the end offsets seen at the start")
    group.add_argument(
        "--from-beginning", action="store_true", help="begin at the oldest records whatever the group committed"
    )
    group.add_argument(
        "--workers", type=_positive(int), default=1, metavar="N", help="processes of the group (default 1)"
    )
    group.add_argument("--instance", dest="kafka_instance", metavar="NAME", help="static member name (KAFKA_INSTANCE)")
    group.add_argument("--max-bad", type=int, metavar="N", help="stop with exit code 1 after more than N bad records")
    group.add_argument("--uploads", type=_positive(int), default=8, metavar="N", help="requests at once (default 8)")
    group.add_argument(
        "--buffer-bytes",
        type=_size,
        default="256MB",
        metavar="SIZE",
        help="most record bytes in memory (default 256MB)",
    )
    group.add_argument(
        "--metrics-port",
        type=int,
        metavar="PORT",
        help="serve Prometheus metrics on this port of 127.0.0.1; with --workers the next ports too",
    )


if __name__ == "__main__":
    terminal.run(main)
