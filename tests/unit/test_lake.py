"""objects.py: the bytes of a batch's objects."""

import gzip
import io
import json

import pyarrow.parquet as pq
import pytest
from blocks_of import block

from pipeline import records
from pipeline.landing.plan import Layout, Plan
from pipeline.records import Bar
from pipeline.sinks.lake.objects import objects_of

DAY_MS = 86_400_000
TIME = "2026-01-01 00:00:00.000"


def bars(count: int, **changes: object) -> list[bytes]:
    fields = {
        "symbol": "AAPL",
        "interval": "1d",
        "open": 1.5,
        "high": 2.0,
        "low": 0.1,
        "close": 1.0,
        "source": "s",
        "ingested_at": TIME,
    }
    return [
        records.encode(Bar(**(fields | {"time": f"2024-01-{1 + i:02} 00:00:00.000", "volume": float(i)} | changes)))
        for i in range(count)
    ]


def plan(end: int, **changes: object) -> Plan:
    return Plan("t", 0, 0, end, Layout(**({"bucket": "b", "root": "", "table": "bars"} | changes)))


def test_json_lines_as_they_came() -> None:
    """Every record is one line of one gzip object, byte for byte what Kafka held, in the order of offsets."""
    values = bars(5)
    (made,) = objects_of(plan(5), [block(values[:2]), block(values[2:], 2)])
    assert gzip.decompress(made.body).splitlines() == values
    assert (made.key, made.records) == (
        "raw/bars/dt=1970-01-01/t-0-00000000000000000000-00000000000000000005.json.gz",
        5,
    )


def test_same_bytes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names and bytes depend on the plan and the records alone, however the records were fetched and whatever time it
    is, in every format.
    """
    values = [*bars(4), b"bad", *bars(3)]
    for form in ({}, {"compression": "none"}, {"format": "csv"}, {"format": "parquet", "compression": "zstd"}):
        for time in ("arrival", "event"):
            one = objects_of(plan(8, partition_time=time, **form), [block(values)])
            with monkeypatch.context() as later:
                later.setattr("time.time", lambda: 2_000_000_000.0)
                other = objects_of(plan(8, partition_time=time, **form), [block(values[:3]), block(values[3:], 3)])
            assert one == other
            assert len(one) >= 2


def test_a_folder_per_arrival_day() -> None:
    """A batch over midnight makes an object per day, each with the whole batch's range in its name."""
    made = objects_of(plan(3), [block(bars(3), timestamp_ms=[DAY_MS - 1, DAY_MS, DAY_MS - 5])])
    assert [(an_object.key[:24], an_object.records) for an_object in made] == [
        ("raw/bars/dt=1970-01-01/t", 2),
        ("raw/bars/dt=1970-01-02/t", 1),
    ]
    assert len({an_object.key.rsplit("/", 1)[1] for an_object in made}) == 1


def test_folders_by_event_time() -> None:
    """With event folders each record lies in the folder of its own time, whenever it arrived."""
    made = objects_of(plan(3, partition_time="event", partition_by="hour"), [block(bars(2) + bars(1))])
    assert [(an_object.key.split("/t-")[0], an_object.records) for an_object in made] == [
        ("raw/bars/dt=2024-01-01/hour=00", 2),
        ("raw/bars/dt=2024-01-02/hour=00", 1),
    ]


def test_bad_records_become_dead_letters() -> None:
    """A bad record goes to the dead letters of its batch with place, reason and value; the good ones land."""
    good = bars(2)
    values = [good[0], b"not json", None, b"\xff\xfe\x00", good[1], json.dumps({"symbol": "A"}).encode()]
    letters, landed = objects_of(plan(6), [block(values, timestamp_ms=DAY_MS)])
    assert gzip.decompress(landed.body).splitlines() == good
    assert letters.is_dead_letter
    assert letters.key == "dead_letter/t/dt=1970-01-02/t-0-00000000000000000000-00000000000000000006.json.gz"
    read = [json.loads(line) for line in gzip.decompress(letters.body).splitlines()]
    assert [(letter["offset"], letter["encoding"], letter["value"]) for letter in read] == [
        (1, "text", "not json"),
        (2, "null", ""),
        (3, "base64", "//4A"),
        (5, "text", '{"symbol": "A"}'),
    ]
    assert {(letter["topic"], letter["partition"], letter["time"]) for letter in read} == {
        ("t", 0, "1970-01-02 00:00:00.000")
    }
    assert "missing required field" in read[3]["reason"]
    assert all(letter["reason"] for letter in read)


