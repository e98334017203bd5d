"""The doctor on the real lake: in every test the problem that it has to find is really there."""

import gzip
import json
import os
import time
import uuid
from datetime import datetime, timedelta

import boto3
import pytest
from counting import produce
from doctor_findings import now, problems
from raw_objects import bar, land

from pipeline.doctor import account, cluster, lake, tables
from pipeline.settings import Settings, load_settings


@pytest.fixture
def identity(environment, monkeypatch):
    """The environment of this test in this process, for boto3's own chain."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, environment[name])
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return environment


def aws(
    settings: Settings, *, roles: tuple[str, ...] = (), principal: str | None = None, at: datetime | None = None
) -> list:
    return list(account.findings(settings, roles=list(roles), principal=principal, now=at or now()))


def test_no_credentials(run, environment, tmp_path):
    """Without credentials that is the one problem of AWS, and how to get some."""
    nothing = {
        "AWS_ACCESS_KEY_ID": "",
        "AWS_SECRET_ACCESS_KEY": "",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "HOME": str(tmp_path),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        environment.pop(name)
        nothing.pop(name)
    done = run("-m", "pipeline.doctor", "--only", "aws", "--json", **nothing)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1, done.stderr
    assert [line["text"][:14] for line in found if line["state"] == "problem"] == ["no credentials"]


def test_clock_that_is_wrong(settings, identity):
    """A clock ten minutes ahead of AWS's is a problem."""
    assert any("ahead of AWS" in text for text in problems(aws(settings, at=now() + timedelta(minutes=10))))
    assert not problems(aws(settings))


def test_bucket_that_is_missing_or_elsewhere(environment, identity, s3):
    """A bucket that does not exist, and one of another region, are problems of their own."""
    absent = load_settings(environ=environment | {"S3_BUCKET": f"absent-{uuid.uuid4().hex}"}, config_file="/dev/null")
    assert any("there is no bucket" in text for text in problems(aws(absent)))
    name = f"elsewhere-{uuid.uuid4().hex}"
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    elsewhere = load_settings(environ=environment | {"S3_BUCKET": name}, config_file="/dev/null")
    assert any("AWS_REGION=eu-west-1" in text for text in problems(aws(elsewhere)))


def test_permission_that_is_missing(settings, identity):
    """A user without one of the consumer's permissions: exactly that action is named, with the file that has it."""
    iam = boto3.client("iam", endpoint_url=settings.aws_endpoint_url, region_name=settings.aws_region)
    name = f"user_{uuid.uuid4().hex[:8]}"
    arn = iam.create_user(UserName=name)["User"]["Arn"]
    document = account.policy(settings, "consumer", "000000000000")
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=json.dumps(document))
    assert not problems(aws(settings, roles=("consumer",), principal=arn))
    document["Statement"] = [statement for statement in document["Statement"] if statement["Sid"] != "List"]
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=json.dumps(document))
    found = problems(aws(settings, roles=("consumer",), principal=arn))
    assert len(found) == 1
    assert "may not s3:ListBucket" in found[0]
    assert "deploy/iam/consumer.json" in found[0]


# --- the lake


def look(settings: Settings, *, stale_hours: float = 96, at: datetime | None = None) -> list:
    return list(lake.findings(settings, stale_hours=stale_hours, now=at or now()))


@pytest.fixture
def landed(settings, identity) -> Settings:
    """A lake with one good landing, by the consumer's writer."""
    land(settings, "bars", [bar("A", "2026-01-05", float(number)) for number in range(200)])
    return settings


def put(s3, settings: Settings, name: str, body: bytes) -> None:
    s3.put_object(Bucket=settings.s3_bucket, Key=f"{settings.s3_root}raw/bars/dt={now():%Y-%m-%d}/{name}", Body=body)


def test_a_good_lake(settings, run, identity):
    """What consumer.py landed has neither problem nor warning."""
    produce(settings, 200)
    done = run("consumer.py", "--until-caught-up")
    assert done.returncode == 0, done.stderr
    assert {line.state for line in look(settings)} == {"ok"}


def test_nothing_landed(settings, identity):
    """An empty prefix is worth a word."""
    assert [line.state for line in look(settings)] == ["warning"]


def test_objects_of_another_writer(landed, s3):
    """An object that consumer.py did not name is found, and shown."""
    put(s3, landed, "stock_market_0.json", b'{"symbol":"AAPL"}\n')
    assert any("stock_market_0.json" in text and "another writer" in text for text in problems(look(landed)))


@pytest.mark.parametrize(
    "body", [b'{"symbol":\n "AAPL"}\n', b'[{"symbol":"AAPL"}]\n', b'{"symbol":"AAPL"}{"symbol":"MSFT"}\n']
)
def test_json_that_is_not_one_object_a_line(landed, s3, body):
    """Indented JSON, an array, and objects without a line end between are found."""
    put(s3, landed, "zzz.json.gz", gzip.compress(body))
    assert any("is not one JSON object" in text for text in problems(look(landed)))


