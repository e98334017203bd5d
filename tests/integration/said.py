"""What a process that was started has said so far."""

import subprocess
import time


def wait_for_text(process: subprocess.Popen, text: str) -> None:
    """Wait until the process has said it; fail after a minute."""
    until = time.monotonic() + 60
    while text not in process.log_path.read_text():
        assert time.monotonic() < until, f"{text!r} was not said"
        time.sleep(0.1)
