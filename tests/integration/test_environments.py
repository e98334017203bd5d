"""Several lakes and environments side by side on one account, one bucket and one cluster."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from counting import keys
from raw_objects import TODAY, set_up, settings_of

from local.stack import Stack
from pipeline import aws
from pipeline.settings import ServiceError, Settings, in_environment
from pipeline.tables import ownership, resources
from pipeline.tables.removal import removals

Run = Callable[..., CompletedProcess]


def bars_of(run: Run, *environment: str) -> str:
    """How many bars an environment's view has, as its user sees it."""
    asked = run("-m", "pipeline.athena", "--sql", "SELECT count(*) AS bars FROM bars", "--csv", "-", *environment)
    assert asked.returncode == 0, asked.stderr
    return asked.stdout.split()[-1]


def test_two_environments_side_by_side(run: Run, s3: object, settings: Settings, tmp_path: Path) -> None:
    """From the set-up through records and queries to delete, neither of two environments notices the other."""
    for name, days in (("dev", 3), ("test", 5)):
        prices = tmp_path / f"{name}.csv"
        rows = [f"AAA,2024-01-{day:02},10,11,9,10,100" for day in range(2, 2 + days)]
        prices.write_text("\n".join(["symbol,date,open,high,low,close,volume", *rows]))
        for command in (
            ["glue_setup.py", "--with-roles"],
            ["producer.py", "replay", str(prices)],
            ["consumer.py", "--until-caught-up"],
        ):
            done = run(*command, "--env", name)
            assert done.returncode == 0, done.stderr
    assert (bars_of(run, "--env", "dev"), bars_of(run, "--env", "test")) == ("3", "5")
    gone, stays = (in_environment(replace(settings, stock_env=name)) for name in ("dev", "test"))
    before = keys(s3, stays)
    assert keys(s3, gone)
    deleted = run("glue_setup.py", "delete", "--yes", "--data", "--with-roles", "--env", "dev")
    assert deleted.returncode == 0, deleted.stderr
    assert (keys(s3, gone), keys(s3, stays)) == ([], before)
    shown = run("glue_setup.py", "show", STOCK_ENV="test")
    assert "database" in shown.stdout, shown.stderr
    # Other tests change the rules of the same bucket meanwhile.
    others = [
        line for line in shown.stdout.splitlines() if line.startswith(("differs ", "missing ")) and "bucket" not in line
    ]
    assert others == []
    assert bars_of(run, "--env", "test") == "5"
    assert "would create database" in run("glue_setup.py", "--env", "dev", "--dry-run").stdout


def test_names_of_another_lake_are_refused(run: Run, settings: Settings) -> None:
    """With another prefix and the names of the first lake nothing is changed, deleted, written or answered; the message
    says whose the parts are and how to go on. --take-over makes them the other lake's.
    """
    set_up(settings, with_roles=True)
    athena = aws.client(settings, "athena")
    before = athena.get_work_group(WorkGroup=settings.athena_workgroup)["WorkGroup"]["Configuration"]
    other = {"S3_PREFIX": f"{settings.s3_prefix}_other"}
    for command in (["create"], ["show"], ["delete", "--yes"], ["etl"]):
        refused = run("glue_setup.py", *command, **other)
        assert refused.returncode == 1, refused.stdout
        assert resources.lake_of(settings) in refused.stderr
        assert "--env NAME" in refused.stderr
    asked = run("-m", "pipeline.athena", "--sql", "SELECT count(*) FROM bars", **other)
    assert (asked.returncode, "its tables read the lake" in asked.stderr) == (1, True), asked.stderr
    assert athena.get_work_group(WorkGroup=settings.athena_workgroup)["WorkGroup"]["Configuration"] == before
    assert set_up(settings, with_roles=True) == []
    taken = run("glue_setup.py", "--take-over", **other)
    assert taken.returncode == 0, taken.stderr
    assert run("-m", "pipeline.athena", "--sql", "SELECT count(*) FROM bars", **other).returncode == 0
    assert f"{settings.s3_prefix}_other/" in run("glue_setup.py", "show").stderr


@pytest.fixture
def lake(stack: Stack, bucket: str) -> Settings:
    return settings_of(stack, bucket)


def test_what_carries_no_tag_is_known_by_its_place(lake: Settings) -> None:
    """Parts of an earlier version, without the tag, are the lake's own by what they point at, and get the tag; to
    another lake they are foreign.
    """
    set_up(lake, with_roles=True)
    glue, athena = aws.client(lake, "glue"), aws.client(lake, "athena")
    arns = {
        kind: f"arn:aws:glue:{lake.aws_region}:000000000000:{kind}/{name}"
        for kind, name in (
            ("database", lake.glue_database),
            ("job", resources.job_name(lake)),
            ("crawler", resources.crawler_name(lake)),
        )
    }
    for arn in arns.values():
        assert glue.get_tags(ResourceArn=arn)["Tags"][resources.LAKE_TAG] == resources.lake_of(lake)
        glue.untag_resource(ResourceArn=arn, TagsToRemove=[resources.LAKE_TAG])
    for name in (lake.athena_workgroup, resources.etl_workgroup_name(lake)):
        arn = f"arn:aws:athena:{lake.aws_region}:000000000000:workgroup/{name}"
        athena.untag_resource(ResourceARN=arn, TagKeys=[resources.LAKE_TAG])
    other = replace(lake, s3_prefix="elsewhere")
    found = dict(ownership.foreign(other))
    kinds = {what.split()[0] for what in found}
    assert kinds == {"database", "workgroup", "job", "crawler", "schedule"}
    assert set(found.values()) == {resources.lake_of(lake)}
    assert list(ownership.foreign(lake)) == []
    assert {change.what.split()[0] for change in set_up(lake, with_roles=True)} == {"tags"}
    with pytest.raises(ServiceError, match="--take-over"):
        ownership.check(other)


def test_a_lake_inside_of_another_keeps_its_objects(lake: Settings, s3: object) -> None:
    """`delete --data` takes the folders of its own lake, and leaves those of a lake below its prefix."""
    inner = in_environment(replace(lake, stock_env="inner"))
    for each in (lake, inner):
        s3.put_object(Bucket=lake.s3_bucket, Key=f"{each.s3_root}raw/bars/dt={TODAY}/x.json", Body=b"{}")
    for change in removals(lake, with_roles=False, with_data=True):
        for call in change.calls:
            call.run()
    assert [key for key in keys(s3, lake) if "/raw/" in key] == [f"{inner.s3_root}raw/bars/dt={TODAY}/x.json"]
