"""glue_setup.py on the embedded AWS: what it makes, what it leaves alone, what it takes away."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from raw_objects import TODAY, bar, curate, land, parameters_of, set_up, settings_of, table_of

from local.stack import Stack
from pipeline import aws
from pipeline.athena.client import Athena
from pipeline.athena.queries import queries
from pipeline.records import NewsItem
from pipeline.settings import ServiceError, Settings
from pipeline.tables import resources
from pipeline.tables.catalog import CURATED
from pipeline.tables.provision import Provision

NEWS = {
    "symbol": "A",
    "time": "2026-01-05 10:00:00.000",
    "publisher": "p",
    "source": "s",
    "ingested_at": "2026-01-05 11:00:00.000",
}


@pytest.fixture
def lake(stack: Stack, bucket: str) -> Settings:
    return settings_of(stack, bucket)


def query(settings: Settings, sql: str) -> Any:
    return Athena(settings).query(sql)


def test_second_run_changes_nothing(run: Callable, settings: Settings) -> None:
    """Run twice as a user does, the first run makes everything and the second changes nothing and says so."""
    own = {"GLUE_ROLE": f"role_{settings.glue_database}"}  # other tests of this run make the default one too
    first = run("glue_setup.py", "--with-roles", **own)
    assert first.returncode == 0, first.stderr
    for part in (
        "database",
        "table raw_bars",
        "view bars",
        "crawler",
        "role",
        "workgroup",
        "job",
        "saved query monthly_performance",
    ):
        assert f"created      {part}" in first.stdout
    second = run("glue_setup.py", "--with-roles", **own)
    assert second.returncode == 0, second.stderr
    assert second.stdout.splitlines()[-1] == "nothing changed"
    assert "created" not in second.stdout
    shown = run("glue_setup.py", "show", **own)
    assert (shown.returncode, "\nmissing " in shown.stdout) == (0, False)


def test_dry_run_makes_nothing(run: Callable, settings: Settings) -> None:
    """--dry-run prints the calls and makes none of them."""
    planned = run("glue_setup.py", "--dry-run", "--with-roles")
    assert planned.returncode == 0, planned.stderr
    assert "glue.create_database" in planned.stdout
    assert "CREATE OR REPLACE VIEW" in planned.stdout
    shown = run("glue_setup.py", "show")
    assert shown.returncode == 1
    assert f"missing      database {settings.glue_database}" in shown.stdout


def test_without_roles_the_policy_is_printed(run: Callable) -> None:
    """Without --with-roles no role is made; the policy that it would need is printed, and the rest works."""
    made = run("glue_setup.py", GLUE_ROLE="nobody_made_this")
    assert made.returncode == 0, made.stderr
    assert "skipped      crawler" in made.stdout
    assert '"glue:BatchUpdatePartition"' in made.stdout


def test_settings_mistakes_are_told_at_once(run: Callable) -> None:
    """Mistakes in the settings are told together, with exit code 2, before anything is contacted."""
    made = run("glue_setup.py", S3_BUCKET="", FIRST_DAY="yesterday", AWS_ENDPOINT_URL="http://127.0.0.1:1")
    assert made.returncode == 2
    assert "S3_BUCKET" in made.stderr
    assert "FIRST_DAY" in made.stderr


def test_unreachable_service_names_the_setting(run: Callable) -> None:
    """A service that cannot be reached is one line that names the setting, and exit code 1."""
    made = run("glue_setup.py", AWS_ENDPOINT_URL="http://127.0.0.1:1")
    assert made.returncode == 1
    assert "AWS_ENDPOINT_URL" in made.stderr
    assert "Traceback" not in made.stderr


def test_first_day_stays(lake: Settings) -> None:
    """The first day of the raw tables is that of the first set-up less a year, and another day's set-up leaves it."""
    set_up(lake, today=date(2026, 3, 1))
    assert table_of(lake, "raw_bars")["Parameters"]["projection.dt.range"] == "2025-03-01,NOW"
    assert set_up(lake, today=date(2026, 4, 1)) == []


