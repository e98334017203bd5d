"""The doctor on real servers: in every test the problem that it has to find is really there."""

import gzip
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import boto3
import certificates
import pytest
from counting import produce, wait_for
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ScramMechanism, UserScramCredentialUpsertion

from local.stack import Stack
from pipeline.doctor import account, cluster, lake, tables
from pipeline.settings import Settings, load_settings
from pipeline.streams.kafka import producer as topic

PASSWORD = "correcthorsebatterystaple42"  # of a broker on loopback that lives for one test run
NAMES = ("AWAY", "NAMELESS", "TLS", "MUTUAL", "SCRAM")
BROKER = """
listeners=BROKER://127.0.0.1:{kafka},CONTROLLER://127.0.0.1:{kafka_controller},{listeners}
advertised.listeners=BROKER://127.0.0.1:{kafka},AWAY://127.0.0.1:{closed},NAMELESS://kafka.no-such-network.invalid:9092,\
TLS://127.0.0.1:{TLS},MUTUAL://127.0.0.1:{MUTUAL},SCRAM://127.0.0.1:{SCRAM}
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,AWAY:PLAINTEXT,NAMELESS:PLAINTEXT,TLS:SSL,MUTUAL:SSL,SCRAM:SASL_PLAINTEXT
ssl.keystore.type=PEM
ssl.keystore.location={folder}/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.pem
listener.name.mutual.ssl.client.auth=required
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.scram.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory) -> Iterator[tuple[dict[str, int], str]]:
    """Ports of listeners of which each is wrong, or asks for something, in a way of its own; and the authority's file."""
    folder = tmp_path_factory.mktemp("broker")
    certificates.make(folder)
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in (*NAMES, "closed")]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        ports = {name: probe.getsockname()[1] for name, probe in zip((*NAMES, "closed"), probes, strict=True)}
    own = Stack(folder / "stack")
    own.up(["kafka"])
    try:
        with KafkaAdminClient(bootstrap_servers=own.environment()["KAFKA_BOOTSTRAP_SERVERS"]) as admin:
            admin.alter_user_scram_credentials(
                [UserScramCredentialUpsertion("pipeline", ScramMechanism.SCRAM_SHA_512, PASSWORD)]
            )
        listeners = ",".join(f"{name}://127.0.0.1:{ports[name]}" for name in NAMES)
        (own.state.data("kafka") / "more.properties").write_text(
            BROKER.format(listeners=listeners, folder=folder, **ports, **own.ports())
        )
        own.restart("kafka")
        yield ports, str(folder / "ca.pem")
    finally:
        own.down(wipe=True)


def now() -> datetime:
    return datetime.now(UTC)


def kafka(settings: Settings, *, workers: int = 1, waits_minutes: float = 15, at: datetime | None = None) -> list:
    return list(cluster.findings(settings, workers=workers, waits_minutes=waits_minutes, now=at or now()))


def problems(found: list) -> list[str]:
    return [f"{line.text} -> {line.cure}" for line in found if line.state == "problem"]


