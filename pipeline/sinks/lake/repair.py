"""`consumer.py verify --repair`: say what the group should have committed by what is in the lake, and commit it.

For a group whose commits expired, were set by hand or went back. Only where the objects' ranges follow on each other
without a gap or an overlap, and the topic still has what comes next: nothing else can be mended by a commit.
"""

from collections.abc import Callable, Mapping

from pipeline import aws, terminal
from pipeline.landing.plan import end_mark, generation_of, reached_by
from pipeline.landing.positions import Committed, Partition, Standing
from pipeline.settings import Settings
from pipeline.sinks.lake import verify
from pipeline.sinks.lake.verify import Found, ReadRange
from pipeline.sinks.lake.witness import last_batch

Commit = Callable[[Mapping[Partition, Committed]], None]


def repair(
    settings: Settings,
    topics: list[str],
    standings: Mapping[Partition, Standing],
    read_range: ReadRange,
    commit: Commit | None,
) -> int:
    """Print what is to be committed, and commit it if `commit` is given. Return 1 if anything is left to be done."""
    with aws.naming("S3_BUCKET", settings.s3_bucket):
        found = verify.by_generation(verify.list_objects(settings, topics), standings)
        wanted: dict[Partition, Committed] = {}
        unmended = 0
        for partition, standing in sorted(standings.items()):
            target = _target(settings, partition, found[partition, None], standing, read_range)
            if isinstance(target, str):
                print(f"PROBLEM {partition}: {target}")
                unmended += 1
            elif target is not None:
                wanted[partition] = target
    for partition, target in wanted.items():
        known = standings[partition].committed
        now = "has no commit" if known is None else f"stands at {known.offset}"
        plan = f", and repeat the batch up to {end}" if (end := reached_by(partition, target)) > target.offset else ""
        print(f"{partition}: the group {now}; {'commit' if commit else 'would commit'} {target.offset}{plan}")
    if wanted and commit:
        commit(wanted)
    how = "made" if commit else "to be made, with --yes"
    print(f"{len(wanted)} commits {how}; {unmended} problems that no commit can mend")
    return terminal.EXIT_FAILED if unmended or (wanted and not commit) else terminal.EXIT_DONE


def _target(
    settings: Settings, partition: Partition, objects: Found, standing: Standing, read_range: ReadRange
) -> Committed | str | None:
    """Return what the group should have committed in a partition, None if it has, or why no commit is right."""
    generation, known = standing.generation or "", standing.committed
    if not objects.names:
        return None
    if problems := list(verify.range_problems(objects.ranges)):
        return problems[0]
    start, end = objects.ranges[-1]
    last = last_batch(settings, objects.names)
    if generation_of(last.plan) != generation:
        # Of version 1, which does not say of which topic it is: the records do.
        names = [name for name in objects.names if (name.start, name.end) == (start, end)]
        if not standing.oldest <= start or end > standing.end:
            return f"the topic no longer has offsets {start} to {end}, so nothing says whether they are of this topic"
        if list(verify.content_problems(settings, partition, Found(names), standing, read_range)):
            return f"what was landed of offsets {start} to {end} is not what the topic has there: it was made anew"
    target = Committed(end, end_mark(generation))
    if last.objects < last.expected:
        target = Committed(start, last.plan)
    if known is not None and reached_by(partition, known) == end and generation_of(known.metadata) in ("", generation):
        return None
    if target.offset < standing.oldest:
        return f"offsets {target.offset} to {standing.oldest} were deleted by retention before they were landed"
    if end > standing.end:
        return f"the objects end at {end}, and the topic at {standing.end}: its log was cut, or it was made anew"
    return target
