"""The DynamoDB route as a user runs it: consumer.py --sink dynamodb, and python -m pipeline.dynamodb."""

import csv
import io
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from string import Template
from subprocess import CompletedProcess
from typing import Any

import msgspec
import pandas as pd
import pytest
from counting import bars, in_topic, keys, produce
from table_contents import assert_all_there, client, items

from pipeline.records import Bar
from pipeline.settings import Settings
from pipeline.sinks.dynamodb.daily_bars import daily_bars
from pipeline.sinks.dynamodb.table import PriceTable
from pipeline.streams.kafka import producer as topic

Run = Callable[..., CompletedProcess]
LAND = ("consumer.py", "--sink", "dynamodb", "--create-table", "--until-caught-up")


@pytest.fixture
def table(credentials: None, environment: dict[str, str]) -> Any:
    """A client of the embedded DynamoDB; the credentials are for what a test calls in this process."""
    return client(environment)


def send(settings: Settings, *sent: Bar) -> None:
    topic.ensure_topics(settings, [settings.kafka_topic_bars])
    with topic.Producer(settings, "test") as producer:
        producer.send({settings.kafka_topic_bars: sent}, {"test": {}})


def daily(**changes: object) -> Bar:
    apple = {"company": "Apple", "interval": "1d", "time": "2025-04-15 00:00:00.000"}
    return msgspec.structs.replace(bars(0, 1)[0], **apple | changes)


def test_a_whole_file_to_the_cent(run: Run, table: Any, settings: Settings, shared_data: Path) -> None:
    """Every row of a CSV of six tickers is an item with exactly the file's numbers; landing again changes nothing."""
    path = shared_data / "multi_ticker/faang_nvda_2013_2018.csv"
    assert run("producer.py", "replay", path).returncode == 0
    done = run(*LAND, S3_BUCKET="")
    assert done.returncode == 0, done.stderr
    found = items(table, settings)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found) == 7_270
    for row in rows:
        item = found[row["Name"], row["date"]]
        assert [item[name] for name in ("open", "high", "low", "close", "volume")] == [
            Decimal(row[name]) for name in ("open", "high", "low", "close", "volume")
        ]
    again = run(*LAND, "--from-beginning", S3_BUCKET="")
    assert again.returncode == 0, again.stderr
    assert "records=7270" in again.stderr
    assert items(table, settings) == found


