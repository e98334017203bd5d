"""What is to be done to a part of the lake's AWS side, and how what exists is compared with what is wanted. Pure."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Call:
    """One call that changes something, and its text."""

    text: str
    run: Callable[[], object]


@dataclass(frozen=True)
class Change:
    """What is to be done to one part, or that nothing is."""

    what: str
    action: Literal["create", "update", "keep", "skip", "delete"]
    why: str = ""
    calls: tuple[Call, ...] = ()


def differences(wanted: Any, existing: Any, place: str = "") -> list[str]:
    """Where what exists is not what is wanted. What exists may hold more: services add fields of their own."""
    if isinstance(wanted, dict) and isinstance(existing, dict):
        return [
            line
            for name, value in wanted.items()
            for line in differences(value, existing.get(name), f"{place}.{name}" if place else name)
        ]
    if isinstance(wanted, list) and isinstance(existing, list) and len(wanted) == len(existing):
        return [
            line
            for n, (one, other) in enumerate(zip(wanted, existing, strict=True))
            for line in differences(one, other, f"{place}[{n}]")
        ]
    if wanted == existing or (not wanted and not existing):
        return []
    return [f"{place}: {short(existing)} -> {short(wanted)}"]


def short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
