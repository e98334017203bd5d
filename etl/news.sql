-- The latest record per article and symbol, in one slice of the months that new raw days touch. Placeholders as in bars.sql.
WITH old AS (
  SELECT id, symbol, time, title, publisher, url, sentiment, reason, source, ingested_at, month
  FROM $curated
  WHERE $touched
), new AS (
  SELECT id, symbol, time, title, publisher, url, sentiment, reason, source, ingested_at, month
  FROM (
    $raw
  )
  WHERE $touched
)
SELECT id, symbol, time, title, publisher, url, sentiment, reason, source, ingested_at, month
FROM old
WHERE NOT EXISTS (SELECT 1 FROM new WHERE new.id = old.id AND new.symbol = old.symbol AND new.month = old.month)
UNION ALL
SELECT id, symbol, time, title, publisher, url, sentiment, reason, source, ingested_at, month
FROM (
  SELECT *, row_number() OVER (
    PARTITION BY id, symbol, month
    ORDER BY ingested_at DESC, source DESC, title DESC, time DESC
  ) AS recency
  FROM (
    SELECT id, symbol, time, title, publisher, url, sentiment, reason, source, ingested_at, month
    FROM new
    UNION ALL
    SELECT
      old.id, old.symbol, old.time, old.title, old.publisher, old.url, old.sentiment, old.reason, old.source,
      old.ingested_at, old.month
    FROM old JOIN (SELECT DISTINCT id, symbol, month FROM new) AS met
      ON met.id = old.id AND met.symbol = old.symbol AND met.month = old.month
  )
)
WHERE recency = 1
