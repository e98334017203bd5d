"""The threads that write batches while the main loop polls."""

from collections.abc import Callable, Iterable
from multiprocessing.pool import ThreadPool
from typing import Any, Protocol, Self

from pipeline.landing.block import Block
from pipeline.landing.lane import Upload, Written
from pipeline.landing.plan import Plan

_ENCODERS = 2


class Write(Protocol):
    """What a sink does with a batch; see Sink.write."""

    def __call__(
        self,
        plan: Plan,
        blocks: list[Block],
        for_each: Callable[[Callable[[Any], Any], Iterable[Any]], list[Any]],
        permit: Callable[[], None],
        /,
    ) -> Written: ...


class Uploads:
    """Runs `write` for batches, and the requests of each batch on `threads` threads that all of them share. The
    threads are daemons, so that a hanging request cannot hold up a stop. At the end `stop` makes writes that wait for
    the service give up.
    """

    def __init__(self, write: Write, stop: Callable[[], None], *, threads: int) -> None:
        self._write, self._stop = write, stop
        self._encoders, self._putters = ThreadPool(_ENCODERS), ThreadPool(threads)

    def begin(self, plan: Plan, blocks: list[Block], permit: Callable[[], None]) -> Upload:
        """Begin to write a batch; `permit` is asked before each of its writes, see sinks.sink.Permit."""
        return self._encoders.apply_async(self._write, (plan, blocks, self._for_each, permit))

    def _for_each(self, function: Callable[[Any], Any], arguments: Iterable[Any]) -> list[Any]:
        return self._putters.map(function, arguments, chunksize=1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._putters.terminate()
        self._encoders.terminate()
