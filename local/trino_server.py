"""Trino 476, the engine that Athena v3 is built on, reading the emulator's Glue and S3."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

from local import aws_emulator, downloads
from local.memory import TrinoMemory, machine_bytes, trino_memory
from local.service import JAVA_COMMAND, Service, clean_environment, fetch
from local.state import State, read_json, write_whole

# What does not fit into a query's memory goes to disk, where Trino can do that: joins, aggregations, sorts and windows.
# A filter row_number() = 1 is planned as a ranking, which cannot; as a window it can. Without node.bind-ip and
# node.internal-address Trino listens on all interfaces. With static catalogs a fresh server refuses queries with
# NO_NODES_AVAILABLE for up to five seconds after it says that it has started, until it has heard of its own catalog
# from its own announcement; dynamic catalogs are on every node at once.
SERVER_SETTINGS = """\
coordinator=true
node-scheduler.include-coordinator=true
node.environment={environment}
node.id={environment}
node.bind-ip=127.0.0.1
node.internal-address=127.0.0.1
http-server.http.port={port}
discovery.uri=http://127.0.0.1:{port}
catalog.management=dynamic
catalog.store=file
plugin.dir={plugins}
query.max-memory={memory.query_mb}MB
query.max-memory-per-node={memory.query_mb}MB
query.max-total-memory={memory.pool_mb}MB
memory.heap-headroom-per-node={memory.headroom_mb}MB
spill-enabled=true
spiller-spill-path={spill}
spill-compression-codec=LZ4
memory-revoking-threshold=0.7
optimizer.optimize-top-n-ranking=false
"""

# The file's name is the catalog's name, and awsdatacatalog makes qualified names and views the same as in Athena.
# Parquet is the format of an Athena CTAS that names none. One segment of GetPartitions, because the emulator answers
# every segment with all partitions. ZSTD also for INSERT, which in Athena takes the codec that the table was made with.
CATALOG_SETTINGS = """\
connector.name=hive
hive.metastore=glue
hive.metastore.glue.region={region}
hive.metastore.glue.endpoint-url={endpoint}
hive.metastore.glue.aws-access-key={key}
hive.metastore.glue.aws-secret-key={key}
hive.metastore.glue.partitions-segments=1
hive.partition-projection-enabled=true
hive.recursive-directories=true
hive.non-managed-table-writes-enabled=true
hive.collect-column-statistics-on-write=false
hive.dynamic-filtering.wait-timeout=20s
hive.storage-format=PARQUET
hive.compression-codec=ZSTD
fs.native-s3.enabled=true
s3.region={region}
s3.endpoint={endpoint}
s3.aws-access-key={key}
s3.aws-secret-key={key}
s3.path-style-access=true
"""

# Trino's documentation recommends a jvm.config for servers that run for weeks over terabytes. This one runs for minutes
# over megabytes, and most of its CPU is the JVM's own: with the first compiler alone and the serial collector the start
# takes 8.4 s of CPU instead of 17.5 s, and the first report's queries 10 s instead of 20 s. A large heap costs nothing
# until it is used: the serial collector starts with a small one.
JVM_FLAGS = [
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:-OmitStackTraceInFastThrow",
    "-XX:ReservedCodeCacheSize=256M",
    "-Djdk.attach.allowAttachSelf=true",
    "-XX:+EnableDynamicAgentLoading",
    "--enable-native-access=ALL-UNNAMED",
]


def environment_name(state: State) -> str:
    """Trino's own name for a cluster, made from the state folder's identity, by which it is known to be ours."""
    return f"local_{state.identity().hex[:12]}"


def command(state: State, ports: dict[str, int], installation: Path | None) -> list[str]:
    """Run the server's Java class, as Trino's own launcher program does, with one process less in between."""
    assert installation is not None
    folder = state.data("trino")
    # Where Trino looks, relative to the folder it is started in, which is the service's data folder.
    catalogs = folder / "etc" / "catalog"
    catalogs.mkdir(parents=True, exist_ok=True)
    memory = trino_memory(machine_bytes())
    # What a server that was killed has spilled is of no use to the next.
    spill = folder / "spill"
    shutil.rmtree(spill, ignore_errors=True)
    spill.mkdir()
    write_whole(folder / "memory.json", json.dumps(asdict(memory)))
    write_whole(
        folder / "config.properties",
        SERVER_SETTINGS.format(
            environment=environment_name(state),
            port=ports["trino"],
            plugins=installation / "plugin",
            memory=memory,
            spill=spill,
        ),
    )
    write_whole(
        catalogs / "awsdatacatalog.properties",
        CATALOG_SETTINGS.format(
            region=aws_emulator.REGION, endpoint=aws_emulator.endpoint(ports), key=aws_emulator.TEST_KEY
        ),
    )
    return [
        *JAVA_COMMAND,
        f"-Xmx{memory.heap_mb}m",
        *JVM_FLAGS,
        f"-Dconfig={folder / 'config.properties'}",
        "-cp",
        f"{installation / 'lib'}/*",
        "io.trino.server.TrinoServer",
    ]


def detail(state: State) -> str:
    """Return what the server that runs, or ran last, was given."""
    found = read_json(state.data("trino") / "memory.json")
    if not found:
        return ""
    memory = TrinoMemory(**found)
    return f"heap up to {memory.heap_mb:,} MB, a query up to {memory.query_mb:,} MB, then disk"


def is_ready(state: State, ports: dict[str, int]) -> bool:
    try:
        info = json.loads(fetch(f"http://127.0.0.1:{ports['trino']}/v1/info"))
    except (OSError, ValueError):
        return False
    return info.get("environment") == environment_name(state) and info.get("starting") is False


SERVICE = Service(
    name="trino",
    title="Trino 476",
    listeners=("trino",),
    depends_on=("aws",),
    product=downloads.TRINO,
    command=command,
    environment=lambda _state, _ports: clean_environment(),
    is_ready=is_ready,
    detail=detail,
    start_timeout_seconds=120,
)
