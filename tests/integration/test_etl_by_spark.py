"""etl/glue_job.py, the Glue job, run for real by pyspark against the embedded S3: the same rows as by Athena."""

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from actions_of import dividend, split
from curated_lake import objects
from glue_job_runs import glue_that_runs, spark_submit
from raw_objects import TODAY, bar, curate, land, parameters_of, set_up, settings_of
from spark_java import java_home, s3_jars

from etl import publish
from local.stack import Stack
from pipeline import aws
from pipeline.athena.client import Athena
from pipeline.records import NewsItem, Record, Tick
from pipeline.settings import Settings


def job_by_hand(stack: Stack, settings: Settings, log: Path) -> None:
    """The job's script by spark-submit, with the arguments that the job has."""
    job = aws.client(settings, "glue").get_job(JobName=f"{settings.glue_database}_curate")["Job"]
    configuration = f"s3://{settings.s3_bucket}/{settings.s3_root}etl/tables.json"
    assert job["DefaultArguments"]["--configuration"] == configuration
    process = spark_submit(stack, ["--configuration", configuration], log)
    assert process.wait(timeout=600) == 0, log.read_text()[-6000:]


def names_of(settings: Settings) -> dict[str, str]:
    return {name.upper(): getattr(settings, name) for name in ("s3_prefix", "glue_database", "athena_workgroup")}


def by_spark_here(run: Callable, settings: Settings, *arguments: str) -> subprocess.CompletedProcess:
    """`etl --engine spark` with the jars that the tests have."""
    jars = ",".join(map(str, s3_jars()))
    command = ("glue_setup.py", "etl", "--engine", "spark", "--spark-jars", jars, *arguments)
    return run(*command, JAVA_HOME=str(java_home()), **names_of(settings))


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
        "actions": [
            split("A", "2026-01-04", 2 + day),
            split("B", "2026-01-07", 3, ingested_at=time, cancelled=day == 6),
            dividend("A", "2026-01-05", 0.5, ingested_at=time, category='Quote " and, comma'),
            dividend("C", "2026-02-03", 0.25, adjusted_to="2026-03-01"),
        ],
        "news": [NewsItem(id="1", title=title, sentiment="positive", **news), NewsItem(id="2", title="two", **news)],
    }


def everything(settings: Settings, record: str) -> pd.DataFrame:
    rows = Athena(settings).query(f"SELECT * FROM curated_{record}")
    return rows.sort_values(list(rows.columns), ignore_index=True)


def assert_same_lakes(one: Settings, other: Settings) -> None:
    """The same rows, watermarks and views, and nothing that a set-up would change."""
    for record in ("bars", "ticks", "news", "actions"):
        pd.testing.assert_frame_equal(everything(one, record), everything(other, record))
        assert parameters_of(one, record)[publish.WATERMARK] == parameters_of(other, record)[publish.WATERMARK]
    count = 'SELECT count(*) AS n, sum("close") AS total FROM bars'
    assert Athena(one).query(count).equals(Athena(other).query(count))
    assert set_up(one, with_roles=True) == []


