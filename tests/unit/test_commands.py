"""The scripts as commands that an installation makes, and on a Python that lacks their packages."""

import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMANDS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_a_function(command: str) -> None:
    """What pyproject.toml promises under a command's name is there."""
    module, _, function = COMMANDS[command].partition(":")
    assert callable(getattr(import_module(module), function))


@pytest.mark.parametrize("script", ["producer.py", "consumer.py", "-m pipeline.athena"])
def test_a_python_without_the_packages_gets_one_sentence(script: str) -> None:
    """A system Python is told how to get the packages, and sees no traceback."""
    program = f"import sys; sys.argv = {script.split()[:1]!r}; sys.path.append({str(ROOT)!r}); import pipeline"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "make venv" in done.stderr
