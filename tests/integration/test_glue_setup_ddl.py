"""CREATE EXTERNAL TABLE as `glue_setup.py show --ddl` prints it, read by Hive's own parser: Athena's DDL is Hive's,
which Trino does not speak. PySpark's jars hold the parser of Hive 2.3.9.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pyspark
import pytest
from py4j.java_gateway import JavaGateway
from py4j.protocol import Py4JJavaError
from spark_java import java_home

from pipeline.settings import Settings
from pipeline.tables import catalog
from pipeline.tables.catalog import CURATED, Landing, TableInput

SETTINGS = Settings(s3_bucket="lake", s3_prefix="stocks", glue_database="db")
TABLES = [
    *(
        catalog.raw_table(SETTINGS, record, Landing(first_day="2026-01-01", format=form, has_hours=record == "ticks"))
        for record in CURATED
        for form in ("json", "csv", "parquet")
    ),
    catalog.dead_letters(SETTINGS, ["a", "b"], "2026-01-01"),
    *(catalog.curated_table(SETTINGS, record) for record in CURATED),
]


@pytest.fixture(scope="module")
def parse() -> Iterator[Callable[[str], str]]:
    """Hive's parser; it raises for what Hive would refuse."""
    jars = Path(pyspark.__file__).parent / "jars/*"
    gateway = JavaGateway.launch_gateway(classpath=str(jars), java_path=str(java_home() / "bin/java"), die_on_exit=True)
    yield lambda ddl: gateway.jvm.org.apache.hadoop.hive.ql.parse.ParseDriver().parse(ddl).toStringTree()
    gateway.shutdown()


@pytest.mark.parametrize("table", TABLES, ids=lambda table: f"{table['Name']}-{table['Parameters']['classification']}")
def test_hive_reads_the_statement(parse: Callable[[str], str], table: TableInput) -> None:
    """Hive's parser takes the statement, and finds every column, partition column and property in it."""
    tree = parse(catalog.ddl("db", table))
    for column in table["StorageDescriptor"]["Columns"]:
        assert f"(tok_tabcol `{column['Name']}` tok_{column['Type']} " in tree
    for column in table["PartitionKeys"]:
        assert f"`{column['Name']}`" in tree
    for name in table["Parameters"].keys() - {"EXTERNAL"}:
        assert f"'{name}'" in tree


PLANTED = {
    "a missing backtick": ("`time`", "`time"),
    "a reserved word": ("`interval` string", "interval string"),
    "a missing comma": ("string COMMENT 'day", "string COMMENT 'day' 'x"),
    "an unknown type": ("double", "dooble"),
    "SERDE without a name": ("ROW FORMAT SERDE '", "ROW FORMAT SERDE "),
    "properties without parentheses": ("TBLPROPERTIES (", "TBLPROPERTIES "),
    "a swapped clause": ("LOCATION '", "TBLPROPERTIES ('a' = 'b') LOCATION '"),
    "an unclosed list": ("\n)\nCOMMENT", "\nCOMMENT"),
}


@pytest.mark.parametrize("error", list(PLANTED))
def test_hive_refuses_a_planted_error(parse: Callable[[str], str], error: str) -> None:
    """The parser is one that refuses: it finds each error planted into a good statement."""
    good = catalog.ddl("db", TABLES[0])
    bad = good.replace(*PLANTED[error], 1)
    assert bad != good
    with pytest.raises(Py4JJavaError, match="ParseException"):
        parse(bad)
