-- The latest record per symbol, interval and time, in the partitions that new raw days touch.
-- Athena (Trino) and Spark (ANSI) both run this text. What stands for the placeholders: the curated table as it is, a SELECT of the
-- new raw days with typed columns, and the condition that names the partitions.
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
      symbol, company, time, "interval", "open", high, low, "close", volume, vwap, trades, adjusted, source, ingested_at,
      adjusted_to, month
    FROM $curated
    UNION ALL
    SELECT
      symbol, company, time, "interval", "open", high, low, "close", volume, vwap, trades, adjusted, source, ingested_at,
      adjusted_to, month
    FROM (
      $raw
    )
  )
  WHERE $touched
)
WHERE recency = 1
