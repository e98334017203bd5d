"""Where the landing of a partition begins: the group's commit, and what was landed as the second witness. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.landing.plan import SHORT_GENERATION, end_mark, generation_of, reached_by
from pipeline.landing.positions import Committed, Partition, Standing


class Contradiction(ValueError):
    """What the stream says and what was landed cannot both be right. The text says what was found and what to do."""


@dataclass(frozen=True)
class LastBatch:
    """The newest batch of one generation of a partition that the sink holds.

    `plan` is the text that was committed for it, `objects` how many of its objects were found, and `expected` how many
    it has; 0 if that is unknown.
    """

    start: int
    end: int
    plan: str
    objects: int
    expected: int
    group: str


# By generation, as names have it: its first digits, or nothing in names of version 1.
Landed = Mapping[str, LastBatch]


def begin_at(partition: Partition, standing: Standing, landed: Landed, group: str) -> Committed:
    """Return the commit to go on from. Raise Contradiction where any way to go on would skip or repeat records.

    `landed` is what the sink holds of the partition, empty for a sink that cannot tell.
    """
    generation = standing.generation or ""
    known = standing.committed or _without_commit(standing, landed, group)
    then = generation_of(known.metadata)
    if then and generation and then != generation:
        raise Contradiction(
            f"the group's commit at {known.offset} is of the topic {then}, and the topic is {generation} now: it "
            "was deleted and made anew. --from-beginning begins with the new one, beside what was landed of the old"
        )
    reached = reached_by(partition, known)
    if known.offset < standing.oldest:
        raise Contradiction(
            f"its next record is {known.offset}, and the topic's oldest is {standing.oldest}: retention deleted "
            f"what is between before it was landed, or the topic was made anew. To go on without it, commit "
            f"{standing.oldest} for the group (kafka-consumer-groups.sh --reset-offsets)"
        )
    if reached > standing.end:
        raise Contradiction(
            f"its next record is {reached}, and the topic ends at {standing.end}: its log was cut, or the topic was "
            "made anew. If the topic is a new one, --from-beginning begins with it"
        )
    if standing.cut is not None:
        raise Contradiction(
            f"its next record is {reached}, and the topic's log was cut off at {standing.cut}, as by a disk that was "
            f"lost: from there on it holds other records than those that were landed. To land them too, commit "
            f"{standing.cut} for the group (kafka-consumer-groups.sh --reset-offsets), with another S3_PREFIX"
        )
    last = _last(landed, generation)
    if standing.committed is not None and last and reached < last.end:
        raise Contradiction(
            f"the group's commit stands at {known.offset}, and what was landed ends at {last.end}: the commit went "
            "back, and the records between would be landed twice. `consumer.py verify --repair` says where to go on"
        )
    return known


def _without_commit(standing: Standing, landed: Landed, group: str) -> Committed:
    """Return where a group without a commit goes on: behind what was landed of this generation."""
    generation = standing.generation or ""
    last = _last(landed, generation)
    if last is None:
        if landed:
            raise Contradiction(
                "the group has no commit, and what was landed is of another topic of this name: it was deleted and "
                "made anew. --from-beginning begins with the new one, beside what was landed of the old"
            )
        # Nothing was landed: the oldest record, so that nothing is left out.
        return Committed(standing.oldest, end_mark(generation))
    if last.group != group:
        raise Contradiction(
            f"the group {group} has no commit, and {last.group} has landed the topic up to {last.end}: use that group, "
            "or another S3_PREFIX"
        )
    if generation_of(last.plan) != generation:
        raise Contradiction(
            f"the group has no commit, and what was landed up to {last.end} does not say of which topic it is: it is "
            "of an earlier version. `consumer.py verify --repair` compares it with the topic and says where to go on"
        )
    if 0 < last.expected <= last.objects:
        return Committed(last.end, end_mark(generation))
    # Some of its objects may be missing: only the last batch can be so, for its plan was committed with the end of the
    # one before it.
    return Committed(last.start, last.plan)


def _last(landed: Landed, generation: str) -> LastBatch | None:
    """Return the newest batch of this generation, or of version 1, which does not say."""
    found = [landed[name] for name in {generation[:SHORT_GENERATION], ""} if name in landed]
    return max(found, key=lambda batch: batch.end, default=None)
