"""Settings: from the command line, else the environment, else config.env, else the default.

Every mistake is reported at once, before anything is contacted. AWS credentials are not here: boto3 finds them by its
own chain (environment, shared credentials file, instance role).
"""

import os
import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import msgspec
from dotenv import dotenv_values

from pipeline.bucket import results_folder

CONFIG_FILE = "config.env"
SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "AWS_MSK_IAM"]


_NOT_NEGATIVE = (
    *("polygon_requests_per_minute", "polygon_delay_minutes"),
    *("alpha_vantage_requests_per_minute", "alpha_vantage_delay_minutes", "etl_late_days"),
)


class SettingsError(ValueError):
    """All the mistakes found in the settings, one a line."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class ServiceError(RuntimeError):
    """A service that refused or could not be reached; the text says which setting to look at."""


_ENVIRONMENT = re.compile("[a-z][a-z0-9]{0,19}")
# What has the environment's name behind its own, and before it.
_NAMED_AFTER = ("glue_database", "athena_workgroup", "glue_role", "kafka_group", "dynamodb_table")
_NAMED_BEFORE = (
    *("kafka_topic_bars", "kafka_topic_ticks", "kafka_topic_news"),
    *("kafka_topic_dead_letters", "kafka_topic_checkpoints"),
)


def _setting(default: Any, help: str, *, secret: bool = False) -> Any:
    return field(default=default, repr=not secret, metadata={"help": help, "secret": secret})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One attribute a setting; its environment name is the same in capitals."""

    stock_env: str = _setting(
        "",
        "environment such as dev: a part of prefix, database, workgroups, role, group, topics and table; empty: none",
    )
    kafka_bootstrap_servers: str = _setting("127.0.0.1:9092", "host:port of one or more brokers, comma-separated")
    kafka_security_protocol: SecurityProtocol = _setting("PLAINTEXT", "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL")
    kafka_sasl_mechanism: SaslMechanism = _setting("", "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or AWS_MSK_IAM")
    kafka_sasl_username: str = _setting("", "user of PLAIN and SCRAM")
    kafka_sasl_password: str = _setting("", "password of PLAIN and SCRAM", secret=True)
    kafka_ssl_cafile: str = _setting("", "PEM file of the authority that signed the brokers' certificates")
    kafka_ssl_certfile: str = _setting("", "PEM file of the client's certificate")
    kafka_ssl_keyfile: str = _setting("", "PEM file of the client's key")
    kafka_group: str = _setting("stock_market_landing", "consumer group; one group per S3_PREFIX")
    kafka_instance: str = _setting("", "static member name, so that a restarted consumer goes on within seconds")
    kafka_session_timeout_ms: int = _setting(45_000, "how long a silent consumer keeps its partitions, in ms")
    kafka_max_poll_interval_ms: int = _setting(
        300_000, "how long a consumer may hang between polls before it is put out, in ms"
    )
    kafka_partitions: int = _setting(4, "partitions of a topic that the producer has to create")
    kafka_wait_seconds: int = _setting(120, "how long the producer waits for a broker that is away, in seconds")
    kafka_topic_bars: str = _setting("stock_bars", "topic of bars")
    kafka_topic_ticks: str = _setting("stock_live_feed", "topic of ticks")
    kafka_topic_news: str = _setting("stock_news", "topic of news items")
    kafka_topic_actions: str = _setting("stock_actions", "topic of splits, dividends and symbol changes")
    kafka_topic_dead_letters: str = _setting(
        "stock_dead_letters", "topic of bad records of the DynamoDB route without S3_BUCKET"
    )
    kafka_topic_checkpoints: str = _setting("stock_checkpoints", "compacted topic of the producers' checkpoints")
    aws_region: str = _setting("us-east-1", "region of the bucket, Glue, Athena and DynamoDB")
    aws_endpoint_url: str = _setting("", "another endpoint than AWS's, as boto3 reads it; the embedded stack sets it")
    s3_bucket: str = _setting("", "bucket of the lake")
    s3_prefix: str = _setting("", "folder inside the bucket, empty for its root")
    s3_wait_seconds: int = _setting(
        600, "how long S3 may be away before consumer.py --until-caught-up stops, in seconds; a service waits"
    )
    s3_encryption: Literal["", "AES256", "aws:kms", "aws:kms:dsse"] = _setting(
        "", "AES256, aws:kms, aws:kms:dsse; empty: the bucket's own"
    )
    s3_kms_key_id: str = _setting("", "key of aws:kms; empty: the account's default key")
    s3_storage_class: str = _setting("", "storage class of landed objects, such as STANDARD_IA; empty: STANDARD")
    s3_tags: str = _setting("", "tags of landed objects: name=value, comma-separated")
    glue_database: str = _setting("stock_market", "Glue database, which is Athena's schema")
    athena_workgroup: str = _setting("stock_market", "Athena workgroup")
    athena_output: str = _setting("", "s3:// folder of query results; default: athena-results/ in the bucket")
    athena_scan_limit_gb: int = _setting(100, "most that one query may scan, in GB; a query beyond it is stopped")
    first_day: str = _setting("", "first day YYYY-MM-DD of raw tables; default: a year before glue_setup.py first ran")
    views_show_simulated: Literal["no", "yes"] = _setting(
        "no", "yes or no: whether bars and ticks show what producer.py simulate sent; glue_setup.py applies it"
    )
    etl_late_days: int = _setting(1, "days that a record may lie in Kafka before it lands; the ETL looks back this far")
    etl_schedule: str = _setting("cron(30 6 * * ? *)", "when Glue runs the ETL job, UTC; off: never by itself")
    crawler_schedule: str = _setting("cron(0 6 ? * MON *)", "when the crawler runs, UTC; off: never by itself")
    glue_role: str = _setting("stock_market_glue", "IAM role of the crawler and the ETL job")
    aws_tags: str = _setting("", "tags of what glue_setup.py makes: name=value, comma-separated")
    dynamodb_table: str = _setting("StockMkt", "DynamoDB table")
    dynamodb_partition_key: str = _setting("Company Name", "its partition key; symbol: an item a symbol and date")
    dynamodb_sort_key: str = _setting("Date", "its sort key")
    dynamodb_wait_seconds: int = _setting(
        300, "how long DynamoDB may refuse a write before the consumer stops, in seconds"
    )
    polygon_api_key: str = _setting("", "key of Polygon.io, now Massive", secret=True)
    polygon_base_url: str = _setting("https://api.massive.com", "https://api.polygon.io still answers too")
    polygon_requests_per_minute: int = _setting(
        5, "requests to it in any minute, for all symbols together; 0 is no limit"
    )
    polygon_delay_minutes: int = _setting(
        15, "how late the plan's bars are after a close, in minutes; 0 in real time, 360 on a plan of end-of-day data"
    )
    polygon_stream_url: str = _setting(
        "wss://delayed.massive.com/stocks", "wss://socket.massive.com/stocks is not delayed"
    )
    flat_files_access_key: str = _setting("", "access key of Massive's flat files, which is not that of the API")
    flat_files_secret_key: str = _setting("", "its secret key", secret=True)
    flat_files_endpoint_url: str = _setting("https://files.massive.com", "where the flat files are")
    flat_files_bucket: str = _setting("flatfiles", "their bucket")
    alpha_vantage_api_key: str = _setting("", "key of Alpha Vantage", secret=True)
    alpha_vantage_base_url: str = _setting("https://www.alphavantage.co", "where Alpha Vantage is")
    alpha_vantage_requests_per_minute: int = _setting(5, "requests to it in any minute; 0 is no limit")
    alpha_vantage_delay_minutes: int = _setting(15, "how late its bars are after a close, in minutes")
    symbols: str = _setting("AAPL,AMZN,GOOG,META,MSFT,NFLX,NVDA,TSLA", "tickers, comma-separated")
    exchange: str = _setting(
        "XNYS", "exchange of the symbols, for its sessions: XNYS, XTKS, 24/7, …; none: only what SYMBOL_EXCHANGES names"
    )
    symbol_exchanges: str = _setting(
        "X:*=24/7,C:*=24/5", "other exchanges of symbols, comma-separated: 7203.T=XTKS; * stands for any characters"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = _setting("INFO", "DEBUG, INFO, WARNING or ERROR")
    log_format: Literal["text", "json"] = _setting("text", "text or json, one object a line")

    @property
    def symbol_list(self) -> tuple[str, ...]:
        """The tickers of SYMBOLS, without blanks and repeats, in their order."""
        return tuple(dict.fromkeys(s.strip() for s in self.symbols.split(",") if s.strip()))

    @property
    def symbol_exchange_list(self) -> tuple[tuple[str, str], ...]:
        """The symbols of SYMBOL_EXCHANGES, which may hold *, each with its exchange; the first that fits counts."""
        pairs = (entry.rpartition("=") for entry in self.symbol_exchanges.split(",") if entry.strip())
        return tuple((symbol.strip(), exchange.strip()) for symbol, _, exchange in pairs)

    @property
    def topics(self) -> dict[str, str]:
        """Topic name to table name."""
        return {
            self.kafka_topic_bars: "bars",
            self.kafka_topic_ticks: "ticks",
            self.kafka_topic_news: "news",
            self.kafka_topic_actions: "actions",
        }

    @property
    def s3_root(self) -> str:
        """The prefix as the start of a key: empty, or ending in a slash."""
        return self.s3_prefix.strip("/") + "/" if self.s3_prefix.strip("/") else ""

    @property
    def athena_output_location(self) -> str:
        """The s3:// folder of query results, ending in a slash."""
        return (
            self.athena_output.rstrip("/") + "/"
            if self.athena_output
            else f"s3://{self.s3_bucket}/{results_folder(self.s3_root)}"
        )


def load_settings(
    command_line: Mapping[str, Any] | None = None,
    *,
    required: Iterable[str] = (),
    environ: Mapping[str, str] | None = None,
    config_file: str | Path = CONFIG_FILE,
) -> Settings:
    """Return the settings; raises SettingsError with every mistake.

    `command_line` holds values by name, such as vars() of argparse's options: names of settings count, None is an
    option that was not given. `required` names the attributes that the calling command cannot do without.
    """
    given = {name: value for name, value in (command_line or {}).items() if value is not None}
    texts = {**dotenv_values(config_file), **(os.environ if environ is None else environ)}
    # boto3 knows the region by the second name only; a user may have set either.
    texts["AWS_REGION"] = texts.get("AWS_REGION") or texts.get("AWS_DEFAULT_REGION")
    values, mistakes = {}, []
    for setting in fields(Settings):
        name = setting.name.upper()
        text = given.get(setting.name, texts.get(name))
        if text is None or text == "":
            continue
        try:
            values[setting.name] = msgspec.convert(text, setting.type, strict=False)
        except msgspec.ValidationError:
            shown = "the value given" if setting.metadata["secret"] else repr(text)
            mistakes.append(f"{name}: {shown} is not {_expected(setting)}")
    settings = in_environment(Settings(**values), as_they_are=given)
    mistakes += _mistakes_between(settings)
    mistakes += [f"{name.upper()}: is needed and empty" for name in required if not getattr(settings, name)]
    if mistakes:
        raise SettingsError(mistakes)
    return settings


def unknown_names(config_file: str | Path = CONFIG_FILE) -> dict[str, str]:
    """Return the names in the file that are no settings, each with the setting that was perhaps meant. Nothing reads
    them: AWS credentials too are boto3's, which knows the environment and not this file.
    """
    known = [setting.name.upper() for setting in fields(Settings)]
    others = [name for name in dotenv_values(config_file) if name not in (*known, "AWS_DEFAULT_REGION")]
    return {name: next(iter(get_close_matches(name.upper(), known, 1, 0.8)), "") for name in others}


def in_environment(settings: Settings, *, as_they_are: Container[str] = ()) -> Settings:
    """Return the settings with the names that the environment STOCK_ENV has for itself, so that several of them stand
    side by side in one account, one bucket and one cluster. `as_they_are`: settings that keep what they say.
    """
    environment = settings.stock_env
    if not _ENVIRONMENT.fullmatch(environment):
        return settings  # none, or a mistake
    names: dict[str, Any] = {name: f"{getattr(settings, name)}_{environment}" for name in _NAMED_AFTER}
    names |= {name: f"{environment}_{getattr(settings, name)}" for name in _NAMED_BEFORE}
    names["s3_prefix"] = f"{settings.s3_root}{environment}"
    if settings.glue_role.startswith("arn:"):
        del names["glue_role"]  # somebody else's
    return replace(settings, **{name: value for name, value in names.items() if name not in as_they_are})


def _expected(setting: Any) -> str:
    return "a whole number" if setting.type is int else f"one of {setting.metadata['help']}"


def _mistakes_between(settings: Settings) -> list[str]:
    """Values that have the right type but cannot work, alone or together."""
    mistakes = []
    if settings.stock_env and not _ENVIRONMENT.fullmatch(settings.stock_env):
        mistakes.append(f"STOCK_ENV: {settings.stock_env!r} is not a word of a-z and 0-9, of 20 characters at most")
    for address in settings.kafka_bootstrap_servers.split(","):
        if not re.fullmatch(r"\s*(\[[0-9a-fA-F:]+\]|[^\s:/,]+):\d{1,5}\s*", address):
            mistakes.append(f"KAFKA_BOOTSTRAP_SERVERS: {address!r} is not host:port")
    sasl = settings.kafka_security_protocol.startswith("SASL_")
    if sasl and not settings.kafka_sasl_mechanism:
        mistakes.append(f"KAFKA_SASL_MECHANISM: {settings.kafka_security_protocol} needs one")
    if settings.kafka_sasl_mechanism and not sasl:
        mistakes.append("KAFKA_SECURITY_PROTOCOL: a SASL mechanism needs SASL_SSL or SASL_PLAINTEXT")
    if sasl and settings.kafka_sasl_mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
        mistakes += [
            f"{name.upper()}: {settings.kafka_sasl_mechanism} needs it"
            for name in ("kafka_sasl_username", "kafka_sasl_password")
            if not getattr(settings, name)
        ]
    for name in ("kafka_ssl_cafile", "kafka_ssl_certfile", "kafka_ssl_keyfile"):
        if (path := getattr(settings, name)) and not Path(path).is_file():
            mistakes.append(f"{name.upper()}: there is no file {path}")
    if settings.s3_bucket and not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", settings.s3_bucket):
        mistakes.append(f"S3_BUCKET: {settings.s3_bucket!r} is not a bucket name (3 to 63 of a-z, 0-9, dot and hyphen)")
    if not re.fullmatch(r"[A-Za-z0-9!_.*'()/=-]{0,512}", settings.s3_prefix):
        mistakes.append(
            f"S3_PREFIX: {settings.s3_prefix!r} has characters that need escaping in keys, or more than 512"
        )
    if settings.s3_kms_key_id and not settings.s3_encryption.startswith("aws:kms"):
        mistakes.append("S3_ENCRYPTION: a KMS key needs aws:kms or aws:kms:dsse")
    for name in ("s3_tags", "aws_tags"):
        if not re.fullmatch(r"([^=,]+=[^=,]*(,[^=,]+=[^=,]*)*)?", getattr(settings, name)):
            mistakes.append(f"{name.upper()}: {getattr(settings, name)!r} is not name=value, comma-separated")
    mistakes += [
        f"SYMBOL_EXCHANGES: {symbol or exchange!r} has no exchange; an entry is symbol=exchange, such as 7203.T=XTKS"
        for symbol, exchange in settings.symbol_exchange_list
        if not symbol or not exchange
    ]
    if settings.athena_output and not settings.athena_output.startswith("s3://"):
        mistakes.append(f"ATHENA_OUTPUT: {settings.athena_output!r} does not begin with s3://")
    if settings.first_day and not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])", settings.first_day):
        mistakes.append(f"FIRST_DAY: {settings.first_day!r} is not a day YYYY-MM-DD")
    for name in (
        "kafka_partitions",
        "kafka_session_timeout_ms",
        "kafka_max_poll_interval_ms",
        "kafka_wait_seconds",
        "athena_scan_limit_gb",
        "dynamodb_wait_seconds",
        "s3_wait_seconds",
    ):
        if getattr(settings, name) < 1:
            mistakes.append(f"{name.upper()}: {getattr(settings, name)} is less than 1")
    mistakes += [
        f"{name.upper()}: {getattr(settings, name)} is less than 0"
        for name in _NOT_NEGATIVE
        if getattr(settings, name) < 0
    ]
    if not re.fullmatch(r"[a-z0-9_]+", settings.glue_database):
        mistakes.append(f"GLUE_DATABASE: {settings.glue_database!r} is not lower-case letters, digits and _")
    if len(settings.topics) < 4:
        mistakes.append(
            "KAFKA_TOPIC_BARS, KAFKA_TOPIC_TICKS, KAFKA_TOPIC_NEWS, KAFKA_TOPIC_ACTIONS: two of them are the same topic"
        )
    return mistakes


def example() -> str:
    """The text of config.env.example: every setting with its default, one comment line each."""
    lines = [
        "# Copy to config.env and change what differs. The environment wins over this file,",
        "# the command line over both.",
        "# config.env.example is generated by `python -m deploy.generated` from pipeline/settings.py; do not edit it.",
    ]
    for setting in fields(Settings):
        lines += [f"# {setting.metadata['help']}", f"{setting.name.upper()}={setting.default}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    # `python -m pipeline.settings > config.env.example` after a setting was added; a test compares the two.
    print(example(), end="")
