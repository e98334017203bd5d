"""The bucket: made when it is missing, closed to the public and to plain HTTP, encrypted, and with rules for what may
expire.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from pipeline import aws
from pipeline.settings import Settings
from pipeline.tables import resources
from pipeline.tables.calls import call, found
from pipeline.tables.changes import Call, Change, differences


def bucket_changes(settings: Settings) -> Iterator[Change]:
    """Yield the bucket and each of its rules. Rules of the bucket's owner stay."""
    s3, bucket = aws.client(settings, "s3"), settings.s3_bucket
    exists = found(s3.head_bucket, Bucket=bucket) is not None
    region = settings.aws_region
    place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    make = call(s3, "create_bucket", Bucket=bucket, **place)
    yield Change(f"bucket {bucket}", "keep" if exists else "create", calls=() if exists else (make,))
    yield _once(
        "bucket's public access block",
        s3.get_public_access_block,
        bucket,
        call(
            s3,
            "put_public_access_block",
            Bucket=bucket,
            PublicAccessBlockConfiguration=resources.public_access_block(),
        ),
    )
    yield _once(
        "bucket's encryption",
        s3.get_bucket_encryption,
        bucket,
        call(
            s3,
            "put_bucket_encryption",
            Bucket=bucket,
            ServerSideEncryptionConfiguration={
                "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
            },
        ),
    )
    yield _lifecycle(settings, s3)
    if not _is_spoken_to_plainly(settings.aws_endpoint_url):
        yield _transport(s3, bucket)


def _is_spoken_to_plainly(endpoint_url: str) -> bool:
    """Whether the rule would lock us out: an S3 by plain HTTP. The embedded stack keeps policies without enforcing
    them.
    """
    endpoint = urlsplit(endpoint_url)
    return endpoint.scheme == "http" and endpoint.hostname not in ("127.0.0.1", "localhost", "::1")


def _transport(s3: Any, bucket: str) -> Change:
    """The statement that refuses plain HTTP, beside the statements of the bucket's owner."""
    what, wanted = "bucket's refusal of plain HTTP", resources.transport_statement(bucket)
    present = found(s3.get_bucket_policy, Bucket=bucket)
    policy: dict[str, Any] = json.loads(present["Policy"]) if present else {"Version": "2012-10-17", "Statement": []}
    statements = policy["Statement"] if isinstance(policy["Statement"], list) else [policy["Statement"]]
    others = [statement for statement in statements if statement.get("Sid") != wanted["Sid"]]
    ours = [statement for statement in statements if statement.get("Sid") == wanted["Sid"]]
    if ours == [wanted]:
        return Change(what, "keep")
    document = json.dumps(policy | {"Statement": [*others, wanted]})
    put = call(s3, "put_bucket_policy", Bucket=bucket, Policy=document)
    return Change(what, "update" if ours else "create", "statement" if ours else "", (put,))


def _once(what: str, read: Callable[..., Any], bucket: str, make: Call) -> Change:
    """A rule of the bucket's owner is left as it is; where there is none, ours is set."""
    exists = found(read, Bucket=bucket) is not None
    return Change(what, "keep" if exists else "create", calls=() if exists else (make,))


def _lifecycle(settings: Settings, s3: Any) -> Change:
    what, bucket = "bucket's lifecycle rules", settings.s3_bucket
    present = found(s3.get_bucket_lifecycle_configuration, Bucket=bucket)
    existing = {rule["ID"]: rule for rule in (present or {}).get("Rules", [])}
    wanted = {rule["ID"]: rule for rule in resources.lifecycle_rules(settings)}
    differing = [name for name, rule in wanted.items() if differences(rule, existing.get(name, {}))]
    if not differing:
        return Change(what, "keep")
    rules = list((existing | wanted).values())
    put = call(s3, "put_bucket_lifecycle_configuration", Bucket=bucket, LifecycleConfiguration={"Rules": rules})
    return Change(what, "update" if present else "create", ", ".join(differing), (put,))
