"""How fast consumer.py lands: python -m local run python -m benchmarks.landing [--records 2000000]

The same work for every line: JSON bars of about 190 bytes in 4 partitions, landed as gzip NDJSON, checked, exactly
once. Measured are the landing processes as a whole, start-up included: CPU a record (user and system), records a second
of wall time, peak memory. The tutorials' loop, one object a message, and the CPU of the check alone stand beside it in
the same run.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pipeline import aws, records
from pipeline.records import Bar
from pipeline.settings import Settings, load_settings
from pipeline.sinks.lake.verify import content
from pipeline.streams.kafka import producer as topic

PARTITIONS = 4
TRANSACTION = 50_000
TUTORIAL_RECORDS = 2_000
LATENCY_SECONDS = 20
LATENCY_RECORDS_PER_SECOND = 1_000


@dataclass(frozen=True)
class Cost:
    """What one run of a command took, with all its child processes."""

    wall_seconds: float
    cpu_seconds: float
    peak_mb: float
    objects: int = 0

    def line(self, name: str, count: int) -> str:
        return (
            f"{name:<44}{count / self.wall_seconds:>11,.0f} records/s "
            f"{self.cpu_seconds / count * 1e6:>8.2f} µs CPU/record "
            f"{self.peak_mb:>6.0f} MB peak {self.objects / count * 1e6:>11,.0f} PUTs per million records"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=2_000_000)
    parser.add_argument("--only", choices=["landing", "tutorial", "latency"])
    options = parser.parse_args()
    own = uuid.uuid4().hex[:6]
    settings = replace(
        load_settings(required=["s3_bucket"]),
        kafka_topic_bars=f"bench_{own}",
        kafka_partitions=PARTITIONS,
        kafka_topic_checkpoints=f"bench_checkpoints_{own}",
        s3_prefix=f"bench_{own}",
    )
    s3 = aws.client(settings, "s3")
    if settings.s3_bucket not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}:
        s3.create_bucket(Bucket=settings.s3_bucket)
    if options.only in (None, "landing"):
        size = fill(settings, options.records)
        print(f"{options.records:,} JSON bars of {size:.0f} bytes, {PARTITIONS} partitions, {os.cpu_count()} cores")
        for name, arguments, changes in (
            ("one process", [], {}),
            ("--workers 2", ["--workers", "2"], {}),
            ("one process, kafka-python without its private parts", [], {"KAFKA_PYTHON_PRIVATE_PARTS": "off"}),
        ):
            print(land(settings, options.records, arguments, changes).line(name, options.records), flush=True)
    if options.only in (None, "tutorial"):
        tutorial(replace(settings, kafka_topic_bars=f"bench_tutorial_{own}"))
    if options.only in (None, "latency"):
        latency(replace(settings, kafka_topic_bars=f"bench_latency_{own}"), s3)


def bars(count: int) -> Iterator[Bar]:
    """Minute bars of 40 symbols, whose keys spread over the partitions."""
    for number in range(count):
        open_ = round(100 + number % 977 / 8, 2)
        yield Bar(
            symbol=f"S{number % 40}",
            time=records.time_text_ms(1_700_000_000_000 + 60_000 * (number // 40)),
            interval="1m",
            open=open_,
            high=open_ + 1.25,
            low=open_ - 0.75,
            close=open_ + 0.5,
            volume=float(number),
            source="b",
            ingested_at="2026-01-01 00:00:00.000",
        )


def fill(settings: Settings, count: int) -> float:
    """Fill the topic; gives the mean size of a value in bytes."""
    topic.ensure_topics(settings, [settings.kafka_topic_bars])
    chunk, size, sent = [], 0, 0
    with topic.Producer(settings, settings.kafka_topic_bars) as producer:
        for bar in bars(count):
            chunk.append(bar)
            if len(chunk) == TRANSACTION or sent + len(chunk) == count:
                sent += producer.send({settings.kafka_topic_bars: chunk}, {"bench": {"row": sent}})
                size += sum(len(records.encode(one)) for one in chunk[:100]) / len(chunk[:100]) * len(chunk)
                chunk = []
    return size / count


def land(settings: Settings, count: int, arguments: list[str], changes: dict[str, str] | None = None) -> Cost:
    """Land the whole topic with a new group below a new prefix, and make sure that all of it is there."""
    own = uuid.uuid4().hex[:6]
    environment = os.environ | {
        "KAFKA_TOPIC_BARS": settings.kafka_topic_bars,
        "KAFKA_GROUP": f"bench_{own}",
        "S3_PREFIX": f"bench_{own}",
        **(changes or {}),
    }
    cost = measure(
        [sys.executable, "consumer.py", "--until-caught-up", "--topics", settings.kafka_topic_bars, *arguments],
        environment,
    )
    landed = [int(head["records"]) for _, head in objects(replace(settings, s3_prefix=f"bench_{own}"))]
    if sum(landed) != count:
        raise SystemExit(f"{sum(landed)} records landed, not {count}")
    return replace(cost, objects=len(landed))


def measure(command: list[str], environment: dict[str, str]) -> Cost:
    began = time.monotonic()
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(errors)
    # ru_maxrss of a parent that was waited for is the largest single process, in KB on Linux.
    return Cost(time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def objects(settings: Settings) -> Iterator[tuple[str, dict[str, str]]]:
    """Key and metadata of every object below the prefix."""
    s3 = aws.client(settings, "s3")
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=settings.s3_bucket, Prefix=settings.s3_root):
        for item in page.get("Contents", []):
            yield item["Key"], s3.head_object(Bucket=settings.s3_bucket, Key=item["Key"])["Metadata"]


TUTORIAL = """
import json, os, sys
import s3fs
from kafka import KafkaConsumer
topic, count, prefix = sys.argv[1], int(sys.argv[2]), sys.argv[3]
consumer = KafkaConsumer(topic, bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"], auto_offset_reset="earliest",
                         value_deserializer=lambda value: json.loads(value.decode("utf-8")))
