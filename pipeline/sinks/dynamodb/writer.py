"""Writing the bars of a topic into a DynamoDB table.

BatchWriteItem has no conditions. TransactWriteItems has one per item, for up to 100 items per request: measured beside
conditional PutItem on many connections it took a ninth of the CPU per item and wrote four times as many
(benchmarks/dynamodb.py). AWS charges two write units per item for it, where PutItem is charged one.
"""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError

from pipeline import aws
from pipeline.landing.block import Block
from pipeline.landing.lane import Written
from pipeline.landing.plan import Plan
from pipeline.records import Bar, InvalidRecord
from pipeline.settings import ServiceError, Settings
from pipeline.sinks.checks import check_batch
from pipeline.sinks.dynamodb import items
from pipeline.sinks.dynamodb.dead_letters import Refused
from pipeline.sinks.dynamodb.items import BarItem, Keys
from pipeline.sinks.dynamodb.table import plain
from pipeline.sinks.sink import ForEach, WriteAbandoned

log = logging.getLogger(__name__)

ITEMS_A_TRANSACTION = 100
# A request takes 4 MB; names of attributes and conditions come on top of the records' own bytes.
BYTES_A_TRANSACTION = 1024 * 1024
# While it is throttled. Even a table of the least capacity gathers room for this many within seconds.
_LEAST_ITEMS = 10
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.05, 5.0
_THROTTLED = frozenset(
    {
        "ThrottlingException",
        "ThrottlingError",
        "ProvisionedThroughputExceededException",
        "ProvisionedThroughputExceeded",
        "RequestLimitExceeded",
    }
)
_PASSING = _THROTTLED | {
    "TransactionInProgressException",
    "TransactionConflict",
    "InternalServerError",
    "ServiceUnavailable",
}


class DeadLetters(Protocol):
    """Where refused records are kept: dead_letters.DeadLetterObjects or DeadLetterTopic."""

    def keep(self, batch: Plan, refused: Refused) -> int: ...
    def stop(self) -> None: ...


