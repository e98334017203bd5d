"""Run ministack 1.5.33 with the few changes that make it a faithful stand-in: Trino behind Athena, views, crawls,
saved state, and nobody served but this machine's programs.

Started by aws_emulator.py as `python -m local.ministack_launcher`. Every change below replaces a function of
ministack's by name, which is why another version is refused: the names, and what they are given, are not a public
interface.
"""

import importlib.metadata
import os
import sys
from pathlib import Path
from types import ModuleType

from local import StackError

MINISTACK_VERSION = "1.5.33"


def main() -> None:
    check_version(importlib.metadata.version("ministack"))
    # Imported late, because importing them reads the environment and, in another version, may fail with a riddle.
    from ministack import app  # noqa: PLC0415
    from ministack.services import athena, glue  # noqa: PLC0415

    from local import athena_on_trino, crawl_emulation, gatekeeper, state_saver  # noqa: PLC0415
    from local.state import State  # noqa: PLC0415

    state = State(Path(os.environ["LOCAL_STACK_DIR"]))
    # Hypercorn is given this object by app.main(), so requests pass through ours first.
    saver = state_saver.StateSaver(app, str(state.identity()))
    app.app = gatekeeper.Gatekeeper(saver, int(os.environ["GATEWAY_PORT"]))
    athena_on_trino.install(athena, state, saver.note_change)
    crawl_emulation.install(glue, saver.note_change)
    drop_empty_descriptions(glue)
    sys.argv[1:] = []
    app.main()


def check_version(installed: str) -> None:
    if installed != MINISTACK_VERSION:
        raise StackError(
            f"ministack {installed} is installed, but the embedded stack needs {MINISTACK_VERSION}: it replaces "
            f"functions inside ministack (Athena's query executor, Glue's crawler) that another version may not have. "
            f"Install what requirements-local.txt names."
        )


def drop_empty_descriptions(glue: ModuleType) -> None:
    """Leave out a table's Description where none was given, as AWS does.

    ministack answers with an empty one. Trino takes the Description for the table's comment, and knows a view by the
    comment "Presto View", which it stores in the table's parameters: an empty Description hides it and the view is
    lost.
    """
    create_table = glue._create_table

    def create_table_without_empty_description(data: dict) -> tuple:
        answer = create_table(data)
        table = glue._tables.get(f"{data.get('DatabaseName')}/{data.get('TableInput', {}).get('Name')}")
        if table and not table.get("Description"):
            table.pop("Description", None)
        return answer

    glue._create_table = create_table_without_empty_description


if __name__ == "__main__":
    try:
        main()
    except StackError as error:
        sys.exit(f"error: {error}")
