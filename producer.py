"""Get stock data into Kafka: every record of a source exactly once, keyed by its symbol.

  python producer.py replay samples/daily_prices.csv          price CSVs: files, folders, globs, s3://… or -
  python producer.py poll --once --symbols AAPL,MSFT          bars from Polygon/Massive or Alpha Vantage
  python producer.py stream --symbols AAPL,MSFT               live trades, seconds and minutes from Polygon/Massive
  python producer.py simulate --rate 100                      a simulated market, without any account
  python producer.py news --once --symbols NVDA               news with sentiment from Polygon/Massive

Delivery: exactly once from the source. Records and the checkpoint that says where the source was go in one transaction.
Killed at any instant and started again, a run continues where its last committed transaction ended. (stream: what a
live feed sent while nobody listened is gone, except for minute bars, which are filled from REST.)
"""

import hashlib
import logging
import random
import sys
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice

from pipeline import records, terminal
from pipeline.intervals import first_day, is_finished
from pipeline.records import DAILY_OR_LONGER, Bar, InvalidRecord, Record, Tick, time_text, time_text_ms
from pipeline.settings import Settings, SettingsError, load_settings
from pipeline.sources import alpha_vantage, polygon, simulated
from pipeline.sources import options as producer_options
from pipeline.sources.csv import file as csv_file
from pipeline.sources.csv.bars import Cleaner
from pipeline.sources.csv.dialects import UnusableFile, known_dialects
from pipeline.sources.csv.summary import Rejects, Summary
from pipeline.sources.pacing import Pace
from pipeline.sources.progress import Progress, SentMinutes, earlier
from pipeline.sources.recorded import Recorded
from pipeline.sources.rest import RateLimit, Rest, SourceError
from pipeline.streams.kafka.producer import Producer

log = logging.getLogger("producer")

RECORDS_A_TRANSACTION = 10_000


class Stopped(Exception):
    """Ctrl-C or SIGTERM, seen while waiting."""


def main() -> int:
    commands = {"replay": replay, "poll": poll, "stream": stream, "simulate": simulate, "news": news}
    options = producer_options.parser(__doc__).parse_args()
    settings = load_settings(vars(options), required=producer_options.required(options))
    terminal.configure_logging(settings)
    with terminal.stop_signals() as is_stopping, suppress(Stopped):
        return commands[options.command](settings, options, is_stopping)
    return terminal.EXIT_DONE


def replay(settings: Settings, options: Namespace, is_stopping: Callable[[], bool]) -> int:
    """Each file in turn. One that cannot be used is told, the others are sent, and the exit code is 1."""
    unusable = 0
    with Rejects(options.rejects) as rejects:
        try:
            names = csv_file.find(options.files, settings)
            for name in names:
                try:
                    replay_file(name, settings, options, is_stopping, rejects)
                except UnusableFile as error:
                    unusable += 1
                    print(f"error: {name}: {error}", file=sys.stderr)
                if is_stopping():
                    break
        except UnusableFile as error:
            print(f"error: {error}", file=sys.stderr)
            return terminal.EXIT_FAILED
    return terminal.EXIT_FAILED if unusable else terminal.EXIT_DONE


def replay_file(
    name: str, settings: Settings, options: Namespace, is_stopping: Callable[[], bool], rejects: Rejects
) -> None:
    topic = settings.kafka_topic_bars
    with csv_file.at_hand(name, settings, encoding=options.encoding) as file:
        plan = csv_file.plan(file, options.csv)
        if options.csv.missing == "refuse":
            for _ in csv_file.chunks(file, plan, Cleaner(plan, source=file.source, ingested_at=_now, missing="refuse")):
                pass  # Refused before the first record is sent, not in the middle.
        key = f"csv/{file.fingerprint}/{plan.named_symbol}/{topic}"
        cleaner = Cleaner(plan, source=file.source, ingested_at=_now, missing=options.csv.missing)
        summary, pace = Summary(name, plan, cleaner), Pace(rate=options.rate, speed=options.speed)
        with Producer(settings, _id(options, "replay", key), [topic]) as producer, terminal.progress("rows") as bar:
            sent_to = _checkpoint(producer, key, options).get("row", 0)
            for chunk in csv_file.chunks(file, plan, cleaner):
                summary.read(chunk)
                rejects.keep(name, chunk.rejects)
                waiting = chunk.since(sent_to)
                while waiting.bars and not is_stopping():
                    if due := pace.due(waiting.bars):
                        rest = waiting.after(due)
                        summary.sent += producer.send({topic: waiting.bars[:due]}, {key: {"row": rest.start}})
                        waiting = rest
                bar.update(chunk.rows)
                if is_stopping():
                    break
    print(summary.text(stopped=is_stopping()))
    if not summary.usable and not is_stopping():
        raise UnusableFile(
            f"no row of it can be used; its header: {','.join(plan.layout.header)[:200]}\n{known_dialects()}"
        )