def at_port(port: int, **changes: str) -> Settings:
    environment = {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{port}", **changes}
    return load_settings(environ=environment, config_file="/dev/null")


# --- the cluster


def test_nobody_listens(unused_port):
    """A bootstrap server that is not there is a problem that names the setting."""
    [found] = problems(kafka(at_port(unused_port)))
    assert "refused" in found
    assert "KAFKA_BOOTSTRAP_SERVERS" in found


def test_advertised_listener_at_a_closed_port(broker):
    """The cluster names an address that cannot be reached: it is shown, with the reason, though the bootstrap server
    answers.
    """
    ports, _ = broker
    found = kafka(at_port(ports["AWAY"]))
    [text] = problems(found)
    assert f"127.0.0.1:{ports['closed']}" in text
    assert "advertised.listeners" in text
    assert any(line.state == "ok" and "can be reached" in line.text for line in found)


def test_advertised_listener_with_an_unknown_name(broker):
    """The commonest form of it: a name that only the broker's own network knows."""
    [text] = problems(kafka(at_port(broker[0]["NAMELESS"])))
    assert "kafka.no-such-network.invalid:9092" in text
    assert "not known here" in text


@pytest.mark.parametrize(
    ("listener", "set_to", "expected"),
    [
        ("TLS", {}, "speaks SSL"),
        ("SCRAM", {}, "speaks SASL_PLAINTEXT"),
        ("SCRAM", {"KAFKA_SECURITY_PROTOCOL": "SSL"}, "speaks SASL_PLAINTEXT"),
        (
            "TLS",
            {
                "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
                "KAFKA_SASL_MECHANISM": "PLAIN",
                "KAFKA_SASL_USERNAME": "u",
                "KAFKA_SASL_PASSWORD": "p",
            },
            "speaks SSL",
        ),
        (
            "SCRAM",
            {
                "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
                "KAFKA_SASL_MECHANISM": "PLAIN",
                "KAFKA_SASL_USERNAME": "u",
                "KAFKA_SASL_PASSWORD": "p",
            },
            "set KAFKA_SASL_MECHANISM=SCRAM-SHA-512",
        ),
    ],
)
def test_protocol_that_does_not_fit(broker, listener, set_to, expected):
    """What the listener speaks is asked of the listener, and told with the setting to change."""
    [found] = problems(kafka(at_port(broker[0][listener], **set_to)))
    assert expected in found


def test_certificate_that_is_not_trusted(broker):
    """A certificate of an authority that this machine does not know names KAFKA_SSL_CAFILE; with the file it is ok."""
    ports, cafile = broker
    [found] = problems(kafka(at_port(ports["TLS"], KAFKA_SECURITY_PROTOCOL="SSL")))
    assert "KAFKA_SSL_CAFILE" in found
    trusted = kafka(at_port(ports["TLS"], KAFKA_SECURITY_PROTOCOL="SSL", KAFKA_SSL_CAFILE=cafile))
    assert any(line.text.endswith("speaks SSL") for line in trusted)
    assert any(line.text.startswith("advertised address") for line in trusted)


def test_login_that_is_refused(broker):
    """A wrong password, where all else fits, names the two settings and shows neither."""
    login = {
        "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "KAFKA_SASL_USERNAME": "pipeline",
    }
    [found] = problems(kafka(at_port(broker[0]["SCRAM"], **login, KAFKA_SASL_PASSWORD="wrongpassword")))
    assert "KAFKA_SASL_PASSWORD" in found
    assert "wrongpassword" not in found
    assert "the login is refused" not in str(kafka(at_port(broker[0]["SCRAM"], **login, KAFKA_SASL_PASSWORD=PASSWORD)))


def test_client_certificate_that_is_missing(broker):
    """A listener that asks for a client's certificate names the settings for one."""
    ports, cafile = broker
    [found] = problems(kafka(at_port(ports["MUTUAL"], KAFKA_SECURITY_PROTOCOL="SSL", KAFKA_SSL_CAFILE=cafile)))
    assert "KAFKA_SSL_CERTFILE" in found


def test_topics_that_are_missing(settings):
    """Without any topic there is a problem; with one of three, a warning for the others."""
    assert any("none of the topics" in text for text in problems(kafka(settings)))
    topic.ensure_topics(settings, [settings.kafka_topic_bars])
    found = kafka(settings)
    assert not problems(found)
    assert [line.state for line in found if settings.kafka_topic_news in line.text] == ["warning"]


def test_more_workers_than_partitions(settings):
    """Workers beyond the partitions would have nothing to do."""
    topic.ensure_topics(settings, [settings.kafka_topic_bars])
    assert any("4 partitions for 6 workers" in text for text in problems(kafka(settings, workers=6)))
    assert not problems(kafka(settings, workers=4))


def test_records_that_nobody_lands(settings):
    """Records that have waited for longer than they should, and no member: a problem; a moment after they came it is
    none.
    """
    produce(settings, 40)
    assert not problems(kafka(settings))
    found = problems(kafka(settings, at=now() + timedelta(minutes=20)))
    assert found
    assert all("nobody is in the group" in text for text in found)


def test_transaction_that_does_not_end(settings):
    """What a transaction hides from readers for longer than it should is a problem; a moment after it began it is none."""
    produce(settings, 40)
    with KafkaProducer(**topic.connection(settings), transactional_id=uuid.uuid4().hex) as producer:
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(settings.kafka_topic_bars, b"{}", partition=0).get(10)
        assert not [text for text in problems(kafka(settings)) if "transaction" in text]
        found = [text for text in problems(kafka(settings, at=now() + timedelta(minutes=20))) if "transaction" in text]
        producer.abort_transaction()
    assert len(found) == 1
    assert f"{settings.kafka_topic_bars}-0: a transaction has been open for" in found[0]
    wait_for(
        lambda: (
            not [text for text in problems(kafka(settings, at=now() + timedelta(minutes=20))) if "transaction" in text]
        ),
        10,
    )


def test_member_that_is_dead(settings, start, s3):
    """A consumer that hangs holds its partitions and lands nothing: its name is in the problem."""
    produce(settings, 40)
    process = start("consumer.py", "--flush-seconds", "600", "--flush-records", "1000000")
    wait_for(lambda: "rebalance" in process.log_path.read_text(), 60, process)
    wait_for(lambda: any("1 members" in line.text for line in kafka(settings)), 30, process)
    found = problems(kafka(settings, at=now() + timedelta(minutes=20)))
    assert found
    assert all("its members are" in text and "on 127.0.0.1" in text for text in found)


def test_a_group_that_is_up_to_date(settings, run):
    """After everything is landed there is no problem, however long ago it came."""
    produce(settings, 40)
    assert run("consumer.py", "--until-caught-up").returncode == 0
    found = kafka(settings, at=now() + timedelta(days=3))
    assert not problems(found)
    assert any("0 records to land" in line.text for line in found)


# --- AWS


@pytest.fixture
def identity(environment, monkeypatch):
    """The environment of this test in this process, for boto3's own chain."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, environment[name])
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return environment


def aws(
    settings: Settings, *, roles: tuple[str, ...] = (), principal: str | None = None, at: datetime | None = None
) -> list:
    return list(account.findings(settings, roles=list(roles), principal=principal, now=at or now()))


def test_no_credentials(run, environment, tmp_path):
    """Without credentials that is the one problem of AWS, and how to get some."""
    nothing = {
        "AWS_ACCESS_KEY_ID": "",
        "AWS_SECRET_ACCESS_KEY": "",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "HOME": str(tmp_path),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        environment.pop(name)
        nothing.pop(name)
    done = run("-m", "pipeline.doctor", "--only", "aws", "--json", **nothing)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1, done.stderr
    assert [line["text"][:14] for line in found if line["state"] == "problem"] == ["no credentials"]


def test_clock_that_is_wrong(settings, identity):
    """A clock ten minutes ahead of AWS's is a problem."""
    assert any("ahead of AWS" in text for text in problems(aws(settings, at=now() + timedelta(minutes=10))))
    assert not problems(aws(settings))


def test_bucket_that_is_missing_or_elsewhere(environment, identity, s3):
    """A bucket that does not exist, and one of another region, are problems of their own."""
    absent = load_settings(environ=environment | {"S3_BUCKET": f"absent-{uuid.uuid4().hex}"}, config_file="/dev/null")
    assert any("there is no bucket" in text for text in problems(aws(absent)))
    name = f"elsewhere-{uuid.uuid4().hex}"
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    elsewhere = load_settings(environ=environment | {"S3_BUCKET": name}, config_file="/dev/null")
    assert any("AWS_REGION=eu-west-1" in text for text in problems(aws(elsewhere)))


def test_permission_that_is_missing(settings, identity):
    """A user without one of the consumer's permissions: exactly that action is named, with the file that has it."""
    iam = boto3.client("iam", endpoint_url=settings.aws_endpoint_url, region_name=settings.aws_region)
    name = f"user_{uuid.uuid4().hex[:8]}"
    arn = iam.create_user(UserName=name)["User"]["Arn"]
    document = account.policy(settings, "consumer", "000000000000")
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=json.dumps(document))
    assert not problems(aws(settings, roles=("consumer",), principal=arn))
    document["Statement"] = [statement for statement in document["Statement"] if statement["Sid"] != "List"]
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=json.dumps(document))
    found = problems(aws(settings, roles=("consumer",), principal=arn))
    assert len(found) == 1
    assert "may not s3:ListBucket" in found[0]
    assert "deploy/iam/consumer.json" in found[0]


