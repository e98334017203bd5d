"""The named queries of athena_queries.sql."""

import itertools
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from pipeline.settings import SettingsError

_BESIDE = Path(__file__).parent.parent.parent / "athena_queries.sql"
# Installed as commands, the file lies where the environment keeps such data.
QUERIES_FILE = _BESIDE if _BESIDE.exists() else Path(sys.prefix) / "share/stock-market/athena_queries.sql"


@dataclass(frozen=True)
class Query:
    """One block of athena_queries.sql. `line` is that of the SQL's first line in the file."""

    name: str
    description: str
    sql: str
    line: int = 1
    path: str = ""


def queries(path: str | Path = QUERIES_FILE) -> dict[str, Query]:
    """The blocks of a file of queries, by name, in their order. A block begins with `-- name: …`; the comment lines
    below that are its description; the rest, up to the next block, is one statement. Raises SettingsError.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SettingsError([f"{path}: cannot be read ({error.strerror})"]) from None
    found: dict[str, Query] = {}
    starts = [number for number, line in enumerate(lines) if line.startswith("-- name:")] + [len(lines)]
    for start, end in itertools.pairwise(starts):
        name = lines[start].removeprefix("-- name:").strip()
        first = next((n for n in range(start + 1, end) if lines[n].strip() and not lines[n].startswith("--")), end)
        description = " ".join(line.removeprefix("--").strip() for line in lines[start + 1 : first]).strip()
        sql = "\n".join(lines[first:end]).strip().removesuffix(";").rstrip()
        if not re.fullmatch(r"\w+", name) or not sql or name in found:
            raise SettingsError(
                [f"{path}:{start + 1}: a block needs a name of its own (letters, digits, _) and a statement: {name!r}"]
            )
        found[name] = Query(name, description, sql, first + 1, str(path))
    return found
