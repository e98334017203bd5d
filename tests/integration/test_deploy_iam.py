"""deploy/iam by the local AWS's policy simulation: what each role needs is allowed, and what it must never do
is not.
"""

import json

import boto3
import pytest

from pipeline.doctor import account
from pipeline.settings import Settings

ACCOUNT = "123456789012"
LAKE = "arn:aws:s3:::lake"
GLUE = f"arn:aws:glue:us-east-1:{ACCOUNT}"
GROUP = f"arn:aws:athena:us-east-1:{ACCOUNT}:workgroup/stock_market"
ALLOWED = [
    ("producer", "s3:GetObject", f"{LAKE}/prices/a.csv"),
    ("consumer", "s3:PutObject", f"{LAKE}/raw/bars/dt=2026-01-02/a.json.gz"),
    ("consumer", "s3:PutObject", f"{LAKE}/dead_letter/stock_bars/dt=2026-01-02/a.json.gz"),
    ("consumer", "s3:ListBucket", LAKE),
    ("crawler", "s3:GetObject", f"{LAKE}/raw/bars/a"),
    ("crawler", "glue:UpdateTable", f"{GLUE}:table/stock_market_crawled/bars"),
    ("etl_job", "s3:GetObject", f"{LAKE}/raw/bars/a"),
    ("etl_job", "s3:DeleteObject", f"{LAKE}/curated/bars/a"),
    ("etl_job", "glue:UpdateTable", f"{GLUE}:table/stock_market/curated_bars"),
    ("analyst", "athena:StartQueryExecution", GROUP),
    ("analyst", "glue:GetTable", f"{GLUE}:table/stock_market/bars"),
    ("analyst", "s3:GetObject", f"{LAKE}/curated/bars/a"),
    ("analyst", "s3:PutObject", f"{LAKE}/athena-results/a.csv"),
    ("quicksight", "athena:GetQueryResults", GROUP),
    ("quicksight", "s3:GetObject", f"{LAKE}/raw/bars/a"),
]
FORBIDDEN = [
    ("producer", "s3:PutObject", f"{LAKE}/raw/bars/a"),
    ("producer", "s3:GetObject", f"{LAKE}/raw/bars/a"),
    ("consumer", "s3:DeleteObject", f"{LAKE}/raw/bars/a"),
    ("consumer", "s3:PutObject", f"{LAKE}/curated/bars/a"),
    ("consumer", "s3:PutObject", "arn:aws:s3:::another/raw/bars/a"),
    ("crawler", "s3:PutObject", f"{LAKE}/raw/bars/a"),
    ("crawler", "glue:UpdateTable", f"{GLUE}:table/stock_market/raw_bars"),
    ("etl_job", "s3:DeleteObject", f"{LAKE}/raw/bars/a"),
    ("etl_job", "s3:PutObject", f"{LAKE}/raw/bars/a"),
    ("analyst", "s3:PutObject", f"{LAKE}/raw/bars/a"),
    ("analyst", "s3:DeleteObject", f"{LAKE}/athena-results/a.csv"),
    ("analyst", "glue:DeleteTable", f"{GLUE}:table/stock_market/bars"),
    ("analyst", "glue:UpdateTable", f"{GLUE}:table/stock_market/bars"),
    ("analyst", "athena:StartQueryExecution", f"arn:aws:athena:us-east-1:{ACCOUNT}:workgroup/primary"),
    ("quicksight", "glue:CreateTable", f"{GLUE}:table/stock_market/bars"),
    ("quicksight", "s3:DeleteObject", f"{LAKE}/raw/bars/a"),
]


@pytest.fixture
def decision(environment):
    """What the simulation says to one action on one resource, of the policy of a role."""
    iam = boto3.client(
        "iam",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )

    def decide(role: str, action: str, resource: str) -> str:
        text = account.policy(Settings(s3_bucket="lake"), role, ACCOUNT)
        answer = iam.simulate_custom_policy(
            PolicyInputList=[json.dumps(text)], ActionNames=[action], ResourceArns=[resource]
        )
        return answer["EvaluationResults"][0]["EvalDecision"]

    return decide


@pytest.mark.parametrize(("role", "action", "resource"), ALLOWED)
def test_what_a_role_needs_is_allowed(decision, role, action, resource):
    """The work of each role is possible with its policy."""
    assert decision(role, action, resource) == "allowed"


@pytest.mark.parametrize(("role", "action", "resource"), FORBIDDEN)
def test_what_a_role_must_not_do_is_not_allowed(decision, role, action, resource):
    """No role can do more to the lake than its task."""
    assert decision(role, action, resource) != "allowed"


@pytest.mark.parametrize("role", account.ROLES)
def test_iam_takes_the_policy(environment, role):
    """IAM, which refuses what is malformed, makes a policy of each file."""
    iam = boto3.client(
        "iam",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    document = account.policy(Settings(s3_bucket="lake"), role, ACCOUNT)
    name = f"{role}_{environment['S3_PREFIX']}"
    assert iam.create_policy(PolicyName=name, PolicyDocument=json.dumps(document))["Policy"]["PolicyName"] == name


def test_a_policy_is_printed_filled_in(run, settings):
    """`python -m deploy.iam_policies consumer` prints the policy with the settings' names; without a role, that of the
    ETL job with its placeholders.
    """
    done = run("-m", "deploy.iam_policies", "consumer")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == account.policy(settings, "consumer", "000000000000")
    assert "${" not in done.stdout
    assert "${bucket}" in run("-m", "deploy.iam_policies").stdout
