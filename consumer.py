"""Land Kafka topics in S3, each record in exactly one object, and verify what was landed; or keep bars in DynamoDB.

  python consumer.py --until-caught-up            land what is there, then stop
  python consumer.py --flush-seconds 300          run as a service, one object per partition and five minutes
  python consumer.py --format parquet --topics stock_bars
  python consumer.py verify --deep                show that nothing is missing and nothing is twice
  python consumer.py --sink dynamodb --topics demo --create-table      one item per company and date

Delivery: exactly once. Before a batch is uploaded its plan (offsets, layout) is committed to Kafka; after the upload
its end is. A consumer that finds a plan in the group's commit repeats it to the byte, so a kill at any instant changes
nothing. DynamoDB needs no plans: an item is written again without effect, and never over a later revision; offsets are
committed after the writes.
"""

import argparse
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from multiprocessing.pool import AsyncResult, ThreadPool

from pipeline import aws, terminal
from pipeline.landing import lane as landing
from pipeline.landing import plan as batch
from pipeline.landing.lane import Lane
from pipeline.landing.plan import Layout, Limits, Plan
from pipeline.landing.positions import Committed, Partition, Standing
from pipeline.process import memory, watch, workers
from pipeline.settings import ServiceError, Settings, SettingsError, load_settings
from pipeline.sinks.dynamodb.dead_letters import DeadLetterObjects, DeadLetterTopic
from pipeline.sinks.dynamodb.table import Table
from pipeline.sinks.dynamodb.writer import Writer
from pipeline.sinks.lake import verify
from pipeline.sinks.lake.writer import Lake, Landed, objects_of
from pipeline.streams.kafka import reader
from pipeline.streams.kafka.member import Member

log = logging.getLogger("consumer")

STOP_WITHIN_SECONDS = 8
POLL_MS = 100
DRAINING_POLL_MS = 10  # when only uploads are waited for, which do not end a poll
# Objects should be few. An item costs the same alone, and a batch of items should be written within the time of a stop.
FLUSH_SECONDS = {"s3": 60.0, "dynamodb": 0.0}
FLUSH_RECORDS = {"s3": 100_000, "dynamodb": 1_000}


def main() -> int:
    arguments = sys.argv[1:]
    if not arguments or (arguments[0] not in ("land", "verify") and arguments[0] not in ("-h", "--help")):
        arguments = ["land", *arguments]
    options = _parser().parse_args(arguments)
    settings = load_settings(vars(options), required=[] if options.sink == "dynamodb" else ["s3_bucket"])
    terminal.configure_logging(settings)
    if options.sink == "dynamodb":
        settings = _for_dynamodb(settings, options)
    if options.command == "verify":
        return verify.report(settings, _topics(settings, options), deep=options.deep)
    if options.from_beginning:
        _begin_anew(settings, _topics(settings, options), options.sink)
    if options.workers > 1:
        return workers.run(partial(_work, settings, options), options.workers)
    return land(settings, options)


def _work(settings: Settings, options: argparse.Namespace, number: int) -> int:
    """Land as one of several. A static member name and a port are one process's, so each has its own."""
    terminal.configure_logging(settings)  # where there are no forks it is a new interpreter
    instance = f"{settings.kafka_instance}-{number}" if settings.kafka_instance else ""
    own = argparse.Namespace(**vars(options))
    own.metrics_port = options.metrics_port + number if options.metrics_port else None
    return land(replace(settings, kafka_instance=instance), own)


