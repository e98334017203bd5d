"""`consumer.py verify`: show that every record is in the lake once.

From the objects' names and the group's commits: per partition the ranges of offsets follow on each other without a gap
or an overlap, and end where the group's commit says. With --deep also from their content: it reads and counts every
object, and where the topic still holds the records, builds the batch again from them and compares.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from isal import igzip

from pipeline import aws, bucket, terminal
from pipeline.landing.block import Block
from pipeline.landing.plan import SHORT_GENERATION, ObjectName, Plan, generation_of, read_object_key, read_plan
from pipeline.landing.positions import Committed, Partition, Standing
from pipeline.settings import Settings
from pipeline.sinks.lake.objects import objects_of

log = logging.getLogger(__name__)

# Gives the blocks of the offsets [start, end) of a partition as a read_committed reader sees them.
ReadRange = Callable[[Partition, int, int], list[Block]]


@dataclass
class Found:
    """The objects of one partition, and of one generation of its topic, in the lake."""

    names: list[ObjectName] = field(default_factory=list)
    bytes: int = 0

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """Distinct ranges in order; the objects of one batch share theirs."""
        return sorted({(name.start, name.end) for name in self.names})


# By partition and the first digits of the generation. None stands for the topic as it is now, and for names of
# version 1, which do not say.
Inventory = dict[tuple[Partition, str | None], Found]


def report(
    settings: Settings,
    topics: list[str],
    standings: Mapping[Partition, Standing],
    read_range: ReadRange | None,
) -> int:
    """Print what was found, a line per partition and generation, then the problems. Return 1 if there are any. With
    `read_range` the objects' content is checked too.
    """
    with aws.naming("S3_BUCKET", settings.s3_bucket):
        found = by_generation(list_objects(settings, topics), standings)
    problems = []
    print(f"{'partition':<28}{'objects':>9}{'bytes':>14}{'from':>12}{'to':>12}{'committed':>12}{'end':>12}")
    for partition, generation in sorted(found, key=lambda key: (key[0], key[1] or "")):
        objects = found[partition, generation]
        # Of an earlier topic of this name neither records nor commits are left to compare with.
        standing = standings.get(partition) if generation is None else None
        name = f"{partition} ({generation})" if generation else str(partition)
        print(_line(name, objects, standing))
        texts = list(range_problems(objects.ranges))
        if generation is None or partition not in standings:
            texts += standing_problems(partition, objects.ranges, standing)
            texts += plan_problems(partition, standing, f"s3://{settings.s3_bucket}/{settings.s3_root}")
        if read_range is not None:
            with aws.naming("S3_BUCKET", settings.s3_bucket):
                texts += content_problems(settings, partition, objects, standing, read_range)
        problems += [f"{name}: {text}" for text in texts]
    for problem in problems:
        print("PROBLEM", problem)
    checked = "names and commits" if read_range is None else "names, content and topic"
    print(f"{terminal.counted(len(problems), 'problem')}; checked: {checked}")
    return terminal.EXIT_FAILED if problems else terminal.EXIT_DONE


def _line(name: str, objects: Found, standing: Standing | None) -> str:
    ranges = objects.ranges
    first, last = (ranges[0][0], ranges[-1][1]) if ranges else ("-", "-")
    committed = standing.committed.offset if standing and standing.committed else "-"
    end = standing.end if standing else "-"
    return f"{name:<28}{len(objects.names):>9}{objects.bytes:>14,}{first:>12}{last:>12}{committed:>12}{end:>12}"


def by_generation(objects: Mapping[Partition, Found], standings: Mapping[Partition, Standing]) -> Inventory:
    """Return the objects by partition and generation; every partition that stands is there, be it without objects."""
    found: Inventory = {(partition, None): Found() for partition in standings}
    for partition, of_partition in objects.items():
        standing = standings.get(partition)
        now = (standing.generation or "")[:SHORT_GENERATION] if standing else None
        for name in of_partition.names:
            # Without a topic the newest generation is not known; then all of them are listed apart.
            is_now = name.generation in ("", now)
            one = found.setdefault((partition, None if is_now else name.generation), Found())
            one.names.append(name)
            one.bytes += name.bytes
    return found


def list_objects(settings: Settings, topics: Iterable[str]) -> dict[Partition, Found]:
    """Return every object of the topics in the bucket, dead letters included."""
    s3 = aws.client(settings, "s3")
    found: dict[Partition, Found] = defaultdict(Found)
    names = set(topics)
    folders = {bucket.raw_folder(settings.s3_root, settings.topics.get(topic, topic)) for topic in names} | {
        bucket.dead_letter_folder(settings.s3_root, topic) for topic in names
    }
    for folder in sorted(folders):
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=settings.s3_bucket, Prefix=folder)
        for listed in (item for page in pages for item in page.get("Contents", [])):
            name = read_object_key(listed["Key"])
            if name is not None and name.topic in names:
                objects = found[Partition(name.topic, name.partition)]
                objects.names.append(replace(name, bytes=listed["Size"]))
                objects.bytes += listed["Size"]
    return found


def range_problems(ranges: list[tuple[int, int]]) -> Iterator[str]:
    """Yield the gaps and overlaps between ranges in order."""
    reached = ranges[0][0] if ranges else 0
    for start, end in ranges:
        if start > reached:
            yield f"offsets {reached} to {start} are in no object"
        if start < reached:
            yield f"offsets {start} to {min(reached, end)} are in more than one batch; do two groups share this prefix?"
        reached = max(reached, end)


def standing_problems(partition: Partition, ranges: list[tuple[int, int]], standing: Standing | None) -> Iterator[str]:
    """Yield where the objects and the group's commit contradict each other."""
    if standing is None:
        if ranges:
            yield "objects of a partition that the cluster does not have; was the topic made anew?"
        return
    if standing.committed and (then := generation_of(standing.committed.metadata)) not in (
        "",
        standing.generation or "",
    ):
        yield f"the group's commit is of the topic {then}, which was made anew; --from-beginning begins anew"
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
        plan = read_plan(partition, standing.committed)
        if plan is None or plan.end < landed_end:
            yield f"the group stands at {offset}, before the objects' end {landed_end}; it would land them again"