def test_the_table_that_is_made(run: Run, table: Any, settings: Settings) -> None:
    """It is billed by request, encrypted, recoverable to a point in time, and has the tags; made twice it stays as it
    is.
    """
    first = run("-m", "pipeline.dynamodb", "create", AWS_TAGS="team=quants")
    assert first.returncode == 0, first.stderr
    second = run("-m", "pipeline.dynamodb", "create")
    assert ("created" in first.stdout, "already" in second.stdout) == (True, True)
    found = table.describe_table(TableName=settings.dynamodb_table)["Table"]
    assert found["KeySchema"] == [
        {"AttributeName": "Company Name", "KeyType": "HASH"},
        {"AttributeName": "Date", "KeyType": "RANGE"},
    ]
    assert found["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert found["SSEDescription"]["Status"] == "ENABLED"
    backups = table.describe_continuous_backups(TableName=settings.dynamodb_table)["ContinuousBackupsDescription"]
    assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"
    assert table.list_tags_of_resource(ResourceArn=found["TableArn"])["Tags"] == [{"Key": "team", "Value": "quants"}]


def test_a_table_named_on_the_command_line(run: Run, table: Any, settings: Settings) -> None:
    """--table, --partition-key and --sort-key win over the settings, and the queries take them too."""
    name = f"{settings.dynamodb_table}_own"
    where = ("--table", name, "--partition-key", "symbol", "--sort-key", "Day")
    assert run("-m", "pipeline.dynamodb", "create", *where).returncode == 0
    keys_made = table.describe_table(TableName=name)["Table"]["KeySchema"]
    assert [key["AttributeName"] for key in keys_made] == ["symbol", "Day"]
    send(settings, daily(company="Apple"))
    own = {"DYNAMODB_TABLE": name, "DYNAMODB_PARTITION_KEY": "symbol", "DYNAMODB_SORT_KEY": "Day"}
    assert run(*LAND, **own).returncode == 0
    got = run("-m", "pipeline.dynamodb", "get", "AAPL", "2025-04-15", "--format", "json", *where)
    assert [item["company"] for item in json.loads(got.stdout)] == ["Apple"]


def test_revisions_replace_and_late_ones_do_not(run: Run, table: Any, settings: Settings) -> None:
    """A later revision takes the place of an earlier one, in the same run or another; an earlier one that comes late
    never does.
    """
    send(settings, daily(close=1.1, trades=5, ingested_at="2026-01-01 00:00:00.000"))
    assert run(*LAND).returncode == 0
    send(
        settings,
        daily(close=1.3, ingested_at="2026-01-03 00:00:00.000"),
        daily(close=1.2, ingested_at="2026-01-02 00:00:00.000"),
    )
    assert run(*LAND).returncode == 0
    revised = items(table, settings)["Apple", "2025-04-15"]
    assert (revised["close"], "trades" in revised) == (Decimal("1.3"), False)
    send(settings, daily(close=1.2, ingested_at="2026-01-02 00:00:00.000"))
    late = run(*LAND)
    assert "written=0 superseded=1" in late.stderr
    assert items(table, settings)["Apple", "2025-04-15"]["close"] == Decimal("1.3")


def test_bad_records_are_kept_by_their_offset(run: Run, s3: Any, table: Any, settings: Settings) -> None:
    """What is no bar, and a bar whose place another has, is a dead letter of its own; a second landing writes the same
    objects.
    """
    send(settings, daily(), daily(symbol="AAPL", interval="1m"), daily(company="Alphabet", symbol="GOOG"))
    send(
        settings, daily(company="Alphabet", symbol="GOOGL"), daily(volume=1e200, ingested_at="2026-02-01 00:00:00.000")
    )
    producer = topic.KafkaProducer(**topic.connection(settings))
    for value in (b"not json", b"\xff", None, b'{"symbol": "AAPL"}'):
        producer.send(settings.kafka_topic_bars, value, b"k").get(10)
    producer.close()
    assert run(*LAND).returncode == 0
    listed = keys(s3, settings)
    assert len(listed) == 6
    assert all(
        key.startswith(f"{settings.s3_root}dead_letter/{settings.kafka_topic_bars}.dynamodb/dt=") for key in listed
    )
    assert len(items(table, settings)) == 3
    again = run(*LAND, "--from-beginning")
    assert "bad_records=6" in again.stderr
    assert keys(s3, settings) == listed
    # The landing in S3 of the same topic and prefix is not disturbed by them.
    assert run("consumer.py", "--until-caught-up").returncode == 0
    assert run("consumer.py", "verify", "--deep").returncode == 0
    assert run(*LAND, "--from-beginning", "--max-bad", "3").returncode == 1


def test_without_a_bucket_bad_records_go_to_a_topic(run: Run, settings: Settings) -> None:
    """Without a bucket the refused record is a record of the dead-letter topic, with where it was and why."""
    name = f"dead_{settings.kafka_topic_bars}"
    send(settings, daily(), daily(volume=1e200))
    done = run(*LAND, S3_BUCKET="", KAFKA_TOPIC_DEAD_LETTERS=name)
    assert "bad_records=1" in done.stderr
    letter = msgspec.json.decode(next(iter(in_topic(settings, name))))
    assert (letter["topic"], msgspec.json.decode(letter["value"])["volume"]) == (settings.kafka_topic_bars, 1e200)
    assert letter["reason"].startswith("volume: ")


def test_key_queries(run: Run, settings: Settings) -> None:
    """get, range and latest find what is there, as table, CSV and JSON; what is not there is said, with exit code 1."""
    month = [daily(close=1 + day / 100) for day in range(1, 31)]
    for day, bar in enumerate(month, 1):
        bar.time = f"2025-04-{day:02} 00:00:00.000"
    minute = msgspec.structs.replace(daily(), interval="1m", time="2025-04-15 13:30:00.000")
    nameless = msgspec.structs.replace(daily(), company=None, symbol="NVDA")
    send(settings, *month, minute, nameless)
    assert run(*LAND).returncode == 0
    query = ("-m", "pipeline.dynamodb")

    got = json.loads(run(*query, "get", "Apple", "2025-04-15", "--format", "json").stdout)
    assert [(item["Date"], item["close"]) for item in got] == [("2025-04-15", 1.15)]
    assert "2025-04-15 13:30:00.000" in run(*query, "get", "Apple", "2025-04-15 13:30:00.000").stdout
    ranged = pd.read_csv(
        io.StringIO(run(*query, "range", "Apple", "2025-04-14", "2025-04-16", "--format", "csv").stdout)
    )
    assert list(ranged["Date"]) == ["2025-04-14", "2025-04-15", "2025-04-15 13:30:00.000", "2025-04-16"]
    one = json.loads(
        run(*query, "range", "Apple", "2025-04-14", "2025-04-16", "--interval", "1d", "--format", "json").stdout
    )
    assert len(one) == 3
    latest = json.loads(run(*query, "latest", "--format", "json").stdout)
    assert [(item["Company Name"], item["Date"]) for item in latest] == [
        ("Apple", "2025-04-30"),
        ("NVDA", "2025-04-15"),
    ]
    assert "13:30" in run(*query, "latest", "Apple", "--interval", "1m").stdout
    missing = run(*query, "get", "apple", "2025-04-15")
    assert (missing.returncode, "no item" in missing.stderr) == (1, True)
    assert run(*query, "get", "Apple", "April").returncode == 2
    assert run(*query, "range", "Apple", "2025-04-16", "2025-04-14").returncode == 2


def test_plots_from_the_table(run: Run, settings: Settings, tmp_path: Path) -> None:
    """The plots are made from the table alone, heatmap and volumes too."""
    days = pd.bdate_range("2025-01-01", periods=60)
    send(
        settings,
        *(
            msgspec.structs.replace(
                daily(company=company, close=1 + number / 100, ingested_at="2026-01-01 00:00:00.000"),
                symbol=symbol,
                time=f"{day:%Y-%m-%d} 00:00:00.000",
            )
            for company, symbol in (("Apple", "AAPL"), ("Tesla", "TSLA"))
            for number, day in enumerate(days)
        ),
    )
    assert run(*LAND).returncode == 0
    done = run("-m", "dashboards.plots", "--from-dynamodb", "--output", tmp_path, S3_BUCKET="")
    assert done.returncode == 0, done.stderr
    made = {path.name for path in tmp_path.glob("*.png")}
    assert {"all_monthly_heatmap.png", "all_volume.png", "all_last_10_days.png"} <= made
    assert len(made) > 20


def test_all_companies_of_a_large_table(table: Any, settings: Settings, environment: dict[str, str]) -> None:
    """companies() finds each partition key once, without reading the items between; daily_bars gives them as data
    frame.
    """
    route = PriceTable(settings)
    route.create()
    names = {f"Company {number}" for number in range(40)}
    for name in names:
        table.batch_write_item(
            RequestItems={
                settings.dynamodb_table: [
                    {
                        "PutRequest": {
                            "Item": {
                                "Company Name": {"S": name},
                                "Date": {"S": f"2025-01-{day:02}"},
                                "symbol": {"S": name[-2:]},
                                "interval": {"S": "1d"},
                                "time": {"S": f"2025-01-{day:02} 00:00:00.000"},
                                **{column: {"N": "1.5"} for column in ("open", "high", "low", "close", "volume")},
                            }
                        }
                    }
                    for day in range(1, 11)
                ]
            }
        )
    found = list(route.companies())
    assert (len(found), set(found)) == (40, names)
    frame = daily_bars(settings, first_day="2025-01-03", last_day="2025-01-04")
    assert (len(frame), str(frame["day"].dtype)[:10], frame["close"].dtype.name) == (80, "datetime64", "float64")
    assert len(daily_bars(settings, symbols=["11"])) == 10


@pytest.mark.parametrize(
    ("changes", "arguments", "code", "told"),
    [
        ({}, (), 1, "has no such table; `python -m pipeline.dynamodb create`"),
        ({}, ("--format", "parquet"), 2, "--format: belongs to --sink s3"),
        ({"DYNAMODB_SORT_KEY": "time"}, (), 2, "DYNAMODB_SORT_KEY: 'time' is another field"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, (), 1, "AWS_REGION or AWS_ENDPOINT_URL"),
    ],
)
def test_mistakes_are_told(run: Run, changes: dict, arguments: tuple, code: int, told: str) -> None:
    """Without the table, or with settings that cannot work, nothing is begun, and the message names the setting."""
    done = run("consumer.py", "--sink", "dynamodb", *arguments, **changes)
    assert (done.returncode, told in done.stderr, "Traceback" in done.stderr) == (code, True, False), done.stderr


def test_a_table_with_other_keys(run: Run, table: Any, settings: Settings) -> None:
    """A table whose keys are not those of the settings is refused with both; told its names, it serves."""
    table.create_table(
        TableName=settings.dynamodb_table,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "symbol", "KeyType": "HASH"}, {"AttributeName": "Date", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("symbol", "Date")],
    )
    produce(settings, 100)
    refused = run(*LAND)
    assert refused.returncode == 1
    assert "are symbol (HASH, S), Date (RANGE, S), and not Company Name (HASH, S), Date (RANGE, S)" in refused.stderr
    assert run(*LAND, DYNAMODB_PARTITION_KEY="symbol").returncode == 0
    assert len(table.scan(TableName=settings.dynamodb_table)["Items"]) == 100


