"""AWS as this identity sees it: credentials, clock, region, bucket, permissions."""

import json
from collections.abc import Iterator
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from string import Template
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError, ProfileNotFound

from pipeline import aws
from pipeline.doctor.finding import Finding, ok, problem, warning
from pipeline.settings import Settings

POLICIES = Path(__file__).parent.parent.parent / "deploy/iam"
ROLES = tuple(sorted(path.stem for path in POLICIES.glob("*.json")))
# Signatures are refused at 5 minutes (S3: 15). Source:
# https://docs.aws.amazon.com/IAM/latest/UserGuide/signature-v4-troubleshooting.html
_REFUSED_SECONDS, _SUSPECT_SECONDS = 300, 60
_SKEW_CODES = ("RequestTimeTooSkewed", "SignatureDoesNotMatch", "RequestExpired")
_MOST_ACTIONS = 50  # in one simulation


def findings(settings: Settings, *, roles: list[str], principal: str | None, now: datetime) -> Iterator[Finding]:
    """Credentials first: without them nothing else can be asked."""
    identity = None
    for found in _identity(settings, now):
        if isinstance(found, Finding):
            yield found
        else:
            identity = found
    if identity is None:
        return
    yield from _bucket(settings)
    for role in roles:
        yield from _permissions(settings, role, principal or identity["Arn"], identity["Account"])


def _identity(settings: Settings, now: datetime) -> Iterator[Finding | dict[str, Any]]:
    try:
        answer = aws.client(settings, "sts", attempts=2).get_caller_identity()
    except (NoCredentialsError, PartialCredentialsError, ProfileNotFound) as error:
        yield problem("aws", f"no credentials: {error}", "`aws configure`, AWS_PROFILE, or a role of the instance")
        return
    except ClientError as error:
        is_clock = aws.error_code(error) in _SKEW_CODES
        yield problem(
            "aws",
            f"the credentials are refused: {error}",
            "set the clock (chronyc tracking)"
            if is_clock
            else "they have expired or are of another account: `aws sts get-caller-identity`, `aws sso login`",
        )
        return
    except BotoCoreError as error:
        yield problem(
            "aws", f"no answer: {error}", "AWS_REGION, AWS_ENDPOINT_URL, a proxy, or no way out of this network"
        )
        return
    yield answer
    yield ok("aws", f"you are {answer['Arn']}, region {settings.aws_region}")
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    if date:
        yield _clock((now - parsedate_to_datetime(date)).total_seconds())


def _clock(ahead_seconds: float) -> Finding:
    text = f"this machine's clock is {abs(ahead_seconds):.0f} s {'ahead of' if ahead_seconds > 0 else 'behind'} AWS's"
    cure = "turn on time synchronisation (chrony, timedatectl set-ntp true)"
    if abs(ahead_seconds) >= _REFUSED_SECONDS:
        return problem("aws", f"{text}: signed requests are refused", cure)
    return (
        warning("aws", text, cure)
        if abs(ahead_seconds) >= _SUSPECT_SECONDS
        else ok("aws", "the clock agrees with AWS's")
    )


def _bucket(settings: Settings) -> Iterator[Finding]:
    bucket = settings.s3_bucket
    if not bucket:
        yield problem("aws", "S3_BUCKET is empty", "set it; `python glue_setup.py` makes the bucket")
        return
    try:
        headers = aws.client(settings, "s3", attempts=2).head_bucket(Bucket=bucket)["ResponseMetadata"]["HTTPHeaders"]
    except ClientError as error:
        code = aws.error_code(error)
        region = error.response["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
        if code == "404":
            yield problem("aws", f"there is no bucket {bucket}", "S3_BUCKET; `python glue_setup.py` makes it")
        elif code == "301" and region:
            yield _other_region(settings, region)
        else:
            yield problem(
                "aws",
                f"bucket {bucket}: {error}",
                "it belongs to somebody else, or s3:ListBucket is missing (deploy/iam)",
            )
        return
    region = headers.get("x-amz-bucket-region", settings.aws_region)
    yield (
        ok("aws", f"bucket {bucket} can be listed")
        if region == settings.aws_region
        else _other_region(settings, region)
    )


def _other_region(settings: Settings, region: str) -> Finding:
    return problem(
        "aws",
        f"bucket {settings.s3_bucket} is in {region}, and AWS_REGION is {settings.aws_region}",
        f"set AWS_REGION={region}: Athena queries a bucket of its own region, and traffic between regions is paid for",
    )


def policy(settings: Settings, role: str, account: str) -> dict[str, Any]:
    """deploy/iam/<role>.json with the settings filled in."""
    output_bucket, _, output_prefix = settings.athena_output_location.removeprefix("s3://").partition("/")
    values = {
        "bucket": settings.s3_bucket,
        "root": settings.s3_root,
        "region": settings.aws_region,
        "account": account,
        "database": settings.glue_database,
        "workgroup": settings.athena_workgroup,
        "table": settings.dynamodb_table,
        "output_bucket": output_bucket,
        "output_prefix": output_prefix,
    }
    document: dict[str, Any] = json.loads(
        Template((POLICIES / f"{role}.json").read_text(encoding="utf-8")).substitute(values)
    )
    return document


def _permissions(settings: Settings, role: str, principal: str, account: str) -> Iterator[Finding]:
    """Each action of the role's policy on each of its resources, by IAM's own simulation, which changes nothing."""
    arn = _of_session(principal)
    if arn.endswith(":root"):
        yield warning(
            "aws",
            f"permissions of {role} are not checked: you are the account's root user, who may do everything",
            "use a user or a role",
        )
        return
    iam, denied = aws.client(settings, "iam"), []
    for statement in policy(settings, role, account)["Statement"]:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        listed = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        for resource in listed:
            try:
                answer = iam.simulate_principal_policy(
                    PolicySourceArn=arn,
                    ActionNames=actions[:_MOST_ACTIONS],
                    ResourceArns=[resource.replace("*", "any") if resource != "*" else "*"],
                    ContextEntries=_context(statement),
                )
            except ClientError as error:
                yield warning(
                    "aws",
                    f"permissions of {role} cannot be checked: {error}",
                    "iam:SimulatePrincipalPolicy is needed for that",
                )
                return
            denied += [
                (found["EvalActionName"], resource)
                for found in answer["EvaluationResults"]
                if found["EvalDecision"] != "allowed"
            ]
    for action, resource in denied:
        yield problem(
            "aws", f"{arn} may not {action} on {resource}", f"deploy/iam/{role}.json has the statement to add"
        )
    if not denied:
        yield ok("aws", f"{arn} may do all of deploy/iam/{role}.json")


def _context(statement: dict[str, Any]) -> list[dict[str, Any]]:
    """Values with which the statement's own conditions hold."""
    pairs = [pair for condition in statement.get("Condition", {}).values() for pair in condition.items()]
    return [
        {
            "ContextKeyName": key,
            "ContextKeyValues": [values if isinstance(values, str) else values[0]],
            "ContextKeyType": "string",
        }
        for key, values in pairs
    ]


def _of_session(arn: str) -> str:
    """The role behind a session's ARN; IAM simulates users and roles only."""
    if ":assumed-role/" not in arn:
        return arn
    head, _, rest = arn.partition(":assumed-role/")
    return f"{head.replace(':sts:', ':iam:')}:role/{rest.partition('/')[0]}"
