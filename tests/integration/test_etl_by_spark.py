"""etl/glue_job.py, the Glue job, run for real by pyspark against the embedded S3: the same rows as by Athena."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from raw_objects import TODAY, bar, curate, land, parameters_of, set_up, settings_of
from spark_java import java_home, s3_jars

from etl import publish
from local.stack import Stack
from pipeline import aws
from pipeline.athena.client import Athena
from pipeline.records import NewsItem, Record, Tick
from pipeline.settings import Settings

ROOT = Path(__file__).parents[2]


def spark_job(stack: Stack, settings: Settings, *arguments: str) -> subprocess.CompletedProcess:
    """The job as Glue starts it, with the embedded S3 in place of AWS's."""
    environment = (
        os.environ
        | stack.environment()
        | {"JAVA_HOME": str(java_home()), "PYTHONPATH": str(ROOT), "SPARK_LOCAL_IP": "127.0.0.1"}
    )
    s3a = "spark.hadoop.fs.s3a"
    options = {
        "spark.hadoop.fs.s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem",
        f"{s3a}.endpoint": stack.environment()["AWS_ENDPOINT_URL"],
        f"{s3a}.path.style.access": "true",
        f"{s3a}.connection.ssl.enabled": "false",
        "spark.ui.enabled": "false",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.sql.shuffle.partitions": "4",
    }
    command = ["spark-submit", "--master", "local[2]", "--driver-memory", "1g", "--jars", ",".join(map(str, s3_jars()))]
    command += [part for name, value in options.items() for part in ("--conf", f"{name}={value}")]
    configuration = f"s3://{settings.s3_bucket}/{settings.s3_root}etl/tables.json"
    job = aws.client(settings, "glue").get_job(JobName=f"{settings.glue_database}_curate")["Job"]
    assert job["DefaultArguments"]["--configuration"] == configuration
    programs = Path(sys.executable).parent
    return subprocess.run(
        [
            programs / command[0],
            *command[1:],
            str(ROOT / "etl/glue_job.py"),
            "--configuration",
            configuration,
            "--JOB_NAME",
            "x",
            *arguments,
        ],
        env=environment | {"PATH": f"{programs}{os.pathsep}{environment['PATH']}"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def records_of(day: int) -> dict[str, list[Record]]:
    """A few of each kind, with nulls, revisions, ties and text that is hard to quote."""
    time = f"2026-01-{day:02} 00:00:00.123"
    title = "back\\slash, \"quoted\" and 'single'"
    news = {
        "symbol": "A",
        "time": "2026-01-05 10:00:00.000",
        "publisher": "p",
        "url": "u",
        "source": "s",
        "ingested_at": time,
    }
    return {
        "bars": [
            bar("A", "2025-12-31", 1.0, ingested_at=time, company='Quote " and, comma'),
            bar("A", "2026-01-02", 0.1 + 0.2 * day, ingested_at=time),
            bar("A", "2026-01-02", 7.0, ingested_at="2025-01-01 00:00:00.000"),
            bar("B", f"2026-01-{day:02}", 3.0, vwap=3.25, trades=7, adjusted=True, ingested_at=time),
            bar("C", "2026-02-02", 5.0, ingested_at=time, source="x"),
            bar("C", "2026-02-02", 4.0, ingested_at=time, source="y"),
            bar("A", "2026-01-02", 9.0, ingested_at=time, interval="1m"),
        ],
        "ticks": [Tick(symbol="A", time="2026-01-05 10:00:00.001", price=1.5, volume=2.0, source="s", ingested_at=time)]
        * 2,
        "news": [NewsItem(id="1", title=title, sentiment="positive", **news), NewsItem(id="2", title="two", **news)],
    }


def everything(settings: Settings, record: str) -> pd.DataFrame:
    rows = Athena(settings).query(f"SELECT * FROM curated_{record}")
    return rows.sort_values(list(rows.columns), ignore_index=True)


@pytest.mark.parametrize(("form", "rounds"), [("json", [(5,), (6,)]), ("csv", [(5, 6)]), ("parquet", [(5, 6)])])
def test_spark_writes_what_athena_writes(stack: Stack, bucket: str, form: str, rounds: list[tuple[int, ...]]) -> None:
    """Two lakes with the same objects, one curated by Athena and one by the Spark job, hold the same rows, watermarks
    and views; as JSON in two rounds, so that Spark reads what is curated, too.
    """
    java_home()
    by_athena, by_spark = settings_of(stack, bucket), settings_of(stack, bucket)
    for number, days in enumerate(rounds):
        for settings in (by_athena, by_spark):
            for day in days:
                for record, some in records_of(day).items():
                    land(
                        settings, record, some, day=TODAY - timedelta(days=4 * (6 - day)), start=100 * day, format=form
                    )
            set_up(settings, with_roles=True)
        for record in ("bars", "ticks", "news"):
            curate(by_athena, record, now=datetime.now(UTC), run=f"run_{number}")
        job = spark_job(stack, by_spark)
        assert job.returncode == 0, job.stdout[-2000:] + job.stderr[-6000:]
        for record in ("bars", "ticks", "news"):
            pd.testing.assert_frame_equal(everything(by_spark, record), everything(by_athena, record))
            assert (
                parameters_of(by_spark, record)[publish.WATERMARK]
                == parameters_of(by_athena, record)[publish.WATERMARK]
            )
        count = 'SELECT count(*) AS n, sum("close") AS total FROM bars'
        assert Athena(by_spark).query(count).equals(Athena(by_athena).query(count))
        assert set_up(by_spark, with_roles=True) == []
    assert {record: len(everything(by_spark, record)) for record in ("bars", "ticks", "news")} == {
        "bars": 6,
        "ticks": 2,
        "news": 2,
    }
