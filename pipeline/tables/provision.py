"""Makes the catalogue: reads what there is, compares it with the definition, creates or updates what differs.

Every part is a Change that says what it would do before it does it, so that creating, `--dry-run` and `show` are the
same walk over the same parts. A walk that an error ended is completed by the next one.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from etl import publish
from etl.publish import LAST_RUN, WATERMARK
from pipeline import aws
from pipeline.athena.queries import queries
from pipeline.settings import ServiceError, Settings
from pipeline.tables import catalog, resources
from pipeline.tables.athena_engine import etl_files
from pipeline.tables.catalog import CURATED, DEAD_LETTERS, TableInput
from pipeline.tables.changes import Call, Change, differences, short
from pipeline.tables.landings import Landed
from pipeline.tables.tagging import tag_changes

_MISSING = frozenset(
    {
        "404",
        "NoSuchBucket",
        "NoSuchKey",
        "NotFound",
        "EntityNotFoundException",
        "NoSuchEntity",
        "NoSuchPublicAccessBlockConfiguration",
        "ServerSideEncryptionConfigurationNotFoundError",
        "NoSuchLifecycleConfiguration",
        "NoSuchTagSet",
    }
)
# Parameters that a definition sets; one that it no longer sets goes. Others (of the ETL, of the user) stay.
_OWN_PARAMETERS = ("projection.", "storage.location.template", "skip.header.line.count", "landing.")


class Provision:
    """The parts of the catalogue, in the order in which they need each other."""

    def __init__(self, settings: Settings, *, today: date, with_roles: bool = False) -> None:
        self._settings = settings
        self._today = today
        self._with_roles = with_roles
        self._s3, self._glue, self._athena, self._iam = (
            aws.client(settings, name) for name in ("s3", "glue", "athena", "iam")
        )
        self._landed = Landed(settings)
        self._landings: dict[str, catalog.Landing] = {}
        self.missing_role_policy: dict[str, Any] | None = None

    def changes(self) -> Iterator[Change]:
        """Each part as it is found; the caller carries out a change before it asks for the next."""
        yield from self._bucket()
        yield self._database()
        for table in self.tables():
            yield self._table(table)
        yield self._workgroup(resources.workgroup(self._settings))
        yield self._workgroup(resources.etl_workgroup(self._settings))
        for record in CURATED:
            yield self._view(record)
        yield from self._saved_queries()
        yield from self._machinery()
        yield from tag_changes(self._settings)

    # --- the bucket

    def _bucket(self) -> Iterator[Change]:
        bucket = self._settings.s3_bucket
        exists = self._found(self._s3.head_bucket, Bucket=bucket) is not None
        region = self._settings.aws_region
        place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        make = self._call(self._s3, "create_bucket", Bucket=bucket, **place)
        yield Change(f"bucket {bucket}", "keep" if exists else "create", calls=() if exists else (make,))
        yield self._once(
            "bucket's public access block",
            self._s3.get_public_access_block,
            {"Bucket": bucket},
            self._call(
                self._s3,
                "put_public_access_block",
                Bucket=bucket,
                PublicAccessBlockConfiguration=dict.fromkeys(
                    ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
                ),
            ),
        )
        yield self._once(
            "bucket's encryption",
            self._s3.get_bucket_encryption,
            {"Bucket": bucket},
            self._call(
                self._s3,
                "put_bucket_encryption",
                Bucket=bucket,
                ServerSideEncryptionConfiguration={
                    "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
                },
            ),
        )
        yield self._lifecycle(bucket)

    def _once(self, what: str, read: Callable, address: dict[str, str], call: Call) -> Change:
        """A rule of the bucket's owner is left as it is; where there is none, ours is set."""
        exists = self._found(read, **address) is not None
        return Change(what, "keep" if exists else "create", calls=() if exists else (call,))

    def _lifecycle(self, bucket: str) -> Change:
        found = self._found(self._s3.get_bucket_lifecycle_configuration, Bucket=bucket)
        existing = {rule["ID"]: rule for rule in (found or {}).get("Rules", [])}
        wanted = {rule["ID"]: rule for rule in resources.lifecycle_rules(self._settings)}
        differing = [name for name, rule in wanted.items() if differences(rule, existing.get(name, {}))]
        rules = list((existing | wanted).values())
        call = self._call(
            self._s3, "put_bucket_lifecycle_configuration", Bucket=bucket, LifecycleConfiguration={"Rules": rules}
        )
        what = "bucket's lifecycle rules"
        if not differing:
            return Change(what, "keep")
        return Change(what, "update" if found else "create", ", ".join(differing), (call,))

    # --- the catalogue

    def _database(self) -> Change:
        name = self._settings.glue_database
        if self._found(self._glue.get_database, Name=name):
            return Change(f"database {name}", "keep")
        wanted = {"Name": name, "Description": "Stock market data: bars, ticks and news"}
        return Change(
            f"database {name}",
            "create",
            calls=(self._call(self._glue, "create_database", DatabaseInput=wanted, **self._tags()),),
        )

    def tables(self) -> Iterator[TableInput]:
        """The definitions, which depend on how the consumer lands and on the first day that was chosen before."""
        for record in CURATED:
            self._landings[record] = self._landed.landing(
                record, self._first_day(f"raw_{record}", self._landed.first_folder_day(record))
            )
            yield catalog.raw_table(self._settings, record, self._landings[record])
        topics = sorted({*self._settings.topics, *self._landed.dead_letter_topics()})
        yield catalog.dead_letters(self._settings, topics, self._first_day(DEAD_LETTERS))
        for record in CURATED:
            table = catalog.curated_table(self._settings, record)
            yield table | {"Parameters": table["Parameters"] | {WATERMARK: self._watermark(record)}}

    def _first_day(self, table: str, oldest_landed: str | None = None) -> str:
        """That of the settings; else the one chosen before, or a year ago, or the oldest day landed where that is
        earlier.
        """
        if self._settings.first_day:
            return self._settings.first_day
        chosen = (
            catalog.first_day_of(self._existing_table(table) or {}) or (self._today - timedelta(days=365)).isoformat()
        )
        return min(chosen, oldest_landed or chosen)

    def _watermark(self, record: str) -> str:
        """As the ETL left it. Before its first run: the oldest day landed, or a week ago, since Kafka keeps records for
        a week by default, so that older ones will hardly come; were it the table's first day, every query would list a
        year of folders.
        """
        state = (self._existing_table(f"curated_{record}") or {}).get("Parameters", {})
        if LAST_RUN in state:
            return state[WATERMARK]
        before = state.get(WATERMARK, (self._today - timedelta(days=7)).isoformat())
        return max(min(before, self._landed.first_folder_day(record) or before), self._landings[record].first_day)

    def _existing_table(self, name: str) -> dict[str, Any] | None:
        found = self._found(self._glue.get_table, DatabaseName=self._settings.glue_database, Name=name)
        return found["Table"] if found else None

    def _table(self, wanted: TableInput) -> Change:
        what = f"table {wanted['Name']}"
        database = self._settings.glue_database
        existing = self._existing_table(wanted["Name"])
        if existing is None:
            return Change(
                what,
                "create",
                calls=(self._call(self._glue, "create_table", DatabaseName=database, TableInput=wanted),),
            )
        if existing.get("TableType") == "VIRTUAL_VIEW":
            raise ServiceError(
                f"GLUE_DATABASE={database}: {wanted['Name']} is a view, and is needed as a table; rename or drop it"
            )
        kept = {
            name: value
            for name, value in existing.get("Parameters", {}).items()
            if not name.startswith(_OWN_PARAMETERS)
        }
        wanted = wanted | {"Parameters": kept | wanted["Parameters"]}
        why = differences(wanted, existing) + _gone(wanted["Parameters"], existing.get("Parameters", {}))
        if not why:
            return Change(what, "keep")
        return Change(
            what,
            "update",
            "; ".join(why),
            (self._call(self._glue, "update_table", DatabaseName=database, TableInput=wanted),),
        )

    def _view(self, name: str) -> Change:
        existing = self._existing_table(name)
        if existing and existing.get("TableType") != "VIRTUAL_VIEW":
            raise ServiceError(
                f"GLUE_DATABASE={self._settings.glue_database}: {name} is a table, and is needed as a view; rename or drop it"
            )
        sql = catalog.view_sql(self._settings, name, self._landings[name], self._watermark(name))
        if existing and existing.get("Parameters", {}).get(publish.VIEW_DEFINITION) == publish.view_mark(sql, existing):
            return Change(f"view {name}", "keep")
        address = {"database": self._settings.glue_database, "workgroup": self._settings.athena_workgroup}
        make = partial(publish.replace_view, self._glue, self._athena, **address, name=name, sql=sql)
        text = (
            f'athena.start_query_execution CREATE OR REPLACE VIEW "{self._settings.glue_database}"."{name}" AS\n{sql}'
        )
        return Change(
            f"view {name}", "update" if existing else "create", "definition" if existing else "", (Call(text, make),)
        )

    # --- Athena

    def _workgroup(self, wanted: dict[str, Any]) -> Change:
        what = f"workgroup {wanted['Name']}"
        existing = self._existing_workgroup(wanted["Name"])
        if existing is None:
            return Change(
                what, "create", calls=(self._call(self._athena, "create_work_group", **wanted, **self._tag_list()),)
            )
        configuration = wanted["Configuration"]
        if not (why := differences(configuration, existing["Configuration"])):
            return Change(what, "keep")
        updates = {name: value for name, value in configuration.items() if name != "ResultConfiguration"}
        updates["ResultConfigurationUpdates"] = configuration["ResultConfiguration"]
        call = self._call(self._athena, "update_work_group", WorkGroup=wanted["Name"], ConfigurationUpdates=updates)
        return Change(what, "update", "; ".join(why), (call,))

    def _existing_workgroup(self, name: str) -> dict[str, Any] | None:
        """Athena says InvalidRequestException for a workgroup that is not there."""
        try:
            return self._athena.get_work_group(WorkGroup=name)["WorkGroup"]
        except ClientError as error:
            if "not found" in str(error):
                return None
            raise

    def _saved_queries(self) -> Iterator[Change]:
        """The blocks of athena_queries.sql as the workgroup's saved queries. A saved query cannot be changed, only
        replaced.
        """
        database, workgroup = self._settings.glue_database, self._settings.athena_workgroup
        existing = self._existing_queries()
        for query in queries().values():
            wanted = {
                "Name": query.name,
                "Description": query.description[:1024],
                "Database": database,
                "QueryString": query.sql,
            }
            found = existing.pop(query.name, None)
            what = f"saved query {query.name}"
            create = self._call(self._athena, "create_named_query", **wanted, WorkGroup=workgroup)
            if found is None:
                yield Change(what, "create", calls=(create,))
            elif why := differences(wanted, found):
                remove = self._call(self._athena, "delete_named_query", NamedQueryId=found["NamedQueryId"])
                yield Change(what, "update", "; ".join(why), (create, remove))
            else:
                yield Change(what, "keep")

    def _existing_queries(self) -> dict[str, dict[str, Any]]:
        if self._existing_workgroup(self._settings.athena_workgroup) is None:
            return {}
        found = {}
        for page in self._athena.get_paginator("list_named_queries").paginate(
            WorkGroup=self._settings.athena_workgroup
        ):
            ids = page["NamedQueryIds"]
            for start in range(0, len(ids), 50):
                some = self._athena.batch_get_named_query(NamedQueryIds=ids[start : start + 50])["NamedQueries"]
                found |= {query["Name"]: query for query in some}
        return found

    # --- what runs by itself

    def _machinery(self) -> Iterator[Change]:
        """Role, crawler, ETL job and its schedule."""
        role = yield from self._role()
        yield from self._script_files()
        parts = [f"crawler {resources.crawler_name(self._settings)}", f"job {resources.job_name(self._settings)}"]
        if role is None:
            why = f"role {self._settings.glue_role} is not there; --with-roles makes it, or GLUE_ROLE names another"
            yield from (Change(part, "skip", why) for part in parts)
            return
        yield self._crawler(role)
        yield self._job(role)
        yield self._trigger()

    def _role(self) -> Iterator[Change]:
        """Yields the change and returns the role's ARN, None when the role is not there and is not to be made."""
        name = self._settings.glue_role
        if name.startswith("arn:"):
            # Somebody else's to look after, perhaps in another account.
            return name
        found = self._found(self._iam.get_role, RoleName=name)
        account = (
            found["Role"]["Arn"].split(":")[4]
            if found
            else aws.client(self._settings, "sts").get_caller_identity()["Account"]
        )
        policy = resources.role_policy(self._settings, account)
        if found is None and not self._with_roles:
            self.missing_role_policy = policy
            return None
        calls = (
            []
            if found
            else [
                self._call(
                    self._iam,
                    "create_role",
                    RoleName=name,
                    **self._tag_list(),
                    Description=("Crawler and ETL job of the stock market data pipeline"),
                    AssumeRolePolicyDocument=json.dumps(resources.trust_policy()),
                )
            ]
        )
        # A policy per lake: several lakes may share the role.
        policy_name = f"{self._settings.glue_database}_glue"
        inline = self._found(self._iam.get_role_policy, RoleName=name, PolicyName=policy_name)
        if self._with_roles and (inline is None or inline["PolicyDocument"] != policy):
            calls.append(
                self._call(
                    self._iam,
                    "put_role_policy",
                    RoleName=name,
                    PolicyName=policy_name,
                    PolicyDocument=json.dumps(policy),
                )
            )
        action = "create" if not found else "update" if calls else "keep"
        yield Change(f"role {name}", action, "policy" if action == "update" else "", tuple(calls))
        return found["Role"]["Arn"] if found else f"arn:aws:iam::{account}:role/{name}"

    def _script_files(self) -> Iterator[Change]:
        for name, body in etl_files(self._settings, self._landings).items():
            key = f"{self._settings.s3_root}{resources.SCRIPTS}/{name}"
            digest = hashlib.sha256(body).hexdigest()
            found = self._found(self._s3.head_object, Bucket=self._settings.s3_bucket, Key=key)
            same = found is not None and found.get("Metadata", {}).get("sha256") == digest
            call = self._call(
                self._s3, "put_object", Bucket=self._settings.s3_bucket, Key=key, Body=body, Metadata={"sha256": digest}
            )
            yield Change(
                f"script {key}", "keep" if same else "update" if found else "create", calls=() if same else (call,)
            )

    def _crawler(self, role: str) -> Change:
        wanted = resources.crawler(self._settings, role)
        what = f"crawler {wanted['Name']}"
        found = self._found(self._glue.get_crawler, Name=wanted["Name"])
        if found is None:
            call = self._call(self._glue, "create_crawler", **wanted, **self._tags())
            return Change(what, "create", calls=(Call(call.text, partial(_patiently, call.run)),))
        existing = found["Crawler"]
        # Glue answers with a structure and the role's name where it was given an expression and an ARN.
        existing = existing | {
            "Schedule": (existing.get("Schedule") or {}).get("ScheduleExpression", ""),
            "Configuration": json.loads(existing.get("Configuration") or "{}"),
        }
        compared = wanted | {
            "Schedule": wanted.get("Schedule", ""),
            "Configuration": json.loads(wanted["Configuration"]),
        }
        if not existing["Role"].startswith("arn:"):
            compared["Role"] = role.rpartition("/")[2]
        if not (why := differences(compared, existing)):
            return Change(what, "keep")
        return Change(
            what, "update", "; ".join(why), (self._call(self._glue, "update_crawler", **{"Schedule": ""} | wanted),)
        )

    def _job(self, role: str) -> Change:
        wanted = resources.job(self._settings, role)
        what = f"job {wanted['Name']}"
        found = self._found(self._glue.get_job, JobName=wanted["Name"])
        if found is None:
            return Change(what, "create", calls=(self._call(self._glue, "create_job", **wanted, **self._tags()),))
        # One run at a time is the service's default.
        existing = {"ExecutionProperty": {"MaxConcurrentRuns": 1}} | found["Job"]
        if not (why := differences(wanted, existing)):
            return Change(what, "keep")
        update = {name: value for name, value in wanted.items() if name != "Name"}
        return Change(
            what,
            "update",
            "; ".join(why),
            (self._call(self._glue, "update_job", JobName=wanted["Name"], JobUpdate=update),),
        )

    def _trigger(self) -> Change:
        wanted = resources.trigger(self._settings)
        what = f"schedule of job {wanted['Name']}"
        found = self._found(self._glue.get_trigger, Name=wanted["Name"])
        if self._settings.etl_schedule == "off":
            call = self._call(self._glue, "delete_trigger", Name=wanted["Name"])
            return Change(what, "update", "off", (call,)) if found else Change(what, "keep", "off")
        if found is None:
            return Change(what, "create", calls=(self._call(self._glue, "create_trigger", **wanted, **self._tags()),))
        compared = {name: wanted[name] for name in ("Schedule", "Actions", "Description")}
        if not (why := differences(compared, found["Trigger"])):
            return Change(what, "keep")
        return Change(
            what,
            "update",
            "; ".join(why),
            (self._call(self._glue, "update_trigger", Name=wanted["Name"], TriggerUpdate=compared),),
        )

    # --- calls

    def _found(self, read: Callable, **address: Any) -> dict[str, Any] | None:
        """What a reading call gives, None where the thing is not there."""
        try:
            return read(**address)
        except ClientError as error:
            if aws.error_code(error) in _MISSING:
                return None
            raise

    def _call(self, client: Any, operation: str, **parameters: Any) -> Call:
        shown = {name: value for name, value in parameters.items() if name != "Body"}
        service = client.meta.service_model.service_name
        return Call(
            f"{service}.{operation} {json.dumps(shown, default=str)}", partial(getattr(client, operation), **parameters)
        )

    def _tags(self) -> dict[str, Any]:
        tags = resources.tags(self._settings)
        return {"Tags": tags} if tags else {}

    def _tag_list(self) -> dict[str, Any]:
        tags = resources.tags(self._settings)
        return {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]} if tags else {}


def _patiently(run: Callable[[], object]) -> None:
    """A role that was made a moment ago is not known everywhere yet; Glue refuses it for some seconds."""
    for wait_seconds in (2, 4, 8, 16, 0):
        try:
            run()
        except ClientError as error:
            if "assume" not in str(error) or not wait_seconds:
                raise
            time.sleep(wait_seconds)
        else:
            return


def _gone(wanted: dict[str, str], existing: dict[str, str]) -> list[str]:
    return [f"Parameters.{name}: {short(value)} -> none" for name, value in existing.items() if name not in wanted]
