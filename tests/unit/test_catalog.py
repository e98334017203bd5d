"""catalog.py, resources.py and the SQL of etl/: what is declared follows from the records and the settings."""

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from pipeline import records
from pipeline.athena import choices
from pipeline.settings import Settings
from pipeline.tables import bucket_rules, catalog, machinery, resources
from pipeline.tables.athena_engine import create_table_as
from pipeline.tables.catalog import CURATED, Landing
from pipeline.tables.etl_inputs import ETL_FOLDER, etl_files, etl_tables

SETTINGS = Settings(s3_bucket="lake", s3_prefix="stocks", glue_database="db")
DAYS = Landing(first_day="2026-01-01")
HOURS = Landing(first_day="2026-01-01", has_hours=True)


@pytest.mark.parametrize("record", list(CURATED))
def test_raw_columns_are_the_records_fields(record: str) -> None:
    """A raw table has the fields of its record, in their order, and no other."""
    table = catalog.raw_table(SETTINGS, record, DAYS)
    assert [c["Name"] for c in table["StorageDescriptor"]["Columns"]] == [
        c.name for c in records.columns(records.TABLES[record])
    ]


@pytest.mark.parametrize(
    ("form", "time", "close"),
    [("json", "string", "double"), ("csv", "string", "string"), ("parquet", "timestamp", "double")],
)
def test_types_of_each_form(form: str, time: str, close: str) -> None:
    """JSON keeps times as text, CSV keeps everything as text, Parquet has its types."""
    table = catalog.raw_table(SETTINGS, "bars", Landing(first_day="2026-01-01", format=form))
    types = {c["Name"]: c["Type"] for c in table["StorageDescriptor"]["Columns"]}
    assert (types["time"], types["close"]) == (time, close)


def test_projection_with_hours() -> None:
    """Folders by hour are projected with two digits, below the lake's prefix."""
    parameters = catalog.raw_table(SETTINGS, "ticks", HOURS)["Parameters"]
    assert parameters["storage.location.template"] == "s3://lake/stocks/raw/ticks/dt=${dt}/hour=${hour}/"
    assert (parameters["projection.hour.range"], parameters["projection.hour.digits"]) == ("0,23", "2")
    assert parameters["projection.dt.range"] == "2026-01-01,NOW"


def test_dead_letters_by_topic() -> None:
    """Dead letters are found by topic and day, and the topic is not a column twice."""
    table = catalog.dead_letters(SETTINGS, ["a", "b"], "2026-01-01")
    assert table["Parameters"]["projection.topic.values"] == "a,b"
    assert "topic" not in [c["Name"] for c in table["StorageDescriptor"]["Columns"]]


@pytest.mark.parametrize("record", list(CURATED))
def test_view_reads_raw_days_from_the_watermark(record: str) -> None:
    """A view reads the raw table with a condition on dt, and ticks, which have no key, on either side of the watermark
    once.
    """
    sql = catalog.view_sql(SETTINGS, record, DAYS, "2026-03-04")
    assert "dt >= '2026-03-04'" in sql
    assert ("dt < '2026-03-04'" in sql) == (record == "ticks")


def test_event_folders_are_all_read() -> None:
    """Where folders tell the event's day the watermark says nothing, and every raw day is read."""
    landing = Landing(first_day="2020-01-01", partition_time="event")
    assert "dt >= '2020-01-01'" in catalog.view_sql(SETTINGS, "bars", landing, "2026-03-04")
    assert "curated" not in catalog.view_sql(SETTINGS, "ticks", landing, "2026-03-04")


def _order(sql: str) -> str:
    found = re.search(r"ORDER BY (.*?)\s*\) AS recency", re.sub(r"--.*", "", sql), re.DOTALL)
    return re.sub(r"\s+", " ", found[1].replace('"', ""))


@pytest.mark.parametrize("record", ["bars", "news", "actions"])
def test_etl_and_view_choose_the_same_record(record: str) -> None:
    """Of two records with one key the SQL of the ETL and that of the view choose by the same order."""
    select = (ETL_FOLDER / f"{record}.sql").read_text(encoding="utf-8")
    # What the ETL adds is no difference between the rows that it chooses from.
    view = _order(catalog.view_sql(SETTINGS, record, DAYS, "2026-03-04")).removesuffix(", reference_close DESC")
    assert _order(select) == view
    assert select.count("PARTITION BY") == 1