def test_changed_definition_is_updated_in_place(lake: Settings) -> None:
    """A changed setting updates what depends on it, says what differs, and leaves parameters of others alone."""
    set_up(lake)
    glue = aws.client(lake, "glue")
    table = {
        name: value
        for name, value in table_of(lake, "raw_bars").items()
        if name in ("Name", "StorageDescriptor", "PartitionKeys", "TableType")
    }
    parameters = table_of(lake, "raw_bars")["Parameters"] | {"owner": "analysts"}
    glue.update_table(DatabaseName=lake.glue_database, TableInput=table | {"Parameters": parameters})
    changed = replace(lake, first_day="2020-01-01", athena_scan_limit_gb=7)
    made = {change.what: change for change in set_up(changed)}
    assert made["table raw_bars"].action == "update"
    assert "2020-01-01,NOW" in made["table raw_bars"].why
    assert f"workgroup {lake.athena_workgroup}" in made
    assert table_of(lake, "raw_bars")["Parameters"]["owner"] == "analysts"
    assert set_up(changed) == []


def test_view_changed_by_hand_is_put_right(lake: Settings) -> None:
    """A view that somebody replaced is seen as different and made again."""
    set_up(lake)
    query(lake, "CREATE OR REPLACE VIEW bars AS SELECT 1 AS one")
    assert [change.what for change in set_up(lake)] == ["view bars"]
    assert "close" in query(lake, "SELECT * FROM bars").columns


def test_error_half_way_is_completed_by_the_next_run(lake: Settings) -> None:
    """A set-up that dies after any of its parts is completed by the next one."""
    parts = sum(1 for _ in Provision(lake, today=TODAY, with_roles=True).changes())
    for stop_after in range(1, parts, 6):
        for number, change in enumerate(Provision(lake, today=TODAY, with_roles=True).changes()):
            if number == stop_after:
                break
            for call in change.calls:
                call.run()
    set_up(lake, with_roles=True)
    assert set_up(lake, with_roles=True) == []
    assert len(query(lake, "SELECT * FROM bars")) == 0


@pytest.mark.parametrize("form", ["json", "csv", "parquet"])
def test_every_form_gives_the_same_view(lake: Settings, form: str) -> None:
    """Landed as JSON, CSV or Parquet, a view gives the same rows, nulls, quotes and backslashes included."""
    bars = [
        bar("A", "2026-01-05", 10.5, company='Quote " and, comma'),
        bar("B", "2026-01-05", 11.5, vwap=11.25, trades=7, adjusted=True),
    ]
    news = [
        NewsItem(id="n", title='back\\slash, "quoted"', url="http://x/?a=1,2", sentiment="positive", **NEWS),
        NewsItem(id="m", title="", url="u", **NEWS),
    ]
    land(lake, "bars", bars, format=form)
    land(lake, "news", news, format=form)
    set_up(lake)
    rows = query(lake, 'SELECT symbol, company, time, vwap, trades, adjusted, "close", month FROM bars ORDER BY symbol')
    assert rows["company"].tolist() == ['Quote " and, comma', None]
    assert [str(time) for time in rows["time"]] == ["2026-01-05 00:00:00"] * 2
    assert (rows["vwap"][1], rows["trades"][1], rows["adjusted"][1], rows["close"].tolist()) == (
        11.25,
        7,
        True,
        [10.5, 11.5],
    )
    assert rows["vwap"].isna().tolist() == [True, False]
    assert rows["month"].tolist() == ["2026-01"] * 2
    items = query(lake, "SELECT id, title, sentiment FROM news ORDER BY id")
    assert items["title"][1] == 'back\\slash, "quoted"'
    assert items["sentiment"].tolist() == [None, "positive"]


def test_two_forms_in_one_place_are_refused(lake: Settings) -> None:
    """A folder with JSON and CSV cannot be one table: the error says which folder, and what to do."""
    land(lake, "bars", [bar("A", "2026-01-05", 1.0)])
    land(lake, "bars", [bar("B", "2026-01-05", 1.0)], format="csv", start=5)
    with pytest.raises(ServiceError, match=r"raw/bars/ holds csv and json.*prefix"):
        set_up(lake)


def test_latest_record_per_key(lake: Settings) -> None:
    """Of several records with one key the view shows the one ingested last, whatever the order in which they landed."""
    times = [f"2026-01-0{day} 00:00:00.000" for day in (2, 3, 1)]
    land(
        lake,
        "bars",
        [bar("A", "2026-01-05", close, ingested_at=time) for close, time in zip((2.0, 3.0, 1.0), times, strict=True)],
    )
    set_up(lake)
    assert query(lake, 'SELECT "close" FROM bars')["close"].tolist() == [3.0]


