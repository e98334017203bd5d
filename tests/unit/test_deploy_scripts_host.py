"""deploy/scripts-ec2.yaml: its script with stand-ins for the machine's tools, and the settings that it writes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cfnlint.decode import cfn_yaml

from pipeline.settings import load_settings

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "deploy/scripts-ec2.yaml"
# What each writes into the log of calls; aws answers for the secrets, and gives an archive of the units.
STAND_IN = """#!/bin/sh
echo "$(basename "$0") $*" >>"$CALLS"
case "$(basename "$0") $*" in
  "aws secretsmanager"*password*) echo s3cret ;;
  "aws secretsmanager"*key*) echo polygon-key ;;
  "aws s3 cp"*) tar -czf /tmp/stock-market.tar.gz -C "$PROJECT" deploy/systemd requirements.lock ;;
  python3.11*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; cp "$0" "$3/bin/pip" ;;
esac
"""


def script() -> str:
    """The script as the instance gets it, behind the line of its own values."""
    template = cfn_yaml.load(str(TEMPLATE))
    return template["Resources"]["Host"]["Properties"]["UserData"]["Fn::Base64"]["Fn::Join"][1][1]


@pytest.fixture
def host(tmp_path: Path) -> dict[str, str]:
    """An environment in which the script changes files below a folder only."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("dnf", "useradd", "systemctl", "aws", "chown", "python3.11"):
        (tools / name).write_text(STAND_IN)
        (tools / name).chmod(0o755)
    (tmp_path / "units").mkdir()
    return os.environ | {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "CALLS": str(tmp_path / "calls"),
        "PROJECT": str(ROOT),
        "HOME_FOLDER": str(tmp_path / "home"),
        "UNITS": str(tmp_path / "units"),
        "JOURNAL": str(tmp_path / "journal"),
        "AWS_DEFAULT_REGION": "eu-west-1",
        "STACK": "s",
        "RESOURCE": "Host",
        "ARCHIVE": "s3://lake/deploy/x.tar.gz",
        "BUCKET": "lake",
        "SERVERS": "10.0.0.5:9092",
        "KAFKA_USER": "pipeline",
        "SYMBOLS": "AAPL,MSFT",
        "PASSWORD_SECRET": "arn:password",
        "KEY_SECRET": "arn:key",
        "ENVIRONMENT": "prod",
    }


def test_the_script_makes_a_host(host: dict[str, str], tmp_path: Path) -> None:
    """The script installs, writes settings that the scripts accept and only they can read, starts the units, and says
    that it is ready.
    """
    done = subprocess.run(["bash", "-c", script()], env=host, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    config = tmp_path / "home/config.env"
    assert config.stat().st_mode & 0o077 == 0
    settings = load_settings(environ={}, config_file=config, required=["s3_bucket", "polygon_api_key"])
    assert (settings.kafka_sasl_password, settings.polygon_api_key) == ("s3cret", "polygon-key")
    assert (settings.aws_region, settings.glue_database) == ("eu-west-1", "stock_market_prod")
    units = {path.name for path in (ROOT / "deploy/systemd").iterdir()}
    assert {path.name for path in (tmp_path / "units").iterdir()} == units
    calls = (tmp_path / "calls").read_text()
    assert "systemctl enable --now stock-market-consumer.service" in calls
    assert "systemctl enable --now stock-market-poll.timer" in calls
    assert "--status SUCCESS" in calls
    assert "Storage=persistent" in (tmp_path / "journal/stock-market.conf").read_text()


def test_a_step_that_fails_is_signalled(host: dict[str, str], tmp_path: Path) -> None:
    """Where a step fails the stack is told, and nothing is started."""
    (tmp_path / "tools/dnf").write_text("#!/bin/sh\nexit 1\n")
    done = subprocess.run(["bash", "-c", script()], env=host, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    calls = (tmp_path / "calls").read_text()
    assert "--status FAILURE" in calls
    assert "systemctl" not in calls


def test_without_secrets_no_login_and_no_poll(host: dict[str, str], tmp_path: Path) -> None:
    """A broker without a password, and no key of a source: neither is in the settings, and nothing polls."""
    own = host | {"PASSWORD_SECRET": "", "KEY_SECRET": "", "ENVIRONMENT": ""}
    done = subprocess.run(["bash", "-c", script()], env=own, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "home/config.env").read_text()
    assert not [word for word in ("SASL", "POLYGON", "STOCK_ENV") if word in text]
    assert "poll.timer" not in (tmp_path / "calls").read_text()


def test_shellcheck_has_nothing_to_say(tmp_path: Path) -> None:
    """The script is one that shellcheck accepts, and fits EC2's limit of 16 KB."""
    file = tmp_path / "user_data.sh"
    names = "AWS_DEFAULT_REGION STACK RESOURCE ARCHIVE BUCKET SERVERS KAFKA_USER SYMBOLS PASSWORD_SECRET KEY_SECRET"
    exported = "".join(f"export {name}=x\n" for name in (*names.split(), "ENVIRONMENT"))
    file.write_text(f"#!/bin/bash\n{exported}{script()}")
    checked = subprocess.run(
        [Path(sys.executable).parent / "shellcheck", file], capture_output=True, text=True, check=False, timeout=60
    )
    assert checked.stdout == ""
    assert file.stat().st_size < 16_000


def test_every_parameter_is_used() -> None:
    """A parameter of the template that does nothing would mislead."""
    text = TEMPLATE.read_text()
    assert [name for name in cfn_yaml.load(str(TEMPLATE))["Parameters"] if text.count(name) < 2] == []
