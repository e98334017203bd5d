"""consumer.py with one safeguard taken out: python mutants.py NAME [arguments of consumer.py]. The fault tests must
catch each.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import consumer
from pipeline import terminal
from pipeline.landing.lane import Lane
from pipeline.landing.positions import Committed, Partition
from pipeline.sinks.lake.witness import Witness
from pipeline.streams.kafka import member as group

commit_wanted = Lane.commit_wanted


def no_plan(self: Lane) -> Committed | None:
    """The plan commit is left out: only the offset, as a tutorial would commit it."""
    wanted = commit_wanted(self)
    return wanted and Committed(wanted.offset, "")


def end_before_upload(self: Lane) -> Committed | None:
    """The end is committed before the upload."""
    wanted = commit_wanted(self)
    return Committed(self.closed.plan.end, "") if wanted and self.closed else wanted


start_at = group.Member.start_at


def no_seek(self: group.Member, partition: Partition, offset: int) -> None:
    """A partition that has stayed with this member is read on from where it was, as kafka-python does by itself."""
    if self._consumer._subscription.assignment[partition].position is None:
        start_at(self, partition, offset)
    self._positions[partition] = offset


if __name__ == "__main__":
    name = sys.argv.pop(1)
    # The second witness would stop some of them before they do any harm.
    Witness.last_batches = lambda *_: {}
    if name == "no_seek":
        group.Member.start_at = no_seek
    elif name != "no_witness":
        Lane.commit_wanted = {"no_plan": no_plan, "end_before_upload": end_before_upload}[name]
    terminal.run(consumer.main)