s3 = s3fs.S3FileSystem(endpoint_url=os.environ["AWS_ENDPOINT_URL"])
for number, message in enumerate(consumer):
    with s3.open(f"s3://{prefix}/stock_market_{number}.json", "w") as file:
        json.dump(message.value, file)
    if number + 1 == count:
        break
"""


def tutorial(settings: Settings) -> None:
    """The loop that tutorials teach: one object a message, offsets committed by the clock."""
    fill(settings, TUTORIAL_RECORDS)
    prefix = f"{settings.s3_bucket}/{settings.s3_prefix}_tutorial"
    cost = measure(
        [sys.executable, "-c", TUTORIAL, settings.kafka_topic_bars, str(TUTORIAL_RECORDS), prefix], dict(os.environ)
    )
    print(replace(cost, objects=TUTORIAL_RECORDS).line("tutorials' loop (kafka-python, s3fs)", TUTORIAL_RECORDS))
    ours = land(settings, TUTORIAL_RECORDS, [])
    print(ours.line(f"consumer.py on the same {TUTORIAL_RECORDS:,} records", TUTORIAL_RECORDS))


def latency(settings: Settings, s3: object) -> None:
    """From send to an object that a listing shows, at a steady rate, with --flush-seconds 1."""
    fill(settings, PARTITIONS)
    own = uuid.uuid4().hex[:6]
    environment = os.environ | {
        "KAFKA_TOPIC_BARS": settings.kafka_topic_bars,
        "KAFKA_GROUP": f"bench_{own}",
        "S3_PREFIX": f"bench_{own}",
    }
    process = subprocess.Popen(
        [sys.executable, "consumer.py", "--topics", settings.kafka_topic_bars, "--flush-seconds", "1"],
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    seen: dict[str, float] = {}
    sent_at: dict[int, float] = {}
    count, every = LATENCY_SECONDS * LATENCY_RECORDS_PER_SECOND, LATENCY_RECORDS_PER_SECOND // 10
    pending = iter(bars(count))
    try:
        with topic.Producer(settings, settings.kafka_topic_bars) as producer:
            began, sent = time.time() + 5, 0  # the consumer needs a moment to join
            while len(seen) == 0 or sent < count or time.time() < began + LATENCY_SECONDS + 5:
                if sent < count and time.time() >= began + sent / LATENCY_RECORDS_PER_SECOND:
                    chunk = [next(pending) for _ in range(every)]
                    sent_at.update(dict.fromkeys(range(sent, sent + every), time.time()))
                    sent += producer.send({settings.kafka_topic_bars: chunk}, {"latency": {"row": sent}})
                now = time.time()
                for page in s3.get_paginator("list_objects_v2").paginate(
                    Bucket=settings.s3_bucket, Prefix=f"bench_{own}/"
                ):
                    for item in page.get("Contents", []):
                        seen.setdefault(item["Key"], now)
                time.sleep(0.01)
    finally:
        process.terminate()
        process.wait()
    report_latency(settings, s3, seen, sent_at)


def report_latency(settings: Settings, s3: object, seen: dict[str, float], sent_at: dict[int, float]) -> None:
    waits = sorted(
        seen[key] - sent_at[int(json.loads(line)["volume"])]
        for key in seen
        for line in content(key, s3.get_object(Bucket=settings.s3_bucket, Key=key)["Body"].read())
        if seen[key] >= sent_at[int(json.loads(line)["volume"])]
    )
    print(
        f"latency at {LATENCY_RECORDS_PER_SECOND:,} records/s, --flush-seconds 1, {len(waits):,} records: "
        f"p50 {statistics.median(waits):.2f} s, p99 {waits[int(len(waits) * 0.99)]:.2f} s, most {waits[-1]:.2f} s"
    )


if __name__ == "__main__":
    main()
