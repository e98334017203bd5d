"""The tags of AWS_TAGS on what glue_setup.py made. Tags that others set stay."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from pipeline import aws
from pipeline.settings import Settings
from pipeline.tables import resources
from pipeline.tables.calls import is_missing
from pipeline.tables.changes import Call, Change


def tag_changes(settings: Settings) -> Iterator[Change]:
    """Yield one change per part that exists and lacks a tag; nothing where no tags are wanted."""
    wanted = resources.tags(settings)
    if not wanted:
        return
    s3, account = aws.client(settings, "s3"), aws.client(settings, "sts").get_caller_identity()["Account"]
    for tagged in (_bucket(settings, s3), *_workgroups(settings, account), *_glue_parts(settings, account)):
        yield from _change(tagged, wanted)


@dataclass(frozen=True)
class _Tagged:
    """A part that has tags. `read` raises ClientError where the part does not exist."""

    what: str
    read: Callable[[], dict[str, str]]
    write: Callable[[dict[str, str]], object]


def _bucket(settings: Settings, s3: Any) -> _Tagged:
    bucket = settings.s3_bucket
    return _Tagged(
        f"bucket {bucket}",
        lambda: _pairs(s3.get_bucket_tagging(Bucket=bucket)["TagSet"]),
        lambda tags: s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": _list(tags)}),
    )


def _workgroups(settings: Settings, account: str) -> Iterator[_Tagged]:
    athena = aws.client(settings, "athena")

    def read(arn: str) -> dict[str, str]:
        return _pairs(athena.list_tags_for_resource(ResourceARN=arn)["Tags"])

    def write(arn: str, tags: dict[str, str]) -> None:
        athena.tag_resource(ResourceARN=arn, Tags=_list(tags))

    for name in (settings.athena_workgroup, resources.etl_workgroup_name(settings)):
        arn = f"arn:aws:athena:{settings.aws_region}:{account}:workgroup/{name}"
        yield _Tagged(f"workgroup {name}", partial(read, arn), partial(write, arn))


def _glue_parts(settings: Settings, account: str) -> Iterator[_Tagged]:
    glue = aws.client(settings, "glue")
    database, job, crawler = settings.glue_database, resources.job_name(settings), resources.crawler_name(settings)

    def read(read_part: Callable[[], Any], arn: str) -> dict[str, str]:
        read_part()  # Glue answers with no tags, and no error, for what does not exist.
        tags: dict[str, str] = glue.get_tags(ResourceArn=arn)["Tags"]
        return tags

    def write(arn: str, tags: dict[str, str]) -> None:
        glue.tag_resource(ResourceArn=arn, TagsToAdd=tags)

    parts = {
        f"database {database}": (f"database/{database}", partial(glue.get_database, Name=database)),
        f"crawler {crawler}": (f"crawler/{crawler}", partial(glue.get_crawler, Name=crawler)),
        f"job {job}": (f"job/{job}", partial(glue.get_job, JobName=job)),
        f"schedule of job {job}": (f"trigger/{job}", partial(glue.get_trigger, Name=job)),
    }
    for what, (path, read_part) in parts.items():
        arn = f"arn:aws:glue:{settings.aws_region}:{account}:{path}"
        yield _Tagged(what, partial(read, read_part, arn), partial(write, arn))


def _change(tagged: _Tagged, wanted: dict[str, str]) -> Iterator[Change]:
    try:
        existing = tagged.read()
    except ClientError as error:
        if aws.error_code(error) == "NoSuchTagSet":
            existing = {}
        elif is_missing(error):
            return
        else:
            raise
    missing = {name: value for name, value in wanted.items() if existing.get(name) != value}
    if not missing:
        yield Change(f"tags of {tagged.what}", "keep")
        return
    call = Call(f"tag {tagged.what} {json.dumps(missing)}", partial(tagged.write, existing | wanted))
    yield Change(f"tags of {tagged.what}", "update" if existing else "create", ", ".join(missing), (call,))


def _pairs(tags: list[dict[str, str]]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in tags}


def _list(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": name, "Value": value} for name, value in tags.items()]
