"""The doctor on real servers: in every test the problem that it has to find is really there."""

import socket
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta

import certificates
import pytest
from counting import produce, wait_for
from doctor_findings import now, problems
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ScramMechanism, UserScramCredentialUpsertion

from local.stack import Stack
from pipeline.doctor import cluster
from pipeline.landing.plan import end_mark
from pipeline.landing.positions import Committed, Partition
from pipeline.settings import Settings, load_settings
from pipeline.streams.kafka import reader
from pipeline.streams.kafka.connection import connection, ensure_topics

PASSWORD = "correcthorsebatterystaple42"  # of a broker on loopback that lives for one test run
NAMES = ("AWAY", "NAMELESS", "TLS", "MUTUAL", "SCRAM")
BROKER = """
listeners=BROKER://127.0.0.1:{kafka},CONTROLLER://127.0.0.1:{kafka_controller},{listeners}
advertised.listeners=BROKER://127.0.0.1:{kafka},AWAY://127.0.0.1:{closed},NAMELESS://kafka.no-such-network.invalid:9092,\
TLS://127.0.0.1:{TLS},MUTUAL://127.0.0.1:{MUTUAL},SCRAM://127.0.0.1:{SCRAM}
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,AWAY:PLAINTEXT,NAMELESS:PLAINTEXT,TLS:SSL,MUTUAL:SSL,SCRAM:SASL_PLAINTEXT
offsets.retention.minutes=10080
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
    """Ports of listeners of which each is wrong, or asks for something, in a way of its own; and the
    authority's file.
    """
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


def kafka(settings: Settings, *, workers: int = 1, waits_minutes: float = 15, at: datetime | None = None) -> list:
    return list(cluster.findings(settings, workers=workers, waits_minutes=waits_minutes, now=at or now()))


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


def test_offsets_that_are_forgotten_soon(broker, settings):
    """A broker with Kafka's own 7 days is a warning that names its setting; 90 days, as in each deployment, are ok."""
    ports, cafile = broker
    found = kafka(at_port(ports["TLS"], KAFKA_SECURITY_PROTOCOL="SSL", KAFKA_SSL_CAFILE=cafile))
    [short] = [line for line in found if "offsets of a group" in line.text]
    assert (short.state, "7 days" in short.text) == ("warning", True)
    assert "offsets.retention.minutes" in short.cure
    [long] = [line for line in kafka(settings) if "offsets of a group" in line.text]
    assert (long.state, "90 days" in long.text) == ("ok", True)


def test_topics_that_are_missing(settings):
    """Without any topic there is a problem; with one of three, a warning for the others."""
    assert any("none of the topics" in text for text in problems(kafka(settings)))
    ensure_topics(settings, [settings.kafka_topic_bars])
    found = kafka(settings)
    assert not problems(found)
    assert [line.state for line in found if settings.kafka_topic_news in line.text] == ["warning"]


def test_more_workers_than_partitions(settings):
    """Workers beyond the partitions would have nothing to do."""
    ensure_topics(settings, [settings.kafka_topic_bars])
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


def test_commit_that_fits_no_record(settings):
    """A commit beyond the log's end, and one of the topic before it was deleted and made anew, are problems that say
    what was found and what to do; a commit without a generation, within the log, is none.
    """
    produce(settings, 40)
    partition = Partition(settings.kafka_topic_bars, 0)
    for committed, expected in (
        (Committed(500, ""), "its log was cut, or the topic was made anew"),
        (Committed(0, end_mark("a" * 32)), "was deleted and made anew"),
        (Committed(1, ""), ""),
    ):
        reader.commit(settings, {partition: committed})
        found = [text for text in problems(kafka(settings)) if text.startswith(f"{partition}: ")]
        assert len(found) == (1 if expected else 0), found
        assert expected in "".join(found)
        assert "verify --repair" in (found or ["verify --repair"])[0]


def test_transaction_that_does_not_end(settings):
    """What a transaction hides from readers for longer than it should is a problem; a moment after it began it
    is none.
    """
    produce(settings, 40)
    with KafkaProducer(**connection(settings), transactional_id=uuid.uuid4().hex) as producer:
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
