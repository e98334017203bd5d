"""Putting a batch's objects into the bucket, and never over an object that is not this batch's."""

import hashlib
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import tenacity
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError

from pipeline import aws, bucket
from pipeline.landing.plan import Plan
from pipeline.settings import ServiceError, Settings
from pipeline.sinks.lake.objects import Object
from pipeline.sinks.sink import Permit, WriteAbandoned, always

log = logging.getLogger(__name__)

# What the same request may outlive, beside answers 5xx; all other answers are refusals.
_PASSING_CODES = frozenset(
    {
        "RequestTimeout",
        "RequestTimeoutException",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "ConditionalRequestConflict",
        "OperationAborted",
        "KMS.ThrottlingException",
    }
)
_PASSING_STATUSES = frozenset({0, 408, 409, 425, 429})
# The setting to look at when S3 refuses; of any other refusal it is the bucket.
_SETTINGS = {
    "InvalidStorageClass": "S3_STORAGE_CLASS",
    "InvalidTag": "S3_TAGS",
    "KMS.NotFoundException": "S3_KMS_KEY_ID",
    "KMS.DisabledException": "S3_KMS_KEY_ID",
    "KMS.KMSInvalidStateException": "S3_KMS_KEY_ID",
    "InvalidAccessKeyId": "AWS credentials",
    "SignatureDoesNotMatch": "AWS credentials",
    "ExpiredToken": "AWS credentials",
    "InvalidToken": "AWS credentials",
    "TokenRefreshRequired": "AWS credentials",
    "RequestTimeTooSkewed": "this machine's clock",
    "KeyTooLongError": "S3_PREFIX",
}
_ADVICE = {
    "NoSuchBucket": ": is the name right? `python glue_setup.py` makes a bucket that is missing",
    "AccessDenied": ": the bucket is another account's, or the credentials lack s3:PutObject on it (deploy/iam)",
}
# A hidden name, which readers of the tables pass over. It is never written where the store knows conditions.
_PROBE = ".condition_probe"
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.2, 10.0


class _Passing(Exception):
    """A failure that the same request may outlive."""


class _Exists(Exception):
    """There is an object of this name already, or another than the one that was expected."""


@dataclass(frozen=True)
class _Present:
    """The object that has the name."""

    etag: str
    group: str
    plan: str