def poll(settings: Settings, options: Namespace, is_stopping: Callable[[], bool]) -> int:
    """Rounds of asking for what is new, symbol by symbol, or day by day with --grouped."""
    source = {"polygon": polygon, "alpha_vantage": alpha_vantage}[options.source]
    if options.grouped or options.previous_close:
        if source is not polygon:
            raise SettingsError(["--grouped and --previous-close: only Polygon has them"])
        options.interval = "1d"
    if "*" in settings.symbol_list and not options.grouped:
        raise SettingsError(["SYMBOLS: '*' is for --grouped, news and stream"])
    sleep = _sleeper(is_stopping)
    get = _client(source, settings, options, sleep)
    topic, interval = settings.kafka_topic_bars, options.interval
    how = {"adjusted": options.adjusted, "ingested_at": _now}

    def ask(symbol: str, start: str, end: str) -> Iterator[tuple[Bar, bool]]:
        if options.grouped:
            for day in [_instant(end).date()] if options.load else _weekdays(start, end):
                yield from polygon.grouped_daily(get, day, **how)
        elif options.previous_close:
            yield from polygon.previous_close(get, symbol, **how)
        else:
            yield from source.bars(get, symbol, interval, _instant(start), _instant(end), **how)

    def finished(symbol: str, start: str, end: str) -> Iterator[tuple[str, Bar]]:
        now = datetime.now(UTC)
        for bar, is_delayed in ask(symbol, start, end):
            wanted_here = symbol in ("*", bar.symbol) or (options.grouped and bar.symbol in settings.symbol_list)
            if wanted_here and (
                options.include_open or is_finished(bar, now, polygon.DELAY if is_delayed else timedelta(0))
            ):
                yield f"{bar.symbol} {bar.time}" if options.grouped else bar.time, bar

    names = [",".join(settings.symbol_list)] if options.grouped else settings.symbol_list
    what = "grouped" if options.grouped else "previous close" if options.previous_close else interval
    keys = {
        name: f"{source.NAME}/{name}/{what}/{'adjusted' if options.adjusted else 'as traded'}/{topic}" for name in names
    }
    return _rounds(settings, options, keys=keys, ask=finished, topic=topic, is_stopping=is_stopping, sleep=sleep)


def news(settings: Settings, options: Namespace, is_stopping: Callable[[], bool]) -> int:
    """Rounds of asking for articles, symbol by symbol."""
    sleep = _sleeper(is_stopping)
    get = _client(polygon, settings, options, sleep)
    topic = settings.kafka_topic_news
    keys = {symbol: f"{polygon.NAME}/news/{symbol}/{topic}" for symbol in settings.symbol_list}

    def articles(symbol: str, start: str, end: str) -> Iterator[tuple[str, Record]]:
        for item in polygon.news(get, symbol, start, end, ingested_at=_now):
            yield f"{item.id} {item.symbol}", item

    return _rounds(settings, options, keys=keys, ask=articles, topic=topic, is_stopping=is_stopping, sleep=sleep)


def _rounds(
    settings: Settings,
    options: Namespace,
    *,
    keys: dict[str, str],
    ask: Callable[..., Iterator[tuple[str, Record]]],
    topic: str,
    is_stopping: Callable[[], bool],
    sleep: Callable[[float], None],
) -> int:
    """The loop of poll and news: once, or every so often until it is stopped."""
    with Producer(settings, _id(options, options.command, *keys.values()), [topic]) as producer:
        if options.restart:
            for key in keys.values():
                producer.forget(key)
        while True:
            began, failed = time.monotonic(), 0
            for name, key in keys.items():
                try:
                    sent = _send_new(producer, topic, key, lambda *part, name=name: ask(name, *part), options)
                    log.info("polled", extra={"symbol": name, "sent": sent, "topic": topic})
                except SourceError as error:
                    failed += 1
                    if not options.every_seconds and error.status in (401, 403):
                        raise  # The key is refused; the next symbol would say the same.
                    log.error("source failed", extra={"symbol": name, "reason": str(error)})  # noqa: TRY400 - the reason says it all
                if is_stopping():
                    return terminal.EXIT_DONE
            if not options.every_seconds:
                return terminal.EXIT_FAILED if failed else terminal.EXIT_DONE
            sleep(max(0.0, options.every_seconds - (time.monotonic() - began)))