def test_event_folders_are_read_whole(lake: Settings) -> None:
    """With folders by the record's own time the view reads every day since FIRST_DAY, however long ago."""
    own = replace(lake, first_day=(TODAY - timedelta(days=40)).isoformat())
    day = (TODAY - timedelta(days=30)).isoformat()
    land(own, "bars", [bar("A", day, 1.0), bar("B", TODAY.isoformat(), 2.0)], partition_time="event")
    set_up(own)
    assert query(own, "SELECT symbol FROM bars ORDER BY symbol")["symbol"].tolist() == ["A", "B"]


def test_crawl_compares_with_the_declaration(run: Callable, settings: Settings) -> None:
    """`crawl` runs the crawler into its own database and says which columns it found otherwise than declared."""
    land(settings, "bars", [bar("A", "2026-01-05", 1.5)])
    assert run("glue_setup.py", "--with-roles").returncode == 0
    crawled = run("glue_setup.py", "crawl")
    assert crawled.returncode == 0, crawled.stderr
    assert f"{settings.glue_database}_crawled.bars" in crawled.stdout
    assert "vwap: declared as double, in no object" in crawled.stdout


def test_delete_takes_only_what_create_made(run: Callable, settings: Settings) -> None:
    """`delete` asks, then takes away what was made; a table of somebody else's stays, and so does its database, and the
    data.
    """
    land(settings, "bars", [bar("A", "2026-01-05", 1.0)])
    assert run("glue_setup.py", "--with-roles").returncode == 0
    glue = aws.client(settings, "glue")
    glue.create_table(
        DatabaseName=settings.glue_database, TableInput={"Name": "theirs", "StorageDescriptor": {"Columns": []}}
    )
    assert run("glue_setup.py", "delete").returncode == 1
    deleted = run("glue_setup.py", "delete", "--yes")
    assert deleted.returncode == 0, deleted.stderr
    assert "it has other tables: theirs" in deleted.stdout
    assert [table["Name"] for table in glue.get_tables(DatabaseName=settings.glue_database)["TableList"]] == ["theirs"]
    s3 = aws.client(settings, "s3")
    assert s3.list_objects_v2(Bucket=settings.s3_bucket, Prefix=f"{settings.s3_root}raw/")["KeyCount"] == 1
    emptied = run("glue_setup.py", "delete", "--yes", "--data", "--with-roles")
    assert emptied.returncode == 0, emptied.stderr
    assert s3.list_objects_v2(Bucket=settings.s3_bucket, Prefix=settings.s3_root)["KeyCount"] == 0
    assert (
        run("glue_setup.py", "delete", "--yes", "--data", "--with-roles").stdout.splitlines()[-1] == "nothing changed"
    )


def test_role_may_do_its_work_and_no_more(lake: Settings) -> None:
    """The role's policy allows what crawler and ETL do to this lake, and nothing to another bucket, table or
    workgroup.
    """
    iam = aws.client(lake, "iam")
    policy = json.dumps(resources.role_policy(lake, "123456789012"))
    bucket, glue = f"arn:aws:s3:::{lake.s3_bucket}", f"arn:aws:glue:{lake.aws_region}:123456789012"

    def may(action: str, resource: str) -> bool:
        answer = iam.simulate_custom_policy(PolicyInputList=[policy], ActionNames=[action], ResourceArns=[resource])
        return answer["EvaluationResults"][0]["EvalDecision"] == "allowed"

    assert may("s3:GetObject", f"{bucket}/{lake.s3_root}raw/bars/dt=2026-01-01/x.json.gz")
    assert may("s3:PutObject", f"{bucket}/{lake.s3_root}curated/bars/run=1/x.parquet")
    assert may("s3:GetObject", f"{bucket}/{lake.s3_root}etl/glue_job.py")
    assert may("glue:BatchUpdatePartition", f"{glue}:table/{lake.glue_database}/curated_bars")
    assert not may("s3:DeleteObject", f"{bucket}/{lake.s3_root}raw/bars/dt=2026-01-01/x.json.gz")
    assert not may("s3:GetObject", "arn:aws:s3:::another/x")
    assert not may("glue:DeleteTable", f"{glue}:table/another/table")
    assert not may("glue:DeleteDatabase", f"{glue}:database/{lake.glue_database}")


