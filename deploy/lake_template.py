"""deploy/lake.yaml from the definitions that glue_setup.py uses; `python -m deploy.generated` writes it.

python -m deploy.lake_template                  print the template
python -m deploy.lake_template --upload-etl     upload the ETL job's files and trading sessions to S3_BUCKET
"""

import argparse
import json
import re
import sys
from datetime import UTC, datetime
from typing import Any

import yaml

from etl.publish import WATERMARK
from pipeline import aws, bucket, terminal
from pipeline.athena.queries import Query, queries
from pipeline.settings import Settings, load_settings
from pipeline.tables import catalog, prices, resources, sessions
from pipeline.tables.catalog import CURATED, Landing
from pipeline.tables.etl_inputs import etl_files
from pipeline.tables.lake_listing import LakeListing
from pipeline.tables.sessions import session_changes

# What CloudFormation fills in. Any other ${…} is Athena's, and is escaped.
PARAMETERS = ("Bucket", "Database", "Workgroup", "FirstDay", "AWS::Region", "AWS::AccountId", "AWS::Partition")
_TYPES = {
    "double": "double",
    "bigint": "bigint",
    "string": "varchar",
    "boolean": "boolean",
    "timestamp": "timestamp(3)",
    "array<double>": "array(double)",
    "date": "date",
    "int": "integer",
}


def of_template() -> Settings:
    """Return settings whose values are the template's parameters."""
    return Settings(
        s3_bucket="${Bucket}", glue_database="${Database}", athena_workgroup="${Workgroup}", aws_region="${AWS::Region}"
    )


def template() -> dict[str, Any]:
    """Return the CloudFormation template."""
    settings = of_template()
    found: dict[str, Any] = {
        "Bucket": _bucket(settings),
        "BucketPolicy": _bucket_policy(settings),
        "Database": _database(settings.glue_database),
        "Workgroup": _workgroup(resources.workgroup(settings)),
        "EtlWorkgroup": _workgroup(resources.etl_workgroup(settings)),
    }
    landings = {record: Landing(first_day="${FirstDay}", has_hours=record == "ticks") for record in CURATED}
    tables = [catalog.raw_table(settings, record, landing) for record, landing in landings.items()]
    tables.append(catalog.dead_letters(settings, sorted(settings.topics), "${FirstDay}"))
    tables.append(sessions.table(settings))
    tables += [_with_watermark(catalog.curated_table(settings, record)) for record in CURATED]
    for table in tables:
        found[_logical(table["Name"])] = {
            "Type": "AWS::Glue::Table",
            "Properties": {
                "CatalogId": {"Ref": "AWS::AccountId"},
                "DatabaseName": {"Ref": "Database"},
                "TableInput": _substituted(table),
            },
        }
    for record, landing in landings.items():
        found[_logical(f"view_{record}")] = _view(settings, record, landing)
        landed = catalog.landed_sql(settings, record, landing)
        columns = _view_columns(record) + ([] if record == "ticks" else [("dt", "string")])
        needs = [_logical(f"raw_{record}")]
        found[_logical(f"view_landed_{record}")] = _stored_view(settings, f"landed_{record}", landed, columns, needs)
    for name, (own_columns, inputs) in prices.PRICE_VIEWS.items():
        views = [_logical(f"view_{view}") for view in inputs]
        found[_logical(f"view_{name}")] = _stored_view(
            settings, name, prices.view_sql(settings, name), list(own_columns), views
        )
    found[_logical("view_symbol_exchanges")] = _stored_view(
        settings, sessions.SYMBOL_EXCHANGES, sessions.view_sql(settings), list(sessions.EXCHANGE_COLUMNS), []
    )
    for query in queries().values():
        found[_logical(f"query_{query.name}")] = _query(query)
    found |= _machinery(settings)
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "The lake of the stock market data pipeline: what glue_setup.py makes, as a stack",
        "Parameters": _parameters(),
        "Conditions": {"HasEtlSchedule": {"Fn::Not": [{"Fn::Equals": [{"Ref": "EtlSchedule"}, "off"]}]}},
        "Resources": found,
        "Outputs": {"S3Bucket": {"Description": "S3_BUCKET", "Value": {"Ref": "Bucket"}}},
    }


def _parameters() -> dict[str, Any]:
    defaults = Settings()
    return {
        "BucketName": {
            "Type": "String",
            "Description": "S3_BUCKET",
            "AllowedPattern": "[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
        },
        "DatabaseName": {
            "Type": "String",
            "Default": defaults.glue_database,
            "Description": "GLUE_DATABASE",
            "AllowedPattern": "[a-z0-9_]+",
        },
        "WorkgroupName": {"Type": "String", "Default": defaults.athena_workgroup, "Description": "ATHENA_WORKGROUP"},
        "FirstDay": {
            "Type": "String",
            "Description": "FIRST_DAY, the first day that the raw tables look for",
            "AllowedPattern": r"\d{4}-\d{2}-\d{2}",
        },
        "EtlSchedule": {
            "Type": "String",
            "Default": defaults.etl_schedule,
            "Description": "ETL_SCHEDULE, UTC; off - never by itself",
        },
    }


