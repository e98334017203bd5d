"""What a soak sent and what the lake holds of it: one number per tick, so that millions of them can be compared."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice

import msgspec
import numpy as np
from committed import committed_values

from pipeline import records
from pipeline.records import Tick
from pipeline.settings import Settings
from pipeline.sinks.lake.verify import content
from pipeline.sources import simulated

# What makes a tick this tick, in every format: symbol, time, price, volume.
Fact = tuple[str, str, float, float]
START = "2024-01-02 14:30:00.000"
EXAMPLES = 3


@dataclass
class Facts:
    """Ticks as the hashes of their facts, and where they came from: names, each with a count of ticks in a row."""

    hashes: list[np.ndarray] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def add(self, name: str, facts: Iterable[Fact]) -> int:
        """Add the facts that come from one place. Return how many they are."""
        found = np.fromiter((hash(fact) for fact in facts), np.int64)
        self.hashes.append(found)
        self.names.append(name)
        return len(found)

    @property
    def count(self) -> int:
        return sum(map(len, self.hashes))

    def places(self, wanted: np.ndarray) -> list[str]:
        """Return the first places of each of a few hashes: the name, and the number of the tick there."""
        found = []
        for one in wanted[:EXAMPLES]:
            places = [
                f"{name}#{int(number)}"
                for name, hashes in zip(self.names, self.hashes, strict=True)
                for number in np.flatnonzero(hashes == one)[:EXAMPLES]
            ]
            found.append(" and ".join(places[:EXAMPLES]))
        return found


def assert_same(expected: Facts, landed: Facts) -> None:
    """Fail with the numbers and some places if a tick is missing, or there more often than it was sent."""
    wanted, wanted_counts = np.unique(np.concatenate([*expected.hashes, np.empty(0, np.int64)]), return_counts=True)
    there, there_counts = np.unique(np.concatenate([*landed.hashes, np.empty(0, np.int64)]), return_counts=True)
    every = np.union1d(wanted, there)
    more = np.zeros(len(every), np.int64)
    more[np.searchsorted(every, there)] += there_counts
    more[np.searchsorted(every, wanted)] -= wanted_counts
    missing, twice = -int(more[more < 0].sum()), int(more[more > 0].sum())
    assert (missing, twice) == (0, 0), (
        f"{missing} missing, such as {expected.places(every[more < 0])}; "
        f"{twice} twice, such as {landed.places(every[more > 0])}"
    )


def simulated_facts(symbols: list[str], seed: int, rate: float, count: int) -> Iterator[Fact]:
    """Yield the facts of the first ticks that `producer.py simulate` sends with this seed and rate, and START."""
    start = datetime.fromisoformat(START).replace(tzinfo=UTC)
    ticks = simulated.ticks(symbols, seed=seed, start=start, rate=rate, ingested_at=lambda: START)
    return map(_fact, islice(ticks, count))


def facts_in_topic(settings: Settings) -> list[Fact]:
    """Return the facts of what a read_committed reader sees in the topic of ticks."""
    decode = msgspec.json.Decoder(Tick).decode
    return [_fact(decode(value)) for value in committed_values(settings, settings.kafka_topic_ticks)]


def _facts_of(key: str, body: bytes) -> Iterator[Fact]:
    rows = content(key, body)
    if key.endswith(".parquet"):
        return ((row["symbol"], records.time_text(row["time"]), row["price"], row["volume"]) for row in rows)
    if ".csv" in key:
        cells = (line.decode().split(",") for line in rows)
        return ((symbol, time, float(price), float(volume)) for symbol, time, price, volume, *_ in cells)
    return map(_fact, map(msgspec.json.Decoder(Tick).decode, rows))


def _fact(tick: Tick) -> Fact:
    return tick.symbol, tick.time, tick.price, tick.volume


@dataclass
class Account:
    """All that was sent, through all generations of the topic, and all that is in the lake."""

    s3: object
    settings: Settings
    sent: Facts = field(default_factory=Facts)
    landed: Facts = field(default_factory=Facts)
    etags: dict[str, str] = field(default_factory=dict)

    def add_topic(self, seed: int, rate: float) -> int:
        """Add what is in the topic, which must be the first ticks of this simulation, each once. Return how many."""
        in_topic, simulated_ticks = Facts(), Facts()
        count = in_topic.add("topic", facts_in_topic(self.settings))
        name = f"simulation {seed}"
        simulated_ticks.add(
            name, simulated_facts([*map(simulated.ticker, self.settings.symbol_list)], seed, rate, count)
        )
        assert_same(simulated_ticks, in_topic)
        if self.sent.names[-1:] == [name]:  # counted before, when there were fewer
            self.sent.names.pop()
            self.sent.hashes.pop()
        self.sent.names += simulated_ticks.names
        self.sent.hashes += simulated_ticks.hashes
        return count

    def add_lake(self) -> int:
        """Add the objects that are new, in whatever format they are; the others must be as they were, and none may be
        of bad records. Return how many objects there are.
        """
        pages = self.s3.get_paginator("list_objects_v2").paginate(
            Bucket=self.settings.s3_bucket, Prefix=self.settings.s3_root
        )
        etags = {item["Key"]: item["ETag"] for page in pages for item in page.get("Contents", [])}
        changed = [key for key, etag in self.etags.items() if etags.get(key) != etag]
        assert not changed, f"objects that are gone or were overwritten: {changed[:EXAMPLES]}"
        for key in sorted(etags.keys() - self.etags.keys()):
            assert "/dead_letter/" not in f"/{key}", key
            body = self.s3.get_object(Bucket=self.settings.s3_bucket, Key=key)["Body"].read()
            self.landed.add(key, _facts_of(key, body))
        self.etags = etags
        return len(etags)

    def assert_exactly_once(self) -> None:
        """Everything that was sent is in the lake once."""
        assert_same(self.sent, self.landed)
