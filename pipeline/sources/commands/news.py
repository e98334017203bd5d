"""producer.py news: what Polygon/Massive's articles say about symbols."""

from argparse import Namespace
from collections.abc import Callable, Iterator
from functools import partial

from pipeline.records import Record
from pipeline.settings import Settings
from pipeline.sources import polygon, rounds
from pipeline.sources.pacing import Clock
from pipeline.sources.rest import Get
from pipeline.sources.source import Command, Source


def sources(settings: Settings, options: Namespace, clock: Clock) -> list[Source]:
    """Return one source with a series for each symbol."""
    get, topic = polygon.client(settings, clock.sleep, recorded=options.load), settings.kafka_topic_news
    series = [
        rounds.Series(
            name=symbol,
            key=f"{polygon.NAME}/news/{symbol}/{topic}",
            ask=partial(_articles, get, symbol, ingested_at=clock.now_text),
        )
        for symbol in settings.symbol_list
    ]
    return [rounds.Rounds("news", topic, series, options, clock)]


def _articles(
    get: Get, symbol: str, start: str, end: str, *, ingested_at: Callable[[], str]
) -> Iterator[tuple[str, Record]]:
    for item in polygon.news(get, symbol, start, end, ingested_at=ingested_at):
        yield f"{item.id} {item.symbol}", item


COMMAND = Command(
    summary="news with sentiment from Polygon/Massive",
    more="One record per article and ticker.",
    examples=("--once --symbols NVDA,AAPL --from 2024-06-01", "--every 15m"),
    add_options=rounds.add_options,
    required=lambda options: [] if options.load else ["polygon_api_key"],
    sources=sources,
)
