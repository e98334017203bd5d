"""How much memory the embedded Trino may take, from what the machine has. Pure, except for machine_bytes."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from local import StackError

VARIABLE = "LOCAL_STACK_MEMORY_GB"
_MB = 2**20
_GB = 2**30
# Below 1 GB the server does not start; beyond 8 GB the serial collector's pauses are longer than a user's patience.
_LEAST_HEAP_MB, _MOST_HEAP_MB = 1024, 8192
# What Trino takes for itself: 768 MB held it and its queries of a few megabytes.
_OF_THE_SERVER_MB = 832


@dataclass(frozen=True)
class TrinoMemory:
    """Sizes in MB: the largest heap, the most that one query may hold, and what Trino leaves unplanned of the heap."""

    heap_mb: int
    query_mb: int
    headroom_mb: int

    @property
    def pool_mb(self) -> int:
        """What all queries may hold, what can go to disk included."""
        return self.heap_mb - self.headroom_mb


def trino_memory(machine_bytes: int) -> TrinoMemory:
    """Return a quarter of the machine's memory for the heap, and half of the heap for one query.

    The rest is for Kafka, the local AWS, the scripts, and for the file cache that S3's objects are read through. A
    query of a small heap has what the server leaves.
    """
    heap_mb = min(max(machine_bytes // 4 // _MB, _LEAST_HEAP_MB), _MOST_HEAP_MB)
    query_mb = min(heap_mb // 2, heap_mb - _OF_THE_SERVER_MB)
    return TrinoMemory(heap_mb, query_mb, max(heap_mb // 4, 512))


def machine_bytes(environ: Mapping[str, str] = os.environ, root: Path = Path("/")) -> int:
    """Return the memory that this process may count on: LOCAL_STACK_MEMORY_GB, or the machine's, or the limit of its
    container. Raises StackError.
    """
    if given := environ.get(VARIABLE, "").strip():
        try:
            wanted = float(given)
        except ValueError:
            wanted = 0.0
        if not 1 <= wanted <= 4096:
            raise StackError(f"{VARIABLE}={given!r} is not a number of gigabytes from 1 to 4096.")
        return int(wanted * _GB)
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # The limit of a container, in version 2 and version 1 of Linux's control groups; `max` or a huge number is none.
    files = (root / "sys/fs/cgroup/memory.max", root / "sys/fs/cgroup/memory/memory.limit_in_bytes")
    texts = [file.read_text(encoding="ascii").strip() for file in files if file.is_file()]
    return min([physical, *(int(text) for text in texts if text.isdecimal())])


def way_out(error_name: str | None) -> str:
    """Return what only this stack's user can do about a query that was too large, for the end of Trino's message."""
    if error_name in ("EXCEEDED_LOCAL_MEMORY_LIMIT", "EXCEEDED_GLOBAL_MEMORY_LIMIT", "CLUSTER_OUT_OF_MEMORY"):
        return f". The embedded Trino takes more memory when it is started with {VARIABLE}=<gigabytes>"
    if error_name in ("EXCEEDED_SPILL_LIMIT", "GENERIC_SPILL_FAILURE", "OUT_OF_SPILL_SPACE"):
        return ". The embedded Trino spills into its data folder: free some disk space, or set LOCAL_STACK_DIR"
    return ""
