"""What commands say before they do what cannot work, and of what they find nothing."""

from collections.abc import Callable
from pathlib import Path

from raw_objects import bar, land, set_up

from pipeline.settings import Settings


def test_queries_are_checked_before_they_are_run(
    run: Callable, settings: Settings, tmp_path: Path, credentials: None
) -> None:
    """Places that cannot be written and an empty statement are wrong use; dates in JSON are days."""
    set_up(settings)
    land(settings, "bars", [bar("A", "2026-01-05", 1.5)])
    (tmp_path / "file").write_text("")
    for arguments, told in (
        (["closing_trend", "--csv", f"{tmp_path}/file/x.csv"], "file is a file, not a folder"),
        (["closing_trend", "daily_bars", "--csv", f"{tmp_path}/one.csv"], "2 queries need a folder"),
        (["--sql", " "], "--sql: is empty"),
    ):
        refused = run("-m", "pipeline.athena", *arguments)
        assert (refused.returncode, told in refused.stderr) == (2, True), refused.stderr
    asked = run("-m", "pipeline.athena", "closing_trend", "--json", "-")
    assert '"day": "2026-01-05"' in asked.stdout
    assert "1 row, " in asked.stderr


def test_idle_workers_are_told(run: Callable, settings: Settings) -> None:
    """Workers beyond the partitions are told; a port that is taken is one line, and the log says how a run goes on."""
    prices = Path(__file__).parents[2] / "samples/daily_prices.csv"
    assert run("producer.py", "replay", str(prices), KAFKA_PARTITIONS="1").returncode == 0
    done = run("consumer.py", "--until-caught-up", "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert "more workers than partitions" in done.stderr
    assert "until caught up, then stop" in done.stderr
    port = settings.kafka_bootstrap_servers.rpartition(":")[2]
    taken = run("consumer.py", "--until-caught-up", "--metrics-port", port)
    assert taken.returncode == 1
    assert taken.stderr.splitlines()[-1].startswith(f"error: --metrics-port {port}: cannot listen there")