def test_one_object_an_event(settings, run, identity):
    """Many objects with a record each are a warning that names the consumer's options."""
    produce(settings, 60)
    assert run("consumer.py", "--until-caught-up", "--flush-records", "1").returncode == 0
    assert any("--flush-seconds" in line.cure for line in look(settings) if line.state == "warning")


def test_two_groups_on_a_prefix(landed, environment):
    """Objects of another group are a problem: two groups land every record twice."""
    other = load_settings(environ=environment | {"KAFKA_GROUP": "another"}, config_file="/dev/null")
    assert any(landed.kafka_group in text and "another" in text for text in problems(look(other)))


def test_limits_on_the_command_line(landed, run):
    """--workers, --waits-minutes, --stale-hours, --role and --principal are what the doctor measures by."""
    produce(landed, 40)
    iam = boto3.client("iam", endpoint_url=landed.aws_endpoint_url, region_name=landed.aws_region)
    arn = iam.create_user(UserName=f"user_{uuid.uuid4().hex[:8]}")["User"]["Arn"]
    done = run(
        *("-m", "pipeline.doctor", "--only", "kafka", "aws", "lake", "--workers", "6", "--waits-minutes", "0"),
        *("--stale-hours", "-1", "--role", "consumer", "--principal", arn),
    )
    assert done.returncode == 1, done.stderr
    assert "4 partitions for 6 workers" in done.stdout
    assert "nobody is in the group" in done.stdout
    assert "hours old" in done.stdout
    assert f"{arn} may not s3:PutObject" in done.stdout


def test_topic_that_was_made_anew(landed):
    """Objects of two generations of a topic are a warning, and those of a version without generations are none."""
    land(landed, "bars", [bar("A", "2026-01-05", 1.0)], generation="a" * 32)
    assert not [line.text for line in look(landed) if "generations" in line.text]
    land(landed, "bars", [bar("A", "2026-01-05", 2.0)], generation="b" * 32)
    [found] = [line for line in look(landed) if "generations" in line.text]
    assert (found.state, landed.kafka_topic_bars in found.text) == ("warning", True)


def test_stale_data(landed):
    """Objects that are older than the limit are a warning."""
    found = look(landed, at=now() + timedelta(days=5))
    assert any("hours old" in line.text for line in found if line.state == "warning")


# --- tables


def test_tables_missing_then_as_defined_then_changed(settings, identity, run):
    """Before glue_setup.py tables are missing; after it nothing is wrong; a table changed by hand is told, and the
    workgroup too.
    """
    today = now().date()
    assert any(
        "table raw_bars" in text and "missing" in text
        for text in problems(list(tables.findings(settings, today=today)))
    )
    assert run("glue_setup.py", timeout_seconds=240).returncode == 0
    assert not problems(list(tables.findings(settings, today=today)))
    glue = boto3.client("glue", endpoint_url=settings.aws_endpoint_url, region_name=settings.aws_region)
    table = glue.get_table(DatabaseName=settings.glue_database, Name="raw_bars")["Table"]
    changed = {name: table[name] for name in ("Name", "TableType", "PartitionKeys", "Parameters", "StorageDescriptor")}
    changed["StorageDescriptor"]["Columns"] = changed["StorageDescriptor"]["Columns"][1:]
    glue.update_table(DatabaseName=settings.glue_database, TableInput=changed)
    found = problems(list(tables.findings(settings, today=today)))
    assert len(found) == 1
    assert "table raw_bars" in found[0]
    assert "differs" in found[0]


def test_workgroup_without_output_location(settings, identity):
    """A workgroup that somebody made by hand, without a place for results."""
    athena = boto3.client("athena", endpoint_url=settings.aws_endpoint_url, region_name=settings.aws_region)
    athena.create_work_group(Name=settings.athena_workgroup, Configuration={"EnforceWorkGroupConfiguration": True})
    assert any("no output location" in text for text in problems(list(tables.findings(settings, today=now().date()))))


# --- the whole of it


def standing(settings: Settings) -> list[str]:
    return [line.text for line in cluster.findings(settings, workers=1, waits_minutes=15, now=now())]


def test_it_is_read_only(landed, run, s3):
    """Looking at everything changes no object and no commit, and prints no secret."""
    produce(landed, 40)
    before = s3.list_objects_v2(Bucket=landed.s3_bucket, Prefix=landed.s3_root)["Contents"]
    committed = standing(landed)
    began = time.monotonic()
    done = run("-m", "pipeline.doctor", POLYGON_API_KEY="thekey", POLYGON_BASE_URL="http://127.0.0.1:9")
    assert time.monotonic() - began < 90
    assert done.returncode == 1
    assert "thekey" not in done.stdout + done.stderr
    assert s3.list_objects_v2(Bucket=landed.s3_bucket, Prefix=landed.s3_root)["Contents"] == before
    assert standing(landed) == committed
    assert os.environ.get("KAFKA_GROUP") is None
