"""Apache Kafka as one KRaft node, broker and controller in one JVM, on loopback."""

import base64
import subprocess
from pathlib import Path

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from local import StackError, downloads
from local.ports import is_free
from local.service import JAVA_COMMAND, Service, clean_environment
from local.state import State, write_whole

# One node holds one copy of everything, so Kafka's default of three copies for its own topics could never be met. Fewer
# partitions of these topics, because each one is a folder to open at start. A broker that was killed is let in again
# once its session has run out, which would take 9 s by default. The rest are Kafka's defaults, transactions included,
# so that the product meets the broker it will meet in production.
SETTINGS = """\
process.roles=broker,controller
node.id=1
listeners=BROKER://127.0.0.1:{kafka},CONTROLLER://127.0.0.1:{kafka_controller}
advertised.listeners=BROKER://127.0.0.1:{kafka}
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=BROKER
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:{kafka_controller}
log.dirs={data}
auto.create.topics.enable=false
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
offsets.topic.replication.factor=1
offsets.topic.num.partitions=5
offsets.retention.minutes=129600
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=5
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=5
"""
FORMAT_TIMEOUT_SECONDS = 120
READY_TIMEOUT_MS = 2000


def command(state: State, ports: dict[str, int], jars: Path | None) -> list[str]:
    data = state.data("kafka") / "data"
    settings = state.data("kafka") / "server.properties"
    # Later lines win over earlier ones, so a test can give its broker more listeners, such as TLS and SASL.
    more = state.data("kafka") / "more.properties"
    write_whole(
        settings, SETTINGS.format(data=data, **ports) + (more.read_text(encoding="utf-8") if more.exists() else "")
    )
    java = [*JAVA_COMMAND, "-Xmx384m", "-Dorg.apache.logging.log4j.level=INFO", "-cp", f"{jars}/*"]
    if not (data / "meta.properties").exists():
        _format(
            state,
            [
                *java,
                "kafka.tools.StorageTool",
                "format",
                "--config",
                str(settings),
                f"--cluster-id={cluster_id(state)}",
            ],
        )
    return [*java, "kafka.Kafka", str(settings)]


def cluster_id(state: State) -> str:
    """The state folder's identity as Kafka writes ids: 16 bytes in URL-safe base 64 without padding."""
    return base64.urlsafe_b64encode(state.identity().bytes).decode().rstrip("=")


def is_ready(state: State, ports: dict[str, int]) -> bool:
    """A broker answers requests only once it has caught up with its controller, so an answer is enough."""
    if is_free(ports["kafka"]):
        return False  # said at once, where the client would try again for a while
    try:
        client = KafkaAdminClient(
            bootstrap_servers=f"127.0.0.1:{ports['kafka']}",
            bootstrap_timeout_ms=READY_TIMEOUT_MS,
            request_timeout_ms=READY_TIMEOUT_MS,
        )
    except (KafkaError, OSError):
        return False
    try:
        return client.describe_cluster()["cluster_id"] == cluster_id(state)
    except (KafkaError, OSError):
        return False
    finally:
        client.close()


def _format(state: State, format_command: list[str]) -> None:
    """Write the cluster's id into an empty data folder, which a KRaft node refuses to start without."""
    with state.log("kafka").open("ab") as log:
        done = subprocess.run(
            format_command,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=FORMAT_TIMEOUT_SECONDS,
            check=False,
        )
    if done.returncode:
        raise StackError(f"Kafka could not prepare its data folder (exit {done.returncode}); see {state.log('kafka')}")


SERVICE = Service(
    name="kafka",
    title="Apache Kafka 4.3.1",
    listeners=("kafka", "kafka_controller"),
    depends_on=(),
    product=downloads.KAFKA,
    command=command,
    environment=lambda _state, _ports: clean_environment(),
    is_ready=is_ready,
    start_timeout_seconds=90,
)
