"""Flat files of Polygon.io, now Massive: a gzip CSV a day with the bars of all US stocks, over an S3 of their own.

https://massive.com/docs/flat-files/quickstart: paid plans have them, with keys that are not those of the REST API; a
day's files are there by 11:00 in New York on the next day. Prices are as traded.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

from pipeline.records import Interval
from pipeline.settings import Settings
from pipeline.sources.rest import SourceError

NAME = "flat_files"
SPANS: dict[Interval, str] = {"1d": "day_aggs_v1", "1m": "minute_aggs_v1"}


def key(interval: Interval, day: date) -> str:
    """Return where the file of a day is in the bucket."""
    return f"us_stocks_sip/{SPANS[interval]}/{day:%Y/%m}/{day}.csv.gz"


@contextmanager
def fetched(settings: Settings, interval: Interval, day: date) -> Iterator[Path]:
    """Give the file of a day, as a temporary one. Raises SourceError."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - no other source needs boto3

    name = key(interval, day)
    with tempfile.TemporaryDirectory(prefix="flat-files-") as folder:
        path = Path(folder) / f"{day}.csv.gz"
        try:
            _client(settings).download_file(settings.flat_files_bucket, name, str(path))
        except ClientError as error:
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            raise SourceError(_refusal(settings, name, status), status) from None
        except BotoCoreError as error:
            raise SourceError(f"FLAT_FILES_ENDPOINT_URL={settings.flat_files_endpoint_url}: {error}") from None
        yield path


def _refusal(settings: Settings, name: str, status: int) -> str:
    place = f"{settings.flat_files_bucket}/{name}: HTTP {status}"
    if status == 403:
        return (
            f"FLAT_FILES_ACCESS_KEY, FLAT_FILES_SECRET_KEY: {place}: refused, or not in the plan, or not yet published"
        )
    return f"FLAT_FILES_ENDPOINT_URL, FLAT_FILES_BUCKET: {place}"


def _client(settings: Settings) -> Any:
    import boto3  # noqa: PLC0415 - see above
    from botocore.config import Config  # noqa: PLC0415 - see above

    return boto3.client(
        "s3",
        endpoint_url=settings.flat_files_endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=settings.flat_files_access_key,
        aws_secret_access_key=settings.flat_files_secret_key,
        config=Config(s3={"addressing_style": "path"}, retries={"mode": "standard", "total_max_attempts": 5}),
    )
