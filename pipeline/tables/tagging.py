"""The tags on what glue_setup.py made: the lake that it belongs to, and those of AWS_TAGS. Tags of others stay.

A bucket may hold several lakes, and so may a role serve several: the bucket has the tags of AWS_TAGS only.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from botocore.exceptions import ClientError

from pipeline import aws
from pipeline.settings import Settings
from pipeline.tables import resources
from pipeline.tables.calls import is_missing
from pipeline.tables.changes import Call, Change


def tag_changes(settings: Settings) -> Iterator[Change]:
    """Yield one change per part that exists and lacks a tag."""
    for tagged in parts_of_one_lake(settings):
        yield from _change(tagged, resources.own_tags(settings))
    if wanted := resources.tags(settings):
        yield from _change(_bucket(settings, aws.client(settings, "s3")), wanted)


def parts_of_one_lake(settings: Settings) -> Iterator["Tagged"]:
    """Yield what belongs to one lake alone, whether it exists or not."""

    @cache
    def account() -> str:
        return str(aws.client(settings, "sts").get_caller_identity()["Account"])

    yield from _glue_parts(settings, account)
    yield from _workgroups(settings, account)


@dataclass(frozen=True)
class Tagged:
    """A part that has tags. `read` raises ClientError where the part does not exist."""

    what: str
    read: Callable[[], dict[str, str]]
    write: Callable[[dict[str, str]], object]


def _bucket(settings: Settings, s3: Any) -> Tagged:
    bucket = settings.s3_bucket
    return Tagged(
        f"bucket {bucket}",
        lambda: _pairs(s3.get_bucket_tagging(Bucket=bucket)["TagSet"]),
        lambda tags: s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": _list(tags)}),
    )


def _workgroups(settings: Settings, account: Callable[[], str]) -> Iterator[Tagged]:
    athena = aws.client(settings, "athena")

    def arn_of(name: str) -> str:
        return f"arn:aws:athena:{settings.aws_region}:{account()}:workgroup/{name}"

    def read(name: str) -> dict[str, str]:
        athena.get_work_group(WorkGroup=name)  # not every Athena refuses to tell the tags of what does not exist
        return _pairs(athena.list_tags_for_resource(ResourceARN=arn_of(name))["Tags"])

    def write(name: str, tags: dict[str, str]) -> None:
        athena.tag_resource(ResourceARN=arn_of(name), Tags=_list(tags))

    for name in (settings.athena_workgroup, resources.etl_workgroup_name(settings)):
        yield Tagged(f"workgroup {name}", partial(read, name), partial(write, name))


def _glue_parts(settings: Settings, account: Callable[[], str]) -> Iterator[Tagged]:
    glue = aws.client(settings, "glue")
    database, job, crawler = settings.glue_database, resources.job_name(settings), resources.crawler_name(settings)

    def arn_of(path: str) -> str:
        return f"arn:aws:glue:{settings.aws_region}:{account()}:{path}"

    def read(read_part: Callable[[], Any], path: str) -> dict[str, str]:
        read_part()  # Glue answers with no tags, and no error, for what does not exist.
        tags: dict[str, str] = glue.get_tags(ResourceArn=arn_of(path))["Tags"]
        return tags

    def write(path: str, tags: dict[str, str]) -> None:
        glue.tag_resource(ResourceArn=arn_of(path), TagsToAdd=tags)

    parts = {
        f"database {database}": (f"database/{database}", partial(glue.get_database, Name=database)),
        f"crawler {crawler}": (f"crawler/{crawler}", partial(glue.get_crawler, Name=crawler)),
        f"job {job}": (f"job/{job}", partial(glue.get_job, JobName=job)),
        f"schedule of job {job}": (f"trigger/{job}", partial(glue.get_trigger, Name=job)),
    }
    for what, (path, read_part) in parts.items():
        yield Tagged(what, partial(read, read_part, path), partial(write, path))


def tags_of(tagged: Tagged) -> dict[str, str] | None:
    """Return the tags that a part has, None where it does not exist."""
    try:
        return tagged.read()
    except ClientError as error:
        if aws.error_code(error) == "NoSuchTagSet":
            return {}
        if is_missing(error):
            return None
        raise


def _change(tagged: Tagged, wanted: dict[str, str]) -> Iterator[Change]:
    existing = tags_of(tagged)
    if existing is None:
        return
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
