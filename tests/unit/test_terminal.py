"""What scripts write at their edges: no file and no server steers the terminal or fakes a log line."""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import terminal
from pipeline.settings import ServiceError, Settings, SettingsError, unknown_names


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


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, which is as before after the test."""
    found = logging.getLogger()
    before = found.level, list(found.handlers)
    yield found
    found.setLevel(before[0])
    found.handlers[:] = before[1]


def test_json_covers_errors_and_summaries(root: logging.Logger, capsys: pytest.CaptureFixture) -> None:
    """With LOG_FORMAT=json each line of a run is an object: summaries, errors of services, mistakes in the settings."""
    assert root
    terminal.configure_logging(Settings(log_format="json"))
    terminal.tell_summary("sent 2\nof 3")

    def fails() -> None:
        raise ServiceError("S3_BUCKET=x: gone")

    def is_wrong() -> None:
        raise SettingsError(["S3_BUCKET: is empty"])

    for main, code in ((fails, 1), (is_wrong, 2)):
        with pytest.raises(SystemExit) as ended:
            terminal.run(main)
        assert ended.value.code == code
    out, err = capsys.readouterr()
    assert json.loads(out)["text"] == "sent 2\nof 3"
    error, mistakes = map(json.loads, err.splitlines())
    assert (error["level"], error["event"]) == ("ERROR", "S3_BUCKET=x: gone")
    assert mistakes["mistakes"] == ["S3_BUCKET: is empty"]


def test_a_name_that_is_no_setting_is_told(tmp_path: Path) -> None:
    """config.env's names that nothing reads are found, each with the setting that was perhaps meant."""
    file = tmp_path / "config.env"
    file.write_text("S3_BUCKT=x\nAWS_PROFILE=me\nS3_PREFIX=lake\nAWS_DEFAULT_REGION=eu-west-1\n")
    assert unknown_names(file) == {"S3_BUCKT": "S3_BUCKET", "AWS_PROFILE": ""}
    assert unknown_names(tmp_path / "none.env") == {}


def test_lost_connections_are_told_once_in_a_while(root: logging.Logger, capsys: pytest.CaptureFixture) -> None:
    """The client's many lines about an unreachable broker are silent for half a minute, then one in half a minute; its
    other warnings and all lines of DEBUG pass.
    """
    terminal.configure_logging(Settings())

    def say(seconds: float, text: str) -> None:
        record = logging.makeLogRecord({"name": "kafka.conn", "levelno": 30, "levelname": "WARNING", "msg": text})
        record.created = 1e9 + seconds
        for handler in root.handlers:
            if handler.filter(record):
                handler.emit(record)

    for second in range(100):
        say(second, "Connection failed: KafkaConnectionError: 111 ECONNREFUSED")
        say(second, "Bootstrap bootstrap-0 not ready; waiting 0.11 secs")
        say(second, "Marking the coordinator dead (node coordinator-1) for group g: [Error 16] NotCoordinatorError.")
    assert len(capsys.readouterr().err.splitlines()) == 3
    say(100, "a record is too large")
    assert "too large" in capsys.readouterr().err
    say(1000, "Connection lost")
    assert capsys.readouterr().err == ""
    terminal.configure_logging(Settings(log_level="DEBUG"))
    say(1001, "Connection lost")
    assert "Connection lost" in capsys.readouterr().err


def test_long_work_says_where_it_is_without_a_terminal(
    root: logging.Logger, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every ten seconds a log line counts what is done."""
    assert root
    terminal.configure_logging(Settings())
    now = [100.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    with terminal.progress("plots", 40) as progress:
        for _ in range(30):
            now[0] += 1
            progress.update(1)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("progress ")[1] for line in lines] == [f"plots={count} of=40" for count in (10, 20, 30)]


@pytest.mark.parametrize(("name", "is_ours"), [("producer.py", True), ("stock-producer", True), ("notebook.py", False)])
def test_ctrl_c_while_a_script_imports(name: str, is_ours: bool) -> None:
    """A script of ours that still imports ends by Ctrl-C itself, without a traceback; a program of others that imports
    the package keeps Python's own handler, and so does the script once it runs.
    """
    script = f"""
import sys, signal
sys.argv = [{name!r}]
import pipeline
print(signal.getsignal(signal.SIGINT) is signal.SIG_DFL)
from pipeline import terminal
terminal.run(lambda: print(signal.getsignal(signal.SIGINT) is signal.default_int_handler))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        env=os.environ,
    )
    assert done.stdout.split() == [str(is_ours), "True"], done.stderr


def test_one_is_no_plural() -> None:
    """Counts go with their noun."""
    assert terminal.counted(1, "query", "queries") == "1 query"
    assert terminal.counted(2_000, "query", "queries") == "2,000 queries"
    assert terminal.counted(0, "problem") == "0 problems"
