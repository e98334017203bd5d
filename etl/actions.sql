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
  names AS (
    -- As in the view symbols: a company that changed its name has its closes under the old one.
    SELECT symbol, new_symbol AS name, false AS is_before, time - INTERVAL '7' DAY AS from_time,
      coalesce(CAST(until_day AS timestamp) + INTERVAL '7' DAY, TIMESTAMP '2200-01-01 00:00:00') AS until_time
    FROM latest
    WHERE kind = 'symbol_change' AND NOT coalesce(cancelled, false)
    UNION ALL
    SELECT symbol, concat(symbol, ' before'), true, TIMESTAMP '1700-01-01 00:00:00', min(time) - INTERVAL '7' DAY
    FROM latest
    WHERE kind = 'symbol_change' AND NOT coalesce(cancelled, false)
    GROUP BY symbol
  ),
  closes AS (
    SELECT coalesce(names.name, b.symbol) AS name, b.time, b."interval", b."close",
      CASE
        WHEN b.adjusted_to IS NOT NULL THEN b.adjusted_to
        WHEN b.adjusted THEN substr(CAST(b.ingested_at - INTERVAL '5' HOUR AS varchar(23)), 1, 10)
        WHEN b.adjusted IS NULL AND b.source LIKE 'csv:%' THEN 'unknown'
        WHEN b."interval" IN ('1d', '1w') THEN substr(CAST(b.time AS varchar(23)), 1, 10)
        ELSE substr(CAST(b.time - INTERVAL '4' HOUR AS varchar(23)), 1, 10)
      END AS basis
    FROM $bars AS b
    LEFT JOIN names ON names.symbol = b.symbol AND b.time >= names.from_time AND b.time < names.until_time
      AND (NOT names.is_before OR b.source = 'polygon')
    WHERE b."close" > 0 AND b."interval" NOT IN ('5d', '1mo', '3mo', '1y')
  ),
  dividends AS (
    SELECT latest.source, latest.id, latest.time, coalesce(names.name, latest.symbol) AS name
    FROM latest
    LEFT JOIN names ON names.symbol = latest.symbol AND latest.time >= names.from_time AND latest.time < names.until_time
      AND (NOT names.is_before OR latest.source = 'polygon')
    WHERE latest.kind = 'dividend'
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
    FROM dividends
    JOIN closes AS b ON b.name = dividends.name AND b.basis <> 'unknown' AND (
      (b."interval" = '1d' AND b.time < dividends.time AND b.time >= dividends.time - INTERVAL '400' DAY)
      OR (b."interval" = '1w' AND b.time <= dividends.time - INTERVAL '7' DAY AND b.time >= dividends.time - INTERVAL '30' DAY)
      OR (b."interval" NOT IN ('1d', '1w') AND b.time < dividends.time + INTERVAL '4' HOUR
        AND b.time >= dividends.time - INTERVAL '10' DAY)
    )
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
