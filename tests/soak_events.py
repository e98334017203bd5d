"""A group of consumers under load, and everything that may happen to it, chosen by a seed. See faults/test_soak.py."""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CompletedProcess, Popen

from aws_proxy import CUT, HOLD, HOLD_ANSWER, LOSE, PASS, AwsProxy, Decision
from committed import wait_until_settled
from counting import wait_for
from kafka import KafkaAdminClient
from soak_counts import START, Account
from soak_processes import PATIENCE_SECONDS, Consumer, resident_over, send, tree

from local.stack import Stack
from pipeline.settings import Settings
from pipeline.streams.kafka import reader
from pipeline.streams.kafka.connection import connection, ensure_topics

RATE = 5_000
FEWEST_CONSUMERS, MOST_CONSUMERS = 2, 4
LONGEST_GAP_SECONDS, LONGEST_HOLD_SECONDS = 4, 15
# One of each kind at least, however short the soak is: they are dealt like cards, and shuffled when all are out.
DECK = Counter(
    kill_consumer=4,
    stop_consumer=1,
    freeze_consumer=1,
    add_consumer=2,
    remove_consumer=1,
    kill_producer=2,
    restart_broker=1,
    kill_broker=1,
    freeze_broker=1,
    change_weather=6,
    change_settings=3,
    lose_commits=1,
    remake_topic=1,
)
# What S3 does, and how many of the puts meet it.
WEATHERS: dict[str, tuple[float, tuple[Decision, ...]]] = {
    "calm": (0, (PASS,)),
    "refusing": (0.4, (400, 429, 500, 503)),
    "cutting": (0.4, (CUT,)),
    "losing answers": (0.4, (LOSE,)),
    "hanging": (0.3, (HOLD, HOLD_ANSWER)),
    "slow": (0.5, (PASS,)),
}
MUTANTS = Path(__file__).with_name("faults") / "mutants.py"


