"""Refused records as they are kept: JSON lines with where a record was, why it was refused, and its value. Pure."""

import base64

import msgspec

from pipeline import records
from pipeline.landing.plan import nearest_ms


class DeadLetter(msgspec.Struct, kw_only=True):
    """A record that broke its definition, where it was, and why it was refused."""

    topic: str
    partition: int
    offset: int
    time: str
    reason: str
    encoding: str  # text, base64 (the value is not UTF-8), or null (there was no value)
    value: str


def dead_letter(
    topic: str, partition: int, offset: int, *, timestamp_ms: int, value: bytes | None, reason: str
) -> DeadLetter:
    """Return what is kept of a refused record; a value that is not UTF-8 is kept as base64."""
    encoding, text = "null", ""
    if value is not None:
        try:
            encoding, text = "text", value.decode()
        except UnicodeDecodeError:
            encoding, text = "base64", base64.b64encode(value).decode()
    return DeadLetter(
        topic=topic,
        partition=partition,
        offset=offset,
        time=records.time_text_ms(nearest_ms(timestamp_ms)),
        reason=reason,
        encoding=encoding,
        value=text,
    )
