"""Deletes what pipeline/tables/provision.py made, and only that: other tables and views in the database stay."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from pipeline import aws, bucket
from pipeline.settings import Settings
from pipeline.tables import catalog, prices, resources, sessions
from pipeline.tables.calls import found
from pipeline.tables.changes import Call, Change
from pipeline.tables.lake_listing import LakeListing

OWN_TABLES = (
    sessions.SYMBOL_EXCHANGES,
    sessions.TRADING_SESSIONS,
    *prices.PRICE_VIEWS,
    *catalog.CURATED,
    *(f"{kind}_{record}" for kind in ("raw", "curated", "landed") for record in catalog.CURATED),
    catalog.DEAD_LETTERS,
)


def removals(settings: Settings, *, with_roles: bool, with_data: bool) -> Iterator[Change]:
    """Yield each part that exists, in the reverse of the order in which it was made. The bucket itself stays."""
    glue, athena, iam = (aws.client(settings, name) for name in ("glue", "athena", "iam"))
    job, crawler = resources.job_name(settings), resources.crawler_name(settings)
    yield from _existing(
        f"schedule of job {job}", partial(glue.get_trigger, Name=job), partial(glue.delete_trigger, Name=job)
    )
    yield from _existing(f"job {job}", partial(glue.get_job, JobName=job), partial(glue.delete_job, JobName=job))
    yield from _existing(
        f"crawler {crawler}", partial(glue.get_crawler, Name=crawler), partial(glue.delete_crawler, Name=crawler)
    )
    if with_roles:
        yield from _role(settings, iam)
    for group in (resources.etl_workgroup_name(settings), settings.athena_workgroup):
        yield from _existing(
            f"workgroup {group}, its saved queries and its history",
            partial(athena.get_work_group, WorkGroup=group),
            partial(athena.delete_work_group, WorkGroup=group, RecursiveDeleteOption=True),
        )
    crawled = resources.crawled_database(settings)
    yield from _existing(
        f"database {crawled}", partial(glue.get_database, Name=crawled), partial(glue.delete_database, Name=crawled)
    )
    yield from _database(settings, glue)
    if with_data:
        yield from _data(settings)


def _existing(what: str, read: Callable[[], Any], delete: Callable[[], Any]) -> Iterator[Change]:
    if found(read) is not None:
        yield Change(what, "delete", calls=(Call(f"delete {what}", delete),))


def _role(settings: Settings, iam: Any) -> Iterator[Change]:
    """The lake's policy; and the role, when no other lake has a policy in it."""
    name = settings.glue_role
    policies = (found(iam.list_role_policies, RoleName=name) or {}).get("PolicyNames", [])
    own = resources.role_policy_name(settings)
    if own not in policies:
        return
    drop = Call(f"iam.delete_role_policy {name} {own}", partial(iam.delete_role_policy, RoleName=name, PolicyName=own))
    if policies != [own]:
        yield Change(f"policy {own} of role {name}", "delete", "the role has other policies and stays", (drop,))
        return
    yield Change(
        f"role {name}", "delete", calls=(drop, Call(f"iam.delete_role {name}", partial(iam.delete_role, RoleName=name)))
    )


def _database(settings: Settings, glue: Any) -> Iterator[Change]:
    """Glue drops a database with all that is in it, so it goes only when nothing of others is."""
    name = settings.glue_database
    if found(glue.get_database, Name=name) is None:
        return
    pages = glue.get_paginator("get_tables").paginate(DatabaseName=name)
    tables = [table["Name"] for page in pages for table in page["TableList"]]
    for table in OWN_TABLES:
        if table in tables:
            drop = partial(glue.delete_table, DatabaseName=name, Name=table)
            yield Change(f"table or view {table}", "delete", calls=(Call(f"glue.delete_table {name}.{table}", drop),))
    others = sorted(set(tables) - set(OWN_TABLES))
    if others:
        yield Change(f"database {name}", "keep", f"it has other tables: {', '.join(others)}")
    else:
        yield Change(
            f"database {name}",
            "delete",
            calls=(Call(f"glue.delete_database {name}", partial(glue.delete_database, Name=name)),),
        )


def _data(settings: Settings) -> Iterator[Change]:
    """Every object in the lake's folders; in a bucket with versions, the versions too. Beside them below S3_PREFIX may
    lie other lakes, such as those of environments.
    """
    s3 = aws.client(settings, "s3")
    for folder in bucket.folders(settings.s3_root):
        where = f"s3://{settings.s3_bucket}/{folder}"
        if count := sum(1 for _ in LakeListing(settings).objects(folder)):
            yield Change(
                f"{count:,} objects below {where}",
                "delete",
                calls=(Call(f"s3.delete_objects {where}", partial(_empty, s3, settings, folder)),),
            )


def _empty(s3: Any, settings: Settings, folder: str) -> None:
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=settings.s3_bucket, Prefix=folder)
    for page in pages:
        listed = [one for kind in ("Versions", "DeleteMarkers") for one in page.get(kind, [])]
        versions = [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in listed]
        for start in range(0, len(versions), 1000):
            some = versions[start : start + 1000]
            s3.delete_objects(Bucket=settings.s3_bucket, Delete={"Objects": some, "Quiet": True})
