-- Which company a ticker was on which days, by its name of today. Tickers of companies that never changed theirs are not in it. The days of a
-- change are loose in the sources, by a week at most. Before the first of them the ticker was another company's: its bars of
-- Polygon/Massive go by another name then; files of other vendors have the history under the name of today already.
SELECT symbol, IF(is_before, symbol || ' before ' || CAST(first_day AS varchar(10)), new_symbol) AS name,
  IF(is_before, DATE '0001-01-01', day - INTERVAL '7' DAY) AS from_day,
  IF(is_before, first_day - INTERVAL '7' DAY, coalesce(until_day + INTERVAL '7' DAY, DATE '9999-12-31')) AS until_day,
  IF(is_before, NULL, figi) AS figi, is_before
FROM (
  SELECT symbol, new_symbol, date(time) AS day, CAST(until_day AS date) AS until_day, figi,
    min(date(time)) OVER (PARTITION BY symbol) AS first_day, row_number() OVER (PARTITION BY symbol ORDER BY time, id) AS place
  FROM $actions
  WHERE kind = 'symbol_change'
)
CROSS JOIN (VALUES (false), (true)) AS rows_of (is_before)
WHERE NOT is_before OR place = 1
