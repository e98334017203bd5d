"""A lake with curated tables, as the tests of the ETL look at it, and engines that die or are overtaken."""

from collections.abc import Callable

from etl.curation import CuratedTable
from etl.slices import PartitionValues
from pipeline import aws
from pipeline.athena.client import Athena
from pipeline.records import NewsItem
from pipeline.settings import Settings
from pipeline.tables.athena_engine import AthenaEngine


def closes(settings: Settings, table: str = "bars") -> dict[str, float]:
    """Symbol and day to close."""
    rows = Athena(settings).query(f'SELECT symbol, date(time) AS day, "close" FROM {table} ORDER BY 1, 2')
    return {f"{row.symbol} {row.day:%Y-%m-%d}": row.close for row in rows.itertuples()}


def objects(settings: Settings, folder: str) -> list[str]:
    pages = (
        aws.client(settings, "s3")
        .get_paginator("list_objects_v2")
        .paginate(Bucket=settings.s3_bucket, Prefix=f"{settings.s3_root}{folder}")
    )
    return [found["Key"] for page in pages for found in page.get("Contents", [])]


def item(symbol: str, title: str, day: int = 6) -> NewsItem:
    """What an article says about a symbol, ingested on a day of January 2026."""
    return NewsItem(
        id="1",
        symbol=symbol,
        time="2026-01-05 10:00:00.000",
        title=title,
        publisher="p",
        url="u",
        source="s",
        ingested_at=f"2026-01-0{day} 00:00:00.000",
    )


class Interrupted(RuntimeError):
    """Stands for a kill at this point."""


class Engine(AthenaEngine):
    """Athena's, with something that happens before and after it writes."""

    def __init__(self, settings: Settings, before: Callable = lambda: None, after: Callable = lambda: None) -> None:
        super().__init__(settings)
        self._before, self._after = before, after

    def write(self, table: CuratedTable, selects: list[str], place: str) -> dict[PartitionValues, str]:
        self._before()
        locations = super().write(table, selects, place)
        self._after()
        return locations
