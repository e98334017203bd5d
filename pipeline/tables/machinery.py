"""What works on the lake by itself: crawler, ETL job and its schedule, and the role and files that these need."""

import json
from collections.abc import Generator, Iterator
from functools import partial
from typing import Any

import tenacity
from botocore.exceptions import ClientError

from pipeline import aws, bucket
from pipeline.settings import Settings
from pipeline.tables import resources
from pipeline.tables.calls import call, found, object_change
from pipeline.tables.catalog import Landing
from pipeline.tables.changes import Call, Change, differences
from pipeline.tables.etl_inputs import etl_files


class Machinery:
    """Role, scripts, crawler, job and schedule. Without a role, crawler and job are skipped."""

    def __init__(self, settings: Settings, *, with_roles: bool) -> None:
        self._settings, self._with_roles = settings, with_roles
        self._s3, self._glue, self._iam = (aws.client(settings, name) for name in ("s3", "glue", "iam"))
        self.missing_role_policy: dict[str, Any] | None = None  # of a role that is needed and was not to be made

    def changes(self, landings: dict[str, Landing]) -> Iterator[Change]:
        """Yield each part as it is found. `landings`: how each record is landed."""
        role = yield from self._role()
        yield from self.script_files(landings)
        if role is None:
            why = f"role {self._settings.glue_role} does not exist; --with-roles makes it, or GLUE_ROLE names another"
            yield Change(f"crawler {resources.crawler_name(self._settings)}", "skip", why)
            yield Change(f"job {resources.job_name(self._settings)}", "skip", why)
            return
        yield self._crawler(role)
        yield self._job(role)
        yield self._trigger()

    def _role(self) -> Generator[Change, None, str | None]:
        """Yield the change and return the role's ARN; None when the role does not exist and is not to be made."""
        name = self._settings.glue_role
        if name.startswith("arn:"):
            # Somebody else's to look after, perhaps in another account.
            return name
        present = found(self._iam.get_role, RoleName=name)
        if present:
            account: str = present["Role"]["Arn"].split(":")[4]
        else:
            account = aws.client(self._settings, "sts").get_caller_identity()["Account"]
        policy = resources.role_policy(self._settings, account)
        if present is None and not self._with_roles:
            self.missing_role_policy = policy
            return None
        calls = [] if present else [self._create_role(name)]
        # A policy per lake: several lakes may share the role.
        policy_name = resources.role_policy_name(self._settings)
        inline = found(self._iam.get_role_policy, RoleName=name, PolicyName=policy_name)
        if self._with_roles and (inline is None or inline["PolicyDocument"] != policy):
            given = {"RoleName": name, "PolicyName": policy_name, "PolicyDocument": json.dumps(policy)}
            calls.append(call(self._iam, "put_role_policy", **given))
        if present is None:
            yield Change(f"role {name}", "create", calls=tuple(calls))
            return f"arn:aws:iam::{account}:role/{name}"
        yield Change(f"role {name}", "update", "policy", tuple(calls)) if calls else Change(f"role {name}", "keep")
        arn: str = present["Role"]["Arn"]
        return arn

    def _create_role(self, name: str) -> Call:
        return call(
            self._iam,
            "create_role",
            RoleName=name,
            **resources.tag_list(self._settings),
            Description="Crawler and ETL job of the stock market data pipeline",
            AssumeRolePolicyDocument=json.dumps(resources.trust_policy()),
        )

    def script_files(self, landings: dict[str, Landing]) -> Iterator[Change]:
        """Yield each file of the ETL job."""
        for name, body in etl_files(self._settings, landings).items():
            key = f"{bucket.etl_folder(self._settings.s3_root)}{name}"
            yield object_change(self._s3, f"script {key}", body, Bucket=self._settings.s3_bucket, Key=key)

    def _crawler(self, role: str) -> Change:
        wanted = resources.crawler(self._settings, role)
        what = f"crawler {wanted['Name']}"
        present = found(self._glue.get_crawler, Name=wanted["Name"])
        if present is None:
            create = call(self._glue, "create_crawler", **wanted, **resources.tag_map(self._settings))
            return Change(what, "create", calls=(Call(create.text, partial(_once_role_is_known, create.run)),))
        existing = present["Crawler"]
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
        update = call(self._glue, "update_crawler", **{"Schedule": ""} | wanted)
        return Change(what, "update", "; ".join(why), (update,))

    def _job(self, role: str) -> Change:
        wanted = resources.job(self._settings, role)
        what = f"job {wanted['Name']}"
        present = found(self._glue.get_job, JobName=wanted["Name"])
        if present is None:
            create = call(self._glue, "create_job", **wanted, **resources.tag_map(self._settings))
            return Change(what, "create", calls=(Call(create.text, partial(_once_role_is_known, create.run)),))
        # One run at a time is the service's default.
        existing = {"ExecutionProperty": {"MaxConcurrentRuns": 1}} | present["Job"]
        if not (why := differences(wanted, existing)):
            return Change(what, "keep")
        job_update = {name: value for name, value in wanted.items() if name != "Name"}
        update = call(self._glue, "update_job", JobName=wanted["Name"], JobUpdate=job_update)
        return Change(what, "update", "; ".join(why), (update,))

    def _trigger(self) -> Change:
        wanted = resources.trigger(self._settings)
        name = wanted["Name"]
        what = f"schedule of job {name}"
        present = found(self._glue.get_trigger, Name=name)
        if self._settings.etl_schedule == "off":
            remove = call(self._glue, "delete_trigger", Name=name)
            return Change(what, "update", "off", (remove,)) if present else Change(what, "keep", "off")
        if present is None:
            create = call(self._glue, "create_trigger", **wanted, **resources.tag_map(self._settings))
            return Change(what, "create", calls=(create,))
        compared = {field: wanted[field] for field in ("Schedule", "Actions", "Description")}
        if not (why := differences(compared, present["Trigger"])):
            return Change(what, "keep")
        update = call(self._glue, "update_trigger", Name=name, TriggerUpdate=compared)
        return Change(what, "update", "; ".join(why), (update,))


def _is_unknown_role(error: BaseException) -> bool:
    return isinstance(error, ClientError) and "assume" in str(error)


@tenacity.retry(
    retry=tenacity.retry_if_exception(_is_unknown_role),
    wait=tenacity.wait_exponential(multiplier=2),
    stop=tenacity.stop_after_attempt(5),
    reraise=True,
)
def _once_role_is_known(run: Any) -> None:
    """Make a call that names a role. Glue does not know a role that was made a moment ago, and refuses it for some
    seconds.
    """
    run()
