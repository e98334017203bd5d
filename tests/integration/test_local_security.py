"""The embedded AWS obeys this machine's programs only: no web page that is open in a browser can drive it."""

import http.client
from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError
from stack_client import client

from local import aws_emulator
from local.stack import Stack

# What the product and its tests call.
NEEDED = {
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
}


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The local AWS alone, on a port of its own."""
    own = Stack(tmp_path_factory.mktemp("stack"))
    own.up(["aws"])
    yield own
    own.down(wipe=True)


def ask(aws: Stack, method: str, path: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    """Send a request with exactly these headers, as a browser or an attacker would; PORT stands for the port."""
    port = aws.ports()["aws"]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest(method, path, skip_host=True)
    for name, value in {"Host": "127.0.0.1:PORT", "Content-Length": "0", **headers}.items():
        connection.putheader(name, value.replace("PORT", str(port)))
    connection.endheaders()
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "http://127.0.0.1:PORT.evil.example"},
        {"Host": "evil.example:PORT"},
        {"Host": "127.0.0.1:1"},
        {"Host": "127.0.0.1.evil.example:PORT"},
        {"Host": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=lambda headers: " ".join(f"{name}={value}" for name, value in headers.items()),
)
def test_a_request_that_comes_from_elsewhere_is_refused_and_does_nothing(aws: Stack, headers: dict[str, str]) -> None:
    """A foreign Origin, Host or fetch site is answered with 403, and the bucket that it asks for is not made."""
    assert ask(aws, "PUT", "/made-from-elsewhere", headers).status == 403
    assert client(aws, "s3").list_buckets()["Buckets"] == []


def test_a_preflight_is_refused(aws: Stack) -> None:
    """A browser that asks whether another site's page may call is told no, and no header says otherwise."""
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    answer = ask(aws, "OPTIONS", "/", asked)
    assert answer.status == 403
    assert [name for name, _ in answer.getheaders() if name.lower().startswith("access-control")] == []


@pytest.mark.parametrize("headers", [{}, {"Host": "localhost:PORT"}, {"Origin": "http://127.0.0.1:PORT"}])
def test_this_machines_programs_are_served(aws: Stack, headers: dict[str, str]) -> None:
    """Under both names of loopback the answer comes, and invites no other site's page to read it."""
    answer = ask(aws, "GET", "/", headers)
    assert answer.status == 200
    assert [name for name, _ in answer.getheaders() if name.lower().startswith("access-control")] == []


def test_only_the_services_that_are_used_are_on(aws: Stack) -> None:
    """Eleven services are on; Lambda, which would run code as a process of this user, is off, as are the others."""
    assert set(aws_emulator.SERVICES) == NEEDED
    client(aws, "sts").get_caller_identity()
    for service, call in (("lambda", "list_functions"), ("sqs", "list_queues"), ("logs", "describe_log_groups")):
        with pytest.raises(ClientError):
            getattr(client(aws, service), call)()