def _bucket(settings: Settings) -> dict[str, Any]:
    return {
        "Type": "AWS::S3::Bucket",
        "DeletionPolicy": "Retain",
        "UpdateReplacePolicy": "Retain",
        "Properties": {
            "BucketName": {"Ref": "BucketName"},
            "PublicAccessBlockConfiguration": resources.public_access_block(),
            "BucketEncryption": {
                "ServerSideEncryptionConfiguration": [{"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
            },
            "LifecycleConfiguration": {
                "Rules": [_lifecycle_rule(rule) for rule in resources.lifecycle_rules(settings)]
            },
        },
    }


def _bucket_policy(settings: Settings) -> dict[str, Any]:
    statement = resources.transport_statement(settings.s3_bucket)
    return {
        "Type": "AWS::S3::BucketPolicy",
        "DeletionPolicy": "Retain",
        "UpdateReplacePolicy": "Retain",
        "Properties": {
            "Bucket": {"Ref": "Bucket"},
            "PolicyDocument": {"Version": "2012-10-17", "Statement": [_substituted(statement)]},
        },
    }


def _lifecycle_rule(rule: dict[str, Any]) -> dict[str, Any]:
    """CloudFormation has its own words for some of S3's."""
    made = {"Id": rule["ID"], "Prefix": rule["Filter"]["Prefix"], "Status": rule["Status"]}
    if "Expiration" in rule:
        made["ExpirationInDays"] = rule["Expiration"]["Days"]
    return made | {
        name: rule[name] for name in ("NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload") if name in rule
    }


def _database(name: str) -> dict[str, Any]:
    return {
        "Type": "AWS::Glue::Database",
        "Properties": {
            "CatalogId": {"Ref": "AWS::AccountId"},
            "DatabaseInput": {
                "Name": _substituted(name),
                "Description": "Stock market data: bars, ticks, news and actions",
            },
        },
    }


def _workgroup(made: dict[str, Any]) -> dict[str, Any]:
    return {
        "Type": "AWS::Athena::WorkGroup",
        "Properties": _substituted(
            {
                "Name": made["Name"],
                "Description": made["Description"],
                "RecursiveDeleteOption": True,
                "WorkGroupConfiguration": made["Configuration"],
                **resources.tag_list(of_template()),
            }
        ),
    }


def _with_watermark(table: dict[str, Any]) -> dict[str, Any]:
    """Before the first run of the ETL everything is raw."""
    return table | {"Parameters": table["Parameters"] | {WATERMARK: "${FirstDay}"}}


def _view(settings: Settings, record: str, landing: Landing) -> dict[str, Any]:
    sql = catalog.view_sql(settings, record, landing, "${FirstDay}")
    needs = [_logical(f"raw_{record}"), _logical(f"curated_{record}")]
    return _stored_view(settings, record, sql, _view_columns(record), needs)


def _stored_view(
    settings: Settings, name: str, sql: str, columns: list[tuple[str, str]], needs: list[str]
) -> dict[str, Any]:
    """As Athena itself stores a view: JSON in base64 in a comment. Source: trinodb's ViewReaderUtil
    (PrestoViewReader).
    """
    definition = {
        "originalSql": sql,
        "catalog": "awsdatacatalog",
        "schema": settings.glue_database,
        "columns": [{"name": name, "type": _TYPES[kind]} for name, kind in columns],
    }
    text = {"Fn::Join": ["", ["/* Presto View: ", {"Fn::Base64": _substituted(json.dumps(definition))}, " */"]]}
    return {
        "Type": "AWS::Glue::Table",
        **({"DependsOn": needs} if needs else {}),
        "Properties": {
            "CatalogId": {"Ref": "AWS::AccountId"},
            "DatabaseName": {"Ref": "Database"},
            "TableInput": {
                "Name": name,
                "TableType": "VIRTUAL_VIEW",
                "Description": "Presto View",
                "Parameters": {"presto_view": "true", "comment": "Presto View"},
                "ViewOriginalText": text,
                "ViewExpandedText": "/* Presto View */",
                "StorageDescriptor": {
                    "Columns": [{"Name": name, "Type": kind} for name, kind in columns],
                    "SerdeInfo": {},
                },
            },
        },
    }


def _view_columns(record: str) -> list[tuple[str, str]]:
    table = catalog.curated_table(of_template(), record)
    known = {
        column["Name"]: column["Type"] for column in table["StorageDescriptor"]["Columns"] + table["PartitionKeys"]
    }
    return [(name, known[name]) for name in catalog.view_columns(record)]


def _query(query: Query) -> dict[str, Any]:
    return {
        "Type": "AWS::Athena::NamedQuery",
        "Properties": {
            "Name": query.name,
            "Description": query.description[:1024],
            "Database": {"Ref": "Database"},
            "WorkGroup": {"Ref": "Workgroup"},
            "QueryString": query.sql,
        },
    }


def _machinery(settings: Settings) -> dict[str, Any]:
    """Role, crawler and job; EventBridge starts the job, where glue_setup.py has Glue's own trigger do it."""
    crawler = {name: value for name, value in resources.crawler(settings, "").items() if name != "Role"}
    job = {name: value for name, value in resources.job(settings, "").items() if name != "Role"}
    role = {"Fn::GetAtt": ["Role", "Arn"]}
    schedule = crawler.pop("Schedule", None)
    return {
        "CrawledDatabase": _database(resources.crawled_database(settings)),
        "Role": _role(resources.trust_policy(), _substituted(resources.role_policy(settings, "${AWS::AccountId}"))),
        "Crawler": {
            "Type": "AWS::Glue::Crawler",
            "DependsOn": "CrawledDatabase",
            "Properties": _substituted(crawler | resources.tag_map(settings))
            | {"Role": role}
            | ({"Schedule": {"ScheduleExpression": schedule}} if schedule else {}),
        },
        "Job": {
            "Type": "AWS::Glue::Job",
            "Properties": _substituted(job | resources.tag_map(settings)) | {"Role": role},
        },
        "SchedulerRole": {"Condition": "HasEtlSchedule"}
        | _role(
            {
                "Version": "2012-10-17",
                "Statement": [
                    {"Effect": "Allow", "Principal": {"Service": "scheduler.amazonaws.com"}, "Action": "sts:AssumeRole"}
                ],
            },
            {
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Effect": "Allow",
                        "Action": "glue:StartJobRun",
                        "Resource": {
                            "Fn::Sub": "arn:${AWS::Partition}:glue:${AWS::Region}:${AWS::AccountId}:job/${Job}"
                        },
                    }
                ],
            },
        ),
        "Nightly": {
            "Type": "AWS::Scheduler::Schedule",
            "Condition": "HasEtlSchedule",
            "Properties": {
                "Description": "Starts the ETL job",
                "ScheduleExpression": {"Ref": "EtlSchedule"},
                "FlexibleTimeWindow": {"Mode": "OFF"},
                "Target": {
                    "Arn": "arn:aws:scheduler:::aws-sdk:glue:startJobRun",
                    "RoleArn": {"Fn::GetAtt": ["SchedulerRole", "Arn"]},
                    "Input": {"Fn::Sub": '{"JobName": "${Job}"}'},
                },
            },
        },
    }


