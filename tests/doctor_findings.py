"""What the doctor found, for its tests."""

from collections.abc import Iterable
from datetime import UTC, datetime

from pipeline.doctor.finding import Finding


def now() -> datetime:
    return datetime.now(UTC)


def problems(found: Iterable[Finding]) -> list[str]:
    """Text and cure of each problem."""
    return [f"{line.text} -> {line.cure}" for line in found if line.state == "problem"]
