"""Where things lie in the bucket. This is the one place that spells its folders; all of them lie below S3_PREFIX.

    raw/<table>/dt=YYYY-MM-DD[/hour=HH]/    what was landed, as it came
    dead_letter/<topic>/dt=YYYY-MM-DD/      records that broke their definition
    curated/<table>/                        what the ETL wrote, a folder a run
    curated/_runs/<table>/                  notes of those runs
    retractions/                            what was taken back, an object each
    etl/                                    the Glue job's files
    athena-results/                         results of queries

`root` is Settings.s3_root: empty, or ending in a slash. Every folder ends in a slash.
"""


def raw_folder(root: str, table: str = "") -> str:
    """The folder of a raw table, or of all of them."""
    return f"{root}raw/{_inside(table)}"


def dead_letter_folder(root: str, topic: str = "") -> str:
    """The folder of a topic's dead letters, or of all of them."""
    return f"{root}dead_letter/{_inside(topic)}"


def curated_folder(root: str, table: str = "") -> str:
    """The folder of a curated table, or of all of them with their notes."""
    return f"{root}curated/{_inside(table)}"


def run_notes_folder(root: str, table: str) -> str:
    """The folder of the notes of a curated table's ETL runs."""
    return f"{curated_folder(root)}_runs/{_inside(table)}"


def etl_folder(root: str) -> str:
    """The folder of the Glue job's files."""
    return f"{root}etl/"


def results_folder(root: str) -> str:
    """The folder of Athena's results where ATHENA_OUTPUT names no other."""
    return f"{root}athena-results/"


def retractions_folder(root: str) -> str:
    """The folder of what was taken back."""
    return f"{root}retractions/"


def folders(root: str) -> list[str]:
    """Every folder of a lake."""
    return [
        *(raw_folder(root), dead_letter_folder(root), curated_folder(root), retractions_folder(root)),
        *(etl_folder(root), results_folder(root)),
    ]


def _inside(name: str) -> str:
    return f"{name}/" if name else ""
