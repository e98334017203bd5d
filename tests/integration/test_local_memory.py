"""The embedded Trino of a small machine: what does not fit into memory goes to disk, and what cannot says so."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.memory import VARIABLE
from local.stack import Stack
from pipeline.athena.client import Athena, QueryFailed
from pipeline.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]
ROWS = 3_000_000
# Three million rows of a hundred bytes and more, each twice in a group: they fit into no query of 192 MB.
MANY = f"""SELECT row_number() OVER (PARTITION BY n / 2 ORDER BY text) AS place, n
FROM (SELECT n, lpad(to_hex(md5(CAST(CAST(n AS varchar) AS varbinary))), 64, 'x') AS text
      FROM UNNEST(sequence(1, 3000)) AS a (x) CROSS JOIN UNNEST(sequence(1, {ROWS // 3000})) AS b (y)
      CROSS JOIN LATERAL (SELECT (x - 1) * {ROWS // 3000} + y - 1 AS n))"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack of a machine of 4 GB, without Kafka."""
    own = Stack(tmp_path_factory.mktemp("small"))
    command = [sys.executable, "-m", "local", "up", "--only", "trino,aws"]
    environment = os.environ | {"LOCAL_STACK_DIR": str(own.state.folder), VARIABLE: "4"}
    subprocess.run(command, env=environment, cwd=ROOT, check=True, timeout=180)
    yield own
    own.down(wipe=True)


@pytest.fixture(scope="module")
def athena(small: Stack) -> Athena:
    """Athena of that stack, by its default workgroup, with a place for results."""
    from raw_objects import set_up
    from stack_client import client

    client(small, "s3").create_bucket(Bucket=small.environment()["S3_BUCKET"])
    own = f"small_{uuid.uuid4().hex[:8]}"
    names = {"GLUE_DATABASE": own, "ATHENA_WORKGROUP": own}
    settings = load_settings(environ=small.environment() | names, config_file="/dev/null")
    set_up(settings)
    return Athena(settings)


def test_status_says_what_there_is(small: Stack) -> None:
    """`python -m local status` says which memory the engine has, and that the disk comes after it."""
    done = subprocess.run(
        [sys.executable, "-m", "local", "status", "--only", "trino"],
        env=os.environ | {"LOCAL_STACK_DIR": str(small.state.folder)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "Trino 476, heap up to 1,024 MB, a query up to 192 MB, then disk" in done.stdout


def test_large_window_goes_to_disk(small: Stack, athena: Athena) -> None:
    """A window over more rows than a query may hold in memory gives the right rows, and leaves no file behind."""
    rows = athena.query(f"SELECT count(*) AS n, sum(place) AS total FROM ({MANY})")
    assert (rows["n"][0], rows["total"][0]) == (ROWS, ROWS // 2 * 3)
    spill = small.state.data("trino") / "spill"
    assert spill.is_dir()
    assert list(spill.iterdir()) == []


def test_query_that_is_too_large_names_the_way_out(athena: Athena) -> None:
    """What can go to no disk fails with the engine's limit, what to ask in its place, and how to give it more."""
    with pytest.raises(QueryFailed) as failed:
        athena.query(f"SELECT cardinality(array_agg(CAST(n AS varchar) || '{'x' * 80}')) AS n FROM ({MANY})")
    said = str(failed.value)
    assert "192MB" in said
    assert f"{VARIABLE}=<gigabytes>" in said
    assert "glue_setup.py etl" in said
    assert "WHERE month" in said
