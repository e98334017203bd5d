"""Clients of the embedded AWS, made apart from the product's own way of making them."""

import boto3

from local.stack import Stack


def client(stack: Stack, service: str) -> object:
    """A boto3 client with the stack's endpoint, region and test credentials."""
    settings = stack.environment()
    return boto3.client(
        service,
        endpoint_url=settings["AWS_ENDPOINT_URL"],
        region_name=settings["AWS_REGION"],
        aws_access_key_id=settings["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=settings["AWS_SECRET_ACCESS_KEY"],
    )
