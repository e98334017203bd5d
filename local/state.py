"""Where the stack keeps what must survive `down`: one folder, `.local/` of this checkout or LOCAL_STACK_DIR."""

import contextlib
import fcntl
import json
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from local import StackError

FREE_BYTES_NEEDED = 300_000_000


def default_folder() -> Path:
    """LOCAL_STACK_DIR, so that tests can run a second stack beside the first; else `.local/` of this checkout."""
    chosen = os.environ.get("LOCAL_STACK_DIR")
    return Path(chosen).expanduser().resolve() if chosen else Path(__file__).resolve().parent.parent / ".local"


@dataclass(frozen=True)
class State:
    """The state folder. One sub-folder per service (its data), `logs/`, `run/` (what is running) and `ports.json`."""

    folder: Path

    def data(self, service: str) -> Path:
        """The folder a service writes to, made when missing."""
        return _made(self.folder / service)

    def log(self, service: str) -> Path:
        return _made(self.folder / "logs") / f"{service}.log"

    def record(self, service: str) -> Path:
        """The file that says which process runs a service."""
        return _made(self.folder / "run") / f"{service}.json"

    @property
    def ports_file(self) -> Path:
        return self.folder / "ports.json"

    def identity(self) -> uuid.UUID:
        """Return a number made once per state folder, which tells our service on a port from a neighbour's."""
        file = self.folder / "identity"
        if not file.exists():
            write_whole(file, str(uuid.uuid4()))
        return uuid.UUID(file.read_text(encoding="utf-8").strip())

    def check_free_space(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if free < FREE_BYTES_NEEDED:
            raise StackError(
                f"{self.folder} has {free // 1_000_000} MB of free disk space and the stack needs "
                f"{FREE_BYTES_NEEDED // 1_000_000} MB; free some, or put the state elsewhere with LOCAL_STACK_DIR."
            )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Only one `up` or `down` works on a state folder at a time; the next one waits for it and says so."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with file_lock(self.folder / "lock", f"Waiting for another `up` or `down` on {self.folder} to finish …"):
            yield

    def wipe(self, services: list[str]) -> None:
        """Delete what the stack made, by name, and nothing else: LOCAL_STACK_DIR may hold more."""
        for name in (*services, "logs", "run"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for name in ("ports.json", "identity"):
            (self.folder / name).unlink(missing_ok=True)


@contextlib.contextmanager
def file_lock(file: Path, waiting_message: str) -> Iterator[None]:
    """Hold an exclusive lock that the kernel lets go when this process ends, however it ends."""
    with file.open("a", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(waiting_message, file=sys.stderr)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def write_whole(file: Path, text: str) -> None:
    """Write a file so that nobody ever reads half of it, not even after a kill in the middle."""
    temporary = file.with_name(f"{file.name}.{os.getpid()}.partial")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)


def read_json(file: Path) -> dict:
    """The file's object, or an empty one when the file is missing or unreadable."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
