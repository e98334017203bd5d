"""The tags of AWS_TAGS on what glue_setup.py made. Tags that others set stay."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from pipeline import aws
from pipeline.settings import Settings
from pipeline.tables import resources
from pipeline.tables.changes import Call, Change


def tag_changes(settings: Settings) -> Iterator[Change]:
    """One change per part that exists and lacks a tag; nothing where no tags are wanted."""
    wanted = resources.tags(settings)
    if not wanted:
        return
    glue, athena, s3, sts = (aws.client(settings, name) for name in ("glue", "athena", "s3", "sts"))
    account, region, bucket = sts.get_caller_identity()["Account"], settings.aws_region, settings.s3_bucket
    yield from _tagged(
        f"bucket {bucket}",
        wanted,
        lambda: _pairs(s3.get_bucket_tagging(Bucket=bucket)["TagSet"]),
        lambda tags: s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": _list(tags)}),
    )
    for name in (settings.athena_workgroup, resources.etl_workgroup_name(settings)):
        arn = f"arn:aws:athena:{region}:{account}:workgroup/{name}"
        read = lambda arn=arn: _pairs(athena.list_tags_for_resource(ResourceARN=arn)["Tags"])
        yield from _tagged(
            f"workgroup {name}",
            wanted,
            read,
            lambda tags, arn=arn: athena.tag_resource(ResourceARN=arn, Tags=_list(tags)),
        )
    job = resources.job_name(settings)
    parts = {
        f"database {settings.glue_database}": (
            f"database/{settings.glue_database}",
            partial(glue.get_database, Name=settings.glue_database),
        ),
        f"crawler {resources.crawler_name(settings)}": (
            f"crawler/{resources.crawler_name(settings)}",
            partial(glue.get_crawler, Name=resources.crawler_name(settings)),
        ),
        f"job {job}": (f"job/{job}", partial(glue.get_job, JobName=job)),
        f"schedule of job {job}": (f"trigger/{job}", partial(glue.get_trigger, Name=job)),
    }
    for what, (path, read_part) in parts.items():
        arn = f"arn:aws:glue:{region}:{account}:{path}"
        yield from _tagged(
            what,
            wanted,
            partial(_glue_tags, glue, read_part, arn),
            lambda tags, arn=arn: glue.tag_resource(ResourceArn=arn, TagsToAdd=tags),
        )


def _glue_tags(glue: Any, read_part: Callable[[], Any], arn: str) -> dict[str, str]:
    read_part()
    return glue.get_tags(ResourceArn=arn)["Tags"]


def _tagged(
    what: str, wanted: dict[str, str], read: Callable[[], dict[str, str]], write: Callable[[dict[str, str]], object]
) -> Iterator[Change]:
    try:
        existing = read()
    except ClientError as error:
        if aws.error_code(error) == "NoSuchTagSet":
            existing = {}
        elif aws.error_code(error) in (
            "EntityNotFoundException",
            "ResourceNotFoundException",
            "InvalidRequestException",
            "NoSuchBucket",
        ):
            return
        else:
            raise
    missing = {name: value for name, value in wanted.items() if existing.get(name) != value}
    if not missing:
        yield Change(f"tags of {what}", "keep")
        return
    call = Call(f"tag {what} {json.dumps(missing)}", partial(write, existing | wanted))
    yield Change(f"tags of {what}", "update" if existing else "create", ", ".join(missing), (call,))


def _pairs(tags: list[dict[str, str]]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in tags}


def _list(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": name, "Value": value} for name, value in tags.items()]
