"""Clients of AWS, and errors of AWS as messages that name a setting.

Credentials come from boto3's own chain (environment, shared credentials file, instance role), never from our settings.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, NoCredentialsError

from pipeline.settings import ServiceError, Settings


def client(settings: Settings, service: str, *, attempts: int = 5, pool_connections: int = 10) -> Any:
    """Return a boto3 client for the settings' region and endpoint. Threads may share it."""
    config = Config(
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=pool_connections,
        connect_timeout=5,
        read_timeout=60,
        # The embedded stack has no name per bucket; AWS itself wants the virtual-hosted style, boto3's default.
        s3={"addressing_style": "path"} if settings.aws_endpoint_url else None,
    )
    return boto3.client(
        service, region_name=settings.aws_region, endpoint_url=settings.aws_endpoint_url or None, config=config
    )


def error_code(error: ClientError) -> str:
    """Return the service's own code, such as NoSuchKey or AccessDenied."""
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def naming(setting: str, value: str = "") -> Iterator[None]:
    """Turn boto's exceptions into a ServiceError that names the setting to look at."""
    try:
        yield
    except NoCredentialsError:
        raise ServiceError(
            "AWS credentials: none found; `aws configure`, AWS_PROFILE or an instance role give them"
        ) from None
    except EndpointConnectionError as error:
        raise ServiceError(f"AWS_REGION or AWS_ENDPOINT_URL: {error}") from error
    except (ClientError, BotoCoreError) as error:
        raise ServiceError(f"{setting}{'=' + value if value else ''}: {error}") from error