@pytest.mark.parametrize("record", list(CURATED))
def test_etl_writes_the_curated_columns(record: str) -> None:
    """The SQL of the ETL gives the columns of the curated table, partition columns last, as CREATE TABLE AS
    wants them.
    """
    select = re.sub(r"--.*", "", (ETL_FOLDER / f"{record}.sql").read_text(encoding="utf-8"))
    columns = re.sub(r'[\s"]+', "", re.search(r"(?:\A|\n)SELECT(.*?)\nFROM", select, re.DOTALL)[1]).split(",")
    table = catalog.curated_table(SETTINGS, record)
    assert columns == [c["Name"] for c in table["StorageDescriptor"]["Columns"] + table["PartitionKeys"]]


def test_touched_partitions_are_named_by_column() -> None:
    """Partitions are named so that an engine can prune by each column, and quotes in values are doubled."""
    table = etl_tables(SETTINGS, {"bars": DAYS})["bars"]
    conditions = table.touched([("1d", "2026-01"), ("1d", "2026-02"), ("1m'", "2026-02")]).split(" OR ")
    assert conditions == [
        """("interval" = '1d' AND "month" IN ('2026-01', '2026-02'))""",
        """("interval" = '1m''' AND "month" IN ('2026-02'))""",
    ]


def test_create_table_as_is_sorted_and_compressed() -> None:
    """What the ETL writes is zstd Parquet, sorted by symbol and time in every partition."""
    table = etl_tables(SETTINGS, {"bars": DAYS})["bars"]
    sql = create_table_as(table, '"db"."t"', "s3://lake/x/", "SELECT 1")
    assert "write_compression = 'ZSTD'" in sql
    assert sql.endswith('ORDER BY "interval", "month", "symbol", "time"\nOFFSET 0')


def test_job_files_are_the_same_bytes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same code and settings give the same files for Glue in another year, so that a second set-up uploads
    nothing.
    """
    landings = {"bars": DAYS, "ticks": HOURS, "news": DAYS}
    first = etl_files(SETTINGS, landings)
    later = time.time() + 400 * 86_400
    monkeypatch.setattr(time, "time", lambda: later)
    assert time.localtime(time.time()).tm_year > time.localtime().tm_year
    assert etl_files(SETTINGS, landings) == first


@pytest.mark.parametrize("module", ["curation.py", "publish.py", "raw_days.py", "slices.py", "unread.py"])
def test_job_modules_need_the_standard_library_only(module: str) -> None:
    """What runs in Glue imports nothing of pipeline/, which is not there."""
    imported = re.findall(r"^(?:from|import) (\w+)", (ETL_FOLDER / module).read_text(encoding="utf-8"), re.MULTILINE)
    assert not set(imported) & {"pipeline", "msgspec", "pandas", "pyarrow", "numpy"}


def test_crawler_counts_levels_below_the_prefix() -> None:
    """The crawler makes one table per folder below raw/, however deep the lake's prefix is."""
    for prefix, level in (("", 3), ("a", 4), ("a/b", 5)):
        crawler = resources.crawler(Settings(s3_bucket="lake", s3_prefix=prefix), "arn:aws:iam::1:role/r")
        assert json.loads(crawler["Configuration"])["Grouping"]["TableLevelConfiguration"] == level


def test_results_elsewhere_get_no_rule() -> None:
    """Query results in another bucket are not this bucket's to expire."""
    own = [rule["ID"] for rule in resources.lifecycle_rules(SETTINGS)]
    other = [
        rule["ID"] for rule in resources.lifecycle_rules(Settings(s3_bucket="lake", athena_output="s3://elsewhere/x"))
    ]
    assert len(own) == 2
    assert len(other) == 1


