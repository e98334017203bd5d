"""deploy/kafka-ec2.yaml: its user-data script, step by step, on a real broker with both listeners."""

import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import boto3
import pytest
from counting import assert_exactly_once, in_topic, produce
from kafka import KafkaAdminClient
from user_data import Instance, executable, filled_in, release, script, web

from pipeline.settings import ServiceError, Settings, load_settings
from pipeline.streams.kafka import producer as topic

PASSWORD = "correcthorsebatterystaple42"  # of a broker on loopback that lives for one test run


def free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


@pytest.fixture(scope="module")
def instance(stack, tmp_path_factory) -> Iterator[Instance]:
    """A broker set up by the script: private listener SASL_PLAINTEXT, public listener SASL_SSL."""
    folder = tmp_path_factory.mktemp("instance")
    environment = stack.environment()
    secrets = boto3.client(
        "secretsmanager",
        region_name=environment["AWS_REGION"],
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    secret = secrets.create_secret(Name=uuid.uuid4().hex, SecretString=PASSWORD)["ARN"]
    (folder / "releases").mkdir()
    release(folder / "releases", "4.3.1")
    with web(folder / "releases") as url:
        made = Instance(
            folder,
            url,
            environment,
            free_ports(4),
            PASSWORD_SECRET=secret,
            USER_NAME="pipeline",
            PUBLIC_ADDRESS="127.0.0.1",
            PRIVATE_SECURITY="SASL_PLAINTEXT",
            TOPICS="stock_bars stock_live_feed stock_news",
            TOPIC_CHECKPOINTS="stock_checkpoints",
        )
        done = made.run("install_kafka; write_settings; format_storage; write_unit")
        assert done.returncode == 0, done.stderr
        broker = made.start()
        try:
            done = made.run("wait_for_kafka; make_user; make_topics")
            assert done.returncode == 0, done.stdout + done.stderr + (folder / "broker.log").read_text()[-2000:]
            yield made
        finally:
            broker.terminate()
            broker.wait(30)


@pytest.fixture
def clients(instance, environment) -> dict[str, dict[str, str]]:
    """The environment of a client of each listener."""
    login = {
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "KAFKA_SASL_USERNAME": "pipeline",
        "KAFKA_SASL_PASSWORD": PASSWORD,
    }
    private, public = instance.ports[:2]
    return {
        "private": environment
        | login
        | {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{private}", "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"},
        "public": environment
        | login
        | {
            "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{public}",
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SSL_CAFILE": str(instance.folder / "data/tls/ca.pem"),
        },
    }


def load(environment: dict[str, str]) -> Settings:
    return load_settings(environ=environment, config_file="/dev/null")


def test_the_script_has_no_findings(tmp_path):
    """shellcheck has nothing to say about the script, and it fits EC2's limit of 16 KB."""
    checked = tmp_path / "user-data.sh"
    executable(checked, script())
    done = subprocess.run(
        [Path(sys.executable).parent / "shellcheck", checked], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout
    assert len(script()) + len(filled_in()) + 1000 < 16_384


@pytest.mark.parametrize("listener", ["private", "public"])
def test_a_record_goes_there_and_back_over_each_listener(clients, listener):
    """A record sent with the password over a listener is read back over it."""
    settings = load(clients[listener])
    produce(settings, 20)
    assert sum(in_topic(settings).values()) == 20


def test_a_record_sent_from_outside_is_read_inside(clients):
    """Both listeners lead to the same topics."""
    produce(load(clients["public"]), 5)
    assert sum(in_topic(load(clients["private"])).values()) == 5


def test_consumer_lands_over_tls(clients, run, s3):
    """consumer.py, started as a user starts it with SASL_SSL, lands every record once."""
    settings = load(clients["public"])
    produce(settings, 300)
    done = run("consumer.py", "--until-caught-up", **clients["public"])
    assert done.returncode == 0, done.stderr
    assert_exactly_once(s3, settings, at_least=300)


@pytest.mark.parametrize("listener", ["private", "public"])
def test_a_wrong_password_is_refused(clients, listener):
    """Neither listener lets anybody in without the password, and the message holds no password."""
    settings = load(clients[listener] | {"KAFKA_SASL_PASSWORD": "wrongpassword"})
    with pytest.raises(ServiceError, match="KAFKA_") as refused:
        topic.ensure_topics(settings, ["any"])
    assert "wrongpassword" not in str(refused.value)


def test_topics_are_made_as_the_producer_would(instance):
    """The checkpoints are compacted in one partition, the records have the partitions asked for; twice is the same as
    once.
    """
    done = instance.run("make_topics")
    assert done.returncode == 0, done.stderr
    with KafkaAdminClient(bootstrap_servers=f"127.0.0.1:{instance.ports[2]}") as admin:
        described = {found["name"]: found for found in admin.describe_topics(["stock_bars", "stock_checkpoints"])}
        assert {name: len(found["partitions"]) for name, found in described.items()} == {
            "stock_bars": 2,
            "stock_checkpoints": 1,
        }


def test_a_restart_keeps_the_cluster_and_its_certificate(instance):
    """Running the steps again on a volume that is in use formats nothing and makes no new certificate."""
    kept = [instance.folder / "data" / name for name in ("logs/meta.properties", "tls/ca.pem")]
    before = [path.read_bytes() for path in kept]
    done = instance.run("install_kafka; write_settings; format_storage")
    assert done.returncode == 0, done.stderr
    assert [path.read_bytes() for path in kept] == before


def test_another_public_address_gets_another_certificate(instance, tmp_path):
    """A certificate that does not name the address is made anew, for clients would refuse it."""
    shutil.copytree(instance.folder / "data/tls", tmp_path / "tls")
    before = (tmp_path / "tls/ca.pem").read_bytes()
    done = instance.run("make_certificate", PUBLIC_ADDRESS="198.51.100.7", DATA=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tls/ca.pem").read_bytes() != before
    assert (tmp_path / "tls/key.pem").stat().st_mode & 0o077 == 0


def test_the_certificate_is_published(instance, stack):
    """Clients outside can fetch the certificate that they have to trust."""
    environment = stack.environment()
    ssm = boto3.client(
        "ssm",
        region_name=environment["AWS_REGION"],
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    instance.run("make_certificate")
    published = ssm.get_parameter(Name=f"/{instance.folder.name}/kafka-ca.pem")["Parameter"]["Value"]
    assert published.strip() == (instance.folder / "data/tls/ca.pem").read_text().strip()


def test_a_download_that_was_changed_is_refused(instance, tmp_path):
    """An archive whose SHA-512 is not the published one is not unpacked."""
    done = instance.run("install_kafka", KAFKA_HOME=str(tmp_path / "opt"), KAFKA_SHA512="0" * 128)
    assert done.returncode != 0
    assert "SHA-512" in done.stderr
    assert not (tmp_path / "opt").exists()


def test_plaintext_has_no_public_listener(instance, tmp_path):
    """Without a public address there is one listener for clients, of the chosen protocol."""
    done = instance.run("write_settings", PUBLIC_ADDRESS="", PRIVATE_SECURITY="PLAINTEXT", CONFIG=str(tmp_path))
    assert done.returncode == 0, done.stderr
    written = (tmp_path / "server.properties").read_text()
    assert "PUBLIC" not in written
    assert "PRIVATE:PLAINTEXT" in written
    assert f"advertised.listeners=PRIVATE://127.0.0.1:{instance.ports[0]}," in written


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here")
def test_the_unit_is_one_that_systemd_accepts(instance, tmp_path):
    """The service's unit has no unknown or malformed line."""
    unit = tmp_path / "kafka.service"
    # The user and the folder exist on the instance only.
    unit.write_text((instance.folder / "units/kafka.service").read_text().replace("User=kafka", "User=root"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False, timeout=60
    )
    assert [line for line in done.stderr.splitlines() if "kafka.service" in line] == [], done.stderr