def test_both_sinks_of_one_topic(run: Run, s3: Any, table: Any, settings: Settings) -> None:
    """With the same settings each sink has a group of its own and gets every record; one group for both is refused."""
    produce(settings, 500)
    assert run(*LAND).returncode == 0
    assert run("consumer.py", "--until-caught-up").returncode == 0
    assert_all_there(table, settings, at_least=500)
    assert len(keys(s3, settings)) >= 1
    wrong = run("consumer.py", "--until-caught-up", "--group", f"{settings.kafka_group}_dynamodb")
    assert (wrong.returncode, "KAFKA_GROUP" in wrong.stderr) == (1, True)


def test_least_privilege_policies(environment: dict[str, str]) -> None:
    """The policies under deploy/iam allow what each part does, and nothing that destroys."""
    iam = client(environment, "iam")
    folder = Path(__file__).parent.parent.parent / "deploy/iam"
    allowed = {
        "dynamodb_consumer": {"dynamodb:DescribeTable", "dynamodb:PutItem"},
        "dynamodb_reader": {"dynamodb:DescribeTable", "dynamodb:GetItem", "dynamodb:Query", "dynamodb:Scan"},
        "dynamodb_create_table": {
            "dynamodb:DescribeTable",
            "dynamodb:CreateTable",
            "dynamodb:TagResource",
            "dynamodb:UpdateContinuousBackups",
        },
    }
    asked = sorted(
        set().union(*allowed.values())
        | {"dynamodb:DeleteTable", "dynamodb:DeleteItem", "dynamodb:UpdateItem", "s3:DeleteObject"}
    )
    for name, expected in allowed.items():
        policy = Template((folder / f"{name}.json").read_text()).substitute(
            region="us-east-1", account="000000000000", table="StockMkt", bucket="lake", root=""
        )
        answers = iam.simulate_custom_policy(
            PolicyInputList=[policy],
            ActionNames=asked,
            ResourceArns=["arn:aws:dynamodb:us-east-1:000000000000:table/StockMkt"],
        )
        granted = {
            result["EvalActionName"] for result in answers["EvaluationResults"] if result["EvalDecision"] == "allowed"
        }
        assert granted == expected, name
