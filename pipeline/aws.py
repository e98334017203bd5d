"""Clients of AWS, and errors of AWS as messages that name a setting.

Credentials come from boto3's own chain (environment, shared credentials file, instance role), never from our settings.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
)

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


# No further try helps with these: somebody has to log in again, or to set the clock.
_REFUSED_CREDENTIALS = frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "UnrecognizedClientException",
    }
)
_WRONG_CLOCK = frozenset({"RequestExpired", "RequestTimeTooSkewed"})
_NO_CREDENTIALS = (CredentialRetrievalError, NoCredentialsError, PartialCredentialsError, ProfileNotFound, SSOError)


def cure(error: Exception) -> str:
    """Return what to do about credentials or a clock that AWS refuses; empty for every other error."""
    if isinstance(error, _NO_CREDENTIALS):
        return "AWS credentials: `aws configure`, `aws sso login`, AWS_PROFILE or an instance role give them"
    code = error_code(error) if isinstance(error, ClientError) else ""
    if code in _REFUSED_CREDENTIALS:
        return "AWS credentials: they have expired or are wrong; `aws sts get-caller-identity`, `aws sso login`"
    return "this machine's clock: set it (chronyc tracking)" if code in _WRONG_CLOCK else ""


@contextmanager
def naming(setting: str, value: str = "") -> Iterator[None]:
    """Turn boto's exceptions into a ServiceError that names the setting to look at."""
    try:
        yield
    except EndpointConnectionError as error:
        raise ServiceError(f"AWS_REGION or AWS_ENDPOINT_URL: {error}") from error
    except (ClientError, BotoCoreError) as error:
        place = cure(error) or f"{setting}{'=' + value if value else ''}"
        raise ServiceError(f"{place}: {error}") from error
