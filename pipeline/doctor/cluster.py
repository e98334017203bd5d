"""The Kafka cluster as this machine sees it: addresses, protocol, topics, and where the group stands."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime

from pipeline.doctor import wire
from pipeline.doctor.finding import Finding, ok, problem, warning
from pipeline.landing.positions import Partition, Standing
from pipeline.landing.resume import Contradiction, begin_at
from pipeline.settings import ServiceError, Settings
from pipeline.streams.kafka import cluster, reader

_SHORT_RETENTION_DAYS = 30  # Kafka's default is 7


def findings(settings: Settings, *, workers: int, waits_minutes: float, now: datetime) -> Iterator[Finding]:
    """Each step needs the one before; what cannot be looked at any more is left out."""
    reachable = []
    for host, port in _addresses(settings):
        fault = wire.reach(host, port)
        if fault:
            yield problem(
                "kafka",
                f"{host}:{port} cannot be reached: {fault}",
                "KAFKA_BOOTSTRAP_SERVERS; is the broker up, and does its security group let this address in?",
            )
        else:
            yield ok("kafka", f"{host}:{port} can be reached")
            reachable.append((host, port))
    protocol = [found for address in reachable for found in _protocol(settings, *address)]
    yield from protocol
    if not reachable or any(found.state == "problem" for found in protocol):
        return
    with ExitStack() as connections:
        try:
            asked = connections.enter_context(cluster.connected(settings))
        except ServiceError as error:
            yield _login_refused(settings, error)
            return
        advertised = list(_advertised(asked.advertised()))
        yield from advertised
        if any(found.state == "problem" for found in advertised):
            return
        partitions, members = asked.partitions(), asked.members()
        yield from _offsets_retention(asked.offsets_retention_minutes())
    yield from _topics(settings, partitions, max(workers, len(members)))
    yield from _progress(settings, members, waits_minutes, now)


def _addresses(settings: Settings) -> list[tuple[str, int]]:
    pairs = (server.strip().rpartition(":") for server in settings.kafka_bootstrap_servers.split(","))
    return [(host.strip("[]"), int(port)) for host, _, port in pairs]


def _protocol(settings: Settings, host: str, port: int) -> Iterator[Finding]:
    """What is set, beside what the listener says that it speaks."""
    wanted, address = settings.kafka_security_protocol, f"{host}:{port}"
    found = wire.spoken(host, port)
    if not found.protocol:
        yield problem(
            "kafka",
            f"{address} does not answer as Kafka does",
            "KAFKA_BOOTSTRAP_SERVERS; is this the port of a broker's listener for clients?",
        )
    elif found.protocol != wanted:
        mechanisms = f", with KAFKA_SASL_MECHANISM one of {', '.join(found.mechanisms)}" if found.mechanisms else ""
        yield problem(
            "kafka",
            f"{address} speaks {found.protocol}, and KAFKA_SECURITY_PROTOCOL is {wanted}",
            f"set KAFKA_SECURITY_PROTOCOL={found.protocol}{mechanisms}",
        )
    elif found.mechanisms and settings.kafka_sasl_mechanism not in found.mechanisms:
        yield problem(
            "kafka",
            f"{address} knows {', '.join(found.mechanisms)}, and KAFKA_SASL_MECHANISM is "
            f"{settings.kafka_sasl_mechanism}",
            f"set KAFKA_SASL_MECHANISM={found.mechanisms[0]}",
        )
    elif wanted.endswith("SSL") and (fault := wire.certificate_fault(host, port, settings.kafka_ssl_cafile)):
        yield problem(
            "kafka",
            f"{address} shows a certificate that is not trusted: {fault}",
            "KAFKA_SSL_CAFILE must be the PEM file of the authority that signed it, and the certificate must name "
            "this address",
        )
    else:
        yield ok("kafka", f"{address} speaks {found.protocol}")


def _login_refused(settings: Settings, error: ServiceError) -> Finding:
    """The listener speaks what is set, so what is left is who we say that we are. The client itself only says that it
    got no answer.
    """
    if settings.kafka_sasl_mechanism == "AWS_MSK_IAM":
        cure = (
            "the identity of the aws lines needs kafka-cluster:Connect (deploy/msk.md), and AWS_REGION must be the "
            "cluster's"
        )
    elif settings.kafka_sasl_mechanism:
        cure = "KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"
    elif settings.kafka_security_protocol == "SSL":
        cure = (
            "KAFKA_SSL_CERTFILE and KAFKA_SSL_KEYFILE: the listener asks for a client's certificate, of an authority "
            "that it trusts"
        )
    else:
        return problem("kafka", str(error), "the broker's log; it may still be starting")
    return problem(
        "kafka",
        f"the login is refused: {settings.kafka_security_protocol} {settings.kafka_sasl_mechanism}".rstrip(),
        cure,
    )


def _advertised(brokers: list[tuple[int, str, int]]) -> Iterator[Finding]:
    """The first answer tells clients where to connect to from then on: advertised.listeners. The commonest failure of
    all.
    """
    for number, host, port in brokers:
        if fault := wire.reach(host, port):
            yield problem(
                "kafka",
                f"the cluster tells clients to connect to {host}:{port} (broker {number}), which this machine cannot "
                f"reach: {fault}",
                "advertised.listeners in the broker's server.properties must hold an address that clients can reach, "
                "on a listener of its own for clients outside the network; after that restart the broker",
            )
        else:
            yield ok("kafka", f"advertised address {host}:{port} can be reached")


def _offsets_retention(minutes: int | None) -> Iterator[Finding]:
    """How long a group that is away finds its place again."""
    if minutes is None:
        return
    days = minutes / (24 * 60)
    if days < _SHORT_RETENTION_DAYS:
        yield warning(
            "kafka",
            f"the offsets of a group without members are kept for {days:,.0f} days; "
            "a consumer that is away for longer loses its place",
            "offsets.retention.minutes=129600 (90 days) in the brokers' settings, as in deploy/",
        )
    else:
        yield ok("kafka", f"the offsets of a group without members are kept for {days:,.0f} days")


def _topics(settings: Settings, partitions: dict[str, int], workers: int) -> Iterator[Finding]:
    missing = [name for name in settings.topics if name not in partitions]
    for name in settings.topics:
        count = partitions.get(name)
        if count is None:
            continue
        if count < workers:
            yield problem(
                "kafka",
                f"topic {name} has {count} partitions for {workers} workers: {workers - count} of them would have "
                "nothing to do",
                f"fewer workers, or kafka-topics.sh --alter --topic {name} --partitions {workers} (a symbol's later "
                "records then go to another partition)",
            )
        else:
            yield ok("kafka", f"topic {name}: {count} partitions")
    if len(missing) == len(settings.topics):
        yield problem(
            "kafka",
            f"none of the topics is there: {', '.join(missing)}",
            "producer.py makes them when it sends; or KAFKA_TOPIC_* name other topics",
        )
    elif missing:
        yield warning(
            "kafka",
            f"no topic {', '.join(missing)}",
            "nothing to do if you do not use it: producer.py makes it when it first sends there",
        )


def _progress(settings: Settings, members: list[str], waits_minutes: float, now: datetime) -> Iterator[Finding]:
    """Lag alone says little: a batch is waiting until it is full. How long its oldest record has waited says whether
    anybody lands.
    """
    standings = reader.standings(settings, settings.topics)
    lag = 0
    for partition, standing in standings.items():
        name = str(partition)
        start = standing.committed.offset if standing.committed else standing.oldest
        lag += max(standing.end - start, 0)
        if contradiction := _contradiction(settings, partition, standing):
            yield contradiction
        elif (
            standing.end > start
            and (minutes := _waited_minutes(settings, partition, start, standing.end, now)) > waits_minutes
        ):
            who = (
                f"its members are {', '.join(members)}; the one that has it hangs or cannot upload: read its log, "
                "then restart it"
                if members
                else "nobody is in the group: start consumer.py"
            )
            yield problem(
                "kafka",
                f"{name}: {standing.end - start:,} records are not landed, the oldest has waited {minutes:,.0f} "
                "minutes",
                who,
            )
    for partition, since_ms in reader.hidden_since(
        settings, {partition: standing.end for partition, standing in standings.items()}
    ).items():
        if (minutes := _minutes_since(since_ms, now)) > waits_minutes:
            yield problem(
                "kafka",
                f"{partition}: a transaction has been open for {minutes:,.0f} minutes; nobody "
                f"can read on from offset {standings[partition].end}",
                "a producer that died is waited for no longer than its transaction timeout; one that the broker has "
                "forgotten, for ever: kafka-transactions.sh find-hanging, then abort",
            )
    state = f"group {settings.kafka_group}: {len(members)} members, {lag:,} records to land"
    if standings and not members and not any(standing.committed for standing in standings.values()):
        yield warning(
            "kafka",
            f"{state}; it never committed",
            "start consumer.py; or KAFKA_GROUP names another group than your consumer's",
        )
    elif standings:
        yield ok("kafka", state)


def _contradiction(settings: Settings, partition: Partition, standing: Standing) -> Finding | None:
    """Why the consumer would refuse to go on from the group's commit: expired records, a cut log, a topic made anew."""
    try:
        begin_at(partition, standing, {}, settings.kafka_group)
    except Contradiction as error:
        return problem(
            "kafka",
            f"{partition}: {error}",
            "consumer.py stops rather than skip or repeat records; `consumer.py verify --repair` compares with S3",
        )
    return None


def _waited_minutes(settings: Settings, partition: Partition, start: int, end: int, now: datetime) -> float:
    """Return the minutes since the first record from `start` on came to Kafka; 0 if there is none."""
    try:
        blocks = reader.read_range(settings, partition, start, min(start + 100, end))
    except ServiceError:
        return 0.0
    stamps = [int(block.timestamps[0]) for block in blocks if len(block)]
    return _minutes_since(stamps[0], now) if stamps else 0.0


def _minutes_since(timestamp_ms: int, now: datetime) -> float:
    return (now - datetime.fromtimestamp(timestamp_ms / 1000, UTC)).total_seconds() / 60
