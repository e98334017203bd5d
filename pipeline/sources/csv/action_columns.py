"""Which columns of a price CSV hold splits and dividends. Pure."""

from typing import NamedTuple


class ActionColumns(NamedTuple):
    """Where one symbol's actions stand, each None where there is no such column."""

    dividend: int | None = None
    split: int | None = None
    gain: int | None = None

    @property
    def any(self) -> bool:
        return self != (None, None, None)
