-- The latest record per symbol, interval and time, in one slice of the partitions that new raw days touch.
-- Athena (Trino) and Spark (ANSI) both run this text. What stands for the placeholders: the curated table as it is, a SELECT of the
-- new rows with typed columns, and the condition that names the slice. A curated table has one row per key: only what is new, and the
-- curated rows that it meets, go through the window, as in the view.
WITH old AS (
  SELECT
    symbol, company, time, "open", high, low, "close", volume, vwap, trades, adjusted, source, ingested_at,
    adjusted_to, "interval", month
  FROM $curated
  WHERE $touched
), new AS (
  SELECT
    symbol, company, time, "open", high, low, "close", volume, vwap, trades, adjusted, source, ingested_at,
    adjusted_to, "interval", month
  FROM (
    $raw
  )
  WHERE $touched
)
SELECT
  symbol, company, time, "open", high, low, "close", volume, vwap, trades, adjusted, source, ingested_at, adjusted_to,
  "interval", month
FROM old
WHERE NOT EXISTS (
  SELECT 1 FROM new
  WHERE new.symbol = old.symbol AND new."interval" = old."interval" AND new.time = old.time AND new.month = old.month
)
UNION ALL
SELECT
  symbol, company, time, "open", high, low, "close", volume, vwap, trades, adjusted, source, ingested_at, adjusted_to,
  "interval", month
FROM (
  SELECT *, row_number() OVER (
    PARTITION BY symbol, "interval", time, month
    -- Of two records ingested in the same millisecond every engine and the view must choose the same.
    ORDER BY ingested_at DESC, source DESC, "close" DESC, volume DESC
  ) AS recency
  FROM (
    SELECT
      symbol, company, time, "open", high, low, "close", volume, vwap, trades, adjusted, source, ingested_at,
      adjusted_to, "interval", month
    FROM new
    UNION ALL
    SELECT
      old.symbol, old.company, old.time, old."open", old.high, old.low, old."close", old.volume, old.vwap, old.trades,
      old.adjusted, old.source, old.ingested_at, old.adjusted_to, old."interval", old.month
    FROM old JOIN (SELECT DISTINCT symbol, "interval", time, month FROM new) AS met
      ON met.symbol = old.symbol AND met."interval" = old."interval" AND met.time = old.time AND met.month = old.month
  )
)
WHERE recency = 1
