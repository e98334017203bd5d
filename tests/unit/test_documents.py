"""What the documents promise: commands that exist, options that are tried, files that are there."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SCRIPTS = ("producer.py", "consumer.py", "glue_setup.py")
DOCUMENTS = sorted(ROOT.glob("*.md")) + sorted(
    path for place in ("deploy", "dashboards", "benchmarks", "docs", "samples") for path in (ROOT / place).rglob("*.md")
)
OFFERING = [
    *(ROOT / name for name in SCRIPTS),
    *(path for place in ("pipeline", "dashboards", "deploy", "etl") for path in sorted((ROOT / place).rglob("*.py"))),
]
TRYING = [
    path
    for place in ("tests", "benchmarks", "deploy", "samples")
    for path in (ROOT / place).rglob("*")
    if path.is_file() and path != Path(__file__)
]


def readme_commands() -> list[str]:
    """Each command line of the README's blocks that starts with python."""
    blocks = re.findall(r"^    (python .*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    return sorted({command.split("#")[0].strip() for command in blocks})


def test_the_readme_shows_commands() -> None:
    """The list that the next test goes through is not empty by accident."""
    assert len(readme_commands()) >= 10


@pytest.mark.parametrize("command", readme_commands())
def test_every_command_of_the_readme_exists(command: str) -> None:
    """Each script or module that the README names has help, and each option in the line is one of its options."""
    words = command.split()[1:]
    module = words[:2] if words[0] == "-m" else words[:1]
    rest = words[len(module) :]
    subcommand = (
        rest[:1]
        if rest and re.fullmatch(r"[a-z]+", rest[0]) and module[-1] in (*SCRIPTS, "pipeline.dynamodb", "local")
        else []
    )
    done = subprocess.run(
        [sys.executable, *module, *subcommand, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode == 2 and subcommand:
        done = subprocess.run(
            [sys.executable, *module, "--help"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
        )
    assert done.returncode == 0, done.stderr
    for option in re.findall(r"(?<=\s)--[a-z-]+", command):
        assert option in done.stdout, f"{option} is not an option of {' '.join(module + subcommand)}"


def options() -> list[str]:
    """Each long option that the product declares, by its spelling."""
    found = set()
    for path in OFFERING:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
                texts = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
                found |= {text for text in texts if isinstance(text, str) and text.startswith("--")}
    return sorted(found)


def test_every_option_is_tried() -> None:
    """Each option of the product is used by a test, a benchmark, a sample or a deployment."""
    tried = "\n".join(
        path.read_text()
        for path in TRYING
        if path.suffix in (".py", ".sh", ".md", ".yml", ".yaml", ".service", ".example", "")
    )
    assert len(options()) > 50
    assert not [option for option in options() if not re.search(rf"(?<![\w-]){option}(?![\w-])", tried)]


def test_the_documents_name_files_that_exist() -> None:
    """Each path in backquotes or links of a document is a file or folder of this project."""
    missing = []
    for document in DOCUMENTS:
        text = document.read_text()
        named = re.findall(r"`((?:pipeline|etl|dashboards|deploy|local|tests|benchmarks|samples|docs)/[\w./-]*)`", text)
        named += [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
        missing += [
            f"{document.name}: {name}"
            for name in named
            if not (ROOT / name).exists() and not (document.parent / name).exists()
        ]
    assert not missing