@dataclass
class Soak:
    """What runs, what was sent, and what happened. `mutant` is a consumer with a safeguard less, see mutants.py."""

    seed: int
    stack: Stack
    settings: Settings
    proxy: AwsProxy
    account: Account
    start: Callable[..., Popen]
    run: Callable[..., CompletedProcess]
    mutant: str = ""
    counts: Counter = field(default_factory=Counter)
    consumers: list[Consumer] = field(default_factory=list)
    logs: list[Path] = field(default_factory=list)
    weather: str = "calm"

    def __post_init__(self) -> None:
        self.began = time.monotonic()
        self.chance = random.Random(self.seed)
        self._of_weather = random.Random(self.seed + 1)
        self._hold_until = 0.0
        self._generation = self._started = 0
        self.proxy.decide = self._decide
        self.choose_settings()

    def say(self, text: str) -> None:
        """Print a line of the report, with the seconds since the beginning."""
        print(f"{time.monotonic() - self.began:8.1f} s  {text}", flush=True)

    # What runs

    def begin(self) -> None:
        """Start the producer and the first consumers."""
        self.start_producer()
        wait_for(self._has_records, PATIENCE_SECONDS, self.producer)
        for _ in range(FEWEST_CONSUMERS):
            self.start_consumer()
        # Before something has landed, most events have nothing to spoil.
        wait_for(lambda: any(s.committed and s.committed.offset for s in self._standings().values()), PATIENCE_SECONDS)

    def events(self, seconds: float, only: list[str]) -> None:
        """Let things happen until the time is over and each has happened at least once."""
        deck = sorted(kind for kind in DECK.elements() if not only or kind in only)
        is_first = True
        while is_first or time.monotonic() - self.began < seconds:
            self.chance.shuffle(deck)
            for kind in deck:
                if not is_first and time.monotonic() - self.began >= seconds:
                    return
                # Counting all that was landed takes a long soak longer each time.
                if kind == "remake_topic" and not is_first and self.chance.random() < 0.6:
                    continue
                self._let_pass(self.chance.uniform(0, LONGEST_GAP_SECONDS))
                self.counts[kind] += 1
                getattr(self, kind)()
            is_first = False

    def _let_pass(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.weather == "hanging" and time.monotonic() > self._hold_until:
                self._set_weather("calm")
            self.assert_all_run()
            time.sleep(0.2)

    def assert_all_run(self) -> None:
        """Nothing here is a reason for a consumer or the producer to give up, and nobody else may stop the stack."""
        assert self.stack.process("kafka") and self.stack.process("aws"), "a service of the stack is gone"  # noqa: PT018
        for consumer in self.consumers:
            consumer.assert_runs()
        code = self.producer.poll()
        assert code is None, f"the producer ended with {code}:\n{self.producer.log_path.read_text()[-3000:]}"

    def start_producer(self) -> None:
        """Start, or go on with, the simulation of this generation of the topic; it holds the rate from now on."""
        arguments = ("--seed", str(self._simulation), "--start", START, "--rate", str(RATE))
        self.producer = self.start("producer.py", "simulate", *arguments, "--symbols", self.account.settings.symbols)

    def stop_producer(self) -> None:
        """SIGTERM; where it is not far enough to listen yet, that is a kill, and changes nothing."""
        self.producer.terminate()
        code = self.producer.wait(PATIENCE_SECONDS)
        assert code in (0, -signal.SIGTERM), self.producer.log_path.read_text()[-3000:]

    @property
    def _simulation(self) -> int:
        return self.seed * 1_000 + self._generation

    def start_consumer(self, *arguments: str, workers: int | None = None) -> Consumer:
        workers = workers or self.workers
        told = [*self.arguments, *arguments, *(["--workers", str(workers)] if workers > 1 else [])]
        script = [str(MUTANTS), self.mutant] if self.mutant else ["consumer.py"]
        process = self.start(*script, *told, AWS_ENDPOINT_URL=self.proxy.url)
        self._started += 1
        consumer = Consumer(f"consumer {self._started}", process, workers)
        self.consumers.append(consumer)
        self.logs.append(process.log_path)
        self.say(f"  {consumer.name} started: {' '.join(told)}")
        return consumer

    def choose_settings(self) -> None:
        """Choose what the consumers that start from now on are told."""
        choice = self.chance.choice
        form = choice(["json", "json", "csv", "parquet"])
        self.workers = choice([1, 1, 2])
        self.arguments = ["--format", form, "--partition-by", choice(["day", "hour", "month"])]
        self.arguments += ["--flush-seconds", str(choice([0.5, 1, 2, 3]))]
        self.arguments += ["--flush-records", str(choice([1_500, 4_000, 10_000])), "--uploads", str(choice([1, 2, 8]))]
        if form != "parquet":
            self.arguments += ["--compression", choice(["gzip", "none"])]

    # What happens to consumers

    def _some_consumer(self) -> Consumer:
        self.assert_all_run()
        consumer = self.chance.choice(self.consumers)
        self.consumers.remove(consumer)
        return consumer

    def kill_consumer(self) -> None:
        """kill -9 of a consumer with all its workers, or of one worker, which stops the others."""
        consumer = self._some_consumer()
        children, is_whole = consumer.children, self.chance.random() < 0.5
        if is_whole or not children:
            self.say(f"kill -9 {consumer.name}")
            consumer.kill()
        else:
            consumer.wait_joined()
            self.say(f"kill -9 one worker of {consumer.name}")
            send([self.chance.choice(consumer.children)], signal.SIGKILL)
            code = consumer.process.wait(PATIENCE_SECONDS)
            assert code == 1, f"{consumer.name} ended with {code}:\n{consumer.log[-3000:]}"
        self.start_consumer()

    def stop_consumer(self) -> None:
        """SIGTERM, and another one in its place."""
        consumer = self._some_consumer()
        self.say(f"SIGTERM {consumer.name}")
        consumer.stop()
        self.start_consumer()

    def freeze_consumer(self) -> None:
        """SIGSTOP for longer than its session: the group goes on without it, and it wakes up as one who has left."""
        consumer = self.chance.choice(self.consumers)
        consumer.wait_joined()
        seconds = self.settings.kafka_session_timeout_ms / 1000 + self.chance.uniform(1, 4)
        self.say(f"SIGSTOP {consumer.name} for {seconds:.1f} s")
        frozen = list(tree(consumer.process.pid))
        send(frozen, signal.SIGSTOP)
        time.sleep(seconds)
        send(frozen, signal.SIGCONT)

    def add_consumer(self) -> None:
        """One more, unless there are many."""
        if len(self.consumers) < MOST_CONSUMERS:
            self.say("one consumer more")
            self.start_consumer()

    def remove_consumer(self) -> None:
        """SIGTERM to one, unless there are few."""
        if len(self.consumers) > FEWEST_CONSUMERS:
            consumer = self._some_consumer()
            self.say(f"one consumer less: {consumer.name}")
            consumer.stop()

    def change_settings(self) -> None:
        """One consumer is killed or stopped, and those that start from now on are told other things."""
        self.choose_settings()
        consumer, is_kill = self._some_consumer(), self.chance.random() < 0.5
        self.say(f"other settings, for the successor of {consumer.name}, {'killed' if is_kill else 'stopped'}")
        if is_kill:
            consumer.kill()
        else:
            consumer.stop()
        self.start_consumer()

    def end_all_consumers(self, *, is_kill: bool) -> None:
        """Kill or stop all; what they had sent to S3 has arrived when this returns."""
        self._set_weather("calm")
        for consumer in self.consumers:
            if is_kill:
                consumer.kill()
            else:
                consumer.stop()
        self.consumers.clear()
        wait_for(lambda: self.proxy.under_way == 0, PATIENCE_SECONDS)

    # What happens to the producer, the broker and S3

    def kill_producer(self) -> None:
        """kill -9; started again, it goes on behind what it has committed."""
        self.say("kill -9 the producer")
        self.producer.kill()
        self.producer.wait()
        self.start_producer()

    def _wait_all_joined(self) -> None:
        # A consumer that starts gives up after 15 s without a broker, and says so; those that run wait.
        for consumer in self.consumers:
            consumer.wait_joined()

    def _broker_is_away(self, outage: Callable[[], object]) -> None:
        self._wait_all_joined()
        # A broker that goes down between the answer to a commit and its markers may never write them (committed.py).
        # So the producer rests until they are written: between two transactions, or in the middle of one.
        self.producer.send_signal(signal.SIGSTOP)
        time.sleep(3)
        outage()
        self.producer.send_signal(signal.SIGCONT)

    def restart_broker(self) -> None:
        """The broker stops in good order and comes back."""
        self.say("the broker restarts")
        self._broker_is_away(lambda: self.stack.restart("kafka"))

    def kill_broker(self) -> None:
        """kill -9 of the broker, which comes back a moment later."""
        self.say("kill -9 the broker")
        self._broker_is_away(lambda: (self.stack.kill("kafka"), time.sleep(1), self.stack.up(["kafka"])))

    def freeze_broker(self) -> None:
        """SIGSTOP of the broker for longer than a commit waits: commits are left unanswered."""
        self._wait_all_joined()
        seconds = self.chance.uniform(5.5, 8)
        self.say(f"SIGSTOP the broker for {seconds:.1f} s")
        self.stack.process("kafka").send(signal.SIGSTOP)
        time.sleep(seconds)
        self.stack.process("kafka").send(signal.SIGCONT)

    def change_weather(self) -> None:
        """S3 is well, or refuses, cuts, loses answers, hangs or is slow, until the weather changes again."""
        self._set_weather(self.chance.choice([kind for kind in WEATHERS if kind != self.weather]))

    def _set_weather(self, kind: str) -> None:
        if kind != self.weather:
            self.say(f"S3 is {kind}")
            self.weather = kind
        if kind == "hanging":
            self._hold_until = time.monotonic() + LONGEST_HOLD_SECONDS
            self.proxy.released.clear()
        else:
            self.proxy.released.set()

    def _decide(self, _number: int, _method: str, _path: str) -> Decision:
        weather = self.weather
        share, faults = WEATHERS[weather]
        if self._of_weather.random() >= share:
            return PASS
        self.counts[f"puts while S3 is {weather}"] += 1
        if weather == "slow":
            time.sleep(self._of_weather.uniform(0, 0.2))
        return self._of_weather.choice(faults)

    # What happens to the group and the topic

    def lose_commits(self) -> None:
        """All consumers end, the group's offsets are gone, and others go on, told other things."""
        is_kill = self.chance.random() < 0.7
        self.say(f"all consumers {'killed' if is_kill else 'stopped'}, the group's commits deleted")
        self.end_all_consumers(is_kill=is_kill)
        assert any(s.committed for s in self._standings().values()), "nothing to lose"

        def are_gone() -> bool:
            with KafkaAdminClient(**connection(self.settings)) as admin:
                admin.delete_groups([self.settings.kafka_group])
            return all(standing.committed is None for standing in self._standings().values())

        wait_for(are_gone, PATIENCE_SECONDS)
        self.choose_settings()
        successors = [self.start_consumer() for _ in range(FEWEST_CONSUMERS)]
        told = "going on behind what is in the lake"
        wait_for(lambda: any(told in consumer.log for consumer in successors), PATIENCE_SECONDS)

    def remake_topic(self) -> None:
        """The topic is deleted and made anew when all of it was landed: the consumers say so and stop, and go on with
        --from-beginning.
        """
        self.say("all is landed, then the topic is made anew")
        self.land_everything()
        is_live = self.chance.random() < 0.5
        if is_live:
            for _ in range(FEWEST_CONSUMERS):
                self.start_consumer(workers=1).wait_joined()
        self._delete_topic()
        self._generation += 1
        ensure_topics(self.settings, [self.settings.kafka_topic_ticks])
        self.start_producer()
        wait_for(self._has_records, PATIENCE_SECONDS, self.producer)
        if not is_live:
            self.start_consumer(workers=1)
        for consumer in self.consumers:
            code = consumer.process.wait(PATIENCE_SECONDS)
            assert (code, "made anew" in consumer.log) == (1, True), f"{consumer.name}: {code}\n{consumer.log[-3000:]}"
        self.say(f"{'running' if is_live else 'new'} consumers have stopped with 1: the topic was made anew")
        self.consumers.clear()
        self.land("--from-beginning")
        self.choose_settings()
        for _ in range(FEWEST_CONSUMERS):
            self.start_consumer()

    def _delete_topic(self) -> None:
        with KafkaAdminClient(**connection(self.settings)) as admin:
            admin.delete_topics([self.settings.kafka_topic_ticks])
            wait_for(lambda: self.settings.kafka_topic_ticks not in admin.list_topics(), PATIENCE_SECONDS)
        # Kafka deletes the group's offsets of the topic a moment later.
        time.sleep(1)

    # The count

    def land(self, *arguments: str) -> None:
        """Land what is there, as a command that ends."""
        script = [str(MUTANTS), self.mutant] if self.mutant else ["consumer.py"]
        done = self.run(*script, "--until-caught-up", *self.arguments, *arguments, timeout_seconds=600)
        assert done.returncode == 0, done.stderr[-3000:]

    def land_everything(self) -> None:
        """Stop the producer and the consumers, land the rest, and count: every tick is in the lake once, and verify
        finds nothing.
        """
        self.stop_producer()
        self.end_all_consumers(is_kill=False)
        wait_until_settled(self.settings, self.settings.kafka_topic_ticks)
        self.land()
        count = self.account.add_topic(self._simulation, RATE)
        objects = self.account.add_lake()
        self.say(f"sent {count:,} ticks of simulation {self._simulation}; the lake has {objects:,} objects")
        self.account.assert_exactly_once()
        self.say(f"{self.account.sent.count:,} ticks are in the lake, each once")
        verified = self.run("consumer.py", "verify", "--deep", timeout_seconds=1_800)
        assert verified.returncode == 0, verified.stdout[-3000:] + verified.stderr[-1000:]

    def quiet_stretch(self, seconds: float) -> list[int]:
        """One consumer that nothing happens to, and the producer at its rate: return its memory over time, in bytes."""
        self.start_producer()
        wait_for(self._has_records, PATIENCE_SECONDS, self.producer)
        self.say(f"a quiet stretch of {seconds:.0f} s")
        consumer = self.start_consumer("--flush-seconds", "1", workers=1)
        consumer.wait_joined()
        return resident_over(consumer.process.pid, seconds, self.assert_all_run)

    def _standings(self) -> dict:
        return reader.standings(self.settings, [self.settings.kafka_topic_ticks])

    def _has_records(self) -> bool:
        return sum(standing.end for standing in self._standings().values()) > 0
