"""What a host of the scripts gets: containers by schema, units by systemd, the crontab, the lock of packages."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"


def tool(name: str, *arguments: object) -> subprocess.CompletedProcess:
    """A tool of this virtual environment."""
    return subprocess.run(
        [Path(sys.executable).parent / name, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_compose_fits_its_schema():
    """The Compose file fits the schema of the Compose specification, as check-jsonschema ships it."""
    done = tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "docker-compose.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_speaks_the_scripts_language():
    """Each command in the Compose file exists, with its options; the client's address is one that the broker
    advertises.
    """
    services = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text())["services"]
    for name in ("consumer", "producer"):
        script, *options = services[name]["command"]
        subcommand = [word for word in options[:1] if not word.startswith("-")]
        help_text = subprocess.run(
            [sys.executable, script, *(subcommand or ["land"]), "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert all(option in help_text for option in options if option.startswith("--"))
        servers = services[name]["environment"]["KAFKA_BOOTSTRAP_SERVERS"]
        assert f"://{servers}" in services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]


def test_what_the_image_copies_is_there_and_not_ignored():
    """Every COPY of the Dockerfile names what exists and what .dockerignore lets through; the image does not run as
    root.
    """
    text = (DEPLOY / "Dockerfile").read_text()
    allowed = {
        line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")
    }
    copied = [word for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE) for word in line.split()[:-1]]
    assert len(copied) >= 6
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert set(copied) <= allowed
    assert re.search(r"^USER (?!root)", text, re.MULTILINE)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here")
def test_units_are_ones_that_systemd_accepts(tmp_path):
    """systemd knows every line of the units, and the timers have a next time."""
    for path in (DEPLOY / "systemd").iterdir():
        # Program, folder and user exist on the host only.
        text = (
            path.read_text()
            .replace("/opt/stock-market/.venv/bin/python", "/bin/true")
            .replace("User=stock-market", "User=root")
        )
        (tmp_path / path.name).write_text(text.replace("WorkingDirectory=/opt/stock-market", "WorkingDirectory=/"))
        for moment in re.findall(r"^OnCalendar=(.+)$", text, re.MULTILINE):
            assert (
                "Next elapse"
                in subprocess.run(
                    ["systemd-analyze", "calendar", moment], capture_output=True, text=True, check=True
                ).stdout
            )
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *tmp_path.iterdir()],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert [line for line in done.stderr.splitlines() if "stock-market" in line] == []


def commands() -> list[str]:
    """Each command of the units and of the crontab, from the script's name on."""
    units = (
        "\n".join(path.read_text() for path in (DEPLOY / "systemd").glob("*.service"))
        + (DEPLOY / "crontab.example").read_text()
    )
    return sorted({found.strip() for found in re.findall(r"\.venv/bin/python ([a-z_]+\.py [^>\n]*)", units)})


def test_the_schedule_covers_daily_weekly_actions_and_etl():
    """The list that the next test goes through is not empty by accident."""
    assert len(commands()) == 5


@pytest.mark.parametrize("command", commands())
def test_commands_of_the_schedule_exist(command):
    """Each option in a unit or the crontab is one of its script's."""
    words = command.split()
    subcommand = words[1:2] if not words[1].startswith("-") else ["land"]
    help_text = subprocess.run(
        [sys.executable, words[0], *subcommand, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert all(word in help_text for word in words if word.startswith("--"))


def test_lines_of_the_crontab_can_write_their_logs(tmp_path):
    """After the steps of the README each line of the crontab runs, and its log is there."""
    [step] = re.findall(r"^ +sudo (install -d .*logs)\b", (DEPLOY / "README.md").read_text(), re.MULTILINE)
    words = step.replace("-o stock-market", "").replace("-g stock-market", "").split()
    lines = re.findall(
        r"^[\d*].{8,}?  (.*cd /opt/stock-market .*)$", (DEPLOY / "crontab.example").read_text(), re.MULTILINE
    )
    assert len(lines) == 7

    def run_all() -> list[int]:
        places = {
            "/tmp/stock-market": f"{tmp_path}/lock",
            "/opt/stock-market": str(tmp_path),
            ".venv/bin/python": "echo",
        }
        commands = [re.sub("|".join(places), lambda found: places[found[0]], line) for line in lines]
        return [subprocess.run(["sh", "-c", one], capture_output=True, check=False).returncode for one in commands]

    assert 0 not in run_all()
    subprocess.run(words, cwd=tmp_path, check=True)
    assert run_all() == [0] * 7
    logs = {path.name: path.read_text() for path in (tmp_path / "logs").iterdir()}
    assert sorted(logs) == ["actions.log", "coverage.log", "doctor.jsonl", "etl.log", "poll.log", "weekly.log"]
    assert all(logs.values())


@pytest.mark.parametrize(
    ("name", "offsets", "records"),
    [
        ("docker-compose.yml", r'KAFKA_OFFSETS_RETENTION_MINUTES: "(\d+)"', r"KAFKA_LOG_RETENTION_HOURS"),
        ("kafka-ec2.yaml", r"offsets\.retention\.minutes=(\d+)", r"log\.retention\.hours"),
        ("msk.md", r"offsets\.retention\.minutes=(\d+)", r"log\.retention\.hours"),
    ],
)
def test_offsets_outlive_a_holiday(name, offsets, records):
    """Every deployment keeps the group's offsets for 90 days, and says how long records are kept."""
    text = (DEPLOY / name).read_text()
    assert re.findall(offsets, text) == [str(90 * 24 * 60)]
    assert re.search(records, text)


def test_the_lock_holds_what_is_required():
    """requirements.lock pins every package of requirements.txt, in a version that it allows, each with hashes; it names
    no server.
    """
    wanted = [
        Requirement(line.split("#")[0])
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if line[:1].isalpha()
    ]
    text = (ROOT / "requirements.lock").read_text()
    pinned = re.findall(r"^([\w.-]+)==([\w.]+)(?: ;.*?)? \\\n    --hash=sha256:", text, re.MULTILINE)
    assert len(pinned) == len(re.findall(r"^[\w.-]+==", text, re.MULTILINE))
    versions = {canonicalize_name(name): version for name, version in pinned}
    assert len(wanted) > 20
    assert [str(one) for one in wanted if versions.get(canonicalize_name(one.name)) not in one.specifier] == []
    assert "://" not in text
