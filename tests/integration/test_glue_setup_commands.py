"""glue_setup.py's options as a user types them: printed definitions, settings on the command line, days of an
ETL run.
"""

import json
from collections.abc import Callable
from datetime import timedelta

from aws_proxy import Refusal, aws_proxy
from raw_objects import TODAY, bar, land, set_up

from pipeline.settings import Settings


def test_definitions_are_printed(run: Callable, settings: Settings) -> None:
    """`show --ddl` prints every table as a statement, `--spark-views` the views of adjusted prices for Spark, and
    `--policy` the role's policy; none needs anything made.
    """
    ddl = run("glue_setup.py", "show", "--ddl")
    assert ddl.returncode == 0, ddl.stderr
    assert ddl.stdout.count("CREATE EXTERNAL TABLE") == 10
    assert f"`{settings.glue_database}`.`raw_bars`" in ddl.stdout
    spark = run("glue_setup.py", "show", "--spark-views")
    assert spark.returncode == 0, spark.stderr
    assert spark.stdout.count("CREATE OR REPLACE TEMPORARY VIEW") == 5
    assert f"`{settings.glue_database}`.curated_bars" in spark.stdout
    policy = run("glue_setup.py", "show", "--policy")
    assert policy.returncode == 0, policy.stderr
    actions = {action for statement in json.loads(policy.stdout)["Statement"] for action in statement["Action"]}
    assert "glue:BatchUpdatePartition" in actions


def test_settings_on_the_command_line_win(run: Callable, settings: Settings) -> None:
    """Bucket, prefix, database, workgroup and role of the command line are used in place of the environment's."""
    nothing = dict.fromkeys(("S3_PREFIX", "GLUE_DATABASE", "ATHENA_WORKGROUP", "GLUE_ROLE"), "unused_name")
    planned = run(
        *("glue_setup.py", "--dry-run", "--with-roles", "--s3-bucket", settings.s3_bucket, "--s3-prefix", "own_prefix"),
        *("--glue-database", "own_database", "--athena-workgroup", "own_workgroup", "--glue-role", "own_role"),
        S3_BUCKET="not-this-one",
        **nothing,
    )
    assert planned.returncode == 0, planned.stderr
    for text in (
        f"unchanged    bucket {settings.s3_bucket}",
        f"s3://{settings.s3_bucket}/own_prefix/raw/bars/",
        "would create database own_database",
        "would create workgroup own_workgroup",
        "would create role own_role",
    ):
        assert text in planned.stdout
    assert "unused_name" not in planned.stdout


def test_etl_reads_the_days_and_tables_asked_for(run: Callable, settings: Settings) -> None:
    """`etl --from --to --tables` reads these raw days of these tables and no other."""
    for number in range(3):
        day = TODAY - timedelta(days=number)
        land(settings, "bars", [bar("A", f"2025-01-0{number + 1}", 1.0)], day=day, start=number)
    set_up(settings)
    days = [(TODAY - timedelta(days=number)).isoformat() for number in (2, 1)]
    done = run("glue_setup.py", "etl", "--engine", "athena", "--tables", "bars", "--from", days[0], "--to", days[1])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("bars  2 raw days into 1 partition;")
    assert "ticks" not in done.stdout


def test_expired_credentials_are_named(run: Callable, settings: Settings) -> None:
    """A token that expired ends glue_setup.py and pipeline.athena at once, and is a problem of the doctor; each names
    the credentials, not the bucket or the table that was asked for.
    """
    with aws_proxy(settings.aws_endpoint_url, lambda *_: Refusal("ExpiredTokenException")) as proxy:
        own = {"AWS_ENDPOINT_URL": proxy.url}
        for command in (("glue_setup.py", "show"), ("-m", "pipeline.athena", "--sql", "SELECT 1")):
            ended = run(*command, **own)
            assert ended.returncode == 1
            assert ended.stderr.startswith("error: AWS credentials: they have expired"), ended.stderr
        looked = run("-m", "pipeline.doctor", "--only", "tables", **own)
        assert looked.returncode == 1
        assert "-> AWS credentials: they have expired" in looked.stdout
        assert len(proxy.writes) == 3
