"""The objects of the lake: who wrote them, in which sizes, in which form, and how old the newest are."""

import io
import zlib
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any

import msgspec

from pipeline import aws, bucket
from pipeline.doctor.finding import Finding, ok, problem, warning
from pipeline.landing.plan import read_object_key
from pipeline.settings import Settings
from pipeline.tables.lake_listing import LakeListing

_LOOKED_AT = 1_000  # objects of the newest day
_MOST_BYTES = 8 << 20  # of an object that is read
_MANY, _FEW_RECORDS = 20, 5


def findings(settings: Settings, *, stale_hours: float, now: datetime) -> Iterator[Finding]:
    if not settings.s3_bucket:
        yield problem("lake", "S3_BUCKET is empty", "set it")
        return
    listing, is_anything = LakeListing(settings), False
    s3 = aws.client(settings, "s3")
    for table in listing.folders(bucket.raw_folder(settings.s3_root)):
        is_anything = True
        yield from _table(settings, listing, s3, table, stale_hours=stale_hours, now=now)
    if not is_anything:
        yield warning(
            "lake",
            f"nothing is landed below s3://{settings.s3_bucket}/{bucket.raw_folder(settings.s3_root)}",
            "python consumer.py --until-caught-up; or look at S3_PREFIX",
        )
        return
    if letters := list(islice(listing.objects(bucket.dead_letter_folder(settings.s3_root)), 1)):
        yield warning(
            "lake",
            f"there are refused records, such as those in {letters[0]['Key']}",
            "SELECT reason, count(*) FROM dead_letters … shows why",
        )


def _table(
    settings: Settings, listing: LakeListing, s3: Any, table: str, *, stale_hours: float, now: datetime
) -> Iterator[Finding]:
    """The newest day of one table; looking at all of them would be a listing of the whole lake."""
    folder = bucket.raw_folder(settings.s3_root, table)
    days = listing.folders(folder)
    others = [name for name in days if not name.startswith("dt=")]
    if others:
        yield problem(
            "lake",
            f"{folder} has folders that are not dt=…: {', '.join(others[:3])}",
            "another writer uses this prefix; give it a prefix of its own",
        )
    newest = max((name for name in days if name.startswith("dt=")), default="")
    objects = list(islice(listing.objects(f"{folder}{newest}/" if newest else folder), _LOOKED_AT))
    foreign = [found["Key"] for found in objects if read_object_key(found["Key"]) is None]
    own = [found for found in objects if found["Key"] not in foreign]
    if foreign:
        yield problem(
            "lake",
            f"{len(foreign)} objects in {folder}{newest} were not written by consumer.py, such as {foreign[0]}",
            "another writer uses this prefix, its rows are in the tables too; give it a prefix of its own",
        )
    yield from _sizes(folder, own)
    yield from _generations(f"{folder}{newest}", own)
    yield from _groups(settings, s3, own)
    if sample := next((found for found in reversed(objects) if ".json" in found["Key"]), None):
        yield from _lines(settings, s3, sample)
    if own and table == "actions":
        yield ok("lake", f"{table}: {len(own)} objects in {newest}")  # weeks may pass without a new one
    elif own and (hours := (now - max(found["LastModified"] for found in own)).total_seconds() / 3600) > stale_hours:
        yield warning(
            "lake",
            f"{table}: the newest object is {hours:,.0f} hours old",
            "does the producer run (deploy/systemd), and does the consumer? `--only kafka`",
        )
    elif own:
        yield ok("lake", f"{table}: {len(own)} objects in {newest}, the newest {hours:,.1f} hours old")


def _sizes(folder: str, own: list[dict[str, Any]]) -> Iterator[Finding]:
    """One object an event: what every Athena query then pays for in requests and seconds."""
    names = [read_object_key(found["Key"]) for found in own]
    small = [name for name in names if name and name.end - name.start <= _FEW_RECORDS]
    if len(small) >= _MANY and len(small) > len(own) / 2:
        yield warning(
            "lake",
            f"{len(small)} of {len(own)} objects in {folder} hold {_FEW_RECORDS} records or fewer",
            "consumer.py with a longer --flush-seconds (300) and no small --flush-records; "
            "queries read many small objects slowly",
        )


def _generations(folder: str, own: list[dict[str, Any]]) -> Iterator[Finding]:
    """A topic that was deleted and made anew: its offsets begin again, and its objects have another generation."""
    found = defaultdict(set)
    for name in (read_object_key(one["Key"]) for one in own):
        if name and name.generation:
            found[name.topic].add(name.generation)
    for topic, generations in found.items():
        if len(generations) > 1:
            yield warning(
                "lake",
                f"{folder} holds {len(generations)} generations of topic {topic}: it was deleted and made anew",
                "nothing is overwritten, the tables read all of them, and `consumer.py verify` looks at each",
            )


def _groups(settings: Settings, s3: Any, own: list[dict[str, Any]]) -> Iterator[Finding]:
    """A second group on the prefix lands everything again."""
    groups = {}
    for found in (own[0], own[-1]) if own else ():
        metadata = s3.head_object(Bucket=settings.s3_bucket, Key=found["Key"]).get("Metadata", {})
        groups[metadata.get("group", settings.kafka_group)] = found["Key"]
    for name, key in groups.items():
        if name != settings.kafka_group:
            yield problem(
                "lake",
                f"{key} was landed by group {name}, and KAFKA_GROUP is {settings.kafka_group}",
                "one group per S3_PREFIX: two groups land every record twice. "
                "Set KAFKA_GROUP back, or give this group another S3_PREFIX",
            )


def _lines(settings: Settings, s3: Any, sample: dict[str, Any]) -> Iterator[Finding]:
    """Athena's SerDe reads one JSON object a line; an array or an indented object gives rows of nulls, or an error."""
    key = sample["Key"]
    body = s3.get_object(Bucket=settings.s3_bucket, Key=key)["Body"].read(_MOST_BYTES)
    try:
        text = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(body, _MOST_BYTES) if key.endswith(".gz") else body
    except zlib.error as error:
        yield problem(
            "lake",
            f"{key} is not gzip, in spite of its name: {error}",
            "Athena goes by the name; another program wrote or changed it",
        )
        return
    is_whole = sample["Size"] <= _MOST_BYTES and len(text) < _MOST_BYTES
    for number, line in enumerate(io.BytesIO(text), 1):
        if not line.endswith(b"\n") and not is_whole:
            return
        try:
            msgspec.json.decode(line, type=dict)
        except msgspec.MsgspecError:
            yield problem(
                "lake",
                f"{key}: line {number} is not one JSON object: {line[:40]!r}",
                "another program wrote it; Athena needs one object a line",
            )
            return
