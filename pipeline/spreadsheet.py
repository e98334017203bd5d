"""CSV that people open in a spreadsheet: a cell is shown, never run as a formula.

Source: https://owasp.org/www-community/attacks/CSV_Injection
"""

import re

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?", re.ASCII)


def harmless(cell: object) -> object:
    """Return the cell as it is, or with an apostrophe in front if a spreadsheet would take the text for a formula.

    Numbers stay numbers, also negative ones that are written as text.
    """
    if isinstance(cell, str) and cell.startswith(_FORMULA_STARTS) and not _NUMBER.fullmatch(cell):
        return f"'{cell}"
    return cell
