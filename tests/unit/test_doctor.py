"""The doctor's checks that need no broker and no AWS: packages, clock, price sources, and what it prints."""

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pytest

from pipeline.doctor import account, machine, sources, wire
from pipeline.settings import Settings

ROOT = Path(__file__).parent.parent.parent
TODAY = date(2026, 11, 18)


def doctor(*arguments: str, **changes: str) -> subprocess.CompletedProcess:
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in {s.upper() for s in Settings.__dataclass_fields__}
    }
    return subprocess.run(
        [sys.executable, "-m", "pipeline.doctor", *arguments],
        cwd=ROOT,
        env=environment | changes,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def install(folder: Path, name: str, version: str, requires: str = "") -> None:
    """The record of an installed package, as pip writes it."""
    record = folder / f"{name}-{version}.dist-info"
    record.mkdir(parents=True)
    requirement = f"Requires-Dist: {requires}\n" if requires else ""
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requirement}")


def test_all_mistakes_of_the_settings_are_problems():
    """A settings mistake is a line of its own, and the rest is not looked at."""
    done = doctor("--json", KAFKA_PARTITIONS="many", S3_BUCKET="No Bucket", KAFKA_SECURITY_PROTOCOL="TLS")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert [line["state"] for line in found] == ["problem"] * 3
    assert all(line["area"] == "settings" and line["cure"] for line in found)


def test_a_machine_as_required_has_no_problem():
    """With the packages of requirements.txt everything about the machine is ok, exit code 0."""
    done = doctor("--only", "machine")
    assert done.returncode == 0, done.stdout
    assert "packages are as requirements.txt asks" in done.stdout


@pytest.mark.parametrize(
    ("name", "version", "requires", "expected"),
    [
        ("kafka_python_ng", "2.2.3", "", "kafka-python-ng is installed"),
        ("kafka_python", "3.0.8", "", "can stop reading a partition"),
        ("s3fs", "0.4.2", "", "s3fs 0.4.2; needed"),
        ("aiobotocore", "2.5.0", "botocore<1.29.77,>=1.29.76", "does not fit aiobotocore 2.5.0"),
    ],
)
def test_packages_that_do_not_fit_are_named(tmp_path, name, version, requires, expected):
    """An installed package that is known to break this product is told, with how to mend it."""
    install(tmp_path, name, version, requires)
    done = doctor("--only", "machine", PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert expected in done.stdout
    assert "-> " in done.stdout


def test_a_package_that_is_not_installed_is_named(tmp_path, monkeypatch):
    """A line of requirements.txt without a package is a problem."""
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("no-such-package-of-ours>=1  # why\n")
    monkeypatch.setattr(machine, "REQUIREMENTS", requirements)
    assert any(found.state == "problem" and "is not installed" in found.text for found in machine.findings())


@pytest.mark.parametrize(
    ("ahead", "state"), [(0, "ok"), (59, "ok"), (-90, "warning"), (301, "problem"), (-4000, "problem")]
)
def test_clock(ahead, state):
    """Five minutes off is what AWS refuses; a minute off is worth a look."""
    assert account._clock(ahead).state == state


# --- price sources


@contextmanager
def api(answers: dict[str, tuple[int, dict]]) -> Iterator[tuple[str, list]]:
    """A server that answers by the path's beginning, and notes what it was asked."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("Authorization")))
            status, body = next((answer for path, answer in answers.items() if path in self.path), (404, {}))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("day", "minute", "trades", "expected"),
    [
        (200, (200, {"status": "OK"}), 200, ["ok"]),
        (401, (401, {}), 401, ["problem"]),
        (429, (429, {}), 429, ["warning"]),
        (503, (503, {}), 503, ["problem"]),
        (200, (200, {"status": "DELAYED"}), 403, ["ok", "warning", "warning"]),
        (200, (403, {}), 403, ["ok", "warning", "warning"]),
    ],
)
def test_key_of_polygon(day, minute, trades, expected):
    """A refused key is a problem, an accepted one ok, and each limit of its plan a warning; the key goes as a header
    only.
    """
    with api({"/1/day/": (day, {"status": "OK"}), "/1/minute/": minute, "/v3/trades": (trades, {})}) as (url, asked):
        found = list(sources.findings(Settings(polygon_api_key="thekey", polygon_base_url=url), today=TODAY))
    assert [line.state for line in found] == expected
    assert all("thekey" not in path and key == "Bearer thekey" for path, key in asked)
    assert "thekey" not in str(found)


@pytest.mark.parametrize(
    ("body", "state"),
    [
        ({"Global Quote": {}}, "ok"),
        ({"Error Message": "the apikey thekey is invalid"}, "problem"),
        ({"Information": "25 requests per day"}, "warning"),
    ],
)
def test_key_of_alpha_vantage(body, state):
    """Its errors come with status 200; they are told without the key."""
    with api({"/query": (200, body)}) as (url, _):
        found = list(
            sources.findings(Settings(alpha_vantage_api_key="thekey", alpha_vantage_base_url=url), today=TODAY)
        )
    assert [line.state for line in found] == [state]
    assert "thekey" not in str(found)


def test_a_source_that_cannot_be_reached(unused_port):
    """No answer is a problem that names the setting of the address."""
    found = list(
        sources.findings(Settings(polygon_api_key="k", polygon_base_url=f"http://127.0.0.1:{unused_port}"), today=TODAY)
    )
    assert [(line.state, "POLYGON_BASE_URL" in line.cure) for line in found] == [("problem", True)]


# --- addresses


def test_why_an_address_cannot_be_reached(unused_port):
    """A closed port and an unknown name have reasons of their own."""
    assert "refused" in wire.reach("127.0.0.1", unused_port)
    assert "not known" in wire.reach("no-such-host.invalid", 9092)


def test_a_server_that_is_not_kafka():
    """A port behind which something else listens is told apart from a broker."""
    with api({}) as (url, _):
        assert wire.spoken("127.0.0.1", int(url.rpartition(":")[2])).protocol == ""