def test_a_value_over_several_lines_is_put_on_one() -> None:
    """Pretty-printed JSON is written on one line, because Athena reads a line as a record."""
    pretty = json.dumps(json.loads(bars(1)[0]), indent=2).replace("\n", "\r\n").encode()
    (made,) = objects_of(plan(2), [block([bars(1)[0], pretty])])
    lines = gzip.decompress(made.body).splitlines()
    assert lines == [bars(1)[0], bars(1)[0]]


def test_two_records_in_a_value_do_not_stand_for_an_empty_one() -> None:
    """A value of two lines beside a value of none are two dead letters, though the lines are as many as the records."""
    one, two, three = bars(3)
    made = objects_of(plan(3), [block([one, two + b"\n" + three, b""])])
    assert [(an_object.records, an_object.is_dead_letter) for an_object in made] == [(2, True), (1, False)]
    assert gzip.decompress(made[1].body).splitlines() == [one]


def test_unknown_topics_land_unchecked() -> None:
    """A topic without a definition lands any JSON as it is; what is no JSON is a dead letter."""
    letters, landed = objects_of(plan(3, table="orders"), [block([b'{"a":1}', b"[1,2]", b"{"])])
    assert gzip.decompress(landed.body) == b'{"a":1}\n[1,2]\n'
    assert (landed.key.split("/dt=")[0], letters.records) == ("raw/orders", 1)


def test_parquet_has_the_types_of_the_tables() -> None:
    """A Parquet object holds one row group with numbers as numbers and times as timestamps."""
    values = bars(3, company="Apple", trades=7, adjusted=True) + bars(1)
    (made,) = objects_of(plan(4, format="parquet", compression="zstd"), [block(values)])
    file = pq.ParquetFile(io.BytesIO(made.body))
    assert made.key.endswith(".parquet")
    assert file.num_row_groups == 1
    assert [str(field.type) for field in file.schema_arrow] == [
        "string",
        "string",
        "timestamp[ms]",
        "string",
        "double",
        "double",
        "double",
        "double",
        "double",
        "double",
        "int64",
        "bool",
        "string",
        "timestamp[ms]",
        "string",
    ]
    rows = file.read().to_pylist()
    assert str(rows[1]["time"]) == "2024-01-02 00:00:00"
    assert [(row["company"], row["trades"], row["adjusted"]) for row in (rows[0], rows[3])] == [
        ("Apple", 7, True),
        (None, None, None),
    ]


def test_csv_is_read_back() -> None:
    """A CSV object has a header line, empty fields for null, and one line a record whatever its texts hold."""
    values = bars(1, company='Apple, "Inc"\nUS', adjusted=False) + bars(1)
    (made,) = objects_of(plan(2, format="csv"), [block(values)])
    header, first, second = gzip.decompress(made.body).decode().splitlines()
    assert header == ",".join(column.name for column in records.columns(Bar))
    assert first == 'AAPL,"Apple, ""Inc"" US",2024-01-01 00:00:00.000,1d,1.5,2.0,0.1,1.0,0.0,,,false,s,' + TIME + ","
    assert second == "AAPL,,2024-01-01 00:00:00.000,1d,1.5,2.0,0.1,1.0,0.0,,,,s," + TIME + ","


@pytest.mark.parametrize("form", ["json", "csv", "parquet"])
def test_nothing_good_is_no_object(form: str) -> None:
    """A batch of bad records alone makes dead letters and no empty object."""
    (letters,) = objects_of(plan(1, format=form), [block([b"x"])])
    assert letters.is_dead_letter