def land(settings: Settings, options: argparse.Namespace) -> int:
    """The loop: poll, close what is due, commit plans and ends, upload beside polling."""
    memory.keep_for_reuse()
    topics = _topics(settings, options)
    layouts = {topic: _layout(settings, options, topic) for topic in topics}
    limits = _limits(options)
    lanes: dict[Partition, Lane] = {}
    poll_ms, stopped_at = POLL_MS, None
    with (
        terminal.stop_signals() as is_stopping,
        Member(settings, topics) as member,
        watch.Watch(options.metrics_port) as seen,
        _uploads(settings, options) as upload,
    ):
        existing = _check_topics(member, topics, options)
        ends = member.end_offsets(existing) if options.until_caught_up else None
        seen.expect(ends)
        while True:
            polled = member.poll(poll_ms)
            now = time.monotonic()
            for partition in polled.revoked:
                lanes.pop(partition, None)
            for partition, standing in polled.given.items():
                committed = _resume(settings, partition, standing)
                lanes[partition] = _begin(partition, layouts[partition.topic], committed, options.sink)
                member.start_at(partition, committed.offset)
                seen.begun((ends or {}).get(partition, 0) - committed.offset)
            for partition, blocks in polled.blocks.items():
                lanes[partition].buffer.add(blocks, now)

            if is_stopping() and stopped_at is None:
                stopped_at = now
            is_draining = stopped_at is not None or _is_caught_up(member, lanes, ends)
            at_once = is_draining or landing.held_bytes(lanes) >= options.buffer_bytes // 2
            for partition, lane in lanes.items():
                lane.close(limits, member.position(partition), now, at_once=at_once)
            _advance(member, lanes, upload, seen)
            if options.max_bad is not None and seen.bad > options.max_bad:
                raise ServiceError(f"--max-bad {options.max_bad}: {seen.bad} bad records are in dead_letter/; stopped")

            is_done = is_draining and all(lane.is_idle for lane in lanes.values())
            # One of several workers that left before the others would make them begin their batches anew.
            if is_done and (stopped_at is not None or options.workers == 1 or member.others_have_committed(ends)):
                break
            if stopped_at is not None and now - stopped_at > STOP_WITHIN_SECONDS:
                log.warning("stopped with uploads under way; the next start completes them")
                break
            poll_ms = DRAINING_POLL_MS if is_draining and not is_done else POLL_MS
            member.pause(landing.to_pause(lanes, 0 if is_draining else options.buffer_bytes))
            seen.tick(member, lanes, now)
        seen.finish()
    return terminal.EXIT_DONE


def _limits(options: argparse.Namespace) -> Limits:
    return Limits(
        flush_seconds=FLUSH_SECONDS[options.sink] if options.flush_seconds is None else options.flush_seconds,
        flush_records=options.flush_records or FLUSH_RECORDS[options.sink],
        flush_bytes=options.flush_bytes,
    )


def _begin_anew(settings: Settings, topics: list[str], sink: str) -> None:
    """Set the group to the oldest records, if that lands nothing for the second time. Items may be written again."""
    landed = {}
    if sink == "s3":
        with aws.naming("S3_BUCKET", settings.s3_bucket):
            landed = verify.list_objects(settings, topics)
    if landed:
        names = ", ".join(sorted({partition.topic for partition in landed}))
        raise ServiceError(
            f"S3_PREFIX: it already holds objects of {names}; --from-beginning needs a prefix of its own"
        )
    reader.reset_to_oldest(settings, topics)


def _for_dynamodb(settings: Settings, options: argparse.Namespace) -> Settings:
    """Check what only the other sink has, and see to the table. The group is another than that of the S3 landing with
    the same settings, unless it was given on the command line: each of the two has to get every record.
    """
    only_s3 = {
        "--format": options.format != "json",
        "--compression": options.compression,
        "--partition-by": options.partition_by,
        "--partition-time": options.partition_time != "arrival",
    }
    mistakes = [
        f"{name}: DynamoDB has items, not objects; it belongs to --sink s3"
        for name, is_given in only_s3.items()
        if is_given
    ]
    mistakes += [
        f"--topics: {topic} holds {kind}; the table takes bars"
        for topic in _topics(settings, options)
        if (kind := settings.topics.get(topic, "bars")) != "bars"
    ]
    if mistakes:
        raise SettingsError(mistakes)
    table = Table(settings)
    if options.create_table:
        table.create()
    else:
        table.check()
    return settings if options.kafka_group else replace(settings, kafka_group=f"{settings.kafka_group}_dynamodb")


def _resume(settings: Settings, partition: Partition, standing: Standing) -> Committed:
    """A group that never committed here begins with the oldest record, so that nothing is left out."""
    committed = standing.committed or Committed(standing.oldest, "")
    if committed.offset < standing.oldest:
        raise ServiceError(
            f"KAFKA_GROUP={settings.kafka_group}: its next records are no longer in the topic, retention deleted them "
            f"before they were landed, or the topic was made anew ({partition} is at {committed.offset}, oldest is "
            f"{standing.oldest}). Nothing was skipped. To go on from what is left, reset the group's offsets with "
            "kafka-consumer-groups.sh, or use a new group and a new S3_PREFIX"
        )
    return committed


