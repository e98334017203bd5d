"""A page that follows the live feed topic: last price, change and sparkline per ticker, messages a second.

python -m dashboards.live                       http://127.0.0.1:8765/, from the last 1,000 ticks of each partition on
python -m dashboards.live --symbols AAPL,MSFT --port 9000

Its consumer is in no group and commits nothing, so landing goes on undisturbed beside it. It does not show ticks that
came while it was not running, except for the last ones. It asks Athena every hour for the closes before today, which
the change is since; --no-closes asks nothing. It listens on loopback only.
"""

import argparse
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from dashboards import query_results
from dashboards.live import closes
from dashboards.live.market import Market
from dashboards.live.server import Server
from pipeline import terminal
from pipeline.settings import ServiceError, load_settings
from pipeline.streams.kafka import reader

log = logging.getLogger(__name__)


def main() -> None:
    arguments = _parser().parse_args()
    settings = load_settings({"kafka_topic_ticks": arguments.topic})
    terminal.configure_logging(settings)
    market = Market(query_results.tickers(arguments.symbols))
    with terminal.stop_signals() as is_stopping, Server(arguments.port, market) as server:
        if settings.s3_bucket and not arguments.no_closes:
            keep_fresh = (market, settings, server.is_closing)
            threading.Thread(target=closes.keep_fresh, args=keep_fresh, name="closes", daemon=True).start()
        print(f"{server.address} follows {settings.kafka_topic_ticks}; Ctrl-C stops", flush=True)
        follow(market, reader.tail(settings, settings.kafka_topic_ticks, last=arguments.last), is_stopping)
        if market.problem:
            raise ServiceError(market.problem)


def _parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="python -m dashboards.live", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--port", type=int, default=8765, help="0: any free one (default: 8765)")
    options.add_argument("--symbols", default="", metavar="AAPL,MSFT,…", help="these tickers only")
    options.add_argument(
        "--last", type=int, default=1000, metavar="N", help="begin N ticks back in each partition (default: 1000)"
    )
    options.add_argument("--no-closes", action="store_true", help="show the change since the first tick, ask no Athena")
    options.add_argument("--topic", metavar="NAME", help="KAFKA_TOPIC_TICKS")
    return options


def follow(market: Market, batches: Iterable[Sequence[bytes | None]], is_stopping: Callable[[], bool]) -> None:
    """Feed the market until told to stop. An error stays on the page, and the page stays up."""
    try:
        for values in batches:
            market.add(values, time.monotonic())
            if is_stopping():
                return
    except ServiceError as error:
        market.problem = str(error)
        log.error("stopped following", extra={"error": error})  # noqa: TRY400 - the text says all there is to say


if __name__ == "__main__":
    terminal.run(main)
