"""Several consumers of one group on one machine: `consumer.py --workers N`."""

import logging
import multiprocessing
import os
from collections.abc import Callable
from functools import partial
from multiprocessing import connection
from typing import Any

from pipeline import terminal

log = logging.getLogger(__name__)


def run(work: Callable[[int], int], count: int) -> int:
    """Call `work` in `count` processes, each with its number; pass signals on, and wait. Return the exit code. One
    that fails stops the others.

    A fork has imported everything already, which takes as long as landing 200,000 records. `work` must use
    terminal.stop_signals. To be called before threads start.
    """
    how = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    context: Any = multiprocessing.get_context(how)
    with terminal.stop_signals() as is_stopping:
        children = [context.Process(target=terminal.run, args=(partial(work, number),)) for number in range(count)]
        # A fork inherits handlers that note a signal for this process only. Signals wait until it has its own.
        with terminal.signals_held():
            for child in children:
                child.start()
        asked = False
        while running := [child for child in children if child.is_alive()]:
            failed = any(child.exitcode not in (None, terminal.EXIT_DONE) for child in children)
            if (is_stopping() or failed) and not asked:
                asked = True
                for child in running:
                    child.terminate()
            connection.wait([child.sentinel for child in running], timeout=0.1)
    codes = [child.exitcode for child in children]
    log.info("workers ended", extra={"exit_codes": codes, "pid": os.getpid()})
    return max((abs(code) and terminal.EXIT_FAILED for code in codes), default=terminal.EXIT_DONE)
