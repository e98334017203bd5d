"""What the checkpoints say that sources were asked for, whoever asked: for coverage and back-fill. Pure.

The key of a series is API/name/what/basis/topic, its name that of a symbol, of several, or of the back-fill.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.sources.progress import empty_days, sent_days

Days = set[str]  # YYYY-MM-DD
_BACKFILL = "backfill"


@dataclass(frozen=True)
class Asked:
    """By symbol: the days that had nothing, the days that a back-fill has sent, and the ranges of time (first, last)
    that were asked for.
    """

    empty: dict[str, Days] = field(default_factory=dict)
    sent: dict[str, Days] = field(default_factory=dict)
    done: dict[str, list[tuple[str, str]]] = field(default_factory=dict)


def asked(positions: Mapping[str, Mapping[str, Any]], interval: str, topic: str) -> Asked:
    """Return what was asked for of the bars of an interval, sent to a topic."""
    found = Asked()
    for name, state in _of_series(positions, interval, topic):
        for symbol, days in empty_days(state).items():
            found.empty.setdefault(symbol, set()).update(days)
        for symbol, days in sent_days(state).items() if name == _BACKFILL else ():
            found.sent.setdefault(symbol, set()).update(days)
        found.done.setdefault(name, []).extend((first, last) for first, last in state.get("done", ()))
    return found


def _of_series(
    positions: Mapping[str, Mapping[str, Any]], interval: str, topic: str
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The name and the state of each series of bars of an interval."""
    whats = {interval, "grouped"} if interval == "1d" else {interval}
    for key, state in positions.items():
        words = key.split("/")
        if len(words) == 5 and words[2] in whats and words[4] == topic:
            yield words[1], state
