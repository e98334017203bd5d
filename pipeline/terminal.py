"""What every script does at its edges: log lines, progress, signals and exit codes."""

import json
import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from pipeline.settings import ServiceError, Settings, SettingsError

EXIT_DONE, EXIT_FAILED, EXIT_WRONG_USE = 0, 1, 2
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STANDARD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def run(main: Callable[[], int | None]) -> None:
    """Run a script and leave with its exit code: 0 done, 1 failed, 2 wrong use. Expected errors print no traceback."""
    try:
        code = main()
    except SettingsError as error:
        print("The settings have mistakes:", *(f"  {mistake}" for mistake in error.mistakes), sep="\n", file=sys.stderr)
        sys.exit(EXIT_WRONG_USE)
    except ServiceError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(EXIT_FAILED)
    except BrokenPipeError:
        # Whoever read our output (head, less) has gone; that is not a failure worth words.
        sys.stderr.close()
        sys.exit(EXIT_FAILED)
    sys.exit(code or EXIT_DONE)


def configure_logging(settings: Settings) -> None:
    """Log to standard error: an event name and its fields, as text or as one JSON object a line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if settings.log_format == "json" else _TextFormatter())
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    # A warning at every moment in which the machine is busy.
    logging.getLogger("kafka.net.selector").setLevel(logging.ERROR)
    # The client's own lines at INFO are many, and speak of things that only its authors can change.
    for chatty in ("kafka", "botocore", "boto3", "urllib3", "s3fs", "aiobotocore", "fsspec"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(settings.log_level)))


def printable(text: str) -> str:
    """Return the text with its control characters escaped, so that no file or server can steer a terminal. Line ends
    stay.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def _event_fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD_ATTRIBUTES}


class _UtcFormatter(logging.Formatter):
    """Times in UTC, to the second."""

    def time_of(self, record: logging.LogRecord) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))


class _TextFormatter(_UtcFormatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in _event_fields(record).items())
        event = printable(f"{record.getMessage()}{fields}").replace("\n", "\\n")
        line = f"{self.time_of(record)} {record.levelname:<7} {event}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _JsonFormatter(_UtcFormatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": self.time_of(record),
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
            **_event_fields(record),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM set a flag, so that the batch in hand is finished; a second Ctrl-C interrupts at once.

    Yields a function that says whether to stop. kafka-python has no wakeup(), so loops ask at least once a second.
    """
    asked: list[int] = []

    def note(signum: int, _frame: object) -> None:
        if asked and signum == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(signum)

    previous = {number: signal.signal(number, note) for number in _STOP_SIGNALS}
    _mask("SIG_UNBLOCK")
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def signals_held() -> Iterator[None]:
    """Keep Ctrl-C and SIGTERM waiting; in a process forked meanwhile, until it calls stop_signals."""
    _mask("SIG_BLOCK")
    try:
        yield
    finally:
        _mask("SIG_UNBLOCK")


def _mask(how: str) -> None:
    if hasattr(signal, "pthread_sigmask"):  # Windows has neither this nor forks
        signal.pthread_sigmask(getattr(signal, how), _STOP_SIGNALS)


def progress(unit: str, total: int | None = None) -> "tqdm[Any]":
    """A progress bar on a terminal, and silence elsewhere."""
    return tqdm(total=total, unit=f" {unit}", unit_scale=True, dynamic_ncols=True, disable=None)
