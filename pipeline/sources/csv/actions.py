"""Splits and dividends that price CSVs have in columns of their own. Pure.

Yahoo's files have Dividends, Stock Splits and Capital Gains, Quandl's Ex-Dividend and Split Ratio, Alpha Vantage's
dividend_amount and split_coefficient. A cell of 0 is nothing, and so is a split of 1.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.records import Action
from pipeline.sources.csv.action_columns import ActionColumns
from pipeline.sources.csv.cells import number

_DAY = re.compile(r"\d{4}-\d\d-\d\d(?!\d)", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class ActionRow:
    """What a row says besides its action cells. `adjusted_to`: the day on whose shares amounts are; None: declared."""

    symbol: str
    day: str
    adjusted_to: str | None
    source: str
    ingested_at: str


class BadAction(ValueError):
    """A cell that is no split and no dividend; the text is the reason as it is counted."""


def local_day(cell: str, time: str) -> str:
    """Return the day of a row: the one that its cell begins with, which is the exchange's, else that of its time."""
    found = _DAY.match(cell.strip())
    return found[0] if found else time[:10]


def row_actions(cells: Sequence[str], columns: ActionColumns, row: ActionRow) -> Iterator[Action]:
    """Yield the actions of a row. Raises BadAction.

    Yahoo counts a fund's capital gain among its dividends; where the dividend is the smaller one it does not.
    """
    ratio = _cell(cells, columns.split, "split")
    if ratio not in (None, 0.0, 1.0):
        if ratio is None or ratio < 0:
            raise BadAction("split is no ratio")
        yield _action("split", row, split_from=1.0, split_to=ratio)
    dividend = _cell(cells, columns.dividend, "dividend") or 0.0
    gain = _cell(cells, columns.gain, "capital gain") or 0.0
    if dividend < 0 or gain < 0:
        raise BadAction("dividend less than 0")
    amount = dividend if dividend >= gain else dividend + gain
    if amount:
        category = "capital_gain" if gain else None
        yield _action("dividend", row, amount=amount, adjusted_to=row.adjusted_to, category=category)


def _action(kind: str, row: ActionRow, **fields: object) -> Action:
    return Action(
        id=f"{kind}/{row.symbol}/{row.day}",
        symbol=row.symbol,
        time=f"{row.day} 00:00:00.000",
        kind=kind,  # type: ignore[arg-type]  # one of the two above
        source=row.source,
        ingested_at=row.ingested_at,
        **fields,  # type: ignore[arg-type]
    )


def _cell(cells: Sequence[str], column: int | None, name: str) -> float | None:
    if column is None:
        return None
    try:
        return number(cells[column])
    except (ValueError, OverflowError):
        raise BadAction(f"{name} is not a number") from None
