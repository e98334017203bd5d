"""How much memory the embedded Trino takes of machines of all sizes."""

from pathlib import Path

import pytest

from local import StackError
from local.memory import TrinoMemory, machine_bytes, trino_memory, way_out

GB = 2**30


@pytest.mark.parametrize(
    ("machine_gb", "heap_mb", "query_mb"),
    [(2, 1024, 192), (4, 1024, 192), (8, 2048, 1024), (16, 4096, 2048), (24, 6144, 3072), (64, 8192, 4096)],
)
def test_memory_follows_the_machine(machine_gb: int, heap_mb: int, query_mb: int) -> None:
    """The heap is a quarter of the machine between 1 and 8 GB, one query has up to half of it, and Trino's own check
    holds: a query and the headroom fit into the heap.
    """
    memory = trino_memory(machine_gb * GB)
    assert (memory.heap_mb, memory.query_mb) == (heap_mb, query_mb)
    assert memory.query_mb <= memory.pool_mb
    assert memory.pool_mb + memory.headroom_mb == memory.heap_mb
    assert isinstance(memory, TrinoMemory)


@pytest.mark.parametrize("name", ["memory.max", "memory/memory.limit_in_bytes"])
def test_the_limit_of_a_container_counts(tmp_path: Path, name: str) -> None:
    """In a container the memory is what its control group allows, in both versions; `max` is no limit."""
    file = tmp_path / "sys/fs/cgroup" / name
    file.parent.mkdir(parents=True)
    file.write_text("max\n")
    whole = machine_bytes({}, tmp_path)
    assert whole > 2**28
    file.write_text(f"{whole // 2}\n")
    assert machine_bytes({}, tmp_path) == whole // 2
    file.write_text("9223372036854771712\n")
    assert machine_bytes({}, tmp_path) == whole


def test_memory_can_be_given(tmp_path: Path) -> None:
    """LOCAL_STACK_MEMORY_GB wins over what the machine has, and anything but a number of gigabytes is refused."""
    assert machine_bytes({"LOCAL_STACK_MEMORY_GB": "4"}, tmp_path) == 4 * GB
    assert machine_bytes({"LOCAL_STACK_MEMORY_GB": " "}, tmp_path) == machine_bytes({}, tmp_path)
    for wrong in ("many", "0", "-1", "nan", "4096.5"):
        with pytest.raises(StackError, match="LOCAL_STACK_MEMORY_GB"):
            machine_bytes({"LOCAL_STACK_MEMORY_GB": wrong}, tmp_path)


def test_the_way_out_fits_the_failure() -> None:
    """Too little memory names the setting, a full disk the disk, and any other failure gets nothing."""
    assert "LOCAL_STACK_MEMORY_GB" in way_out("EXCEEDED_LOCAL_MEMORY_LIMIT")
    assert "disk" in way_out("GENERIC_SPILL_FAILURE")
    assert way_out("SYNTAX_ERROR") == way_out(None) == ""
