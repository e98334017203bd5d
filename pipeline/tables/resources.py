"""What the lake needs of AWS besides its tables: bucket rules, workgroups, crawler, role, ETL job. Pure: nothing here
calls AWS.

Each function returns the parameters of the service's own create call.
"""

import hashlib
import json
import re
from typing import Any

from pipeline import bucket
from pipeline.settings import Settings
from pipeline.tables.etl_inputs import JOB_MODULES, JOB_SCRIPT, JOB_TABLES

LAKE_TAG = "stock-market-lake"  # on all that glue_setup.py makes for one lake alone
RULE_PREFIX = "stock-market-"
TRANSPORT_SID = "StockMarketRefusesPlainHttp"
_GB = 2**30


def crawled_database(settings: Settings) -> str:
    """Return the crawler's own database: it never touches the tables that are declared."""
    return f"{settings.glue_database}_crawled"


def crawler_name(settings: Settings) -> str:
    """Return the name of the crawler over the raw folder."""
    return f"{settings.glue_database}_raw"


def job_name(settings: Settings) -> str:
    """Return the name of the ETL job, which is also that of its schedule."""
    return f"{settings.glue_database}_curate"


def role_policy_name(settings: Settings) -> str:
    """Return the name of this lake's policy in the role, which several lakes may share."""
    return f"{settings.glue_database}_glue"


def tags(settings: Settings) -> dict[str, str]:
    """Return AWS_TAGS by name."""
    pairs = (tag.partition("=") for tag in settings.aws_tags.split(",") if tag.strip())
    return {name.strip(): value.strip() for name, _, value in pairs}


def lake_of(settings: Settings) -> str:
    """Return what the tag LAKE_TAG says of what belongs to this lake: its place. A prefix with characters that no tag
    may have, or a long one, is told by its digest.
    """
    place = f"s3://{settings.s3_bucket}/{settings.s3_root}"
    if re.fullmatch(r"[\w .:/=+@$\{\}-]{1,256}", place, re.ASCII):
        return place
    return f"s3://{settings.s3_bucket}/ prefix {hashlib.sha256(settings.s3_root.encode()).hexdigest()[:16]}"


def own_tags(settings: Settings) -> dict[str, str]:
    """Return the tags of what belongs to one lake: its own, and AWS_TAGS."""
    return tags(settings) | {LAKE_TAG: lake_of(settings)}


def tag_map(settings: Settings) -> dict[str, Any]:
    """Return the parameter Tags of Glue's create calls."""
    return {"Tags": own_tags(settings)}


def tag_list(settings: Settings) -> dict[str, Any]:
    """Return the parameter Tags of Athena's and IAM's create calls."""
    return {"Tags": [{"Key": key, "Value": value} for key, value in own_tags(settings).items()]}


def public_access_block() -> dict[str, bool]:
    """Return the settings that close a bucket to the public."""
    return dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)


