"""Athena's workgroups, and the named queries that people find in them."""

from collections.abc import Iterator
from typing import Any

from pipeline import aws
from pipeline.athena.queries import queries
from pipeline.settings import Settings
from pipeline.tables import resources
from pipeline.tables.calls import call, found
from pipeline.tables.changes import Change, differences

_QUERIES_PER_CALL = 50


def workgroup_changes(settings: Settings) -> Iterator[Change]:
    """Yield the workgroup of people and that of the ETL."""
    athena = aws.client(settings, "athena")
    for wanted in (resources.workgroup(settings), resources.etl_workgroup(settings)):
        yield _workgroup(settings, athena, wanted)


def _workgroup(settings: Settings, athena: Any, wanted: dict[str, Any]) -> Change:
    what = f"workgroup {wanted['Name']}"
    existing = found(athena.get_work_group, WorkGroup=wanted["Name"])
    if existing is None:
        create = call(athena, "create_work_group", **wanted, **resources.tag_list(settings))
        return Change(what, "create", calls=(create,))
    configuration = wanted["Configuration"]
    if not (why := differences(configuration, existing["WorkGroup"]["Configuration"])):
        return Change(what, "keep")
    updates = {name: value for name, value in configuration.items() if name != "ResultConfiguration"}
    updates["ResultConfigurationUpdates"] = configuration["ResultConfiguration"]
    update = call(athena, "update_work_group", WorkGroup=wanted["Name"], ConfigurationUpdates=updates)
    return Change(what, "update", "; ".join(why), (update,))


def saved_query_changes(settings: Settings) -> Iterator[Change]:
    """Yield the blocks of athena_queries.sql as the workgroup's saved queries. Athena cannot change a saved query, only
    replace it.
    """
    athena, workgroup = aws.client(settings, "athena"), settings.athena_workgroup
    existing = _saved_queries(athena, workgroup)
    for query in queries().values():
        wanted = {
            "Name": query.name,
            "Description": query.description[:1024],
            "Database": settings.glue_database,
            "QueryString": query.sql,
        }
        saved = existing.pop(query.name, None)
        what = f"saved query {query.name}"
        create = call(athena, "create_named_query", **wanted, WorkGroup=workgroup)
        if saved is None:
            yield Change(what, "create", calls=(create,))
        elif why := differences(wanted, saved):
            remove = call(athena, "delete_named_query", NamedQueryId=saved["NamedQueryId"])
            yield Change(what, "update", "; ".join(why), (create, remove))
        else:
            yield Change(what, "keep")


def _saved_queries(athena: Any, workgroup: str) -> dict[str, dict[str, Any]]:
    if found(athena.get_work_group, WorkGroup=workgroup) is None:
        return {}
    saved: dict[str, dict[str, Any]] = {}
    for page in athena.get_paginator("list_named_queries").paginate(WorkGroup=workgroup):
        ids = page["NamedQueryIds"]
        for start in range(0, len(ids), _QUERIES_PER_CALL):
            some = athena.batch_get_named_query(NamedQueryIds=ids[start : start + _QUERIES_PER_CALL])["NamedQueries"]
            saved |= {query["Name"]: query for query in some}
    return saved
