"""`consumer.py verify`: show that every record is in the lake once.

From the objects' names and the group's commits: per partition the ranges of offsets follow on each other without a gap
and without an overlap, and end where the group's commit says. With --deep also from their content: every object is read
and counted, and where the topic still holds the records, the batch is built again from them and compared.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from isal import igzip

from pipeline import aws, terminal
from pipeline.landing import plan as batch
from pipeline.landing.plan import ObjectName, Plan
from pipeline.landing.positions import Partition, Standing
from pipeline.settings import Settings
from pipeline.sinks.lake import writer as lake
from pipeline.streams.kafka import reader

log = logging.getLogger(__name__)


@dataclass
class Found:
    """The objects of one partition in the lake."""

    names: list[ObjectName] = field(default_factory=list)
    bytes: int = 0

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """Distinct ranges in order; the objects of one batch share theirs."""
        return sorted({(name.start, name.end) for name in self.names})


def report(settings: Settings, topics: list[str], *, deep: bool) -> int:
    """Print what was found, a line a partition, then the problems. 1 if there are any."""
    with aws.naming("S3_BUCKET", settings.s3_bucket):
        found = list_objects(settings, topics)
    standings = reader.standings(settings, topics)
    problems = []
    print(f"{'partition':<28}{'objects':>9}{'bytes':>14}{'from':>12}{'to':>12}{'committed':>12}{'end':>12}")
    for partition in sorted(set(found) | set(standings)):
        objects, standing = found.get(partition, Found()), standings.get(partition)
        ranges = objects.ranges
        first, last = (ranges[0][0], ranges[-1][1]) if ranges else ("-", "-")
        committed = standing.committed.offset if standing and standing.committed else "-"
        end = standing.end if standing else "-"
        print(
            f"{_name(partition):<28}{len(objects.names):>9}{objects.bytes:>14,}{first:>12}{last:>12}{committed:>12}{end:>12}"
        )
        problems += [f"{_name(partition)}: {text}" for text in range_problems(ranges)]
        problems += [f"{_name(partition)}: {text}" for text in standing_problems(partition, ranges, standing)]
        if deep:
            with aws.naming("S3_BUCKET", settings.s3_bucket):
                problems += [
                    f"{_name(partition)}: {text}" for text in content_problems(settings, partition, objects, standing)
                ]
    for problem in problems:
        print("PROBLEM", problem)
    checked = "names, content and topic" if deep else "names and commits"
    print(f"{len(problems)} problems; checked: {checked}")
    return terminal.EXIT_FAILED if problems else terminal.EXIT_DONE


def _name(partition: Partition) -> str:
    return f"{partition.topic}-{partition.partition}"


def list_objects(settings: Settings, topics: Iterable[str]) -> dict[Partition, Found]:
    """Every object of the topics in the bucket, good and dead letters."""
    s3 = aws.client(settings, "s3")
    found: dict[Partition, Found] = defaultdict(Found)
    wanted = set(topics)
    folders = {f"raw/{settings.topics.get(topic, topic)}/" for topic in wanted} | {
        f"dead_letter/{topic}/" for topic in wanted
    }
    for folder in sorted(folders):
        pages = s3.get_paginator("list_objects_v2").paginate(
            Bucket=settings.s3_bucket, Prefix=settings.s3_root + folder
        )
        for listed in (item for page in pages for item in page.get("Contents", [])):
            name = batch.read_object_key(listed["Key"])
            if name is not None and name.topic in wanted:
                objects = found[Partition(name.topic, name.partition)]
                objects.names.append(name)
                objects.bytes += listed["Size"]
    return found


def range_problems(ranges: list[tuple[int, int]]) -> Iterator[str]:
    """Gaps and overlaps between ranges in order."""
    reached = ranges[0][0] if ranges else 0
    for start, end in ranges:
        if start > reached:
            yield f"offsets {reached} to {start} are in no object"
        if start < reached:
            yield f"offsets {start} to {min(reached, end)} are in more than one batch; do two groups share this prefix?"
        reached = max(reached, end)


def standing_problems(partition: Partition, ranges: list[tuple[int, int]], standing: Standing | None) -> Iterator[str]:
    """Where the objects and the group's commit contradict each other."""
    if standing is None:
        if ranges:
            yield "objects of a partition that the cluster does not have; was the topic made anew?"
        return
    landed_end = ranges[-1][1] if ranges else None
    if standing.committed is None:
        if ranges:
            yield "objects, but the group never committed here; did another group write them (KAFKA_GROUP)?"
        return
    offset = standing.committed.offset
    if ranges and ranges[0][0] > standing.oldest:
        yield f"offsets {standing.oldest} to {ranges[0][0]} are in the topic and in no object"
    if landed_end is not None and offset > landed_end:
        yield f"offsets {landed_end} to {offset} are committed as landed and in no object"
    if landed_end is None and offset > standing.oldest:
        yield f"offsets {standing.oldest} to {offset} are committed as landed and in no object"
    if landed_end is not None and offset < landed_end:
        plan = batch.read_plan(partition.topic, partition.partition, offset, standing.committed.metadata)
        if plan is None or plan.end < landed_end:
            yield f"the group stands at {offset}, before the objects' end {landed_end}; it would land them again"


def content_problems(
    settings: Settings, partition: Partition, objects: Found, standing: Standing | None
) -> Iterator[str]:
    """Read every object of the partition; build its batch again from the topic where that is still possible."""
    s3 = aws.client(settings, "s3")
    by_range: dict[tuple[int, int], list[ObjectName]] = defaultdict(list)
    for name in objects.names:
        by_range[name.start, name.end].append(name)
    for (start, end), names in sorted(by_range.items()):
        contents, metadata = {}, ""
        for name in names:
            answer = s3.get_object(Bucket=settings.s3_bucket, Key=name.key)
            contents[name.key] = content(name.key, answer["Body"].read())
            expected = answer["Metadata"].get("records")
            metadata = answer["Metadata"].get("plan", metadata)
            if expected != str(len(contents[name.key])):
                yield f"{name.key} holds {len(contents[name.key])} records, {expected} were put"
            if (writer := answer["Metadata"].get("group")) != settings.kafka_group:
                yield f"{name.key} was put by group {writer}, not {settings.kafka_group}"
        plan = batch.read_plan(partition.topic, partition.partition, start, metadata)
        if plan is not None and standing is not None and start >= standing.oldest and end <= standing.end:
            yield from _compare(settings, partition, plan, contents)


def _compare(settings: Settings, partition: Partition, plan: Plan, contents: dict[str, list]) -> Iterator[str]:
    blocks = reader.read_range(settings, partition, plan.start, plan.end)
    rebuilt = {made.key: content(made.key, made.body) for made in lake.objects_of(plan, blocks)} if blocks else {}
    for key in sorted(set(rebuilt) | set(contents)):
        if key not in contents:
            yield f"{key} is missing"
        elif key not in rebuilt:
            yield f"{key} holds records that the topic does not have at these offsets"
        elif contents[key] != rebuilt[key]:
            yield f"{key} differs from the topic's records"


def content(key: str, body: bytes) -> list:
    """The records of an object, as lines or as rows, so that two objects can be compared and counted."""
    if key.endswith(".parquet"):
        from pipeline.sinks.lake import parquet

        return parquet.decode(body)
    lines = (igzip.decompress(body) if key.endswith(".gz") else body).splitlines()
    return lines[1:] if ".csv" in key.rsplit("/", 1)[-1] else lines