class ItemWriter:
    """Writes batches of records into the settings' table; safe to use from many threads."""

    def __init__(self, settings: Settings, dead_letters: DeadLetters, *, threads: int) -> None:
        self._table, self._wait_seconds = settings.dynamodb_table, settings.dynamodb_wait_seconds
        self._keys = Keys(settings.dynamodb_partition_key, settings.dynamodb_sort_key)
        # The retries are ours: they know what can be split, and they end when the consumer is to stop.
        self._client = aws.client(settings, "dynamodb", attempts=1, pool_connections=threads)
        self._dead_letters = dead_letters
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def write(self, plan: Plan, blocks: list[Block], for_each: ForEach) -> Written:
        """Write a batch's records. Raise ServiceError when DynamoDB refuses for good or for too long, and
        WriteAbandoned after stop().
        """
        found, refused = self._items_of(plan, blocks)
        count = len(found) + len(refused)
        waiting = items.newest(found)
        self._count(superseded=len(found) - len(waiting))
        while waiting:
            now, waiting = _apart(waiting)
            for more in for_each(self._store, list(_chunks(now))):
                refused += more
        objects = sum(for_each(lambda one: self._dead_letters.keep(plan, one), refused))
        return Written(
            objects=objects, bytes=sum(block.bytes for block in blocks), records=count - len(refused), bad=len(refused)
        )

    def stop(self) -> None:
        """Give up what is waiting; its offsets are not committed, so the next start writes it."""
        self._stopped.set()
        self._dead_letters.stop()
        log.info(
            "items",
            extra={"table": self._table, "written": self._counts["written"], "superseded": self._counts["superseded"]},
        )

    def _items_of(self, plan: Plan, blocks: list[Block]) -> tuple[list[BarItem], list[Refused]]:
        are_lines = [block.is_one_a_line for block in blocks]
        checked, reasons = check_batch(Bar, blocks, are_lines, planned_ms=plan.planned_ms, keep=True)
        places = (
            place
            for block in blocks
            for place in zip(block.values, block.offsets.tolist(), block.timestamps.tolist(), strict=True)
        )
        found: list[BarItem] = []
        refused: list[Refused] = []
        for index, (bar, (value, offset, timestamp_ms)) in enumerate(zip(checked or (), places, strict=True)):
            try:
                if index in reasons:
                    raise InvalidRecord(reasons[index])  # noqa: TRY301 - handled as what DynamoDB would refuse
                found.append(items.bar_item(self._keys, value or b"", bar, offset=offset, timestamp_ms=timestamp_ms))
            except InvalidRecord as error:
                refused.append(Refused(offset, timestamp_ms, value, str(error)))
        return found, refused

    def _store(self, chunk: list[BarItem]) -> list[Refused]:
        """Write items of different keys. Return those whose place another bar has."""
        waiting, size = deque(chunk), len(chunk)
        refused: list[Refused] = []
        trouble = _Trouble(self._table, self._wait_seconds, self._stopped)
        while waiting:
            part = [waiting.popleft() for _ in range(min(size, len(waiting)))]
            left, cause = part, None
            codes: set[str] = set()
            try:
                self._client.transact_write_items(
                    TransactItems=[{"Put": items.put(self._table, self._keys, one)} for one in part]
                )
                left = []
            except self._client.exceptions.TransactionCanceledException as error:
                left, more, codes = self._sort_out(part, error.response["CancellationReasons"])
                refused, cause = refused + more, error
            except (ClientError, BotoCoreError) as error:
                if (code := _passing_code(error)) is None:
                    raise ServiceError(f"DYNAMODB_TABLE={self._table}: {error}") from error
                codes, cause = {code}, error
            waiting.extendleft(reversed(left))
            if cause is None:
                self._count(written=len(part))
            if len(left) < len(part):
                trouble.is_over()
                size = min(size * 2, ITEMS_A_TRANSACTION)
            else:
                # A throttled table may have room for a smaller request.
                size = max(size // 2, _LEAST_ITEMS) if codes & _THROTTLED else size
                trouble.wait(cause, sorted(codes))
        return refused

    def _sort_out(
        self, part: list[BarItem], reasons: list[dict[str, Any]]
    ) -> tuple[list[BarItem], list[Refused], set[str]]:
        """Return what to try again of a cancelled transaction, what has no place, and why others were not written."""
        left: list[BarItem] = []
        refused: list[Refused] = []
        codes: set[str] = set()
        for one, reason in zip(part, reasons, strict=True):
            code = reason.get("Code", "None")
            if code == "ConditionalCheckFailed":
                if taken := items.taken_by(self._keys, one, plain(reason.get("Item", {}))):
                    refused.append(Refused(one.offset, one.timestamp_ms, one.value, taken))
                else:
                    self._count(superseded=1)
            elif code == "None" or code in _PASSING:
                left.append(one)
                codes |= {code} - {"None"}
            else:
                raise ServiceError(
                    f"DYNAMODB_TABLE={self._table}: {code}: {reason.get('Message')} ({one.key[0]!r}, {one.key[1]!r})"
                )
        return left, refused, codes

    def _count(self, **counts: int) -> None:
        with self._lock:
            self._counts.update(counts)


class _Trouble:
    """Waits longer from failure to failure, and gives up when it has lasted too long."""

    def __init__(self, table: str, wait_seconds: float, stopped: threading.Event) -> None:
        self._table, self._longest_seconds, self._stopped = table, wait_seconds, stopped
        self.is_over()

    def is_over(self) -> None:
        self._began: float | None = None
        self._wait_seconds = _FIRST_WAIT_SECONDS

    def wait(self, error: Exception | None, codes: list[str]) -> None:
        now = time.monotonic()
        self._began = self._began or now
        if now - self._began > self._longest_seconds:
            raise ServiceError(
                f"DYNAMODB_TABLE={self._table}: no write succeeded in {self._longest_seconds} s "
                f"(DYNAMODB_WAIT_SECONDS), "
                f"last answer: {error}. Nothing of this batch is committed; the next start writes it"
            ) from error
        log.warning(
            "write failed, trying again",
            extra={"table": self._table, "error": ",".join(codes), "wait_seconds": self._wait_seconds},
        )
        if self._stopped.wait(self._wait_seconds):
            raise WriteAbandoned
        self._wait_seconds = min(self._wait_seconds * 2, _LONGEST_WAIT_SECONDS)


def _passing_code(error: Exception) -> str | None:
    """Return a word for a failure that the same request may outlive, None for one that no waiting mends."""
    if isinstance(error, ClientError):
        code, status = aws.error_code(error), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return (code or str(status)) if code in _PASSING or status >= 500 or status == 429 else None
    return None if isinstance(error, NoCredentialsError | ParamValidationError) else type(error).__name__


def _apart(found: list[BarItem]) -> tuple[list[BarItem], list[BarItem]]:
    """Return items of different keys, and those that have to wait for them: a transaction may touch an item once."""
    first: dict[tuple[str, str], BarItem] = {}
    later = [one for one in found if first.setdefault(one.key, one) is not one]
    return list(first.values()), later


def _chunks(found: list[BarItem]) -> Iterator[list[BarItem]]:
    chunk: list[BarItem] = []
    size = 0
    for one in found:
        if chunk and (len(chunk) == ITEMS_A_TRANSACTION or size + len(one.value) > BYTES_A_TRANSACTION):
            yield chunk
            chunk, size = [], 0
        chunk.append(one)
        size += len(one.value)
    if chunk:
        yield chunk