def transport_statement(bucket_name: str) -> dict[str, Any]:
    """Return the statement of the bucket's policy that refuses plain HTTP."""
    arn = f"arn:aws:s3:::{bucket_name}"
    return {
        "Sid": TRANSPORT_SID,
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [arn, f"{arn}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }


def lifecycle_rules(settings: Settings) -> list[dict[str, Any]]:
    """Query results expire after a month. The ETL deletes the files that it superseded; in a bucket with versions their
    old versions would stay for ever, so they expire too, as do uploads that were never completed.
    """
    output = settings.athena_output_location.removeprefix(f"s3://{settings.s3_bucket}/")
    ours = f"{RULE_PREFIX}{settings.s3_root}"
    rules = [
        {
            "ID": f"{ours}superseded-curated-files",
            "Filter": {"Prefix": bucket.curated_folder(settings.s3_root)},
            "Status": "Enabled",
            "NoncurrentVersionExpiration": {"NoncurrentDays": 7},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
        }
    ]
    if not output.startswith("s3://"):
        rules.append(
            {
                "ID": f"{ours}query-results",
                "Filter": {"Prefix": output},
                "Status": "Enabled",
                "Expiration": {"Days": 30},
            }
        )
    return rules


def etl_workgroup_name(settings: Settings) -> str:
    """Return the name of the ETL's own workgroup."""
    return f"{settings.athena_workgroup}_etl"


def etl_workgroup(settings: Settings) -> dict[str, Any]:
    """The ETL names the place of its files, which Athena refuses in a workgroup that enforces its output location; and
    it may scan more than a person's query. Source:
    https://docs.aws.amazon.com/athena/latest/ug/workgroups-settings-override.html
    """
    return {
        "Name": etl_workgroup_name(settings),
        "Description": "The ETL of the stock market data pipeline; people use the other workgroup",
        "Configuration": {
            "ResultConfiguration": {"OutputLocation": settings.athena_output_location},
            "EnforceWorkGroupConfiguration": False,
            "PublishCloudWatchMetricsEnabled": True,
            "EngineVersion": {"SelectedEngineVersion": "Athena engine version 3"},
        },
    }


def workgroup(settings: Settings) -> dict[str, Any]:
    """Return the workgroup of people and BI tools: it enforces where results go and limits what a query may scan."""
    return {
        "Name": settings.athena_workgroup,
        "Description": "Queries of the stock market data pipeline",
        "Configuration": {
            "ResultConfiguration": {"OutputLocation": settings.athena_output_location},
            "EnforceWorkGroupConfiguration": True,
            "PublishCloudWatchMetricsEnabled": True,
            "BytesScannedCutoffPerQuery": settings.athena_scan_limit_gb * _GB,
            "EngineVersion": {"SelectedEngineVersion": "Athena engine version 3"},
        },
    }


def crawler(settings: Settings, role_arn: str) -> dict[str, Any]:
    """Return the crawler. The folder of a table, whatever lies below it, is one table."""
    # Counted from the bucket, which is level 1.
    level = 3 + settings.s3_root.count("/")
    configuration = {
        "Version": 1.0,
        "Grouping": {"TableGroupingPolicy": "CombineCompatibleSchemas", "TableLevelConfiguration": level},
        "CrawlerOutput": {"Partitions": {"AddOrUpdateBehavior": "InheritFromTable"}},
    }
    return {
        "Name": crawler_name(settings),
        "Description": "Discovers the schema of what is landed, to compare with the declared tables",
        "Role": role_arn,
        "DatabaseName": crawled_database(settings),
        "Targets": {"S3Targets": [{"Path": f"s3://{settings.s3_bucket}/{bucket.raw_folder(settings.s3_root)}"}]},
        "SchemaChangePolicy": {"UpdateBehavior": "UPDATE_IN_DATABASE", "DeleteBehavior": "DEPRECATE_IN_DATABASE"},
        "RecrawlPolicy": {"RecrawlBehavior": "CRAWL_EVERYTHING"},
        "Configuration": json.dumps(configuration),
        **({"Schedule": settings.crawler_schedule} if settings.crawler_schedule != "off" else {}),
    }


def job(settings: Settings, role_arn: str) -> dict[str, Any]:
    """Return the ETL as a Glue Spark job. One run at a time: of two, publishing would refuse one."""
    files = f"s3://{settings.s3_bucket}/{bucket.etl_folder(settings.s3_root)}"
    return {
        "Name": job_name(settings),
        "Description": "Writes what is new in the raw tables into the curated tables",
        "Role": role_arn,
        "Command": {"Name": "glueetl", "ScriptLocation": f"{files}{JOB_SCRIPT}", "PythonVersion": "3"},
        "DefaultArguments": {
            "--extra-py-files": f"{files}{JOB_MODULES}",
            "--configuration": f"{files}{JOB_TABLES}",
            "--enable-metrics": "true",
            "--enable-continuous-cloudwatch-log": "true",
        },
        "ExecutionProperty": {"MaxConcurrentRuns": 1},
        "GlueVersion": "5.1",
        "WorkerType": "G.1X",
        "NumberOfWorkers": 2,
        "Timeout": 120,
        "MaxRetries": 0,
    }


def trigger(settings: Settings) -> dict[str, Any]:
    """Return the schedule of the ETL job."""
    return {
        "Name": job_name(settings),
        "Description": "Starts the ETL job",
        "Type": "SCHEDULED",
        "Schedule": settings.etl_schedule,
        "Actions": [{"JobName": job_name(settings)}],
        "StartOnCreation": True,
    }


def trust_policy() -> dict[str, Any]:
    """Return who may assume the role: Glue, for its crawler and its job."""
    return {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "glue.amazonaws.com"}, "Action": "sts:AssumeRole"}],
    }