def _begin(partition: Partition, layout: Layout, committed: Committed, sink: str) -> Lane:
    begin = Lane.begin if sink == "s3" else Lane.begin_unplanned
    try:
        lane = begin(partition.topic, partition.partition, layout, committed.offset, committed.metadata)
    except batch.UnreadablePlan as error:
        raise ServiceError(f"KAFKA_GROUP: {error}; each sink needs a group of its own") from error
    if lane.found:
        log.info(
            "repeating a batch that was under way",
            extra={
                "topic": partition.topic,
                "partition": partition.partition,
                "start": lane.found.start,
                "end": lane.found.end,
            },
        )
    return lane


def _advance(
    member: Member, lanes: dict[Partition, Lane], upload: Callable[[Plan, list], AsyncResult], seen: watch.Watch
) -> None:
    """One commit for all that wants one; what it answers lets batches begin to upload, or be done with."""
    wanted = {p: Committed(*commit) for p, lane in lanes.items() if (commit := lane.commit_wanted())}
    for partition in wanted:
        if lanes[partition].is_uploaded:
            # Raises here, before the end is committed, if the upload did not succeed.
            lanes[partition].upload.get()
    if wanted and member.commit(wanted):
        for partition in wanted:
            landed = lanes[partition].upload.get() if lanes[partition].upload else None
            if completed := lanes[partition].committed():
                seen.landed(completed, landed)
    for lane in lanes.values():
        if lane.uploading and lane.upload is None:
            lane.upload = upload(lane.uploading.plan, lane.uploading.blocks)


@contextmanager
def _uploads(settings: Settings, options: argparse.Namespace) -> Iterator[Callable[[Plan, list], AsyncResult]]:
    """Encoding and putting, each on threads of its own; daemons, so that a hanging upload cannot hold up a stop."""
    threads = options.uploads
    if options.sink == "dynamodb":
        dead_letters = (
            DeadLetterObjects(settings, "dynamodb", threads=threads)
            if settings.s3_bucket
            else DeadLetterTopic(settings)
        )
        sink = Writer(settings, dead_letters, threads=threads)
        write = sink.write
    else:
        sink = Lake(settings, threads=threads)
        write = partial(_put_objects, sink)
    with ThreadPool(2) as encoders, ThreadPool(threads) as putters:
        for_each = partial(putters.map, chunksize=1)
        try:
            yield lambda plan, blocks: encoders.apply_async(write, (plan, blocks, for_each))
        finally:
            sink.stop()


def _put_objects(lake: Lake, plan: Plan, blocks: list, for_each: Callable) -> Landed:
    objects = objects_of(plan, blocks)
    for_each(partial(lake.put, plan), objects)
    return Landed.of(objects)


def _is_caught_up(member: Member, lanes: dict[Partition, Lane], ends: dict[Partition, int] | None) -> bool:
    """Whether every partition that this member has was read to the end that was seen at the start."""
    if ends is None or not member.is_settled:
        return False
    return all(not lane.found and member.position(p) >= ends.get(p, 0) for p, lane in lanes.items())


def _topics(settings: Settings, options: argparse.Namespace) -> list[str]:
    if options.topics:
        return [name.strip() for name in options.topics.split(",")]
    return [settings.kafka_topic_bars] if options.sink == "dynamodb" else list(settings.topics)


def _check_topics(member: Member, topics: list[str], options: argparse.Namespace) -> list[str]:
    """The topics that exist. One that was named and does not is a mistake; one that is only configured may come later."""
    existing = member.existing(topics)
    if missing := [topic for topic in topics if topic not in existing]:
        if options.topics or (options.until_caught_up and not existing):
            raise ServiceError(f"KAFKA_TOPIC_* or --topics: the cluster has no topic {', '.join(missing)}")
        log.info("topics not there yet", extra={"topics": ",".join(missing)})
    return existing


