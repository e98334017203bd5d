"""What scripts write at their edges: no file and no server steers the terminal or fakes a log line."""

import logging
import sys

import pytest

from pipeline import terminal
from pipeline.settings import ServiceError, Settings


def test_printable_escapes_control_characters_only() -> None:
    """Escape sequences, bells, NULs and marks that turn the writing direction are escaped; letters stay."""
    assert terminal.printable("a\x1b[2J\x07\0\u202e\x9b\r b\nč") == "a\\x1b[2J\\x07\\x00\\u202e\\x9b\\r b\nč"


def test_a_log_line_stays_one_line(capsys: pytest.CaptureFixture) -> None:
    """A field that holds a line end or an escape sequence is shown escaped, in one line."""
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    try:
        terminal.configure_logging(Settings())
        logging.getLogger("x").warning("polled", extra={"symbol": "A\n2026-01-01T00:00:00Z ERROR   fake\x1b[2J"})
    finally:
        root.setLevel(before[0])
        root.handlers[:] = before[1]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("WARNING polled symbol=A\\n2026-01-01T00:00:00Z ERROR   fake\\x1b[2J")


def test_an_error_of_a_service_is_printable(capsys: pytest.CaptureFixture) -> None:
    """A message that a server wrote is shown escaped."""

    def main() -> None:
        raise ServiceError("it said \x1b]0;owned\x07")

    with pytest.raises(SystemExit) as ended:
        terminal.run(main)
    assert ended.value.code == 1
    assert capsys.readouterr().err == "error: it said \\x1b]0;owned\\x07\n"
    assert sys.stderr
