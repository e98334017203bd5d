"""Fetch Kafka and Trino once per user, with every file's SHA-256 checked against `artifacts.lock`."""

import contextlib
import hashlib
import os
import shutil
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import requests
from jgo.maven import MavenContext, PythonResolver

from local import StackError
from local.state import file_lock

LOCK_FILE = Path(__file__).with_name("artifacts.lock")
TIMEOUT_SECONDS = 60
# A line of progress this often where there is no terminal to overwrite a line on.
LOG_PROGRESS_SECONDS = 10


@dataclass(frozen=True)
class Artifact:
    coordinate: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Product:
    """What to download, the name of its folder in the cache, and how its files are laid out there."""

    name: str
    title: str
    folder: str
    unpack: Callable[[list[Path], Path], None]
    unpacked_bytes: int


def cache_folder() -> Path:
    """Return a folder outside the checkout, so that the next clone finds it (XDG Base Directory Specification)."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "stock-market-data-pipeline"


def artifacts_of(product: str) -> list[Artifact]:
    """Return the product's files, from the lock file."""
    lines = (line.split() for line in LOCK_FILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    return [Artifact(coordinate, int(size), sha256) for name, coordinate, size, sha256 in lines if name == product]


def ensure(product: Product) -> Path:
    """Return the product's folder in the cache; download and unpack it first if it is not there.

    The folder gets its name by a rename when everything in it is complete, so one that exists is whole. Two processes
    take turns by a file lock; the second finds the folder of the first.
    """
    cache = cache_folder()
    final = cache / product.folder
    if final.is_dir():
        return final
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with file_lock(cache / f"{product.folder}.lock", f"Waiting for another process to download {product.title} …"):
            if not final.is_dir():
                _download(product, final)
    except OSError as error:
        if isinstance(error, requests.RequestException):
            raise _unreachable(product, error) from error
        raise StackError(
            f"Could not store {product.title} in {cache}: {error}. Set XDG_CACHE_HOME to put it elsewhere."
        ) from error
    return final


def _download(product: Product, final: Path) -> None:
    artifacts = artifacts_of(product.name)
    total_bytes = sum(artifact.size_bytes for artifact in artifacts)
    _check_free_space(product, final.parent, total_bytes + product.unpacked_bytes)
    # What an interrupted download left; nobody else writes there while we hold the lock.
    partial = final.with_name(f"{final.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with progress(product.title, total_bytes) as advance:
        files = [_fetch(product, artifact, partial / "repository", advance) for artifact in artifacts]
    print(f"{product.title}: checksums match; unpacking …", file=sys.stderr)
    product.unpack(files, partial / "unpacked")
    (partial / "unpacked").rename(final)
    shutil.rmtree(partial, ignore_errors=True)


def _fetch(product: Product, artifact: Artifact, repository: Path, advance: Callable[[int], None]) -> Path:
    """Fetch one file through jgo and refuse it when its SHA-256 is not the listed one (jgo itself only warns)."""

    @contextlib.contextmanager
    def report(_name: str, _size: int) -> Iterator[Callable[[int], None]]:
        yield advance

    group, name, version, packaging = artifact.coordinate.split(":")
    context = MavenContext(PythonResolver(progress_callback=report), repo_cache=repository, timeout=TIMEOUT_SECONDS)
    try:
        file = context.project(group, name).at_version(version).artifact("", packaging).resolve()
    except RuntimeError as error:  # jgo's word for "no repository has it"
        raise _unreachable(product, error) from error
    with file.open("rb") as content:
        actual = hashlib.file_digest(content, "sha256").hexdigest()
    if actual != artifact.sha256:
        raise StackError(
            f"{artifact.coordinate} was downloaded with SHA-256 {actual}, but {LOCK_FILE.name} says {artifact.sha256}. "
            f"It was not used. Try again; if it stays so, something between here and the repository changes files."
        )
    return file


@contextlib.contextmanager
def progress(title: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
    """Show how far a download is: one line overwritten on a terminal, a line now and then in a log."""
    terminal = sys.stderr.isatty()
    done_bytes, shown_at = 0, time.monotonic()

    def show(end: str) -> None:
        print(
            f"{title}: downloaded {done_bytes // 1_000_000} of {total_bytes // 1_000_000} MB",
            end=end,
            file=sys.stderr,
            flush=True,
        )

    def advance(count_bytes: int) -> None:
        nonlocal done_bytes, shown_at
        done_bytes += count_bytes
        now = time.monotonic()
        if now - shown_at > (0.2 if terminal else LOG_PROGRESS_SECONDS):
            shown_at = now
            show("\r" if terminal else "\n")

    print(f"{title}: downloading {total_bytes // 1_000_000} MB, once, into {cache_folder()}", file=sys.stderr)
    yield advance
    show("\n")


def copy_jars(files: list[Path], folder: Path) -> None:
    """Put Kafka's jars into one folder, which becomes the class path."""
    folder.mkdir(parents=True)
    for file in files:
        file.rename(folder / file.name)


def unpack_trino(files: list[Path], folder: Path) -> None:
    """Unpack Trino: `lib/` of the server's archive, and of its plugins Hive's alone, under `plugin/hive/`."""
    server = next(file for file in files if file.name.endswith(".tar.gz"))
    plugin = next(file for file in files if file.suffix == ".zip")
    with tarfile.open(server) as archive:
        archive.extractall(folder / "archive", filter="data")
    with zipfile.ZipFile(plugin) as archive:
        archive.extractall(folder / "archive-plugin")  # noqa: S202 - zipfile keeps names inside the folder by itself
    (folder / "plugin").mkdir()
    next((folder / "archive").glob("*/lib")).rename(folder / "lib")
    next((folder / "archive-plugin").iterdir()).rename(folder / "plugin" / "hive")
    shutil.rmtree(folder / "archive")
    shutil.rmtree(folder / "archive-plugin")


KAFKA = Product("kafka", "Apache Kafka 4.3.1", "kafka-4.3.1", copy_jars, unpacked_bytes=0)
TRINO = Product("trino", "Trino 476", "trino-476", unpack_trino, unpacked_bytes=500_000_000)


def _check_free_space(product: Product, folder: Path, needed_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise StackError(
            f"{product.title} needs {needed_bytes // 1_000_000} MB of disk space in {folder}, and "
            f"{free // 1_000_000} MB are free. Free some, or set XDG_CACHE_HOME to a folder on another disk."
        )


def _unreachable(product: Product, error: Exception) -> StackError:
    return StackError(
        f"Could not download {product.title}: {error}. The first start needs the internet "
        f"(behind a proxy, set HTTPS_PROXY); later starts do not."
    )