def _layout(settings: Settings, options: argparse.Namespace, topic: str) -> Layout:
    """Known topics land in their table; any other lands under its own name as unchecked JSON."""
    table = settings.topics.get(topic, topic)
    return Layout(
        bucket=settings.s3_bucket,
        root=settings.s3_root,
        table=table,
        format=options.format if topic in settings.topics else "json",
        compression=options.compression
        or ("zstd" if options.format == "parquet" and topic in settings.topics else "gzip"),
        partition_by=options.partition_by or ("hour" if table == "ticks" else "day"),
        partition_time=options.partition_time,
    )


def _bytes(text: str) -> int:
    """64MB, 512KB or a plain number of bytes; units of 1024."""
    units = {"KB": 1024, "MB": 1024**2, "GB": 1024**3}
    number, factor = (text[:-2], units[text[-2:].upper()]) if text[-2:].upper() in units else (text, 1)
    if not number.strip().isdecimal() or int(number) * factor < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 64MB")
    return int(number) * factor


def _positive(kind: type) -> Callable[[str], float]:
    def convert(text: str) -> float:
        if (number := kind(text)) <= 0:
            raise argparse.ArgumentTypeError(f"{text!r} is not more than 0")
        return number

    convert.__name__ = f"positive {kind.__name__}"  # argparse names the type in its message
    return convert


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="land|verify")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--topics", "--topic", metavar="A,B", help="topics (default: those of bars, ticks and news)")
    common.add_argument(
        "--group",
        dest="kafka_group",
        help="consumer group; one per S3_PREFIX or table (KAFKA_GROUP; dynamodb: with _dynamodb added)",
    )
    common.add_argument("--log-format", dest="log_format", choices=["text", "json"], help="LOG_FORMAT")

    land_parser = commands.add_parser(
        "land",
        parents=[common],
        help="land topics in S3 (the default)",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    form = land_parser.add_argument_group("what is written")
    form.add_argument(
        "--sink", choices=["s3", "dynamodb"], default="s3", help="objects in S3 (default), or items in DYNAMODB_TABLE"
    )
    form.add_argument("--create-table", action="store_true", help="make the DynamoDB table if there is none")
    form.add_argument(
        "--format", choices=["json", "csv", "parquet"], default="json", help="form of the objects (default json)"
    )
    form.add_argument("--compression", choices=["gzip", "none", "zstd"], help="default gzip; Parquet: zstd")
    form.add_argument("--partition-by", choices=["day", "hour", "month"], help="folders (default day; ticks: hour)")
    form.add_argument(
        "--partition-time",
        choices=["arrival", "event"],
        default="arrival",
        help="folders by the time of arrival in Kafka (default) or by the record's own time",
    )
    when = land_parser.add_argument_group("when a batch is closed, whichever comes first")
    when.add_argument("--flush-seconds", type=_positive(float), metavar="S", help="default 60; dynamodb: at once")
    when.add_argument(
        "--flush-records",
        type=_positive(int),
        metavar="N",
        help="default 100000, dynamodb: 1000; 1 = one object a record",
    )
    when.add_argument(
        "--flush-bytes", type=_bytes, default="64MB", metavar="SIZE", help="before compression, default 64MB"
    )
    run = land_parser.add_argument_group("how it runs")
    run.add_argument("--until-caught-up", action="store_true", help="stop at the end offsets seen at the start")
    run.add_argument(
        "--from-beginning", action="store_true", help="begin at the oldest records whatever the group committed"
    )
    run.add_argument(
        "--workers", type=_positive(int), default=1, metavar="N", help="processes in the same group (default 1)"
    )
    run.add_argument("--instance", dest="kafka_instance", metavar="NAME", help="static member name (KAFKA_INSTANCE)")
    run.add_argument("--max-bad", type=int, metavar="N", help="stop with exit code 1 after more than N bad records")
    run.add_argument(
        "--uploads", type=_positive(int), default=8, metavar="N", help="uploads at the same time (default 8)"
    )
    run.add_argument(
        "--buffer-bytes",
        type=_bytes,
        default="256MB",
        metavar="SIZE",
        help="most record bytes in memory (default 256MB)",
    )
    run.add_argument(
        "--metrics-port",
        type=int,
        metavar="PORT",
        help="serve Prometheus metrics on this port of 127.0.0.1; with --workers the next ports too",
    )

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
    return parser


if __name__ == "__main__":
    terminal.run(main)
