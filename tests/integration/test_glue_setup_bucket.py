"""glue_setup.py on a bucket: closed to the public and to plain HTTP, and its owner's rules kept."""

import json
from dataclasses import replace
from typing import Any

import pytest
from raw_objects import set_up, settings_of

from local.stack import Stack
from pipeline import aws
from pipeline.settings import Settings
from pipeline.tables import resources


@pytest.fixture
def lake(stack: Stack, bucket: str) -> Settings:
    return settings_of(stack, bucket)


def test_bucket_is_made_closed(lake: Settings) -> None:
    """A missing bucket is made with public access blocked, encryption and rules for old query results."""
    own = replace(lake, s3_bucket=f"{lake.s3_bucket}-{lake.glue_database.replace('_', '-')}")
    set_up(own)
    s3 = aws.client(own, "s3")
    assert all(s3.get_public_access_block(Bucket=own.s3_bucket)["PublicAccessBlockConfiguration"].values())
    assert s3.get_bucket_encryption(Bucket=own.s3_bucket)
    rules = s3.get_bucket_lifecycle_configuration(Bucket=own.s3_bucket)["Rules"]
    assert {rule["Filter"]["Prefix"] for rule in rules} == {f"{own.s3_root}curated/", f"{own.s3_root}athena-results/"}


def test_rules_of_the_buckets_owner_stay(lake: Settings) -> None:
    """Lifecycle rules that others made are kept beside ours."""
    own = replace(lake, s3_bucket=f"{lake.s3_bucket}-rules-{lake.glue_database.replace('_', '-')}")
    s3 = aws.client(own, "s3")
    s3.create_bucket(Bucket=own.s3_bucket)
    rule = {"ID": "theirs", "Filter": {"Prefix": "logs/"}, "Status": "Enabled", "Expiration": {"Days": 3}}
    s3.put_bucket_lifecycle_configuration(Bucket=own.s3_bucket, LifecycleConfiguration={"Rules": [rule]})
    set_up(own)
    assert "theirs" in [rule["ID"] for rule in s3.get_bucket_lifecycle_configuration(Bucket=own.s3_bucket)["Rules"]]


def test_bucket_refuses_plain_http(lake: Settings) -> None:
    """The bucket's policy denies every call without TLS; statements of the owner stay, ours is put right when changed,
    and a second run changes nothing. (The local AWS keeps policies and enforces none.)
    """
    own = replace(lake, s3_bucket=f"{lake.s3_bucket}-http-{lake.glue_database.replace('_', '-')}")
    s3 = aws.client(own, "s3")
    s3.create_bucket(Bucket=own.s3_bucket)
    theirs = {
        "Sid": "Theirs",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:DeleteBucket",
        "Resource": f"arn:aws:s3:::{own.s3_bucket}",
    }
    s3.put_bucket_policy(Bucket=own.s3_bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": theirs}))

    def statements() -> list[dict[str, Any]]:
        return json.loads(s3.get_bucket_policy(Bucket=own.s3_bucket)["Policy"])["Statement"]

    set_up(own)
    assert statements() == [theirs, resources.transport_statement(own.s3_bucket)]
    assert set_up(own) == []
    weak = resources.transport_statement(own.s3_bucket) | {"Resource": [f"arn:aws:s3:::{own.s3_bucket}/raw/*"]}
    s3.put_bucket_policy(
        Bucket=own.s3_bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [weak, theirs]})
    )
    assert [change.what for change in set_up(own)] == ["bucket's refusal of plain HTTP"]
    assert statements() == [theirs, resources.transport_statement(own.s3_bucket)]