class ObjectWriter:
    """Puts objects into the bucket, again and again until S3 takes them. Safe to use from many threads.

    Delivery: exactly once per name. S3 takes an object only where there is none (If-None-Match), and what is there
    already is accepted only as the same batch's: put by this group, by this plan. So no repetition, late request, clock
    or other group overwrites anything. In a store without conditional puts, which the first request finds out, every
    repetition still writes the same bytes under the same name.
    """

    def __init__(
        self, settings: Settings, *, threads: int, wait_seconds: float | None = None, is_any_group: bool = False
    ) -> None:
        """`wait_seconds` is how long S3 may be away before `put` raises ServiceError; None: for ever. With
        `is_any_group` an object of the same plan is accepted whichever group put it.
        """
        self._group, self._is_any_group = settings.kafka_group, is_any_group
        self._s3 = aws.client(settings, "s3", attempts=1, pool_connections=threads)
        options = {
            "ServerSideEncryption": settings.s3_encryption,
            "SSEKMSKeyId": settings.s3_kms_key_id,
            "StorageClass": settings.s3_storage_class,
            "Tagging": urlencode(dict(tag.split("=", 1) for tag in settings.s3_tags.split(",") if tag)),
        }
        self._options = {name: value for name, value in options.items() if value}
        self._wait_seconds = wait_seconds
        self._has_conditions = True
        self._stopped = threading.Event()
        self._failing_since: float | None = None  # monotonic; of the last request that failed in passing

    def check(self, bucket_name: str, root: str) -> None:
        """Find out whether the bucket is there, may be written to, and knows conditional puts; say so if it does not.
        Raise ServiceError. Nothing is written, but an empty hidden object where conditions are unknown.
        """
        probe = f"{bucket.dead_letter_folder(root)}{_PROBE}"
        # There is no such object, and none with this ETag, so a store that knows conditions writes nothing.
        condition = {"IfMatch": "0" * 32}
        try:
            self._retrying(probe)(self._request, bucket_name, probe, b"", {}, condition)
        except _Exists:
            return
        except ServiceError as error:
            if not _is_not_implemented(error.__cause__):
                raise
        self._has_conditions = False
        log.warning("the store knows no conditional puts: nothing keeps another writer from these names")

    def put(self, plan: Plan, an_object: Object, *, count: int = 1, permit: Permit = always) -> None:
        """Put one of the `count` objects of a batch; wait and try again while S3 is away. `permit` is asked before each
        request. Raise ServiceError for what no waiting mends and when it has lasted too long, and WriteAbandoned after
        stop() or from `permit`.
        """
        self._retrying(an_object.key)(self._put, plan, an_object, count, permit)

    def failing_seconds(self) -> float:
        """How long no request has succeeded, while at least one is being tried again; 0 otherwise."""
        since = self._failing_since
        return 0.0 if since is None else time.monotonic() - since

    def _put(self, plan: Plan, an_object: Object, count: int, permit: Permit) -> None:
        # What verify and the next start need: names alone do not prove the content.
        metadata = {
            "records": str(an_object.records),
            "objects": str(count),
            "group": self._group,
            "plan": plan.metadata(),
        }
        place = (plan.layout.bucket, an_object.key, an_object.body, metadata)
        condition = {"IfNoneMatch": "*"} if self._has_conditions else {}
        try:
            permit()
            self._request(*place, condition)
        except _Exists:
            present = self._present(plan.layout.bucket, an_object.key)
            if present.plan != plan.metadata() or (present.group != self._group and not self._is_any_group):
                raise ServiceError(_taken(plan, an_object.key, present, self._group)) from None
            # This batch, by an earlier or unanswered request. Without KMS the ETag is the MD5 of the bytes.
            if present.etag != hashlib.md5(an_object.body, usedforsecurity=False).hexdigest():
                try:
                    permit()
                    self._request(*place, {"IfMatch": present.etag})
                except _Exists as error:
                    raise _Passing("the object changes meanwhile") from error

    def _request(
        self, bucket_name: str, key: str, body: bytes, metadata: Mapping[str, str], condition: Mapping[str, str]
    ) -> None:
        """One PutObject. Raise _Exists, _Passing or ServiceError."""
        try:
            self._s3.put_object(
                Bucket=bucket_name,
                Key=key,
                Body=body,
                Metadata=metadata,
                ContentType=_content_type(key),
                **self._options,
                **condition,
            )
        except ClientError as error:
            if _status(error) == 412 or (aws.error_code(error) == "NoSuchKey" and "IfMatch" in condition):
                raise _Exists from error
            raise _told(error, bucket_name) from error
        except BotoCoreError as error:
            raise _told(error, bucket_name) from error
        self._failing_since = None

    def _present(self, bucket_name: str, key: str) -> _Present:
        try:
            found = self._s3.head_object(Bucket=bucket_name, Key=key)
        except (ClientError, BotoCoreError) as error:
            if isinstance(error, ClientError) and _status(error) == 404:
                raise _Passing("the object is gone again") from error
            raise _told(error, bucket_name) from error
        metadata = found["Metadata"]
        return _Present(found["ETag"].strip('"'), metadata.get("group", ""), metadata.get("plan", ""))

    def _retrying(self, key: str) -> tenacity.Retrying:
        def log_and_go_on(state: tenacity.RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            waits = state.next_action.sleep if state.next_action else 0
            self._failing_since = self._failing_since or time.monotonic()
            log.warning(
                "upload failed, trying again",
                extra={"key": key, "error": str(error), "wait_seconds": round(waits, 1)},
            )

        def give_up(state: tenacity.RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            raise ServiceError(
                f"S3_WAIT_SECONDS={self._wait_seconds:g}: S3 was away for longer, last answer: {error}"
            ) from error

        return tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Passing),
            wait=tenacity.wait_exponential(multiplier=_FIRST_WAIT_SECONDS, max=_LONGEST_WAIT_SECONDS),
            stop=tenacity.stop_never if self._wait_seconds is None else tenacity.stop_after_delay(self._wait_seconds),
            sleep=self._sleep,
            before_sleep=log_and_go_on,
            retry_error_callback=give_up,
        )

    def _sleep(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise WriteAbandoned

    def stop(self) -> None:
        """Give up uploads that are waiting for S3; their plans are committed, so the next start completes them."""
        self._stopped.set()


def _told(error: ClientError | BotoCoreError, bucket_name: str) -> Exception:
    """Return what to raise: _Passing, or a ServiceError with the setting to look at."""
    if isinstance(error, ClientError):
        code, status = aws.error_code(error), _status(error)
        if code in _PASSING_CODES or status in _PASSING_STATUSES or (status >= 500 and status != 501):
            return _Passing(str(error))
        return ServiceError(f"{_SETTINGS.get(code, f'S3_BUCKET={bucket_name}')}: {error}{_ADVICE.get(code, '')}")
    if isinstance(error, NoCredentialsError | ParamValidationError):
        return ServiceError(f"S3_BUCKET={bucket_name}: {error}")
    return _Passing(str(error))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _is_not_implemented(error: BaseException | None) -> bool:
    return isinstance(error, ClientError) and (_status(error) == 501 or aws.error_code(error) == "NotImplemented")


def _taken(plan: Plan, key: str, present: _Present, group: str) -> str:
    return (
        f"S3_PREFIX={plan.layout.root.rstrip('/')}: s3://{plan.layout.bucket}/{key} is there already, put by "
        f"{f'group {present.group}' if present.group else 'another program'} as another batch, not by group {group} "
        f"for offsets {plan.start} to {plan.end} of {plan.topic}-{plan.partition}. Nothing was overwritten. One group "
        "lands one topic under one S3_PREFIX: use a prefix of its own"
    )


def _content_type(key: str) -> str:
    """No Content-Encoding for .gz: a client that undoes it by itself would break the name's promise."""
    types: dict[str, Any] = {
        "gz": "application/gzip",
        "json": "application/x-ndjson",
        "csv": "text/csv",
        "parquet": "application/vnd.apache.parquet",
    }
    return str(types.get(key.rsplit(".", 1)[-1], "application/octet-stream"))
