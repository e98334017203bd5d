"""Blocks against kafka-python's own decoder: the same records, errors and positions, whatever the bytes are."""

import pytest
from encoded_batches import (
    CODECS,
    ENOUGH,
    FIRST_TIMESTAMP,
    HEADER,
    PARTITION,
    Reader,
    build_batch,
    build_records,
    marker,
    plain_batch,
    rows,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kafka.errors import CorruptRecordError
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.legacy_records import LegacyRecordBatchBuilder
from kafka.record.util import encode_varint

from pipeline.streams.kafka import decoder

INT64 = range(-(1 << 63), 1 << 63)


def is_sound(records: list[tuple]) -> bool:
    """Whether these are records: kafka-python checks neither that offsets ascend nor that numbers fit 64 bits."""
    offsets = [offset for offset, _, _ in records]
    return offsets == sorted(set(offsets)) and all(offset in INT64 and time in INT64 for offset, time, _ in records)


texts = st.one_of(
    st.none(),
    st.binary(max_size=12),
    st.integers(0, 300).map(bytes),
    st.integers(0, 9000).map(lambda size: b"v" * size),
    st.just(b'{"symbol":"AAPL","close":1.5}' * 6),
)
headers = st.lists(st.tuples(st.text(max_size=5), st.one_of(st.none(), st.binary(max_size=5))), min_size=1, max_size=2)
times = st.one_of(st.integers(-5, 200), st.integers(-(1 << 40), 1 << 40))
# Headers are rare, so that most examples are for the fast decoder.
record = st.tuples(times, texts, texts, st.one_of(*[st.just([])] * 12, headers))
# Repeated, a few records make a batch that is large enough, with offsets of two and three bytes.
record_lists = st.builds(lambda few, times: few * times, st.lists(record, min_size=1, max_size=8), st.integers(1, 30))
gaps = st.one_of(st.just([1]), st.lists(st.sampled_from([1, 1, 1, 2, 70, 9000]), min_size=1, max_size=4))


@st.composite
def partitions(draw: st.DrawFn) -> tuple[bytes, list[tuple[int, int]], int]:
    """Consecutive batches of a partition as the broker answers them, the aborted transactions, and the offset behind
    all.
    """
    data, aborted, open_markers, offset = b"", [], [], draw(st.sampled_from([0, 5, 1 << 33]))
    for producer_id in range(draw(st.integers(1, 4))):
        records, steps = draw(record_lists), draw(gaps)
        body, deltas = build_records(records, steps)
        last_delta = deltas[-1] + draw(
            st.sampled_from([0, 0, 3])
        )  # compaction keeps the last offset of the batch it cleans
        kind = draw(st.sampled_from(["plain", "log append time", "committed", "aborted", "emptied"]))
        flags = {"plain": 0, "emptied": 0, "log append time": DefaultRecordBatch.TIMESTAMP_TYPE_MASK}.get(
            kind, DefaultRecordBatch.TRANSACTIONAL_MASK
        )
        compression = draw(st.sampled_from(sorted(CODECS)))
        count = len(records)
        if kind == "emptied":  # compaction removed every record and keeps the header, to remember the producer
            body, count, compression = b"", 0, 0
        data += build_batch(
            body, count, offset, last_delta, compression=compression, flags=flags, producer_id=producer_id
        )
        if kind in ("committed", "aborted"):
            open_markers.append((producer_id, kind == "committed"))
            aborted += [(producer_id, offset)] if kind == "aborted" else []
        offset += last_delta + 1
        while open_markers and draw(st.booleans()):
            producer, commit = open_markers.pop()
            data += marker(offset, producer, commit=commit)
            offset += 1
    return data, aborted, offset


thorough = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@thorough
@given(partitions(), st.data())
def test_same_records_as_kafka_python(partition: tuple, data: st.DataObject) -> None:
    """Every codec, keys, nulls, headers, gaps, times, transactions and fetch offsets: records and position equal
    kafka-python's.
    """
    answer, aborted, end = partition
    options = {
        "fetch_offset": data.draw(st.integers(max(0, end - 300), end - 1) | st.just(0)),
        "isolation": data.draw(st.sampled_from(["read_committed", "read_uncommitted"])),
    }
    max_records = data.draw(st.sampled_from([None, 1, 50]))
    expected = Reader(stock=True, **options).read(answer, aborted, max_records)
    assert Reader(stock=False, **options).read(answer, aborted, max_records) == expected
    assert expected[1:] == ("", end)


def varint(number: int, size: int = 1) -> bytes:
    """A zigzag varint of at least this many bytes: a longer one than needed is legal, though no producer writes it."""
    encoded = bytearray()
    encode_varint(number, encoded.append)
    if len(encoded) < size:
        encoded[-1] |= 0x80
        encoded += b"\x80" * (size - len(encoded) - 1) + b"\0"
    return bytes(encoded)


FIELDS = ("length", "attributes", "time", "offset", "key length", "key", "value length", "value", "headers")
VALUE = b'{"close":1.5}' * 5


def build_damaged(count: int, place: int, field: str, wrong: bytes, key: bytes | None = b"AAPL") -> bytes:
    """Records that are right but for one field of one of them."""
    body = b""
    for n in range(count):
        parts = [
            b"\0",
            varint(n),
            varint(n),
            varint(-1 if key is None else len(key)),
            key or b"",
            varint(len(VALUE)),
            VALUE,
            b"\0",
        ]
        if n == place and field != "length":
            parts[FIELDS.index(field) - 1] = wrong
        length = varint(sum(map(len, parts)))
        body += (wrong if n == place and field == "length" else length) + b"".join(parts)
    return body


def compare(body: bytes, count: int, fetch_offset: int = 10, compression: int = 0) -> str:
    """Hold against kafka-python a batch at offset 10 with these records, if they are records. Returns the error."""
    batch = build_batch(body, count, 10, count - 1, compression=compression)
    found = Reader(stock=False, fetch_offset=fetch_offset).read(batch)
    if is_sound(Reader(stock=True, fetch_offset=-(1 << 80)).read(batch)[0]):
        assert found == Reader(stock=True, fetch_offset=fetch_offset).read(batch)
    else:
        assert found[0] == []
        assert "exceeds 64 bits" in found[1] or "do not ascend" in found[1]
        assert found[2] == fetch_offset
    return found[1]


numbers = st.sampled_from([-2, -1, 0, 1, 4, 63, 64, 65, 200, 10_000, 1 << 33, 1 << 61, -(1 << 61), 1 << 62, 1 << 69])


@thorough
@given(
    count=st.integers(decoder.FEWEST_RECORDS, 40),
    place=st.integers(0, decoder.FEWEST_RECORDS - 1),
    field=st.sampled_from(FIELDS),
    wrong=st.builds(varint, numbers, st.integers(1, 11)) | st.binary(max_size=3),
    key=st.sampled_from([b"AAPL", b"", None]),
    fetch_offset=st.sampled_from([10, 30]),
    compression=st.sampled_from(sorted(CODECS)),
)
def test_damaged_records_are_never_misread(
    *, count: int, fetch_offset: int, compression: int, **damage: object
) -> None:
    """Records that are wrong under a right checksum give kafka-python's records and error, whichever field of them it
    is.
    """
    compare(build_damaged(count, **damage), count, fetch_offset, compression)


@pytest.mark.parametrize(
    ("place", "field", "wrong"),
    [
        (
            3,
            "length",
            varint(
                -len(b"".join([b"\0", varint(3), varint(3), varint(4), b"AAPL", varint(len(VALUE)), VALUE, b"\0"])) - 1
            ),
        ),
        (3, "attributes", b"\x80"),
        (3, "time", b"\x80" * 9),
        (3, "headers", varint(-1)),
        (ENOUGH - 1, "headers", varint(-1)),
        (3, "value", VALUE + b"\0"),
        (3, "value", VALUE[1:]),
    ],
    ids=[
        "negative length",
        "long attributes",
        "time of ten bytes",
        "headers",
        "headers of the last record",
        "long value",
        "short value",
    ],
)
def test_damage_that_looks_right(place: int, field: str, wrong: bytes) -> None:
    """Where only one byte of a record tells that it is wrong, that byte is looked at."""
    assert "CorruptRecordError" in compare(build_damaged(ENOUGH, place, field, wrong), ENOUGH)


@pytest.mark.parametrize("more", [-1, 1])
def test_wrong_number_of_records(more: int) -> None:
    """A batch with one record more or fewer than its header says, or with bytes behind them, is an error."""
    body = build_damaged(ENOUGH, 0, "attributes", b"\0")
    assert compare(body, ENOUGH) == ""
    assert "CorruptRecordError" in compare(body, ENOUGH + more)
    assert "CorruptRecordError" in compare(body + b"\0" if more == 1 else body[:-1], ENOUGH)


@thorough
@given(partitions(), st.data())
def test_damaged_and_cut_off_batches(partition: tuple, data: st.DataObject) -> None:
    """Bytes flipped anywhere and an answer cut off anywhere, as brokers do, end as with kafka-python."""
    answer, aborted, _ = partition
    damaged = bytearray(answer[: data.draw(st.integers(0, len(answer)) | st.just(len(answer)))])
    for _ in range(data.draw(st.integers(0, 2)) if damaged else 0):
        damaged[data.draw(st.integers(0, len(damaged) - 1) | st.integers(0, min(HEADER.size, len(damaged)) - 1))] ^= (
            data.draw(st.integers(1, 255))
        )
    expected = Reader(stock=True).read(bytes(damaged), aborted)
    records, error, position = Reader(stock=False).read(bytes(damaged), aborted)
    if all(offset in INT64 for offset, _, _ in expected[0]):
        assert (records, error) == expected[:2]
    else:  # The checksum does not cover a batch's first offset: it can be anything here.
        assert "exceeds 64 bits" in error
    if error:
        # kafka-python may already count control and aborted batches behind the last record; those are then fetched
        # again.
        assert position == (records[-1][0] + 1 if records else 0)
    else:
        assert position == expected[2]


@pytest.mark.parametrize("compression", sorted(CODECS))
@pytest.mark.parametrize(
    ("record", "steps"),
    [
        ((1, b"AAPL", b"{}", []), [1]),
        ((1, None, b"{}", []), [1]),
        ((1, b"", None, []), [1]),
        ((1 << 40, b"k" * 70, b"v" * 9000, []), [1, 9000]),
    ],
    ids=["usual", "no key", "no value", "long"],
)
def test_large_batches_take_the_fast_decoder(compression: int, record: tuple, steps: list) -> None:
    """A batch of every codec is one block, decoded by numpy; otherwise the comparisons above would compare nothing."""
    body, deltas = build_records([record] * ENOUGH, steps)
    reader = Reader(stock=False)
    for base_offset in (0, deltas[-1] + 1):
        reader.answer(build_batch(body, ENOUGH, base_offset, deltas[-1], compression=compression))
        (block,) = reader.poll_blocks()
        assert (len(block), block.decoder, block.values[-1]) == (ENOUGH, "numpy", record[2])


def test_log_append_time() -> None:
    """Where the broker stamps a batch, all its records have that time."""
    reader = Reader(stock=False)
    reader.answer(plain_batch(0, ENOUGH, flags=DefaultRecordBatch.TIMESTAMP_TYPE_MASK))
    (block,) = reader.poll_blocks()
    assert (set(block.timestamps.tolist()), block.decoder) == ({FIRST_TIMESTAMP + 99_999}, "numpy")


@pytest.mark.parametrize("place", ["base offset", "first timestamp"])
def test_numbers_beyond_64_bits(place: str) -> None:
    """A batch whose numbers overflow is refused, where they would otherwise turn negative."""
    body, deltas = build_records([(n, None, b"{}", []) for n in range(ENOUGH)], [1])
    near_the_limit = (1 << 63) - 5
    batch = (
        build_batch(body, ENOUGH, near_the_limit, deltas[-1])
        if place == "base offset"
        else build_batch(body, ENOUGH, 0, deltas[-1], first_timestamp=near_the_limit)
    )
    reader = Reader(stock=False)
    reader.answer(batch)
    with pytest.raises(CorruptRecordError, match="exceeds 64 bits"):
        reader.poll_blocks()


@pytest.mark.parametrize(
    ("records", "name"),
    [
        ([(0, None, b"{}", [])] * 3, "small"),
        ([(0, None, b"{}", [("trace", b"1")])] * ENOUGH, "headers"),
    ],
)
def test_other_batches_take_the_stock_decoder(records: list, name: str) -> None:
    """Small batches and headers are one block too, which says that kafka-python decoded it."""
    body, deltas = build_records(records, [1])
    reader = Reader(stock=False)
    reader.answer(build_batch(body, len(records), 0, deltas[-1]))
    (block,) = reader.poll_blocks()
    assert (len(block), block.decoder) == (len(records), "stock")


def test_batches_older_than_version_2() -> None:
    """Message format 1, as old segments still hold, arrives as a block of plain records."""
    builder = LegacyRecordBatchBuilder(1, 0, 1 << 20)
    for index in range(ENOUGH):
        builder.append(index, FIRST_TIMESTAMP + index, b"AAPL", b"%d" % index)
    reader = Reader(stock=False)
    reader.answer(bytes(builder.build()))
    (block,) = reader.poll_blocks()
    assert rows(block) == [(i, FIRST_TIMESTAMP + i, b"%d" % i) for i in range(ENOUGH)]


def test_max_records_ends_at_the_end_of_a_batch() -> None:
    """A poll returns max_records and the rest of the batch they end in; the position is behind exactly what was
    returned.
    """
    reader = Reader(stock=False)
    reader.answer(b"".join(plain_batch(n * ENOUGH, ENOUGH) for n in range(5)))
    assert (len(reader.poll_records(ENOUGH)), reader.position) == (ENOUGH, ENOUGH)
    assert (len(reader.poll_records(ENOUGH + 1)), reader.position) == (2 * ENOUGH, 3 * ENOUGH)
    assert (len(reader.poll_records()), reader.position) == (2 * ENOUGH, 5 * ENOUGH)


def test_pause_and_seek() -> None:
    """A paused partition keeps what was fetched and goes on there when resumed; a seek throws it away."""
    reader = Reader(stock=False)
    reader.answer(plain_batch(0, ENOUGH) + plain_batch(ENOUGH, ENOUGH))
    assert len(reader.poll_records(1)) == ENOUGH
    reader.pause()
    assert reader.poll_records() == []
    reader.resume()
    assert reader.poll_records(1)[0][0] == ENOUGH
    reader.answer(plain_batch(2 * ENOUGH, ENOUGH))
    reader.seek(7)
    assert reader.poll_records() == []
    reader.answer(plain_batch(0, ENOUGH))
    assert [offset for offset, _, _ in reader.poll_records()] == list(range(7, ENOUGH))


def test_going_on_after_a_corrupt_batch() -> None:
    """What precedes a corrupt batch is returned, then the error, each time it is fetched, and then the batch when it is
    whole.
    """
    good, bad = plain_batch(0, ENOUGH), bytearray(plain_batch(ENOUGH, ENOUGH))
    bad[-5] ^= 1
    reader = Reader(stock=False)
    reader.answer(good + bad)
    assert (len(reader.poll_records()), reader.position) == (ENOUGH, ENOUGH)
    for _ in range(2):
        with pytest.raises(CorruptRecordError, match="failed crc check"):
            reader.poll_records()
        reader.answer(bytes(bad))
    assert reader.position == ENOUGH
    with pytest.raises(CorruptRecordError):
        reader.poll_records()
    reader.answer(plain_batch(ENOUGH, ENOUGH))
    assert (len(reader.poll_records()), reader.position) == (ENOUGH, 2 * ENOUGH)


def test_stock_decoder_returns_the_same_blocks() -> None:
    """With the stock decoder chosen, poll returns blocks of the same records."""
    reader = Reader(stock=True)
    reader.answer(plain_batch(0, ENOUGH) + plain_batch(ENOUGH, ENOUGH))
    (block,) = decoder.poll(reader, 0)[PARTITION]
    assert block.decoder == "stock"
    assert rows(block) == Reader(stock=False).read(plain_batch(0, ENOUGH) + plain_batch(ENOUGH, ENOUGH))[0]