def role_policy(settings: Settings, account: str) -> dict[str, Any]:
    """Return what the crawler and the ETL job may do, and nothing more."""
    lake = f"arn:aws:s3:::{settings.s3_bucket}"
    raw, scripts, curated, retracted = (
        f"{lake}/{folder(settings.s3_root)}*"
        for folder in (bucket.raw_folder, bucket.etl_folder, bucket.curated_folder, bucket.retractions_folder)
    )
    glue = f"arn:aws:glue:{settings.aws_region}:{account}"
    databases = (settings.glue_database, crawled_database(settings))
    catalog = [
        f"{glue}:catalog",
        *(f"{glue}:{kind}" for name in databases for kind in (f"database/{name}", f"table/{name}/*")),
    ]
    output_bucket, _, output_key = settings.athena_output_location.removeprefix("s3://").partition("/")
    output = f"arn:aws:s3:::{output_bucket}/{output_key}*"
    return {
        "Version": "2012-10-17",
        "Statement": [
            _allow("List", ["s3:ListBucket", "s3:GetBucketLocation"], sorted({lake, f"arn:aws:s3:::{output_bucket}"})),
            _allow("Read", ["s3:GetObject"], [raw, scripts, curated, retracted, output]),
            _allow("Write", ["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"], [curated, output]),
            _allow(
                "Catalog",
                [
                    "glue:GetDatabase",
                    "glue:GetDatabases",
                    "glue:GetTable",
                    "glue:GetTables",
                    "glue:CreateTable",
                    "glue:UpdateTable",
                    "glue:DeleteTable",
                    "glue:GetPartition",
                    "glue:GetPartitions",
                    "glue:BatchGetPartition",
                    "glue:BatchCreatePartition",
                    "glue:CreatePartition",
                    "glue:UpdatePartition",
                    "glue:BatchUpdatePartition",
                    "glue:BatchDeletePartition",
                ],
                catalog,
            ),
            # A crawler makes its database when it is missing.
            _allow(
                "CrawledDatabase",
                ["glue:CreateDatabase"],
                [f"{glue}:catalog", f"{glue}:database/{crawled_database(settings)}"],
            ),
            _allow(
                "View",
                [
                    "athena:StartQueryExecution",
                    "athena:GetQueryExecution",
                    "athena:StopQueryExecution",
                    "athena:GetWorkGroup",
                ],
                [f"arn:aws:athena:{settings.aws_region}:{account}:workgroup/{settings.athena_workgroup}"],
            ),
            _allow(
                "Logs",
                ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"],
                [f"arn:aws:logs:{settings.aws_region}:{account}:log-group:/aws-glue/*"],
            ),
            *_kms(settings),
            _allow("Metrics", ["cloudwatch:PutMetricData"], ["*"])
            | {"Condition": {"StringEquals": {"cloudwatch:namespace": "Glue"}}},
        ],
    }


def _kms(settings: Settings) -> list[dict[str, Any]]:
    """What reading and writing needs where the objects are encrypted with a key of the user."""
    if not settings.s3_kms_key_id:
        return []
    key = settings.s3_kms_key_id
    arn = key if key.startswith("arn:") else f"arn:aws:kms:{settings.aws_region}:*:key/{key}"
    return [_allow("Key", ["kms:Decrypt", "kms:GenerateDataKey"], [arn])]


def _allow(sid: str, actions: list[str], resources: list[str]) -> dict[str, Any]:
    return {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resources}
