"""Putting a batch's objects into the bucket."""

import logging
import threading
from urllib.parse import urlencode

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError

from pipeline import aws
from pipeline.landing.plan import Plan
from pipeline.settings import ServiceError, Settings
from pipeline.sinks.lake.objects import Object
from pipeline.sinks.sink import WriteAbandoned

log = logging.getLogger(__name__)

# A refusal that no repetition mends, and the setting to look at.
_FINAL_CODES = frozenset(
    {
        "AccessDenied",
        "NoSuchBucket",
        "InvalidBucketName",
        "AllAccessDisabled",
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "PermanentRedirect",
        "AccountProblem",
        "InvalidStorageClass",
        "KMS.NotFoundException",
        "KMS.DisabledException",
        "InvalidTag",
    }
)


class ObjectWriter:
    """Puts objects into the bucket, again and again until S3 takes them. Safe to use from many threads.

    Delivery: at least once by itself. Every repetition writes the same bytes under the same name, and consumer.py moves
    the group on only after all objects of a batch were taken, which together is exactly once.
    """

    def __init__(self, settings: Settings, *, threads: int) -> None:
        self._group = settings.kafka_group
        self._s3 = aws.client(settings, "s3", attempts=1, pool_connections=threads)
        options = {
            "ServerSideEncryption": settings.s3_encryption,
            "SSEKMSKeyId": settings.s3_kms_key_id,
            "StorageClass": settings.s3_storage_class,
            "Tagging": urlencode(dict(tag.split("=", 1) for tag in settings.s3_tags.split(",") if tag)),
        }
        self._options = {name: value for name, value in options.items() if value}
        self._stopped = threading.Event()

    def put(self, plan: Plan, an_object: Object) -> None:
        """Put one object; wait and try again for as long as S3 is away. Raise ServiceError for what no waiting mends,
        and WriteAbandoned after stop().
        """
        wait_seconds = 0.2
        while True:
            try:
                self._s3.put_object(
                    Bucket=plan.layout.bucket,
                    Key=an_object.key,
                    Body=an_object.body,
                    # What verify needs: names alone do not prove the content.
                    Metadata={"records": str(an_object.records), "group": self._group, "plan": plan.metadata()},
                    ContentType=_content_type(an_object.key),
                    **self._options,
                )
            except (NoCredentialsError, ParamValidationError) as error:
                raise ServiceError(f"S3_BUCKET={plan.layout.bucket}: {error}") from error
            except (ClientError, BotoCoreError) as error:
                if isinstance(error, ClientError) and aws.error_code(error) in _FINAL_CODES:
                    raise ServiceError(f"S3_BUCKET={plan.layout.bucket}: {error}") from error
                log.warning(
                    "upload failed, trying again",
                    extra={"key": an_object.key, "error": str(error), "wait_seconds": wait_seconds},
                )
            else:
                return
            if self._stopped.wait(wait_seconds):
                raise WriteAbandoned
            wait_seconds = min(wait_seconds * 2, 10.0)

    def stop(self) -> None:
        """Give up uploads that are waiting for S3; their plans are committed, so the next start completes them."""
        self._stopped.set()


def _content_type(key: str) -> str:
    """No Content-Encoding for .gz: a client that undoes it by itself would break the name's promise."""
    types = {
        "gz": "application/gzip",
        "json": "application/x-ndjson",
        "csv": "text/csv",
        "parquet": "application/vnd.apache.parquet",
    }
    return types[key.rsplit(".", 1)[-1]]
