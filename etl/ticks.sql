-- The ticks of whole days, in one slice: a tick has no key, so nothing is merged. Placeholders as in bars.sql; the curated table is not read.
SELECT symbol, time, price, volume, source, ingested_at, dt
FROM (
  $raw
)
WHERE $touched
