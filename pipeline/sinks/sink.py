"""The door of the sinks: what consumer.py knows of where records are kept.

A sink is a folder of pipeline/sinks/ whose sink.py has a class made from `Sink`. consumer.py finds it there and offers
it as --sink NAME, with the sink's own options. Nothing else has to be changed for a new one.
"""

import argparse
import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Protocol

from pipeline import sinks
from pipeline.landing.block import Block
from pipeline.landing.buffer import Limits
from pipeline.landing.lane import Lane, Written
from pipeline.landing.plan import Plan
from pipeline.landing.positions import Partition, Standing
from pipeline.settings import Settings


class Sender(Protocol):
    """Sends single records to a topic of the stream."""

    def send(self, topic: str, key: bytes, value: bytes) -> None:
        """Send one record, and return when it is safe. Raise ServiceError."""

    def close(self) -> None: ...


# Connects to the stream, creates the topics that do not exist, and returns what sends to them.
OpenSender = Callable[[list[str]], Sender]


class ForEach(Protocol):
    """Apply a function to each of some arguments, perhaps at the same time, and return all results."""

    def __call__(self, function: Callable[[Any], Any], arguments: Iterable[Any], /) -> list[Any]: ...


# Returns when the partition of a batch is known to be this consumer's. Raises WriteAbandoned if it is not any more.
Permit = Callable[[], None]


def always() -> None:
    """The permit of a program that writes alone."""


class WriteAbandoned(RuntimeError):
    """A write that was given up: the consumer stops, or the partition is another's. The end of its batch is not
    committed, so it is written by whoever comes next.
    """


class Sink(ABC):
    """Keeps the records of batches. `write` is called from several threads at once.

    The docstring of each kind states its delivery guarantee.
    """

    name: ClassVar[str]  # the word behind --sink
    purpose: ClassVar[str]  # the half sentence of the help
    limits: ClassVar[Limits]  # when a batch is closed, unless the command line says otherwise
    required: ClassVar[tuple[str, ...]] = ()  # settings that this sink cannot do without

    @classmethod
    def add_options(cls, group: Any) -> list[argparse.Action]:  # noqa: ARG003 - a kind may have none
        """Add the options that only this sink has to argparse's group; return them. Their defaults are None or False,
        so that another sink can refuse them.
        """
        return []

    @classmethod
    def settings_of(cls, settings: Settings, *, is_group_given: bool) -> Settings:  # noqa: ARG003 - see add_options
        """Return the settings as this sink uses them: its group, unless the command line names one."""
        return settings

    @classmethod
    def topics_of(cls, settings: Settings) -> list[str]:
        """Return the topics that this sink reads when the command line names none."""
        return list(settings.topics)

    @classmethod  # noqa: B027 - see add_options
    def check(cls, settings: Settings, topics: Iterable[str], options: Mapping[str, Any]) -> None:
        """Make sure, before the first record, that the sink can take these topics. Raise SettingsError and
        ServiceError.
        """

    @classmethod  # noqa: B027 - see add_options
    def check_replay(cls, settings: Settings, standings: Mapping[Partition, Standing]) -> None:
        """Raise ServiceError if landing these partitions from their oldest record would keep any record twice."""

    @abstractmethod
    def __init__(self, settings: Settings, options: Mapping[str, Any], open_sender: OpenSender) -> None:
        """`options` has a value for each option of add_options, and `uploads`: how many requests run at once.
        `open_sender` is for a sink that keeps refused records in the stream.
        """

    @abstractmethod
    def begin(self, partition: Partition, standing: Standing) -> Lane:
        """Return the lane of a partition that was just given. Raise UnreadablePlan for the commit of others, and
        Contradiction where going on would skip or repeat records.
        """

    @abstractmethod
    def write(self, plan: Plan, blocks: list[Block], for_each: ForEach, permit: Permit) -> Written:
        """Keep a batch. `blocks` may be empty. A sink that cannot repeat a write without harm asks `permit` before
        each. Raise ServiceError for what no waiting mends, and WriteAbandoned after
        stop().
        """

    def failing_seconds(self) -> float:
        """How long the service has taken nothing that it was given; 0 where it does."""
        return 0.0

    @abstractmethod
    def stop(self) -> None:
        """Give up the writes that wait for the service. Called once, at the end."""


def kinds() -> dict[str, type[Sink]]:
    """Return every sink by the name that --sink has for it."""
    for module in pkgutil.iter_modules(sinks.__path__):
        if module.ispkg:
            importlib.import_module(f"{sinks.__name__}.{module.name}.sink")
    return {kind.name: kind for kind in Sink.__subclasses__()}