def plan_problems(partition: Partition, standing: Standing | None, lake: str) -> Iterator[str]:
    """Yield the batch that is planned for another lake than this one (s3://, ending in a slash)."""
    plan = read_plan(partition, standing.committed) if standing and standing.committed else None
    if plan is not None and (place := f"s3://{plan.layout.bucket}/{plan.layout.root}") != lake:
        yield (
            f"offsets {plan.start} to {plan.end} are planned for {place}, not for this lake; the next start lands them "
            "there, or `consumer.py land --abandon-plan` gives the plan up"
        )


def content_problems(
    settings: Settings, partition: Partition, objects: Found, standing: Standing | None, read_range: ReadRange
) -> Iterator[str]:
    """Read every object of the partition, and build its batch again from the topic where that is still possible."""
    s3 = aws.client(settings, "s3")
    by_range: dict[tuple[int, int], list[ObjectName]] = defaultdict(list)
    for name in objects.names:
        by_range[name.start, name.end].append(name)
    for (start, end), names in sorted(by_range.items()):
        contents: dict[str, list[Any]] = {}
        metadata = ""
        for name in names:
            answer = s3.get_object(Bucket=settings.s3_bucket, Key=name.key)
            contents[name.key] = content(name.key, answer["Body"].read())
            expected = answer["Metadata"].get("records")
            metadata = answer["Metadata"].get("plan", metadata)
            if expected != str(len(contents[name.key])):
                yield f"{name.key} holds {len(contents[name.key])} records, {expected} were put"
            # An earlier topic of this name may have been another group's.
            if standing and (writer := answer["Metadata"].get("group")) != settings.kafka_group:
                yield f"{name.key} was put by group {writer}, not {settings.kafka_group}"
        plan = read_plan(partition, Committed(start, metadata))
        if plan is not None and standing is not None and start >= standing.oldest and end <= standing.end:
            yield from _compare(plan, read_range(partition, start, end), contents)


def _compare(plan: Plan, blocks: list[Block], contents: Mapping[str, list[Any]]) -> Iterator[str]:
    rebuilt = {made.key: content(made.key, made.body) for made in objects_of(plan, blocks)} if blocks else {}
    for key in sorted(set(rebuilt) | set(contents)):
        if key not in contents:
            yield f"{key} is missing"
        elif key not in rebuilt:
            yield f"{key} holds records that the topic does not have at these offsets"
        elif contents[key] != rebuilt[key]:
            yield f"{key} differs from the topic's records"


def content(key: str, body: bytes) -> list[Any]:
    """Return the records of an object, as lines or as rows, so that two objects can be compared and counted."""
    if key.endswith(".parquet"):
        from pipeline.sinks.lake import parquet  # noqa: PLC0415 - as in objects.py

        return parquet.decode(body)
    plain: bytes = igzip.decompress(body) if key.endswith(".gz") else body  # type: ignore[no-untyped-call] # isal has no types
    lines = plain.splitlines()
    return lines[1:] if ".csv" in key.rsplit("/", 1)[-1] else lines
