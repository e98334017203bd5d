"""settings.py: where a value comes from, and what is wrong with it."""

from dataclasses import fields
from pathlib import Path

import pytest

from pipeline.settings import Settings, SettingsError, example, load_settings

ROOT = Path(__file__).parent.parent.parent


def test_order_of_sources(tmp_path: Path) -> None:
    """The command line wins over the environment, the environment over config.env, config.env over the default."""
    config = tmp_path / "config.env"
    config.write_text("KAFKA_GROUP=file\nS3_BUCKET=file-bucket\nGLUE_DATABASE=file_database\n")
    settings = load_settings(
        {"kafka_group": "line", "s3_bucket": None},
        environ={"KAFKA_GROUP": "env", "S3_BUCKET": "env-bucket"},
        config_file=config,
    )
    assert (settings.kafka_group, settings.s3_bucket, settings.glue_database) == ("line", "env-bucket", "file_database")
    assert settings.kafka_topic_bars == "stock_bars"


def test_every_mistake_at_once() -> None:
    """All mistakes are reported together, each with the setting's name and the value."""
    environ = {
        "KAFKA_BOOTSTRAP_SERVERS": "kafka",
        "KAFKA_PARTITIONS": "many",
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "S3_BUCKET": "No_Bucket",
        "KAFKA_SSL_CAFILE": "/nowhere/ca.pem",
        "ATHENA_OUTPUT": "bucket/results",
        "LOG_LEVEL": "LOUD",
    }
    with pytest.raises(SettingsError) as caught:
        load_settings(environ=environ, config_file="/dev/null", required=["polygon_api_key"])
    assert [mistake.split(":")[0] for mistake in caught.value.mistakes] == [
        "KAFKA_PARTITIONS",
        "LOG_LEVEL",
        "KAFKA_BOOTSTRAP_SERVERS",
        "KAFKA_SASL_MECHANISM",
        "KAFKA_SSL_CAFILE",
        "S3_BUCKET",
        "ATHENA_OUTPUT",
        "POLYGON_API_KEY",
    ]


def test_secrets_are_not_shown() -> None:
    """Neither the settings' text nor a mistake shows a password or a key."""
    settings = load_settings(
        environ={"POLYGON_API_KEY": "hunter2", "KAFKA_SASL_PASSWORD": "hunter3"}, config_file="/dev/null"
    )
    assert settings.polygon_api_key == "hunter2"
    assert "hunter" not in repr(settings)


def test_example_file_is_complete() -> None:
    """config.env.example holds every setting with its default; `python -m pipeline.settings` writes it."""
    assert (ROOT / "config.env.example").read_text() == example()
    assert load_settings(environ={}, config_file=ROOT / "config.env.example") == load_settings(
        environ={}, config_file="/dev/null"
    )


def test_region_by_either_name() -> None:
    """AWS_DEFAULT_REGION, the name that boto3 reads, serves where AWS_REGION is not set."""
    assert load_settings(environ={"AWS_DEFAULT_REGION": "eu-west-1"}, config_file="/dev/null").aws_region == "eu-west-1"
    both = {"AWS_DEFAULT_REGION": "eu-west-1", "AWS_REGION": "us-west-2"}
    assert load_settings(environ=both, config_file="/dev/null").aws_region == "us-west-2"


@pytest.mark.parametrize(("prefix", "root"), [("", ""), ("lake", "lake/"), ("/lake/v2/", "lake/v2/")])
def test_prefix_as_start_of_a_key(prefix: str, root: str) -> None:
    """However the prefix is written, keys begin with it and a single slash."""
    assert load_settings(environ={"S3_PREFIX": prefix}, config_file="/dev/null").s3_root == root


def test_an_environment_names_everything() -> None:
    """STOCK_ENV gives prefix, database, workgroup, role, group, topics and table the environment's name, on top of what
    they are set to; what the command line says stays as it is.
    """
    environ = {"STOCK_ENV": "dev", "S3_PREFIX": "lake/", "KAFKA_GROUP": "landing", "S3_BUCKET": "one-for-all"}
    settings = load_settings({"kafka_topic_ticks": "mine"}, environ=environ, config_file="/dev/null")
    changed = {
        setting.name: getattr(settings, setting.name)
        for setting in fields(Settings)
        if getattr(settings, setting.name) != setting.default
    }
    assert changed == {
        "stock_env": "dev",
        "s3_bucket": "one-for-all",
        "s3_prefix": "lake/dev",
        "glue_database": "stock_market_dev",
        "athena_workgroup": "stock_market_dev",
        "glue_role": "stock_market_glue_dev",
        "kafka_group": "landing_dev",
        "dynamodb_table": "StockMkt_dev",
        "kafka_topic_bars": "dev_stock_bars",
        "kafka_topic_ticks": "mine",
        "kafka_topic_news": "dev_stock_news",
        "kafka_topic_dead_letters": "dev_stock_dead_letters",
        "kafka_topic_checkpoints": "dev_stock_checkpoints",
    }


@pytest.mark.parametrize("name", ["Dev", "a b", "9to5", "a" * 21])
def test_a_name_that_is_none_for_an_environment(name: str) -> None:
    """An environment's name that would not fit into names of AWS and Kafka is a mistake."""
    with pytest.raises(SettingsError, match="STOCK_ENV"):
        load_settings({"stock_env": name}, environ={}, config_file="/dev/null")
