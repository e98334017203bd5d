"""Several consumers of one group on one machine: `consumer.py --workers N`."""

import logging
import os
import signal
import subprocess
import sys
import time

from pipeline import terminal
from pipeline.settings import Settings

log = logging.getLogger(__name__)


def run(settings: Settings, arguments: list[str], count: int, metrics_port: int | None) -> int:
    """Start the same command `count` times with one worker each, pass signals on, and wait. One that fails stops the others."""
    with terminal.stop_signals() as is_stopping:
        children = [
            subprocess.Popen([sys.executable, sys.argv[0], *arguments, "--workers", "1", "--together", *_own(settings, metrics_port, number)])
            for number in range(count)
        ]
        asked = False
        while any(child.poll() is None for child in children):
            failed = any(child.returncode not in (None, terminal.EXIT_DONE) for child in children)
            if (is_stopping() or failed) and not asked:
                asked = True
                for child in children:
                    if child.poll() is None:
                        child.send_signal(signal.SIGTERM)
            time.sleep(0.1)
    codes = [child.returncode for child in children]
    log.info("workers ended", extra={"exit_codes": codes, "pid": os.getpid()})
    return max((abs(code) and 1 for code in codes), default=terminal.EXIT_DONE)


def _own(settings: Settings, metrics_port: int | None, number: int) -> list[str]:
    """What each worker must have for itself: a static member name and a port are one process's."""
    own = ["--instance", f"{settings.kafka_instance}-{number}"] if settings.kafka_instance else []
    return own + (["--metrics-port", str(metrics_port + number)] if metrics_port else [])