def _send_new(
    producer: Producer,
    topic: str,
    key: str,
    ask: Callable[[str, str], Iterator[tuple[str, Record]]],
    options: Namespace,
) -> int:
    """Ask for what is missing of one series and send what is new, some thousands in a transaction. Returns how many."""
    progress = Progress(producer.position(key), revise=options.revise)
    end = options.end or _now()
    start = producer_options.first_time(options) or (
        earlier(progress.last, options.revise) if progress.last else earlier(end, producer_options.lookback(options))
    )
    if options.interval in DAILY_OR_LONGER:
        start = time_text(first_day(datetime.fromisoformat(start[:10]), options.interval))
    sent = 0
    for first, last in progress.missing(start, end):
        part, reached = ((name, record) for name, record in ask(first, last) if record.time >= first), first
        while batch := list(islice(part, RECORDS_A_TRANSACTION)):
            new = [(name, record) for name, record in batch if progress.is_new(name, record) and _is_valid(record)]
            reached = max(reached, batch[-1][1].time)
            progress.sent(new, first, reached)
            if new:
                sent += producer.send({topic: [record for _, record in new]}, {key: progress.state})
        if progress.last and last < progress.last:
            # A gap before what is done is closed to its end, also where it had no records.
            progress.sent([], first, last)
            producer.send({}, {key: progress.state})
    return sent


def stream(settings: Settings, options: Namespace, is_stopping: Callable[[], bool]) -> int:
    """Take what has arrived, send it, and fill the minute bars of each pause from REST in a thread beside."""
    from pipeline.sources import polygon_stream  # noqa: PLC0415 - no other command needs websockets

    ticks, bars = settings.kafka_topic_ticks, settings.kafka_topic_bars
    key = f"{polygon.NAME}/stream/{','.join(options.channels)}/{settings.symbols}"
    totals = Counter()
    fills: list[Future] = []
    with (
        Producer(settings, _id(options, "stream", key, ticks, bars), [ticks, bars]) as producer,
        ThreadPoolExecutor(1) as filler,  # One: the rate limit is for all requests together.
        polygon_stream.Stream(
            settings.polygon_stream_url,
            key=settings.polygon_api_key,
            symbols=settings.symbol_list,
            channels=options.channels,
            capacity=options.buffer,
        ) as feed,
    ):
        get = _client(polygon, settings, options, _sleeper(is_stopping))
        seen = SentMinutes(_checkpoint(producer, key, options).get("minutes"))
        missed_since = [seen.last] if seen.last else []
        while not is_stopping():
            arrived = [record for event in feed.take(0.5) if (record := _checked(polygon_stream.record, event, totals))]
            missed_since += [time_text_ms(since - 60_000) for since, _ in feed.take_gaps()]
            if "minutes" in options.channels and missed_since:
                log.warning("filling minute bars", extra={"since": min(missed_since)})
                fills.append(filler.submit(_minute_bars, get, settings.symbol_list, min(missed_since)))
            missed_since = []
            for fill in [fill for fill in fills if fill.done()]:
                fills.remove(fill)
                missed = [bar for bar in fill.result() if not seen.has(bar)]
                totals["filled"] += len(missed)
                arrived += missed
            new_ticks = [record for record in arrived if type(record) is Tick]
            new_bars = list(
                {(bar.symbol, bar.time): bar for bar in arrived if type(bar) is Bar and seen.is_new(bar)}.values()
            )
            totals["ticks"], totals["bars"] = totals["ticks"] + len(new_ticks), totals["bars"] + len(new_bars)
            if new_bars:
                seen.add(new_bars)
                producer.send({ticks: new_ticks, bars: new_bars}, {key: {"minutes": seen.state}})
            elif new_ticks:
                producer.send({ticks: new_ticks}, {f"{key}/ticks": {}})
            if not fills:
                seen.forget(but_minutes=15)
    counts = feed.counts
    print(
        f"received {counts.received:,} · sent {totals['ticks']:,} ticks and {totals['bars']:,} minute bars, of which {totals['filled']:,} "
        f"filled from REST · dropped {counts.dropped:,} · not understood {counts.malformed + totals['malformed']:,} · "
        f"reconnected {counts.reconnects:,} times"
    )
    return terminal.EXIT_DONE


def _checked(record_of: Callable[[dict, str], Record | None], event: dict, totals: Counter) -> Record | None:
    try:
        record = record_of(event, _now())
        return record if record and _is_valid(record) else None
    except ValueError as error:
        totals["malformed"] += 1
        log.warning("event not understood", extra={"reason": str(error)[:300]})
        return None