@pytest.mark.parametrize(("form", "rounds"), [("json", [(5,), (6,)]), ("csv", [(5, 6)]), ("parquet", [(5, 6)])])
def test_spark_writes_what_athena_writes(
    stack: Stack, bucket: str, run: Callable, tmp_path: Path, *, form: str, rounds: list[tuple[int, ...]]
) -> None:
    """Two lakes with the same objects, one curated by Athena and one by the Spark job, hold the same rows, watermarks
    and views; as JSON in two rounds, so that Spark reads what is curated, too, the second by `etl --engine glue`; the
    others by `etl --engine spark`.
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
        if form != "json":
            done = by_spark_here(run, by_spark)
            assert done.returncode == 0, done.stderr
            said = [line.split()[0] for line in done.stdout.splitlines() if not line.startswith("INFO ")]
            assert said == ["bars", "ticks", "news", "actions"]
            assert "raw days into 4 partitions" in done.stdout
        elif number == 0:
            job_by_hand(stack, by_spark, tmp_path / "spark.log")
        else:
            with glue_that_runs(stack, tmp_path) as address:
                done = run("glue_setup.py", "etl", "--engine", "glue", AWS_ENDPOINT_URL=address, **names_of(by_spark))
            assert done.returncode == 0, done.stderr
            assert f"job {by_spark.glue_database}_curate: succeeded" in done.stdout
        for record in ("bars", "ticks", "news", "actions"):
            curate(by_athena, record, now=datetime.now(UTC), run=f"run_{number}")
        assert_same_lakes(by_spark, by_athena)
    assert {record: len(everything(by_spark, record)) for record in ("bars", "ticks", "news", "actions")} == {
        "bars": 6,
        "ticks": 2,
        "news": 2,
        "actions": 4,
    }
    closes = everything(by_spark, "actions").set_index(["kind", "symbol"])["reference_close"].dropna()
    assert closes.to_dict() == {("dividend", "A"): 0.1 + 0.2 * 6, ("dividend", "C"): 4.0}


def test_one_more_day_by_spark(stack: Stack, bucket: str, run: Callable) -> None:
    """By Spark, too, a new day of a large month is written alone: the older files are copied as they are."""
    settings = settings_of(stack, bucket)

    def minute_bars(day: int, symbols: int) -> list[bytes]:
        times = [f"2025-01-{day:02} {14 + minute // 60}:{minute % 60:02}:00.000" for minute in range(400)]
        fields = b'"interval":"1m","open":1,"high":2,"low":0,"close":1,"volume":1,"source":"s"'
        ending = b'"ingested_at":"2026-01-01 00:00:00.000"}'
        return [
            b'{"symbol":"S%03d","time":"%s",%s,%s' % (symbol, time.encode(), fields, ending)
            for time in times
            for symbol in range(symbols)
        ]

    land(settings, "bars", minute_bars(2, 300), day=TODAY - timedelta(days=8))
    set_up(settings)
    curate(settings, now=datetime.now(UTC), run="athena")
    before = {key.rpartition("/")[2] for key in objects(settings, "curated/bars/run=athena")}
    new_day = TODAY - timedelta(days=4)
    land(settings, "bars", minute_bars(3, 3), day=new_day, start=200_000)
    done = by_spark_here(run, settings, "--tables", "bars", "--from", new_day.isoformat(), "--to", new_day.isoformat())
    assert done.returncode == 0, done.stderr
    assert Athena(settings).query("SELECT count(*) AS n FROM curated_bars")["n"][0] == 300 * 400 + 3 * 400
    after = {key.rpartition("/")[2] for key in objects(settings, "curated/bars/") if "run=athena" not in key}
    assert before < after


def test_spark_that_cannot_run_is_told(stack: Stack, bucket: str, run: Callable, tmp_path: Path) -> None:
    """`etl --engine spark` without a Java that Spark takes names the setting, and a job that fails says why."""
    settings = settings_of(stack, bucket)
    set_up(settings)
    command = ("glue_setup.py", "etl", "--engine", "spark", "--tables", "bars")
    without = run(*command, JAVA_HOME=str(tmp_path), **names_of(settings))
    assert (without.returncode, "JAVA_HOME" in without.stderr) == (1, True)
    aws.client(settings, "glue").delete_table(DatabaseName=settings.glue_database, Name="curated_bars")
    failed = by_spark_here(run, settings, "--tables", "bars")
    assert failed.returncode == 1
    assert "EntityNotFound" in failed.stderr


def test_glue_job_that_fails_is_told(stack: Stack, bucket: str, run: Callable, tmp_path: Path) -> None:
    """`etl --engine glue` without its job names the setting and the cure; when the run fails it says why, and leaves
    with exit code 1.
    """
    java_home()
    settings = settings_of(stack, bucket)
    command = ("glue_setup.py", "etl", "--engine", "glue", "--tables", "bars", "--from", "2026-01-01")
    missing = run(*command, **names_of(settings))
    assert missing.returncode == 1
    assert "GLUE_ROLE" in missing.stderr
    assert "--with-roles" in missing.stderr
    set_up(settings, with_roles=True)
    configuration = f"{settings.s3_root}etl/tables.json"
    aws.client(settings, "s3").delete_object(Bucket=settings.s3_bucket, Key=configuration)
    with glue_that_runs(stack, tmp_path) as address:
        failed = run(*command, AWS_ENDPOINT_URL=address, **names_of(settings))
    assert failed.returncode == 1
    assert "FAILED" in failed.stderr
    assert "NoSuchKey" in failed.stderr
