-- The latest record per action, in the kinds that new raw days touch, each dividend with the last close before its ex-date.
-- Placeholders as in bars.sql, and the curated bars. Cancelled actions stay here, where they outrank what was listed before; the view
-- leaves them out. The close is of a daily bar of the 400 days before, else of a shorter bar of the 10 days before (no US stock trades
-- at midnight in New York, which is 04:00 or 05:00 UTC), else of a whole week. Bars of an unknown basis are no reference.
SELECT
  id, symbol, time, split_from, split_to, amount, currency, adjusted_to, declaration_day, record_day, pay_day, category, new_symbol,
  until_day, figi, cancelled, source, ingested_at, reference_close, reference_adjusted_to, kind
FROM (
  WITH latest AS (
    SELECT *
    FROM (
      SELECT *, row_number() OVER (
        PARTITION BY source, kind, id
        ORDER BY ingested_at DESC, time DESC, amount DESC, split_to DESC, cancelled DESC
      ) AS recency
      FROM (
        SELECT
          id, symbol, time, split_from, split_to, amount, currency, adjusted_to, declaration_day, record_day, pay_day, category,
          new_symbol, until_day, figi, cancelled, source, ingested_at, kind
        FROM $curated
        UNION ALL
        SELECT
          id, symbol, time, split_from, split_to, amount, currency, adjusted_to, declaration_day, record_day, pay_day, category,
          new_symbol, until_day, figi, cancelled, source, ingested_at, kind
        FROM (
          $raw
        )
      )
      WHERE $touched
    )
    WHERE recency = 1
  ),
  closes AS (
    SELECT symbol, time, "interval", "close",
      CASE
        WHEN adjusted_to IS NOT NULL THEN adjusted_to
        WHEN adjusted THEN substr(CAST(ingested_at - INTERVAL '5' HOUR AS varchar(23)), 1, 10)
        WHEN adjusted IS NULL AND source LIKE 'csv:%' THEN 'unknown'
        WHEN "interval" IN ('1d', '1w') THEN substr(CAST(time AS varchar(23)), 1, 10)
        ELSE substr(CAST(time - INTERVAL '4' HOUR AS varchar(23)), 1, 10)
      END AS basis
    FROM $bars
    WHERE "close" > 0 AND "interval" NOT IN ('5d', '1mo', '3mo', '1y')
  ),
  found AS (
    SELECT
      dividends.source, dividends.id,
      max_by(b."close", b.time) FILTER (WHERE b."interval" = '1d') AS daily_close,
      max_by(b.basis, b.time) FILTER (WHERE b."interval" = '1d') AS daily_basis,
      max_by(b."close", b.time) FILTER (WHERE b."interval" NOT IN ('1d', '1w')) AS short_close,
      max_by(b.basis, b.time) FILTER (WHERE b."interval" NOT IN ('1d', '1w')) AS short_basis,
      max_by(b."close", b.time) FILTER (WHERE b."interval" = '1w') AS weekly_close,
      max_by(b.basis, b.time) FILTER (WHERE b."interval" = '1w') AS weekly_basis
    FROM latest AS dividends
    JOIN closes AS b ON b.symbol = dividends.symbol AND b.basis <> 'unknown' AND (
      (b."interval" = '1d' AND b.time < dividends.time AND b.time >= dividends.time - INTERVAL '400' DAY)
      OR (b."interval" = '1w' AND b.time <= dividends.time - INTERVAL '7' DAY AND b.time >= dividends.time - INTERVAL '30' DAY)
      OR (b."interval" NOT IN ('1d', '1w') AND b.time < dividends.time + INTERVAL '4' HOUR
        AND b.time >= dividends.time - INTERVAL '10' DAY)
    )
    WHERE dividends.kind = 'dividend'
    GROUP BY dividends.source, dividends.id
  )
  SELECT
    latest.*,
    coalesce(daily_close, short_close, weekly_close) AS reference_close,
    CASE
      WHEN daily_close IS NOT NULL THEN daily_basis
      WHEN short_close IS NOT NULL THEN short_basis
      ELSE weekly_basis
    END AS reference_adjusted_to
  FROM latest
  LEFT JOIN found ON latest.kind = 'dividend' AND found.source = latest.source AND found.id = latest.id
)
