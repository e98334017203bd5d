"""What the documents promise: commands that exist, options that are tried, files that are there."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SCRIPTS = ("producer.py", "consumer.py", "glue_setup.py")
SUBCOMMANDS = {
    "producer.py": ("replay", "poll", "stream", "simulate", "news", "actions", "backfill"),
    "consumer.py": ("land", "verify"),
    "glue_setup.py": ("create", "show", "crawl", "etl", "retract", "delete"),
    "pipeline.dynamodb": ("get", "range", "latest", "create"),
    "dashboards.tableau": ("workbook", "public"),
    "dashboards.quicksight": ("template", "apply", "delete"),
    "local": ("up", "down", "run", "env", "status"),
}
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


def commands() -> dict[tuple[str, ...], set[str]]:
    """Each script or module, with its subcommand, that the documents' code blocks run, and the options given there."""
    found: dict[tuple[str, ...], set[str]] = {}
    for document in DOCUMENTS:
        for line in re.findall(
            r"^ {4,}(?:.*?[ /])??python3? ((?:-m (?:pipeline|dashboards|deploy|local)[\w.]*|\w+\.py).*)$",
            document.read_text(),
            re.MULTILINE,
        ):
            words = line.split("#")[0].split()
            module = words[:2] if words[0] == "-m" else words[:1]
            rest = words[len(module) :]
            subcommand = rest[:1] if rest and rest[0] in SUBCOMMANDS.get(module[-1], ()) else []
            if module[-1] == "local" and rest[:1] == ["run"]:
                continue  # The rest is another command, which a line of its own shows.
            options = {word.partition("=")[0] for word in rest if word.startswith("--")}
            found.setdefault((*module, *subcommand), set()).update(options)
    return found


@cache
def help_of(command: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, *command, "--help"]
    return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def test_the_documents_show_commands() -> None:
    """The list that the next test goes through is not empty by accident."""
    assert len(commands()) >= 14


@pytest.mark.parametrize("command", sorted(commands()), ids=" ".join)
def test_every_command_of_the_documents_exists(command: tuple[str, ...]) -> None:
    """Each script or module that a document runs has help, and each option in the line is one of its options."""
    done = help_of(command)
    assert done.returncode == 0, done.stderr
    missing = {option for option in commands()[command] if option not in done.stdout}
    if missing and command[-1] == "consumer.py":
        missing = {option for option in missing if option not in help_of((*command, "land")).stdout}
    if missing and command[-1] == "glue_setup.py":
        missing = {option for option in missing if option not in help_of((*command, "create")).stdout}
    assert not missing


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
    """Each path and link in a document is a file or folder of this project."""
    missing = []
    for document in DOCUMENTS:
        text = document.read_text()
        named = re.findall(
            r"(?<![\w./:-])((?:pipeline|etl|dashboards|deploy|local|tests|benchmarks|samples|docs)/[\w./-]*\w)", text
        )
        named += [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
        missing += [
            f"{document.name}: {name}"
            for name in named
            if not (ROOT / name).exists() and not (document.parent / name).exists()
        ]
    assert not missing
