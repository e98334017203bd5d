"""The local AWS: ministack (S3, Glue, Athena's API, DynamoDB, IAM, …), started through our own launcher."""

import sys
from pathlib import Path

from local.service import Service, clean_environment, fetch
from local.state import State

REGION = "us-east-1"
# What the product and its tests call. ministack's other 80 services are off; one of them, Lambda, would run code that a
# caller sends as a process of this user.
SERVICES = (
    "athena",
    "cloudformation",
    "dynamodb",
    "glue",
    "iam",
    "kms",
    "s3",
    "scheduler",
    "secretsmanager",
    "ssm",
    "sts",
)
# Any key is taken; this one is what people use with emulators, and no AWS account has it.
TEST_KEY = "test"
# The launcher answers here with its state folder's identity.
IDENTITY_PATH = "/_local/identity"


def endpoint(ports: dict[str, int]) -> str:
    return f"http://127.0.0.1:{ports['aws']}"


def command(_state: State, _ports: dict[str, int], _installation: Path | None) -> list[str]:
    return [sys.executable, "-m", "local.ministack_launcher"]


def environment(state: State, ports: dict[str, int]) -> dict[str, str]:
    """Return ministack's settings (its app.py and core/persistence.py read them).

    S3_PERSIST writes each object to disk as it is put; PERSIST_STATE keeps everything else as JSON. Without
    IOT_MTLS_ENABLED=0 an MQTT port listens on all interfaces.
    """
    folder = state.data("aws")
    for name in ("objects", "state", "temporary"):
        (folder / name).mkdir(exist_ok=True)
    return clean_environment() | {
        "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
        "GATEWAY_PORT": str(ports["aws"]),
        "BIND_HOST": "127.0.0.1",
        "SERVICES": ",".join(SERVICES),
        "MINISTACK_REGION": REGION,
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "PERSIST_STATE": "1",
        "STATE_DIR": str(folder / "state"),
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(folder / "objects"),
        "TMPDIR": str(folder / "temporary"),
        # No Docker: the emulator would otherwise look for containers of its own on the user's daemon and remove them.
        "DOCKER_HOST": f"unix://{folder / 'no-docker.sock'}",
        "LOCAL_STACK_DIR": str(state.folder),
    }


def is_ready(state: State, ports: dict[str, int]) -> bool:
    try:
        return fetch(endpoint(ports) + IDENTITY_PATH).decode() == str(state.identity())
    except OSError:
        return False


SERVICE = Service(
    name="aws",
    title="local AWS (ministack 1.5.33)",
    listeners=("aws",),
    depends_on=(),
    product=None,
    command=command,
    environment=environment,
    is_ready=is_ready,
    start_timeout_seconds=60,
)