@pytest.mark.parametrize(
    ("endpoint", "is_refused"),
    [
        ("", True),
        ("https://s3.example.com", True),
        ("http://127.0.0.1:4566", True),
        ("http://storage.example.com:9000", False),
    ],
)
def test_plain_http_is_refused_where_we_do_not_use_it(endpoint: str, is_refused: bool) -> None:
    """A bucket behind a plain address gets no rule that would lock its only users out; the embedded stack enforces
    none.
    """
    assert bucket_rules._is_spoken_to_plainly(endpoint) != is_refused


def test_schedules_can_be_off() -> None:
    """A crawler with the schedule `off` has none."""
    assert "Schedule" not in resources.crawler(Settings(s3_bucket="lake", crawler_schedule="off"), "r")


def test_tags_of_the_settings() -> None:
    """AWS_TAGS is read as name=value, blanks around them ignored."""
    assert resources.tags(Settings(aws_tags="team=data, cost = 42")) == {"team": "data", "cost": "42"}


def test_no_secret_or_machine_path_in_the_job_files() -> None:
    """What is uploaded for Glue holds nothing of the machine it was made on."""
    for body in etl_files(SETTINGS, {"bars": DAYS}).values():
        assert str(Path(__file__).parents[2]).encode() not in body


def test_a_key_of_the_user_is_in_the_policy() -> None:
    """With S3_KMS_KEY_ID the role may use this key, by its ARN or its id, and nothing about keys without it."""
    arn = "arn:aws:kms:us-east-1:123456789012:key/1-2"
    for given, expected in ((arn, arn), ("1-2", "arn:aws:kms:us-east-1:*:key/1-2")):
        settings = Settings(s3_bucket="lake", s3_encryption="aws:kms", s3_kms_key_id=given)
        statements = resources.role_policy(settings, "123456789012")["Statement"]
        [found] = [statement for statement in statements if statement["Sid"] == "Key"]
        assert (found["Action"], found["Resource"]) == (["kms:Decrypt", "kms:GenerateDataKey"], [expected])
    assert "kms:" not in json.dumps(resources.role_policy(SETTINGS, "123456789012"))


def test_a_role_just_made_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Glue refuses a role for some seconds after it was made: that call is tried again, five times at most; any other
    refusal is not.
    """
    waited: list[float] = []
    monkeypatch.setattr(machinery._once_role_is_known.retry, "sleep", waited.append)

    def refused(message: str) -> ClientError:
        return ClientError({"Error": {"Code": "InvalidInputException", "Message": message}}, "CreateCrawler")

    answers: list[ClientError | None] = [refused("Service is unable to assume role"), refused("cannot assume"), None]

    def call() -> None:
        if error := answers.pop(0):
            raise error

    machinery._once_role_is_known(call)
    assert (answers, waited) == ([], [2, 4])
    answers += [refused("cannot assume")] * 5 + [None]
    with pytest.raises(ClientError):
        machinery._once_role_is_known(call)
    assert answers == [None]
    answers[:] = [refused("no such bucket"), None]
    with pytest.raises(ClientError, match="no such bucket"):
        machinery._once_role_is_known(call)


@pytest.mark.parametrize("record", ["bars", "news", "actions"])
def test_as_of_chooses_what_the_views_choose(record: str) -> None:
    """Of the records of one key, `--as-of` takes the one that the view would take, but for columns of the ETL."""
    key, order = (text.replace('"', "").split(", ") for text in choices._LATEST[record])
    assert key == list(dict.fromkeys([*records.KEYS[record], *catalog.CURATED[record]]))
    ties = [name for name in catalog._TIES[record] if name in {c.name for c in records.columns(records.TABLES[record])}]
    assert order == [f"{name} DESC" for name in ("ingested_at", *ties)]


@pytest.mark.parametrize("record", CURATED)
def test_views_leave_out_what_is_simulated(record: str) -> None:
    """Curated and new rows that were simulated are in no view, unless the setting asks for them."""
    shown = catalog.view_sql(replace(SETTINGS, views_show_simulated="yes"), record, DAYS, "2026-03-04")
    hidden = catalog.view_sql(SETTINGS, record, DAYS, "2026-03-04")
    assert "simulated" not in shown
    assert hidden.count("IS DISTINCT FROM 'simulated'") == {"bars": 2, "ticks": 1, "news": 0, "actions": 2}[record]
