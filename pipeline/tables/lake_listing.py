"""What the consumer has landed so far, as the bucket's listing tells it: format, folders, topics."""

from collections.abc import Iterator
from datetime import date
from functools import cached_property
from typing import Any, get_args

import msgspec
from botocore.exceptions import ClientError

from pipeline import aws, bucket
from pipeline.landing.plan import Format
from pipeline.settings import ServiceError, Settings
from pipeline.tables import retractions
from pipeline.tables.catalog import Landing, first_day_of
from pipeline.tables.retractions import Retraction


class LakeListing:
    """Lists the lake's objects and folders, and finds out from them how the consumer lands."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._s3, self._glue = aws.client(settings, "s3"), aws.client(settings, "glue")

    def landing(self, record: str, first_day: str) -> Landing:
        """Return how `record` (bars, ticks, news, actions) is landed, by the oldest and the newest folder; the
        consumer's defaults when there is nothing yet. Raises ServiceError when the objects have two formats, which no
        table can read.
        """
        folder, days = self._days(record)
        taken_back = tuple(each for each in self.retractions if each.table == record)
        if not days:
            return Landing(first_day=first_day, has_hours=record == "ticks", retractions=taken_back)
        keys = [key for day in dict.fromkeys((days[0], days[-1])) for key in self._some_keys(f"{folder}dt={day}/")]
        formats = {kind for key in keys if (kind := _format(key))}
        if len(formats) > 1:
            raise ServiceError(
                f"S3_PREFIX={self._settings.s3_prefix}: {folder} holds {' and '.join(sorted(formats))}, "
                "and a table reads one format only; give each format a prefix of its own"
            )
        hours = {"/hour=" in key for key in keys}
        if len(hours) > 1:
            raise ServiceError(
                f"S3_PREFIX={self._settings.s3_prefix}: {folder} has days with and without hours; "
                "give each a prefix of its own"
            )
        plan = self._plan(keys[-1]) if keys else {}
        return Landing(
            first_day=first_day,
            format=next(iter(formats), "json"),
            has_hours=hours == {True},
            by_month=plan.get("partition_by") == "month",
            partition_time=plan.get("partition_time", "arrival"),
            retractions=taken_back,
        )

    @cached_property
    def retractions(self) -> list[Retraction]:
        """What was taken back, oldest first; looked for once. Raises ServiceError for an object that is none."""
        found = []
        for listed in self.objects(bucket.retractions_folder(self._settings.s3_root)):
            key = listed["Key"]
            body = self._s3.get_object(Bucket=self._settings.s3_bucket, Key=key)["Body"].read()
            try:
                found.append(retractions.decode(body))
            except msgspec.MsgspecError as error:
                raise ServiceError(f"s3://{self._settings.s3_bucket}/{key} is no retraction: {error}") from error
        return sorted(found, key=lambda each: each.id)

    def first_folder_day(self, record: str) -> str | None:
        """Return the oldest day that has a folder, YYYY-MM-DD."""
        return next(iter(self._days(record)[1]), None)

    def _days(self, record: str) -> tuple[str, list[str]]:
        folder = bucket.raw_folder(self._settings.s3_root, record)
        return folder, [name.removeprefix("dt=") for name in self.folders(folder) if name.startswith("dt=")]

    def first_day_declared(self, record: str) -> str:
        """Return the first day that the raw table reads. Raises ServiceError where there is no table."""
        database = self._settings.glue_database
        try:
            table = self._glue.get_table(DatabaseName=database, Name=f"raw_{record}")["Table"]
        except self._glue.exceptions.EntityNotFoundException:
            raise ServiceError(
                f"GLUE_DATABASE={database}: has no table raw_{record}; `python glue_setup.py` makes it"
            ) from None
        return first_day_of(table) or date.min.isoformat()

    def dead_letter_topics(self) -> list[str]:
        """Return the topics that have dead letters."""
        return self.folders(bucket.dead_letter_folder(self._settings.s3_root))

    def folders(self, prefix: str) -> list[str]:
        """Return the names of the folders right below a prefix, in order."""
        pages = self._pages(Prefix=prefix, Delimiter="/")
        return [found["Prefix"][len(prefix) : -1] for page in pages for found in page.get("CommonPrefixes", [])]

    def objects(self, prefix: str) -> Iterator[dict[str, Any]]:
        """Yield Key, LastModified and Size of every object below a prefix."""
        for page in self._pages(Prefix=prefix):
            yield from page.get("Contents", [])

    def _some_keys(self, prefix: str) -> list[str]:
        return [found["Key"] for found in next(self._pages(Prefix=prefix), {}).get("Contents", [])]

    def _pages(self, **parameters: str) -> Iterator[dict[str, Any]]:
        try:
            yield from self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._settings.s3_bucket, **parameters)
        except ClientError as error:
            if aws.error_code(error) != "NoSuchBucket":
                raise

    def _plan(self, key: str) -> dict[str, Any]:
        """The plan that an object was landed by, kept with it: whether folders are by arrival or by the record's own
        time, days or months. Objects of other writers have none.
        """
        metadata = self._s3.head_object(Bucket=self._settings.s3_bucket, Key=key).get("Metadata", {})
        return msgspec.json.decode(metadata.get("plan", "{}"), type=dict[str, Any])


def _format(key: str) -> Format | None:
    """Objects of other writers count too: Athena reads them with the rest."""
    ending = key.removesuffix(".gz").rpartition(".")[2]
    return next((known for known in get_args(Format) if known == ending), None)
