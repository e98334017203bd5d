"""What pyspark needs beside itself: a Java that Spark 3.5 takes, and the jars of its S3 client, checked by their
SHA-256.
"""

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from jgo.maven import MavenContext, PythonResolver

from local.downloads import cache_folder

# Spark 3.5 runs on these; the embedded stack's own Java is newer, and Spark fails on it.
JAVA_VERSIONS = ("17", "21")
# hadoop-aws of the Hadoop that pyspark 3.5.6 holds, with what it needs.
JARS = (
    ("org.apache.hadoop", "hadoop-aws", "3.3.4", "53f9ae03c681a30a50aa17524bd9790ab596b28481858e54efd989a826ed3a4a"),
    (
        "com.amazonaws",
        "aws-java-sdk-bundle",
        "1.12.262",
        "873fe7cf495126619997bec21c44de5d992544aea7e632fdc77adb1a0915bae5",
    ),
    (
        "org.wildfly.openssl",
        "wildfly-openssl",
        "1.0.7.Final",
        "9f7058778978ec2ad90c7224401a4b0013d93e0dd3fa0f72b25244ffa3507ca8",
    ),
)


def java_home() -> Path:
    """A Java 17 or 21 from JAVA_HOME, PATH or the usual places; skips the test where there is none."""
    candidates = [Path(home) for home in (os.environ.get("JAVA_HOME"),) if home]
    if found := shutil.which("java"):
        candidates.append(Path(found).resolve().parents[1])
    for place in (
        Path("/usr/lib/jvm"),
        Path("/Library/Java/JavaVirtualMachines"),
        Path.home() / ".sdkman/candidates/java",
    ):
        if place.is_dir():
            candidates += [home for version in sorted(place.iterdir()) for home in (version, version / "Contents/Home")]
    for home in candidates:
        if _version(home) in JAVA_VERSIONS:
            return home
    pytest.skip("Spark 3.5 needs Java 17 or 21: none in JAVA_HOME, PATH or /usr/lib/jvm")


def _version(home: Path) -> str | None:
    program = home / "bin/java"
    if not program.exists():
        return None
    said = subprocess.run([program, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', said)
    return found[1] if found else None


def s3_jars() -> list[Path]:
    """Fetched once per user, 282 MB."""
    maven = MavenContext(PythonResolver(), repo_cache=cache_folder() / "spark-s3a", timeout=60)
    files = []
    for group, name, version, sha256 in JARS:
        file = maven.project(group, name).at_version(version).artifact("", "jar").resolve()
        with file.open("rb") as content:
            assert hashlib.file_digest(content, "sha256").hexdigest() == sha256, f"{file} is not the file it should be"
        files.append(file)
    return files
