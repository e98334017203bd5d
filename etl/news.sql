-- The latest record per article and symbol, in the months that new raw days touch. Placeholders as in bars.sql.
SELECT id, symbol, time, title, publisher, url, sentiment, reason, source, ingested_at, month
FROM (
  SELECT *, row_number() OVER (
    PARTITION BY id, symbol, month
    ORDER BY ingested_at DESC, source DESC, title DESC, time DESC
  ) AS recency
  FROM (
    SELECT id, symbol, time, title, publisher, url, sentiment, reason, source, ingested_at, month
    FROM $curated
    UNION ALL
    SELECT id, symbol, time, title, publisher, url, sentiment, reason, source, ingested_at, month
    FROM (
      $raw
    )
  )
  WHERE $touched
)
WHERE recency = 1