def _minute_bars(get: Callable[..., dict], symbols: Iterable[str], since: str) -> list[Bar]:
    """All finished minute bars from a time on; those of a symbol that cannot be had are told and left out."""
    now, found = datetime.now(UTC), []
    for symbol in symbols:
        if symbol == "*":
            log.error(
                "minute bars not filled",
                extra={"symbol": symbol, "since": since, "reason": "REST has minutes by symbol only"},
            )
            continue
        try:
            bars = polygon.bars(get, symbol, "1m", _instant(since), now, adjusted=False, ingested_at=_now)
            found += [
                bar for bar, is_delayed in bars if is_finished(bar, now, polygon.DELAY if is_delayed else timedelta(0))
            ]
        except SourceError as error:
            log.error("minute bars not filled", extra={"symbol": symbol, "since": since, "reason": str(error)})  # noqa: TRY400
    return found


def simulate(settings: Settings, options: Namespace, is_stopping: Callable[[], bool]) -> int:
    """As many records as asked for, or without end. The checkpoint holds how many were sent: the seed makes the rest
    again.
    """
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 31)
    topic = settings.kafka_topic_bars if options.bars else settings.kafka_topic_ticks
    rate = options.rate or (None if options.bars else 10.0)
    key = f"simulated/{seed}/{options.bars or 'ticks'}/{settings.symbols}/{rate or ''}/{topic}"
    with (
        Producer(settings, _id(options, "simulate", key), [topic]) as producer,
        terminal.progress("records", options.count) as bar,
    ):
        state = _checkpoint(producer, key, options)
        start = (
            state.get("start")
            or options.start
            or (_now() if options.seed is None else producer_options.SIMULATED_START)
        )
        sent = before = state.get("sent", 0)
        how = {"seed": seed, "start": _instant(start), "ingested_at": _now}
        made = (
            simulated.bars(settings.symbol_list, options.bars, **how)
            if options.bars
            else simulated.ticks(settings.symbol_list, rate=rate, **how)
        )
        rest, pace = islice(made, before, options.count), Pace(rate=rate)
        while not is_stopping() and (waiting := list(islice(rest, RECORDS_A_TRANSACTION))):
            while waiting and not is_stopping():
                if due := pace.due(waiting):
                    sent += producer.send({topic: waiting[:due]}, {key: {"sent": sent + due, "start": start}})
                    waiting = waiting[due:]
                    bar.update(due)
    print(
        f"seed {seed}: sent {sent - before:,} {'bars' if options.bars else 'ticks'} to {topic}"
        + (f", {before:,} before" if before else "")
        + (f"; go on with --seed {seed}" if options.seed is None else "")
    )
    return terminal.EXIT_DONE


def _client(
    source: object, settings: Settings, options: Namespace, sleep: Callable[[float], None]
) -> Callable[..., dict]:
    """How the source is asked: over the network within its rate limit, or from recorded answers."""
    if options.load:
        return Recorded(options.load, source.recorded_name).get
    if source is alpha_vantage:
        return Rest(
            settings.alpha_vantage_base_url,
            key=settings.alpha_vantage_api_key,
            key_setting="ALPHA_VANTAGE_API_KEY",
            key_parameter="apikey",
            refusal=alpha_vantage.refusal,
            sleep=sleep,
            limit=RateLimit(settings.alpha_vantage_requests_per_minute, sleep=sleep),
        ).get
    return Rest(
        settings.polygon_base_url,
        key=settings.polygon_api_key,
        key_setting="POLYGON_API_KEY",
        refusal=polygon.refusal,
        sleep=sleep,
        limit=RateLimit(settings.polygon_requests_per_minute, sleep=sleep),
    ).get


def _is_valid(record: Record) -> bool:
    """Whether the record keeps to its definition; what does not is told in full, for there is nowhere to send it."""
    try:
        records.encode(record)
    except InvalidRecord as error:
        log.error("record refused", extra={"reason": str(error), "record": repr(record)})  # noqa: TRY400
        return False
    return True


def _checkpoint(producer: Producer, key: str, options: Namespace) -> dict:
    if options.restart:
        producer.forget(key)
    return producer.position(key) or {}


def _id(options: Namespace, command: str, *parts: str) -> str:
    """The transactional id: what was asked for with --id, or one that only a run with the same checkpoints has."""
    return options.id or f"{command}-{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:16]}"


def _sleeper(is_stopping: Callable[[], bool]) -> Callable[[float], None]:
    def sleep(seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if is_stopping():
                raise Stopped
            time.sleep(min(left, 0.2))

    return sleep


def _now() -> str:
    return _text_of_ms(int(time.time() * 1000))


# Fast sources ask many times in a millisecond.
_text_of_ms = lru_cache(maxsize=8)(time_text_ms)


def _instant(time_: str) -> datetime:
    return datetime.fromisoformat(time_).replace(tzinfo=UTC)


def _weekdays(start: str, end: str) -> Iterator:
    day, last = (datetime.fromisoformat(text).date() for text in (start, end))
    while day <= last:
        if day.weekday() < 5:
            yield day
        day += timedelta(days=1)


if __name__ == "__main__":
    terminal.run(main)
