"""The shape of the tree: who imports whom, and what the README promises."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SCRIPTS = ("producer.py", "consumer.py", "glue_setup.py")
PRODUCT = [
    *(ROOT / name for name in SCRIPTS),
    *sorted((ROOT / "pipeline").rglob("*.py")),
    *sorted((ROOT / "dashboards").rglob("*.py")),
]
# Modules that compute and decide, and leave input and output to others.
PURE = {
    "records",
    "intervals",
    "sources/csv/dialects",
    "sources/csv/cells",
    "sources/csv/bars",
    "landing/block",
    "landing/buffer",
    "landing/lane",
    "landing/plan",
    "landing/positions",
    "sinks/lake/dead_letters",
    "sinks/lake/objects",
    "tables/catalog",
    "tables/resources",
    "sinks/dynamodb/items",
}


def imports(path: Path) -> set[str]:
    """Dotted names of all that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", PRODUCT, ids=name_of)
def test_product_code_does_not_know_the_embedded_stack(path: Path) -> None:
    """Product code knows an endpoint setting, never local/."""
    assert not [name for name in imports(path) if name.split(".")[0] == "local"]


@pytest.mark.parametrize("path", sorted((ROOT / "pipeline/sources").glob("*.py")), ids=name_of)
def test_sources_yield_and_know_nothing_of_sinks(path: Path) -> None:
    """A source imports no topic, lake, table or catalogue; only the scripts join the halves."""
    forbidden = {"topic", "group", "lake", "landing", "dynamodb", "catalog", "athena", "terminal"}
    assert not [name for name in imports(path) if name.startswith("pipeline.") and name.split(".")[1] in forbidden]


@pytest.mark.parametrize("module", sorted(PURE))
def test_pure_modules_do_no_input_or_output(module: str) -> None:
    """Pure modules import no client of a service and no file, socket or clock."""
    outside = {name.split(".")[0] for name in imports(ROOT / f"pipeline/{module}.py")}
    assert not outside & {
        "boto3",
        "botocore",
        "kafka",
        "requests",
        "s3fs",
        "socket",
        "subprocess",
        "time",
        "os",
        "random",
        "websockets",
    }


def test_records_and_settings_stand_at_the_bottom() -> None:
    """records.py and settings.py import nothing of ours."""
    for name in ("records", "settings"):
        assert not [found for found in imports(ROOT / f"pipeline/{name}.py") if found.startswith("pipeline")]


@pytest.mark.parametrize("path", sorted((ROOT / "local").rglob("*.py")), ids=name_of)
def test_the_embedded_stack_does_not_know_the_product(path: Path) -> None:
    """local/ imports nothing of the product."""
    assert not [
        name
        for name in imports(path)
        if name.split(".")[0] in ("pipeline", "dashboards", "producer", "consumer", "glue_setup")
    ]


@pytest.mark.parametrize(
    "path", [path for path in ROOT.glob("**/*.py") if not {".venv", ".local"} & set(path.parts)], ids=name_of
)
def test_files_fit_their_bounds(path: Path) -> None:
    """No file is longer than 400 lines and no function than 70."""
    text = path.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno <= 70, node.name


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
