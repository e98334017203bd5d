"""Python and the packages that do not fit together."""

import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import Version

from pipeline.doctor.finding import Finding, ok, problem, warning

REQUIREMENTS = Path(__file__).parent.parent.parent / "requirements.txt"
OLDEST_PYTHON = (3, 11)
# https://github.com/dpkp/kafka-python/releases: 3.0.0 to 3.0.8 can stop reading a partition after a rebalance.
OLDEST_KAFKA_PYTHON = Version("3.0.9")
CURE = "`make` builds .venv anew from requirements.txt; run the scripts with .venv/bin/python"


def findings() -> Iterator[Finding]:
    yield _python()
    yield from _kafka_client()
    yield from _requirements()
    yield from _botocore()


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        return problem(
            "machine", f"Python {version} is too old", f"Python {'.'.join(map(str, OLDEST_PYTHON))} or newer is needed"
        )
    return ok("machine", f"Python {version}")


def _kafka_client() -> Iterator[Finding]:
    if _version("kafka-python-ng"):
        yield problem(
            "machine",
            "kafka-python-ng is installed: abandoned, and it overwrites the files of kafka-python",
            "pip uninstall kafka-python-ng kafka-python, then pip install -r requirements.txt",
        )
    version = _version("kafka-python")
    if version and version < OLDEST_KAFKA_PYTHON:
        yield problem("machine", f"kafka-python {version} can stop reading a partition after a rebalance", CURE)


def _requirements() -> Iterator[Finding]:
    """Each line of requirements.txt against what is installed."""
    wrong = 0
    for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines():
        try:
            wanted = Requirement(line.partition("#")[0].strip())
        except InvalidRequirement:
            continue
        version = _version(wanted.name)
        if version is None or not wanted.specifier.contains(version, prereleases=True):
            wrong += 1
            yield problem(
                "machine",
                f"{wanted.name} {version or 'is not installed'}; needed: {wanted.specifier or 'any version'}",
                CURE,
            )
    if not wrong:
        yield ok("machine", "packages are as requirements.txt asks")


def _botocore() -> Iterator[Finding]:
    """s3fs brings aiobotocore, which works with few versions of the botocore that boto3 brings."""
    needed = [Requirement(text) for text in (metadata.requires("aiobotocore") or [] if _version("aiobotocore") else [])]
    for wanted in needed:
        version = _version(wanted.name)
        if re.fullmatch("botocore", wanted.name) and version and not wanted.specifier.contains(version):
            yield warning(
                "machine",
                f"botocore {version} does not fit aiobotocore {_version('aiobotocore')}, which wants "
                f"{wanted.specifier}; "
                "s3:// paths of replay may fail",
                CURE,
            )


def _version(name: str) -> Version | None:
    try:
        return Version(metadata.version(name))
    except metadata.PackageNotFoundError:
        return None
