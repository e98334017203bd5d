"""kafka-python's private parts: reached by one module, behind one gate that shuts."""

import ast
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import kafka
import pytest
from kafka import errors as kafka_errors

from pipeline.streams.kafka import compatibility

ROOT = Path(__file__).parent.parent.parent
KAFKA = ROOT / "pipeline/streams/kafka"
# The classes of kafka-python that are made to be derived from.
MADE_FOR_IT = {"ConsumerRebalanceListener"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def private_parts(text: str) -> list[str]:
    """Every attribute with a leading underscore that is not the object's or class's own."""
    return [
        f"{ast.unparse(node)} in line {node.lineno}"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.endswith("__")
        and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    ]


def derived_classes(text: str) -> list[str]:
    """The classes that derive from one imported from kafka-python: through them, `self` has its private parts."""
    tree, imported = ast.parse(text), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "kafka":
            imported |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            imported |= {alias.asname or "kafka" for alias in node.names if alias.name.split(".")[0] == "kafka"}
    return [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for kind in node.bases
        if ast.unparse(kind).split(".")[0] in imported - MADE_FOR_IT
    ]


@pytest.mark.parametrize("path", sorted(KAFKA.glob("*.py")), ids=name_of)
def test_private_parts_are_reached_by_one_module(path: Path) -> None:
    """Of the modules that import kafka-python only compatibility.py touches its objects' private attributes, or derives
    from its classes.
    """
    text = path.read_text()
    if path.name == "compatibility.py":
        assert private_parts(text)
        assert derived_classes(text)
    else:
        assert (private_parts(text), derived_classes(text)) == ([], [])


def test_the_pinned_version_is_the_tested_one() -> None:
    """requirements.txt pins the version that compatibility.py was tested with, and that is the one these tests run."""
    assert f"kafka-python=={compatibility.TESTED_VERSION} " in (ROOT / "requirements.txt").read_text()
    assert kafka.__version__ == compatibility.TESTED_VERSION


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A gate that has not been asked yet, before the test and after it."""
    compatibility.is_open.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    compatibility.is_open.cache_clear()


@pytest.fixture(params=["version", "switch"])
def shut(fresh: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A gate shut by another version, or by the switch."""
    if request.param == "version":
        fresh.setattr(kafka, "__version__", "3.1.0")
    else:
        fresh.setenv(compatibility.SWITCH, "off")


@pytest.mark.usefixtures("fresh")
def test_the_gate_is_open(caplog: pytest.LogCaptureFixture) -> None:
    """With the tested version, and no switch, private parts are used and nothing is logged."""
    assert compatibility.is_open()
    assert not caplog.records


@pytest.mark.usefixtures("shut")
def test_all_of_it_steps_aside(caplog: pytest.LogCaptureFixture) -> None:
    """Behind a shut gate no object is touched, and one log line says so however often it is asked."""
    untouchable = SimpleNamespace(close=lambda timeout: None, describe_cluster=lambda: {"brokers": []})
    error = kafka_errors.KafkaTimeoutError("late")
    with caplog.at_level(logging.WARNING):
        assert not compatibility.read_in_blocks(untouchable)
        assert not compatibility.request_to_join(untouchable)
        compatibility.ask_for_metadata_again_after(untouchable, 20)
        assert compatibility.cause(untouchable, error) is error
        compatibility.give_up(untouchable)
        assert compatibility.advertised_brokers(untouchable) == []
    assert [record.getMessage() for record in caplog.records] == [
        "kafka-python's private parts are not used: slower, and as correct"
    ]
    assert not hasattr(untouchable, "_fetcher")


@pytest.mark.usefixtures("shut")
def test_a_shut_gate_leaves_the_decoder_alone() -> None:
    """A consumer keeps kafka-python's fetcher."""
    consumer = SimpleNamespace(_fetcher=object())
    compatibility.read_in_blocks(consumer)
    assert type(consumer._fetcher) is object


@pytest.mark.usefixtures("shut")
@pytest.mark.parametrize(
    "cause", [kafka_errors.ProducerFencedError(), kafka_errors.InvalidProducerEpochError("[Error 47] old"), None]
)
def test_a_cause_is_read_from_the_text(cause: Exception | None) -> None:
    """Why a producer is in its error state is in kafka-python's own words; without any, the error is the cause."""
    text = f"Cannot execute transactional method because we are in an error state: {cause}"
    error = kafka_errors.KafkaError(text if cause else "something else")
    found = compatibility.cause(SimpleNamespace(), error)
    assert type(found) is type(cause or error)