def test_saved_queries_follow_the_file(lake: Settings) -> None:
    """The workgroup's saved queries are the blocks of athena_queries.sql; one that was changed is replaced, never
    doubled.
    """
    set_up(lake)
    athena = aws.client(lake, "athena")

    def saved() -> dict[str, str]:
        ids = athena.list_named_queries(WorkGroup=lake.athena_workgroup)["NamedQueryIds"]
        return {
            query["Name"]: query["QueryString"]
            for query in athena.batch_get_named_query(NamedQueryIds=ids)["NamedQueries"]
        }

    assert saved() == {name: query.sql for name, query in queries().items()}
    query_id = athena.list_named_queries(WorkGroup=lake.athena_workgroup)["NamedQueryIds"][0]
    old = athena.get_named_query(NamedQueryId=query_id)["NamedQuery"]
    athena.delete_named_query(NamedQueryId=query_id)
    athena.create_named_query(
        Name=old["Name"], Database=old["Database"], QueryString="SELECT 1", WorkGroup=lake.athena_workgroup
    )
    assert [change.what for change in set_up(lake)] == [f"saved query {old['Name']}"]
    assert saved() == {name: query.sql for name, query in queries().items()}


def test_state_of_the_etl_survives_a_changed_definition(lake: Settings) -> None:
    """A set-up that updates a curated table leaves the ETL's watermark where it is."""
    land(lake, "bars", [bar("A", "2026-01-05", 1.0)])
    set_up(lake)
    curate(lake, now=datetime.now(UTC), run="one")
    before = parameters_of(lake, "bars")
    glue = aws.client(lake, "glue")
    for record in CURATED:
        table = {
            name: value
            for name, value in table_of(lake, f"curated_{record}").items()
            if name in ("Name", "StorageDescriptor", "PartitionKeys", "TableType", "Parameters")
        }
        glue.update_table(DatabaseName=lake.glue_database, TableInput=table | {"Description": "changed by hand"})
    assert len(set_up(lake)) == len(CURATED)
    assert parameters_of(lake, "bars") == before


def test_scripts_are_where_the_job_looks(lake: Settings) -> None:
    """The job's script, its modules and its configuration are in the bucket."""
    set_up(lake, with_roles=True)
    job = aws.client(lake, "glue").get_job(JobName=resources.job_name(lake))["Job"]
    s3 = aws.client(lake, "s3")
    for address in (
        job["Command"]["ScriptLocation"],
        job["DefaultArguments"]["--extra-py-files"],
        job["DefaultArguments"]["--configuration"],
    ):
        bucket, _, key = address.removeprefix("s3://").partition("/")
        assert s3.head_object(Bucket=bucket, Key=key)["ContentLength"] > 100, address


def test_tags_are_set_and_kept(lake: Settings) -> None:
    """AWS_TAGS come on what is made, a changed tag is changed, and tags of others stay."""
    own = replace(lake, s3_bucket=f"{lake.s3_bucket}-tags-{lake.glue_database.replace('_', '-')}", aws_tags="team=data")
    set_up(own, with_roles=True)
    s3 = aws.client(own, "s3")
    s3.put_bucket_tagging(
        Bucket=own.s3_bucket, Tagging={"TagSet": [{"Key": "theirs", "Value": "1"}, {"Key": "team", "Value": "data"}]}
    )
    assert set_up(own, with_roles=True) == []
    set_up(replace(own, aws_tags="team=prices"), with_roles=True)
    tags = {tag["Key"]: tag["Value"] for tag in s3.get_bucket_tagging(Bucket=own.s3_bucket)["TagSet"]}
    assert tags == {"theirs": "1", "team": "prices"}
    job = f"arn:aws:glue:{own.aws_region}:000000000000:job/{resources.job_name(own)}"
    assert aws.client(own, "glue").get_tags(ResourceArn=job)["Tags"]["team"] == "prices"


def test_etl_has_a_workgroup_that_lets_it_choose_the_place(lake: Settings) -> None:
    """Athena refuses a CREATE TABLE AS with a place of its own in a workgroup that enforces its output location."""
    set_up(lake)
    athena = aws.client(lake, "athena")
    enforced = {
        name: athena.get_work_group(WorkGroup=name)["WorkGroup"]["Configuration"]["EnforceWorkGroupConfiguration"]
        for name in (lake.athena_workgroup, resources.etl_workgroup_name(lake))
    }
    assert enforced == {lake.athena_workgroup: True, resources.etl_workgroup_name(lake): False}


def test_folders_of_months_are_seen(lake: Settings) -> None:
    """Landed by month, the view has what came today, though its folder bears the month's first day."""
    land(lake, "bars", [bar("A", "2026-01-05", 1.0)], partition_by="month")
    set_up(lake)
    curate(lake, now=datetime.now(UTC), run="one")
    land(lake, "bars", [bar("A", "2026-01-06", 2.0)], partition_by="month", start=5)
    assert len(query(lake, "SELECT * FROM bars")) == 2
