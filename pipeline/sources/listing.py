"""A source's list of corporate actions of one symbol, read whole, and what changed since it was last read. Pure.

A source moves and withdraws actions without a word: a list that is read whole tells, for what it no longer has is gone.
"""

import base64
import logging
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import msgspec

from pipeline import records
from pipeline.records import Action, InvalidRecord

log = logging.getLogger(__name__)

# Some plans list the last two years only: what grows older than that is not withdrawn.
_ALWAYS_LISTED = timedelta(days=700)


@dataclass
class Listing:
    """What a source lists: actions by kind and id, and the ids of those that break the definition, with the reason."""

    actions: dict[str, Action] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, identity: str, make: Callable[[str], Action]) -> None:
        """Add the action that `make` returns for an id; one that it cannot make, or that is none, is refused. Of two
        with one id the last counts.
        """
        try:
            action = make(identity)
            records.encode(action)
        except (InvalidRecord, AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            reason = str(error) if isinstance(error, InvalidRecord) else f"not as documented ({error!r})"
            log.error("action refused", extra={"kind": kind, "id": identity, "reason": reason})  # noqa: TRY400 - the reason says it all
            self.refused[f"{kind} {identity}"] = reason
            return
        self.actions[f"{kind} {identity}"] = action

    def free(self, kind: str, identity: str) -> str:
        """Return the id, with a number behind it where another action has it: for sources without ids of their own."""
        number = sum(name == f"{kind} {identity}" or name.startswith(f"{kind} {identity}/") for name in self.actions)
        return f"{identity}/{number + 1}" if number else identity


def changes(before: Mapping[str, Action], now: Listing) -> list[Action]:
    """Return what is new or other than before."""
    return [
        action for name, action in now.actions.items() if name not in before or _facts(before[name]) != _facts(action)
    ]


def gone(before: Mapping[str, Action], now: Listing, *, today: date) -> dict[str, Action]:
    """Return what is listed no longer, except what is older than all that is listed."""
    first = min((action.time for action in now.actions.values()), default="9999")
    since = min(first, f"{today - _ALWAYS_LISTED} 00:00:00.000")
    listed = {**now.actions, **now.refused}
    return {name: action for name, action in before.items() if name not in listed and action.time >= since}


def cancelled(action: Action, *, ingested_at: str) -> Action:
    """Return the record that withdraws an action."""
    return msgspec.structs.replace(action, cancelled=True, ingested_at=ingested_at)


def packed(listed: Mapping[str, Action]) -> str:
    """Return what is listed as a checkpoint holds it."""
    return base64.b64encode(zlib.compress(msgspec.json.encode(list(listed.values())))).decode()


def unpacked(text: str) -> dict[str, Action]:
    """Return what a checkpoint says was listed; nothing for an empty one."""
    found: list[Action] = (
        msgspec.json.decode(zlib.decompress(base64.b64decode(text)), type=list[Action]) if text else []
    )
    return {f"{action.kind} {action.id}": action for action in found}


def optional_day(value: Any) -> str | None:
    """Return a day of an answer; None for what APIs write where they know none."""
    return None if value in (None, "", "None", "null") else str(value)


def day_time(value: Any) -> str:
    """Return the time of an action of a day."""
    return f"{value} 00:00:00.000"


def _facts(action: Action) -> Action:
    return msgspec.structs.replace(action, ingested_at="")
