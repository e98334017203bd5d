"""What a check found: one line, and the cure where one is needed."""

from typing import Literal, NamedTuple

State = Literal["ok", "warning", "problem"]


class Finding(NamedTuple):
    """`area` is the part that was looked at, `text` what is so, `cure` what to do about it."""

    state: State
    area: str
    text: str
    cure: str = ""


def ok(area: str, text: str) -> Finding:
    return Finding("ok", area, text)


def warning(area: str, text: str, cure: str) -> Finding:
    return Finding("warning", area, text, cure)


def problem(area: str, text: str, cure: str) -> Finding:
    return Finding("problem", area, text, cure)
