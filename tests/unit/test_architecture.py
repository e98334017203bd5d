"""The shape of the tree: who imports whom, and how long things are."""

import ast
import re
import statistics
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SCRIPTS = ("producer.py", "consumer.py", "glue_setup.py")

# The house from the ground up: each room, and the rooms that it may import beside itself. A file belongs to the longest
# name here that its own begins with, and a file that belongs to none has no place in the product.
GROUND = ["pipeline.records", "pipeline.settings", "pipeline.bucket", "pipeline.spreadsheet", "pipeline.intervals"]
GROUND += ["pipeline.terminal", "pipeline.aws", "pipeline.sessions"]
PIPELINE = [*GROUND, "pipeline.landing", "pipeline.sources", "pipeline.streams", "pipeline.sinks", "pipeline.athena"]
PIPELINE += ["pipeline.tables", "pipeline.process", "pipeline.doctor", "pipeline.dynamodb", "pipeline.coverage", "etl"]
LAYERS: dict[str, list[str]] = {
    "pipeline": [],  # pipeline/__init__.py
    "pipeline.records": [],
    "pipeline.bucket": [],
    "pipeline.spreadsheet": [],
    "pipeline.settings": ["pipeline.bucket"],
    "pipeline.sessions": ["pipeline.settings"],
    "pipeline.intervals": ["pipeline.records", "pipeline.sessions"],
    "pipeline.terminal": ["pipeline.settings"],
    "pipeline.aws": ["pipeline.settings"],
    "pipeline.landing": GROUND,
    "pipeline.sources": GROUND,
    "pipeline.streams": [*GROUND, "pipeline.landing"],
    "pipeline.sinks": [*GROUND, "pipeline.landing"],
    "pipeline.process": [*GROUND, "pipeline.landing"],
    "pipeline.athena": GROUND,
    "etl": [],
    "pipeline.tables": [*GROUND, "pipeline.landing", "pipeline.athena", "etl"],
    "pipeline.coverage": [*GROUND, "pipeline.sources", "pipeline.streams", "pipeline.athena"],
    "pipeline.dynamodb": [*GROUND, "pipeline.sinks"],
    "pipeline.doctor": [
        *(*GROUND, "pipeline.landing", "pipeline.streams", "pipeline.athena", "pipeline.tables", "pipeline.coverage")
    ],
    "dashboards": PIPELINE,
    "deploy": [*PIPELINE, "dashboards"],
    "producer": PIPELINE,
    "consumer": PIPELINE,
    "glue_setup": PIPELINE,
}
PRODUCT = [
    *(ROOT / name for name in SCRIPTS),
    *(path for folder in ("pipeline", "etl", "dashboards", "deploy") for path in sorted((ROOT / folder).rglob("*.py"))),
]
OURS = {"pipeline", "etl", "dashboards", "deploy", "local", "tests", "benchmarks", "producer", "consumer", "glue_setup"}
# Rooms that compute and decide, and leave input and output to others.
PURE = {
    *(
        "pipeline/records.py",
        "pipeline/intervals.py",
        "pipeline/sessions.py",
        "pipeline/bucket.py",
        "pipeline/spreadsheet.py",
        "pipeline/landing",
    ),
    *("pipeline/sources/csv/dialects.py", "pipeline/sources/csv/cells.py", "pipeline/sources/csv/bars.py"),
    "pipeline/sources/csv/clock.py",
    *(
        "pipeline/sources/due.py",
        "pipeline/sources/progress.py",
        "pipeline/sources/asked.py",
        "pipeline/sources/gaps.py",
    ),
    *("pipeline/coverage/covered.py", "pipeline/coverage/output.py"),
    *("pipeline/tables/catalog.py", "pipeline/tables/resources.py", "pipeline/sinks/dynamodb/items.py"),
    *("pipeline/sinks/checks.py", "pipeline/sinks/lake/objects.py", "pipeline/sinks/lake/dead_letters.py"),
}
EFFECTS = {
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
LONGEST_FILE, LONGEST_FUNCTION, LONGEST_MEDIAN = 400, 70, 12


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


def room_of(dotted: str) -> str | None:
    """The longest room of LAYERS that a dotted name lies in."""
    words = dotted.split(".")
    return next((".".join(words[:n]) for n in range(len(words), 0, -1) if ".".join(words[:n]) in LAYERS), None)


@pytest.mark.parametrize("path", PRODUCT, ids=name_of)
def test_imports_run_down_the_house(path: Path) -> None:
    """A file imports its own room and the rooms below it, as LAYERS has them, and nothing else of this project."""
    room = room_of(name_of(path).removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    assert room is not None, "this file lies in no room of LAYERS"
    found = {name: room_of(name) for name in imports(path) if name.split(".")[0] in OURS}
    assert not {name for name, other in found.items() if other not in (room, *LAYERS[room])}


def test_no_room_imports_one_above_it() -> None:
    """The rows of LAYERS go from the ground up, so the house has no circle."""
    rooms = list(LAYERS)
    allowed = [(room, below) for room, others in LAYERS.items() for below in others]
    assert not [(room, below) for room, below in allowed if rooms.index(below) > rooms.index(room)]
    assert not [below for _, below in allowed if below not in LAYERS]


def test_only_the_kafka_room_imports_the_client() -> None:
    """kafka-python is imported in pipeline/streams/kafka alone."""
    users = [name_of(path) for path in PRODUCT if any(name.split(".")[0] == "kafka" for name in imports(path))]
    assert users
    assert not [name for name in users if not name.startswith("pipeline/streams/kafka/")]


@pytest.mark.parametrize("place", sorted(PURE))
def test_pure_rooms_do_no_input_or_output(place: str) -> None:
    """Pure rooms import no client of a service and no file, socket or clock."""
    files = sorted((ROOT / place).rglob("*.py")) or [ROOT / place]
    assert not {name for path in files for name in imports(path) if name.split(".")[0] in EFFECTS}


@pytest.mark.parametrize("path", sorted((ROOT / "local").rglob("*.py")), ids=name_of)
def test_the_embedded_stack_does_not_know_the_product(path: Path) -> None:
    """local/ imports nothing of the product."""
    assert not [name for name in imports(path) if name.split(".")[0] in OURS - {"local"}]


def sources_of_the_tree() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return [ROOT / name for name in listed.stdout.split("\n") if name and (ROOT / name).is_file()]


def functions(path: Path) -> list[tuple[str, int]]:
    """Each function of a file with its number of lines."""
    found = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [(f"{name_of(path)}:{node.lineno} {node.name}", (node.end_lineno or 0) - node.lineno + 1) for node in found]


def test_files_and_functions_fit_their_bounds() -> None:
    """No file is longer than 400 lines, no function than 70, and the median function of the product has at most 12."""
    files = sources_of_the_tree()
    assert len(files) > 100
    assert not [name_of(path) for path in files if path.read_text().count("\n") > LONGEST_FILE]
    assert not [name for path in files for name, lines in functions(path) if lines > LONGEST_FUNCTION]
    assert statistics.median(lines for path in PRODUCT for _, lines in functions(path)) <= LONGEST_MEDIAN


def test_nothing_escapes_the_formatter() -> None:
    """`fmt: off` and `fmt: skip` stand around tables of data only: with no function in them."""
    for path in sources_of_the_tree():
        if path == Path(__file__):
            continue
        for part in re.findall(r"# fmt: off(.*?)(?:# fmt: on|\Z)", path.read_text(), re.DOTALL):
            assert not re.search(r"^\s*(def|class|for|while|if|with) ", part, re.MULTILINE), name_of(path)
        assert "fmt: skip" not in path.read_text(), name_of(path)
