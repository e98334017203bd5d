"""What the tests of the DynamoDB route look at: every item of a table, and bars that revise each other."""

from collections import Counter
from typing import Any

import boto3
import msgspec
from counting import in_topic

from pipeline.settings import Settings
from pipeline.sinks.dynamodb.table import plain


def client(environment: dict[str, str], service: str = "dynamodb") -> Any:
    return boto3.client(
        service,
        region_name=environment["AWS_REGION"],
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )


def items(dynamodb: Any, settings: Settings) -> dict[tuple[str, str], dict[str, Any]]:
    """Every item of the table, by its two keys."""
    pages = dynamodb.get_paginator("scan").paginate(TableName=settings.dynamodb_table, ConsistentRead=True)
    found = [plain(item) for page in pages for item in page["Items"]]
    return {(item[settings.dynamodb_partition_key], item[settings.dynamodb_sort_key]): item for item in found}


def volumes(dynamodb: Any, settings: Settings) -> Counter:
    """The volumes in the table, which number the bars of counting.bars."""
    return Counter(int(item["volume"]) for item in items(dynamodb, settings).values())


def assert_all_there(dynamodb: Any, settings: Settings, at_least: int) -> None:
    """Every bar of the topic is an item, and a minimum of work was done."""
    expected = Counter(
        {int(msgspec.json.decode(value)["volume"]): count for value, count in in_topic(settings).items()}
    )
    assert sum(expected.values()) >= at_least
    assert volumes(dynamodb, settings) == expected
