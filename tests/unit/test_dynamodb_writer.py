"""dynamodb_writer.py: what is tried again, what is not, and in which portions."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from blocks_of import block
from botocore.stub import Stubber
from counting import bars

from pipeline import records
from pipeline.landing.plan import Layout, Plan
from pipeline.settings import ServiceError, Settings
from pipeline.sinks.dynamodb.dead_letters import Refused
from pipeline.sinks.dynamodb.writer import ItemWriter
from pipeline.sinks.lake.dead_letters import dead_letter
from pipeline.sinks.sink import WriteAbandoned

PLAN = Plan("t", 0, 0, 9, Layout(bucket="", root="", table=""))


class Kept:
    """Dead letters in a list."""

    def __init__(self) -> None:
        self.offsets: list[int] = []

    def keep(self, batch: Plan, refused: Refused) -> int:
        self.offsets.append(refused.offset)
        return 0

    def stop(self) -> None:
        """Nothing to close."""


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ItemWriter, Stubber, list[int], Kept]]:
    """A writer, what DynamoDB answers it, the sizes of its requests, and its dead letters; waiting takes no time."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    kept, sizes = Kept(), []
    made = ItemWriter(Settings(), kept, threads=1)
    monkeypatch.setattr(made._stopped, "wait", lambda _seconds: made._stopped.is_set())
    made._client.meta.events.register(
        "provide-client-params.dynamodb.TransactWriteItems",
        lambda params, **_: sizes.append(len(params["TransactItems"])),
    )
    with Stubber(made._client) as answers:
        yield made, answers, sizes, kept
        answers.assert_no_pending_responses()


def write(made: ItemWriter, values: list[bytes | None]) -> Any:
    return made.write(PLAN, [block(values)], lambda call, arguments: [call(one) for one in arguments])


def cancelled(answers: Stubber, *reasons: dict) -> None:
    answers.add_client_error(
        "transact_write_items", "TransactionCanceledException", modeled_fields={"CancellationReasons": list(reasons)}
    )


def values_of(count: int) -> list[bytes]:
    return [records.encode(bar) for bar in bars(0, count)]


def test_portions_of_a_hundred(writer: tuple) -> None:
    """A batch is written by a hundred items a request."""
    made, answers, sizes, _ = writer
    for _ in range(3):
        answers.add_response("transact_write_items", {})
    assert write(made, values_of(250)).records == 250
    assert sizes == [100, 100, 50]


def test_of_a_cancelled_request_only_the_rest_is_repeated(writer: tuple) -> None:
    """An older revision needs nothing more, a bar without a place is a dead letter, the others are sent again."""
    made, answers, sizes, kept = writer
    older = {"symbol": {"S": "AAPL"}, "interval": {"S": "1m"}}
    other = {"symbol": {"S": "GOOGL"}, "interval": {"S": "1m"}}
    cancelled(
        answers,
        {"Code": "ConditionalCheckFailed", "Item": older},
        {"Code": "ConditionalCheckFailed", "Item": other},
        {"Code": "None"},
        {"Code": "TransactionConflict"},
    )
    answers.add_response("transact_write_items", {})
    landed = write(made, values_of(4))
    assert (landed.records, landed.bad, kept.offsets, sizes) == (3, 1, [1], [4, 2])


def test_throttled_requests_shrink_and_grow(writer: tuple) -> None:
    """While it is throttled the requests are halved, down to ten; after a success they grow again, and nothing is left
    out.
    """
    made, answers, sizes, _ = writer
    for _ in range(2):
        answers.add_client_error("transact_write_items", "ProvisionedThroughputExceededException")
    cancelled(answers, *[{"Code": "ThrottlingError"}] * 25)
    answers.add_client_error("transact_write_items", "ThrottlingException")
    for _ in range(4):
        answers.add_response("transact_write_items", {})
    assert write(made, values_of(100)).records == 100
    assert sizes == [100, 50, 25, 12, 10, 20, 40, 30]


def test_revisions_of_one_batch_and_bars_of_one_place(writer: tuple) -> None:
    """A key is in a request once: of revisions the newest is sent, another bar of its place in a request after it."""
    made, answers, sizes, _ = writer
    daily = msgspec.structs.replace(bars(0, 1)[0], company="Alphabet", symbol="GOOG")
    later, other = (
        msgspec.structs.replace(daily, ingested_at="2026-01-02 00:00:00.000"),
        msgspec.structs.replace(daily, symbol="GOOGL"),
    )
    answers.add_response("transact_write_items", {})
    answers.add_response("transact_write_items", {})
    assert write(made, [records.encode(one) for one in (later, daily, other)]).records == 3
    assert sizes == [1, 1]


def test_final_refusals_and_stopping(writer: tuple) -> None:
    """What no waiting mends names the table; a stopped writer gives up what waits."""
    made, answers, _, _ = writer
    answers.add_client_error("transact_write_items", "AccessDeniedException", "not authorized")
    with pytest.raises(ServiceError, match=r"DYNAMODB_TABLE=StockMkt: .*not authorized"):
        write(made, values_of(1))
    cancelled(answers, {"Code": "ValidationError", "Message": "odd"})
    with pytest.raises(ServiceError, match="ValidationError: odd"):
        write(made, values_of(1))
    made.stop()
    answers.add_client_error("transact_write_items", "ThrottlingException")
    with pytest.raises(WriteAbandoned):
        write(made, values_of(1))


@pytest.mark.parametrize(
    ("value", "encoding", "text"), [(b"{", "text", "{"), (b"\xff", "base64", "/w=="), (None, "null", "")]
)
def test_dead_letters_keep_any_value(value: bytes | None, encoding: str, text: str) -> None:
    """A refused value is kept as it was, whatever its bytes."""
    made = dead_letter("t", 3, 7, timestamp_ms=0, value=value, reason="why")
    assert (made.encoding, made.value, made.partition, made.offset, made.time) == (
        encoding,
        text,
        3,
        7,
        "1970-01-01 00:00:00.000",
    )
