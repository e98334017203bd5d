"""deploy/lake.yaml as a stack on the local AWS: every resource type that it has; and the views that CloudFormation
makes, queried.
"""

import json
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from stack_client import client

from pipeline.athena.client import Athena
from pipeline.settings import load_settings
from pipeline.tables import resources

TEMPLATE = Path(__file__).parent.parent.parent / "deploy/lake.yaml"
# Refused by the local AWS, so left to cfn-lint.
NOT_HERE = {"AWS::Athena::NamedQuery"}


# Its views read every folder since then: few days, or the test lists thousands of them.
FIRST_DAY = (datetime.now(UTC).date() - timedelta(days=3)).isoformat()


@pytest.fixture(scope="module")
def made(stack) -> dict[str, str]:
    """The settings of a lake that was made by the stack, once for all tests."""
    own = uuid.uuid4().hex[:8]
    template = yaml.safe_load(TEMPLATE.read_text())
    template["Resources"] = {name: part for name, part in template["Resources"].items() if part["Type"] not in NOT_HERE}
    values = {
        "BucketName": f"lake-{own}",
        "DatabaseName": f"lake_{own}",
        "WorkgroupName": f"lake_{own}",
        "FirstDay": FIRST_DAY,
    }
    formation, s3 = client(stack, "cloudformation"), client(stack, "s3")
    # Too large for a request's body, so it goes by a bucket, as deploy/README.md has it.
    artifacts = f"artifacts-{own}"
    s3.create_bucket(Bucket=artifacts)
    s3.put_object(Bucket=artifacts, Key="lake.yaml", Body=yaml.safe_dump(template).encode())
    formation.create_stack(
        StackName=f"lake-{own}",
        TemplateURL=f"{stack.environment()['AWS_ENDPOINT_URL']}/{artifacts}/lake.yaml",
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()],
    )
    formation.get_waiter("stack_create_complete").wait(
        StackName=f"lake-{own}", WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    return {
        "S3_BUCKET": values["BucketName"],
        "S3_PREFIX": "",
        "GLUE_DATABASE": values["DatabaseName"],
        "ATHENA_WORKGROUP": values["WorkgroupName"],
        "FIRST_DAY": FIRST_DAY,
    }


@pytest.fixture
def lake(environment, made, monkeypatch) -> dict[str, str]:
    """The environment of a user of that lake."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, environment[name])
    return environment | made


def test_the_stack_is_a_lake_that_works(lake, run):
    """Records that the consumer lands in the stack's bucket are read through the stack's view, typed and once each."""
    sent = run("producer.py", "replay", "samples/daily_prices.csv", **lake)
    assert sent.returncode == 0, sent.stderr
    landed = run("consumer.py", "--until-caught-up", **lake)
    assert landed.returncode == 0, landed.stderr
    settings = load_settings(environ=lake, config_file="/dev/null")
    rows = Athena(settings).query("SELECT count(*) AS rows, count(DISTINCT symbol) AS symbols FROM bars")
    assert rows["rows"][0] == 5396
    assert rows["symbols"][0] > 1
    for view in ("ticks", "news"):
        assert Athena(settings).query(f"SELECT count(*) AS rows FROM {view}")["rows"][0] == 0


def test_the_stack_has_what_glue_setup_makes(lake, run):
    """glue_setup.py finds the tables, the workgroup and the bucket's rules of the stack as it would have made them."""
    # The template's table of dead letters knows the topics by their default names.
    names = {
        "KAFKA_TOPIC_BARS": "stock_bars",
        "KAFKA_TOPIC_TICKS": "stock_live_feed",
        "KAFKA_TOPIC_NEWS": "stock_news",
        "KAFKA_TOPIC_ACTIONS": "stock_actions",
    }
    done = run("glue_setup.py", "show", **lake | names)
    # The state stands in the first 13 columns.
    found = {line[13:].split(" (")[0]: line for line in done.stdout.splitlines()}
    # The local AWS's CloudFormation leaves out a bucket's lifecycle rules without a word; cfn-lint has looked at them.
    found.pop("bucket's lifecycle rules")
    differing = {
        name: line
        for name, line in found.items()
        if name.startswith(("table", "database", "workgroup", "bucket")) and "as defined" not in line
    }
    assert sum(name.startswith("table") for name in found) == 10
    assert differing == {}


def test_the_schedule_starts_the_job(lake, stack):
    """The crawler and the job of the stack go by the definitions' names and use the stack's role; EventBridge has the
    schedule.
    """
    glue = client(stack, "glue")
    job = glue.get_job(JobName=f"{lake['GLUE_DATABASE']}_curate")["Job"]
    crawler = glue.get_crawler(Name=f"{lake['GLUE_DATABASE']}_raw")["Crawler"]
    assert job["Role"].rpartition("/")[2] == crawler["Role"].rpartition("/")[2]
    schedules = client(stack, "scheduler").list_schedules()["Schedules"]
    assert schedules


def test_the_etls_files_are_uploaded(lake, run, stack):
    """`deploy.lake_template --upload-etl` puts the files where the stack's job looks for them."""
    done = run("-m", "deploy.lake_template", "--upload-etl", **lake)
    assert done.returncode == 0, done.stderr
    job = client(stack, "glue").get_job(JobName=f"{lake['GLUE_DATABASE']}_curate")["Job"]
    wanted = [job["Command"]["ScriptLocation"], job["DefaultArguments"]["--extra-py-files"]]
    wanted.append(job["DefaultArguments"]["--configuration"])
    assert done.stdout.split() == wanted
    for address in wanted:
        key = address.removeprefix(f"s3://{lake['S3_BUCKET']}/")
        assert client(stack, "s3").head_object(Bucket=lake["S3_BUCKET"], Key=key)["ContentLength"] > 100


def test_the_bucket_refuses_plain_http(lake, stack):
    """The stack's bucket has the statement that glue_setup.py would make."""
    policy = json.loads(client(stack, "s3").get_bucket_policy(Bucket=lake["S3_BUCKET"])["Policy"])
    assert policy["Statement"] == [resources.transport_statement(lake["S3_BUCKET"])]
