"""What every script does at its edges: log lines, progress, signals and exit codes."""

import json
import logging
import math
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from tqdm import tqdm

from pipeline.settings import CONFIG_FILE, ServiceError, Settings, SettingsError, unknown_names

EXIT_DONE, EXIT_FAILED, EXIT_WRONG_USE = 0, 1, 2
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_OUTAGE_SECONDS = 30
_LINE_SECONDS = 10
_OF_CONNECTIONS = re.compile(
    r"[Bb]ootstrap|Marking the coordinator dead|[Cc]onnection (failed|lost)|ECONNREFUSED|disconnected|NodeNotReady"
)
log = logging.getLogger(__name__)
_STANDARD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _is_json() -> bool:
    """Whether log lines are JSON: as configured, or before the settings are known as the environment says."""
    handlers = logging.getLogger().handlers
    ours = [handler.formatter for handler in handlers if isinstance(handler.formatter, _UtcFormatter)]
    return isinstance(ours[0], _JsonFormatter) if ours else os.environ.get("LOG_FORMAT") == "json"


def _write_json(stream: TextIO, level: str, event: str, **fields: object) -> None:
    time_text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    print(json.dumps({"time": time_text, "level": level, "event": event, **fields}), file=stream, flush=True)


def tell_error(text: str, *, prefix: str = "error: ") -> None:
    """Print an error on standard error, as text or with LOG_FORMAT=json as one object."""
    if _is_json():
        _write_json(sys.stderr, "ERROR", text)
    else:
        print(f"{prefix}{printable(text)}", file=sys.stderr)


def tell_summary(text: str) -> None:
    """Print what a run came to on standard output, as text or with LOG_FORMAT=json as one object."""
    if _is_json():
        _write_json(sys.stdout, "INFO", "summary", text=text)
    else:
        print(printable(text))


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, of which one is no plural: 1 line, 2,000 lines."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {plural or f'{noun}s'}"


def run(main: Callable[[], int | None]) -> None:
    """Run a script and leave with its exit code: 0 done, 1 failed, 2 wrong use. Expected errors print no traceback."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # see pipeline/__init__.py
    try:
        code = main()
    except SettingsError as error:
        if _is_json():
            _write_json(sys.stderr, "ERROR", "the settings have mistakes", mistakes=error.mistakes)
        else:
            lines = (f"  {mistake}" for mistake in error.mistakes)
            print("The settings have mistakes:", *lines, sep="\n", file=sys.stderr)
        sys.exit(EXIT_WRONG_USE)
    except ServiceError as error:
        tell_error(str(error))
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        tell_error("stopped", prefix="")
        sys.exit(EXIT_FAILED)
    except BrokenPipeError:
        # Whoever read our output (head, less) has gone; that is not a failure worth words.
        sys.stderr.close()
        sys.exit(EXIT_FAILED)
    sys.exit(code or EXIT_DONE)


def add_environment(parser: Any) -> None:
    """Add --env to the options of a parser or of a group; load_settings() reads it as `stock_env`."""
    parser.add_argument(
        "--env", dest="stock_env", metavar="NAME", help="environment: names of its own for all that is made (STOCK_ENV)"
    )


def configure_logging(settings: Settings) -> None:
    """Log to standard error: an event name and its fields, as text or as one JSON object a line. Name what config.env
    has that is no setting.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if settings.log_format == "json" else _TextFormatter())
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    # A warning at every moment in which the machine is busy.
    logging.getLogger("kafka.net.selector").setLevel(logging.ERROR)
    # The client's own lines at INFO are many, and speak of things that only its authors can change.
    for chatty in ("kafka", "botocore", "boto3", "urllib3", "s3fs", "aiobotocore", "fsspec", "matplotlib", "PIL"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(settings.log_level)))
    if settings.log_level != "DEBUG":
        handler.addFilter(_Outages())
    for name, meant in unknown_names().items():
        meant_fields = {"did_you_mean": meant} if meant else {}
        log.warning("no setting has this name", extra={"name_in": CONFIG_FILE, "setting": name, **meant_fields})


class _Outages(logging.Filter):
    """Of what kafka-python says of lost connections and coordinators, several lines for each try, let one pass in half
    a minute, and none in the first: whoever cannot reach Kafka says so in the end, and a group's first coordinator or a
    broker that is back at once is no news.
    """

    def __init__(self) -> None:
        super().__init__()
        self._since = self._passed = -math.inf

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("kafka") or not _OF_CONNECTIONS.search(record.getMessage()):
            return True
        if record.created - self._passed > 4 * _OUTAGE_SECONDS:
            self._since = self._passed = record.created
        if record.created - max(self._since, self._passed) < _OUTAGE_SECONDS:
            return False
        self._passed = record.created
        return True


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


def progress(unit: str, total: int | None = None, *, has_lines: bool = True) -> "tqdm[Any]":
    """A progress bar on a terminal, and elsewhere a log line now and then, or silence."""
    kind: type[tqdm[Any]] = _ProgressLines if has_lines and not sys.stderr.isatty() else tqdm
    return kind(total=total, unit=f" {unit}", unit_scale=True, dynamic_ncols=True, disable=None)


class _ProgressLines(tqdm):  # type: ignore[type-arg]  # tqdm is generic in its stubs only
    """A bar that nobody sees, and a log line every ten seconds."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._unit, self._total, self._count = options["unit"].strip(), options["total"], 0
        self._last_line = time.monotonic()

    def update(self, n: float | None = 1) -> bool | None:
        """Count, and log a line if one is due."""
        self._count += int(n or 0)
        if (now := time.monotonic()) - self._last_line >= _LINE_SECONDS:
            self._last_line = now
            log.info("progress", extra={self._unit: self._count, **({"of": self._total} if self._total else {})})
        return None