# --- the lake


def look(settings: Settings, *, stale_hours: float = 96, at: datetime | None = None) -> list:
    return list(lake.findings(settings, stale_hours=stale_hours, now=at or now()))


@pytest.fixture
def landed(settings, run, identity) -> Settings:
    """A lake with one good landing."""
    produce(settings, 200)
    done = run("consumer.py", "--until-caught-up")
    assert done.returncode == 0, done.stderr
    return settings


def put(s3, settings: Settings, name: str, body: bytes) -> None:
    s3.put_object(Bucket=settings.s3_bucket, Key=f"{settings.s3_root}raw/bars/dt={now():%Y-%m-%d}/{name}", Body=body)


def test_a_good_lake(landed):
    """What consumer.py landed has neither problem nor warning."""
    assert {line.state for line in look(landed)} == {"ok"}


def test_nothing_landed(settings, identity):
    """An empty prefix is worth a word."""
    assert [line.state for line in look(settings)] == ["warning"]


def test_objects_of_another_writer(landed, s3):
    """An object that consumer.py did not name is found, and shown."""
    put(s3, landed, "stock_market_0.json", b'{"symbol":"AAPL"}\n')
    assert any("stock_market_0.json" in text and "another writer" in text for text in problems(look(landed)))


@pytest.mark.parametrize(
    "body", [b'{"symbol":\n "AAPL"}\n', b'[{"symbol":"AAPL"}]\n', b'{"symbol":"AAPL"}{"symbol":"MSFT"}\n']
)
def test_json_that_is_not_one_object_a_line(landed, s3, body):
    """Indented JSON, an array, and objects without a line end between are found."""
    put(s3, landed, "zzz.json.gz", gzip.compress(body))
    assert any("is not one JSON object" in text for text in problems(look(landed)))


