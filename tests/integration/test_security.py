"""Producer and consumer against a broker with every kind of listener that the settings know: TLS, client certificates,
SASL.
"""

import socket
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import certificates
import pytest
from counting import assert_exactly_once, in_topic
from kafka import KafkaAdminClient
from kafka.admin import ScramMechanism, UserScramCredentialUpsertion

from local.stack import Stack
from pipeline.settings import ServiceError, Settings, load_settings
from pipeline.streams.kafka import producer as topic

ROOT = Path(__file__).parent.parent.parent
PASSWORD = "correcthorsebatterystaple42"  # of a broker on loopback that lives for one test run
LISTENERS = ("SSL", "MUTUAL", "SCRAM256", "SCRAM512", "PLAIN", "TLSSCRAM")
# Written behind the embedded broker's own settings; the later line wins.
BROKER = """
listeners=BROKER://127.0.0.1:{kafka},CONTROLLER://127.0.0.1:{kafka_controller},{listeners}
advertised.listeners=BROKER://127.0.0.1:{kafka},{listeners}
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,SSL:SSL,MUTUAL:SSL,SCRAM256:SASL_PLAINTEXT,\
SCRAM512:SASL_PLAINTEXT,PLAIN:SASL_PLAINTEXT,TLSSCRAM:SASL_SSL
ssl.keystore.type=PEM
ssl.keystore.location={folder}/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.pem
listener.name.mutual.ssl.client.auth=required
sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512,PLAIN
listener.name.scram256.sasl.enabled.mechanisms=SCRAM-SHA-256
listener.name.scram512.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.plain.sasl.enabled.mechanisms=PLAIN
listener.name.tlsscram.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.scram256.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.scram512.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.tlsscram.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.plain.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
  user_pipeline="{password}";
"""


@pytest.fixture(scope="module")
def secured(tmp_path_factory) -> Iterator[tuple[dict[str, int], Path]]:
    """Port of each listener, and the folder of the certificates."""
    folder = tmp_path_factory.mktemp("secured")
    certificates.make(folder)
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in LISTENERS]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        ports = {name: probe.getsockname()[1] for name, probe in zip(LISTENERS, probes, strict=True)}
    own = Stack(folder / "stack")
    own.up(["kafka"])
    try:
        with KafkaAdminClient(bootstrap_servers=own.environment()["KAFKA_BOOTSTRAP_SERVERS"]) as admin:
            # One at a time: Kafka refuses two mechanisms of one user in one request.
            for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
                answer = admin.alter_user_scram_credentials(
                    [UserScramCredentialUpsertion("pipeline", mechanism, PASSWORD)]
                )
                assert answer == {"pipeline": None}, answer
        listeners = ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())
        text = BROKER.format(listeners=listeners, folder=folder, password=PASSWORD, **own.ports())
        (own.state.data("kafka") / "more.properties").write_text(text)
        own.restart("kafka")
        yield ports, folder
    finally:
        own.down(wipe=True)


@pytest.fixture
def client(secured, environment):
    """The environment of a client of one listener."""
    ports, folder = secured
    authority = {"KAFKA_SSL_CAFILE": str(folder / "ca.pem")}
    own = {"KAFKA_SSL_CERTFILE": str(folder / "client.pem"), "KAFKA_SSL_KEYFILE": str(folder / "client.key")}

    def login(mechanism: str, protocol: str = "SASL_PLAINTEXT") -> dict[str, str]:
        return {
            "KAFKA_SECURITY_PROTOCOL": protocol,
            "KAFKA_SASL_MECHANISM": mechanism,
            "KAFKA_SASL_USERNAME": "pipeline",
            "KAFKA_SASL_PASSWORD": PASSWORD,
        }

    of_listener = {
        "SSL": authority | {"KAFKA_SECURITY_PROTOCOL": "SSL"},
        "MUTUAL": authority | own | {"KAFKA_SECURITY_PROTOCOL": "SSL"},
        "SCRAM256": login("SCRAM-SHA-256"),
        "SCRAM512": login("SCRAM-SHA-512"),
        "PLAIN": login("PLAIN"),
        "TLSSCRAM": authority | login("SCRAM-SHA-512", "SASL_SSL"),
    }
    return lambda name, **changes: (
        environment | of_listener[name] | {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{ports[name]}"} | changes
    )


def load(environment: dict[str, str]) -> Settings:
    return load_settings(environ=environment, config_file="/dev/null")


@pytest.mark.parametrize("listener", LISTENERS)
def test_producer_and_consumer_work_over(listener, client, run, s3, tmp_path):
    """producer.py and consumer.py, started as a user starts them with the settings of a listener, lose and double
    nothing.
    """
    environment = client(listener)
    prices = tmp_path / "prices.csv"
    prices.write_text("".join((ROOT / "samples/daily_prices.csv").read_text().splitlines(keepends=True)[:501]))
    sent = run("producer.py", "replay", prices, **environment)
    assert sent.returncode == 0, sent.stderr
    landed = run("consumer.py", "--until-caught-up", **environment)
    assert landed.returncode == 0, landed.stderr
    assert_exactly_once(s3, load(environment), at_least=500)
    assert PASSWORD not in sent.stdout + sent.stderr + landed.stdout + landed.stderr


@pytest.mark.parametrize(
    ("listener", "changes"),
    [
        ("SCRAM256", {"KAFKA_SASL_PASSWORD": "wrongpassword"}),
        ("SCRAM512", {"KAFKA_SASL_MECHANISM": "PLAIN"}),
        ("PLAIN", {"KAFKA_SASL_USERNAME": "somebody"}),
        ("SCRAM512", {"KAFKA_SECURITY_PROTOCOL": "PLAINTEXT", "KAFKA_SASL_MECHANISM": ""}),
        ("SSL", {"KAFKA_SSL_CAFILE": ""}),
        ("MUTUAL", {"KAFKA_SSL_CERTFILE": "", "KAFKA_SSL_KEYFILE": ""}),
    ],
)
def test_what_does_not_fit_is_refused(listener, changes, client):
    """A wrong password, user, mechanism, protocol, authority or a missing certificate is an error that names settings,
    and no secret.
    """
    settings = load(client(listener, **changes))
    with pytest.raises(ServiceError, match="KAFKA_") as refused:
        topic.ensure_topics(settings, [f"refused_{uuid.uuid4().hex}"])
    assert PASSWORD not in str(refused.value)
    assert "wrongpassword" not in str(refused.value)


def test_nothing_was_written_by_the_refused(client):
    """The broker that refused them serves the others on."""
    settings = load(client("TLSSCRAM"))
    topic.ensure_topics(settings, [settings.kafka_topic_bars])
    assert sum(in_topic(settings).values()) == 0
