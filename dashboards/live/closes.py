"""The close before today of each ticker: what the live page shows the change since."""

import logging
import threading
from datetime import timedelta
from string import Template

from dashboards.live.market import Market
from pipeline.athena.client import Athena
from pipeline.athena.price_views import TODAY
from pipeline.settings import ServiceError, Settings

log = logging.getLogger(__name__)

# A page may be open for days, and a day's bar comes in the evening.
REFRESH_SECONDS = timedelta(hours=1).total_seconds()
# An older close is not the one before; it would make a year's change look like a day's.
_LOOK_BACK_DAYS = 7
# On the shares of today: after a split in the night a live price is compared with the close on the new shares.
_SQL = Template("""
SELECT symbol, max_by("close", time) AS previous_close
FROM adjusted_bars
WHERE "interval" = '1d' AND basis <> 'unknown'
  AND month >= date_format($today - INTERVAL '$days' DAY, '%Y-%m')
  AND date(time) >= $today - INTERVAL '$days' DAY AND date(time) < $today
GROUP BY symbol
""").substitute(today=TODAY["athena"], days=_LOOK_BACK_DAYS)


def previous_closes(settings: Settings) -> dict[str, float]:
    """Return the last daily close before today in New York by ticker, on today's shares. Raises ServiceError."""
    rows = Athena(settings).query(_SQL).dropna()
    return dict(zip(rows["symbol"], rows["previous_close"], strict=True))


def keep_fresh(market: Market, settings: Settings, is_closing: threading.Event) -> None:
    """Give the market the closes now and every hour. Without them it shows the change since its first tick."""
    while True:
        try:
            market.take_closes(previous_closes(settings))
        except ServiceError as error:
            log.warning("no previous closes", extra={"reason": error, "change": "since the first tick"})
        if is_closing.wait(REFRESH_SECONDS):
            return
