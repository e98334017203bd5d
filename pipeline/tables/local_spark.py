"""The ETL by Spark on this machine: the Glue job's own code by spark-submit, against the S3 of the settings."""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from etl.curation import CuratedTable
from pipeline.settings import ServiceError, Settings
from pipeline.tables.etl_inputs import ETL_FOLDER, JOB_SCRIPT

log = logging.getLogger(__name__)

# Of the Hadoop that pyspark 3.5, Glue 5.1's Spark, holds; spark-submit fetches it from Maven's repository once.
S3A = "org.apache.hadoop:hadoop-aws:3.3.4"
JAVA_VERSIONS = ("17", "21")
_LAST_LINES = 15


def run(settings: Settings, tables: list[CuratedTable], arguments: list[str], jars: str) -> None:
    """Run the job over the tables to its end. `arguments`: of the job; `jars`: files of S3A, separated by commas, in
    place of what spark-submit fetches. Raises ServiceError.
    """
    program = _spark_submit()
    _check_java(os.environ)
    with tempfile.TemporaryDirectory() as folder:
        configuration, said = Path(folder, "tables.json"), Path(folder, "spark.log")
        configuration.write_text(json.dumps([asdict(table) for table in tables]), encoding="utf-8")
        command = [program, *_options(settings, jars), str(ETL_FOLDER / JOB_SCRIPT)]
        command += ["--configuration", str(configuration), *arguments]
        with said.open("a") as output:
            process = subprocess.Popen(
                command,
                env=_environment(settings, os.environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
            )
            try:
                code = _follow(process, {table.record for table in tables}, output)
            except BaseException:
                process.terminate()
                process.wait()
                raise
        if code:
            lines = [line for line in said.read_text(errors="replace").splitlines() if line.strip()]
            log.debug("spark failed", extra={"log": "\n".join(lines[-200:])})
            # Between the job's own error and the end Spark says goodbye at length.
            own = [line for line in lines if " INFO " not in line and " WARN " not in line]
            raise ServiceError("Spark failed; its last words:\n" + "\n".join(own[-_LAST_LINES:]))


def _follow(process: "subprocess.Popen[str]", records: set[str], others: TextIO) -> int:
    """Print what the job says of each table, as it comes, and write the other lines to a file: spark-submit sends the
    job's errors to its standard output. Return the exit code.
    """
    assert process.stdout is not None
    for line in process.stdout:
        if line.split(" ")[0] in records:
            print(line, end="", flush=True)
        else:
            others.write(line)
            others.flush()
    return process.wait()


def _spark_submit() -> str:
    beside = Path(sys.executable).with_name("spark-submit")
    found = str(beside) if beside.exists() else shutil.which("spark-submit")
    if not found:
        raise ServiceError("--engine spark needs Spark: `pip install pyspark==3.5.6`, and a Java 17")
    return found


def _check_java(environ: Mapping[str, str]) -> None:
    """Spark's own words about a Java that it does not take name neither the Java nor the setting."""
    home = environ.get("JAVA_HOME")
    program = str(Path(home, "bin/java")) if home else shutil.which("java")
    said = ""
    if program and Path(program).exists():
        said = subprocess.run([program, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', said)
    if found is None or found[1] not in JAVA_VERSIONS:
        what = f"{program} is version {found[1]}" if found else f"JAVA_HOME={home or ''}: no Java was found"
        raise ServiceError(f"{what}; Spark 3.5 needs a Java {' or '.join(JAVA_VERSIONS)}, and JAVA_HOME names it")


def _options(settings: Settings, jars: str) -> list[str]:
    """Return what spark-submit is told. Spark has a quarter of the machine's memory; what does not fit goes to disk."""
    memory_mb = max(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4 // 2**20, 1024)
    chosen = {
        "spark.hadoop.fs.s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem",
        "spark.ui.enabled": "false",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.sql.shuffle.partitions": str(4 * (os.cpu_count() or 1)),
    }
    if endpoint := settings.aws_endpoint_url:
        chosen |= {
            "spark.hadoop.fs.s3a.endpoint": endpoint,
            "spark.hadoop.fs.s3a.path.style.access": "true",
            "spark.hadoop.fs.s3a.connection.ssl.enabled": str(endpoint.startswith("https:")).lower(),
        }
    else:
        chosen["spark.hadoop.fs.s3a.endpoint.region"] = settings.aws_region
    options = ["--master", "local[*]", "--driver-memory", f"{memory_mb}m"]
    options += ["--jars", jars] if jars else ["--packages", S3A]
    return options + [part for name, value in chosen.items() for part in ("--conf", f"{name}={value}")]


def _environment(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the job: its modules are found here, its clients are those of the settings."""
    own = {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ETL_FOLDER.parent), environ.get("PYTHONPATH", "")])),
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "AWS_REGION": settings.aws_region,
        "AWS_DEFAULT_REGION": settings.aws_region,
    }
    if settings.aws_endpoint_url:
        own["AWS_ENDPOINT_URL"] = settings.aws_endpoint_url
    return {**environ, **own}