def test_one_object_an_event(settings, run, identity):
    """Many objects with a record each are a warning that names the consumer's options."""
    produce(settings, 60)
    assert run("consumer.py", "--until-caught-up", "--flush-records", "1").returncode == 0
    assert any("--flush-seconds" in line.cure for line in look(settings) if line.state == "warning")


def test_two_groups_on_a_prefix(landed, environment):
    """Objects of another group are a problem: two groups land every record twice."""
    other = load_settings(environ=environment | {"KAFKA_GROUP": "another"}, config_file="/dev/null")
    assert any(landed.kafka_group in text and "another" in text for text in problems(look(other)))


def test_stale_data(landed):
    """Objects that are older than the limit are a warning."""
    found = look(landed, at=now() + timedelta(days=5))
    assert any("hours old" in line.text for line in found if line.state == "warning")


# --- tables


def test_tables_missing_then_as_defined_then_changed(settings, identity, run):
    """Before glue_setup.py tables are missing; after it nothing is wrong; a table changed by hand is told, and the
    workgroup too.
    """
    today = now().date()
    assert any(
        "table raw_bars" in text and "missing" in text
        for text in problems(list(tables.findings(settings, today=today)))
    )
    assert run("glue_setup.py", timeout_seconds=240).returncode == 0
    assert not problems(list(tables.findings(settings, today=today)))
    glue = boto3.client("glue", endpoint_url=settings.aws_endpoint_url, region_name=settings.aws_region)
    table = glue.get_table(DatabaseName=settings.glue_database, Name="raw_bars")["Table"]
    changed = {name: table[name] for name in ("Name", "TableType", "PartitionKeys", "Parameters", "StorageDescriptor")}
    changed["StorageDescriptor"]["Columns"] = changed["StorageDescriptor"]["Columns"][1:]
    glue.update_table(DatabaseName=settings.glue_database, TableInput=changed)
    found = problems(list(tables.findings(settings, today=today)))
    assert len(found) == 1
    assert "table raw_bars" in found[0]
    assert "differs" in found[0]


def test_workgroup_without_output_location(settings, identity):
    """A workgroup that somebody made by hand, without a place for results."""
    athena = boto3.client("athena", endpoint_url=settings.aws_endpoint_url, region_name=settings.aws_region)
    athena.create_work_group(Name=settings.athena_workgroup, Configuration={"EnforceWorkGroupConfiguration": True})
    assert any("no output location" in text for text in problems(list(tables.findings(settings, today=now().date()))))


# --- the whole of it


def test_it_is_read_only(landed, run, s3, stack):
    """Looking at everything changes no object and no commit, and prints no secret."""
    before = s3.list_objects_v2(Bucket=landed.s3_bucket, Prefix=landed.s3_root)["Contents"]
    committed = kafka(landed)
    began = time.monotonic()
    done = run("-m", "pipeline.doctor", POLYGON_API_KEY="thekey", POLYGON_BASE_URL="http://127.0.0.1:9")
    assert time.monotonic() - began < 90
    assert done.returncode == 1
    assert "thekey" not in done.stdout + done.stderr
    assert s3.list_objects_v2(Bucket=landed.s3_bucket, Prefix=landed.s3_root)["Contents"] == before
    assert [line.text for line in kafka(landed)] == [line.text for line in committed]
    assert os.environ.get("KAFKA_GROUP") is None