def _role(trust: dict[str, Any], policy: dict[str, Any]) -> dict[str, Any]:
    return {
        "Type": "AWS::IAM::Role",
        "Properties": {
            "AssumeRolePolicyDocument": trust,
            "Policies": [{"PolicyName": "lake", "PolicyDocument": policy}],
        },
    }


def _substituted(value: Any) -> Any:
    """Fn::Sub around every text that holds a parameter; placeholders that are Athena's are escaped in it."""
    if isinstance(value, dict):
        return {name: _substituted(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_substituted(inner) for inner in value]
    if not isinstance(value, str) or not any(f"${{{name}}}" in value for name in PARAMETERS):
        return value
    text = re.sub(r"\$\{([^}]*)\}", lambda found: found[0] if found[1] in PARAMETERS else f"${{!{found[1]}}}", value)
    # Names and not references: the bucket's rules would otherwise refer to the bucket itself.
    for name in ("Bucket", "Database", "Workgroup"):
        text = text.replace(f"${{{name}}}", f"${{{name}Name}}")
    return {"Fn::Sub": text}


def _logical(name: str) -> str:
    """raw_bars → RawBars, as CloudFormation wants names."""
    return "".join(part.capitalize() for part in re.split(r"[^A-Za-z0-9]+", name))


def text() -> str:
    """Return the template as YAML."""
    head = "# Generated by `python -m deploy.generated` from pipeline/tables/{catalog,resources}.py; do not edit.\n"
    body: str = yaml.dump(template(), Dumper=_Dumper, sort_keys=False, width=130, allow_unicode=True)
    return head + body


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]  # PyYAML has no types
    """SQL as blocks that can be read; no aliases, which CloudFormation does not know."""

    def ignore_aliases(self, _data: object) -> bool:
        return True


_Dumper.add_representer(
    str,
    lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None),
)


def _upload_etl() -> int:
    settings = load_settings(required=["s3_bucket"])
    listing = LakeListing(settings)
    landings = {record: listing.landing(record, listing.first_day_declared(record)) for record in CURATED}
    for name, body in etl_files(settings, landings).items():
        key = f"{bucket.etl_folder(settings.s3_root)}{name}"
        with aws.naming("S3_BUCKET", settings.s3_bucket):
            aws.client(settings, "s3").put_object(Bucket=settings.s3_bucket, Key=key, Body=body)
        print(f"s3://{settings.s3_bucket}/{key}")
    for change in session_changes(settings, today=datetime.now(UTC).date()):
        for call in change.calls:
            call.run()
            print(f"{change.what}: {change.why}", file=sys.stderr)
    return terminal.EXIT_DONE


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.lake_template", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--upload-etl", action="store_true", help="upload the ETL job's files and the trading sessions to S3_BUCKET"
    )
    if parser.parse_args().upload_etl:
        return _upload_etl()
    sys.stdout.write(text())
    return terminal.EXIT_DONE


if __name__ == "__main__":
    terminal.run(main)
