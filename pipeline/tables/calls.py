"""Calls to AWS as Changes need them: a reading call that knows "not there", and a changing call with its text."""

import hashlib
import json
from collections.abc import Callable
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from pipeline import aws
from pipeline.tables.changes import Call, Change

_MISSING = frozenset(
    {
        "404",
        "NoSuchBucket",
        "NoSuchBucketPolicy",
        "NoSuchEntity",
        "NoSuchKey",
        "NoSuchLifecycleConfiguration",
        "NoSuchPublicAccessBlockConfiguration",
        "NoSuchTagSet",
        "NotFound",
        "EntityNotFoundException",
        "ResourceNotFoundException",
        "ServerSideEncryptionConfigurationNotFoundError",
    }
)


def is_missing(error: ClientError) -> bool:
    """Return whether the service says that the thing asked for does not exist."""
    if aws.error_code(error) == "InvalidRequestException":
        # Athena's code for a workgroup that does not exist is that of any bad request.
        return "not found" in str(error)
    return aws.error_code(error) in _MISSING


def found(read: Callable[..., Any], **address: Any) -> dict[str, Any] | None:
    """Return the answer of a reading call, or None where the thing does not exist. Raises ClientError for the rest."""
    try:
        answer: dict[str, Any] = read(**address)
    except ClientError as error:
        if is_missing(error):
            return None
        raise
    return answer


def call(client: Any, operation: str, **parameters: Any) -> Call:
    """Return a call that changes something; its text shows the parameters, except an object's bytes."""
    shown = {name: value for name, value in parameters.items() if name != "Body"}
    service = client.meta.service_model.service_name
    run = partial(getattr(client, operation), **parameters)
    return Call(f"{service}.{operation} {json.dumps(shown, default=str)}", run)


def object_change(s3: Any, what: str, body: bytes, *, why: str = "", **address: str) -> Change:
    """Return the change of an object at Bucket and Key that has to have these bytes; its metadata say which it has."""
    digest = hashlib.sha256(body).hexdigest()
    present = found(s3.head_object, **address)
    if present is not None and present.get("Metadata", {}).get("sha256") == digest:
        return Change(what, "keep")
    put = call(s3, "put_object", **address, Body=body, Metadata={"sha256": digest})
    return Change(what, "update" if present else "create", why, (put,))
