-- Which company a ticker was on which days, by its name of today. Tickers of companies that never changed theirs are not in it. The days of a
-- change are loose in the sources, by a week at most. Before the first of them the ticker was another company's: its bars of
-- Polygon/Massive go by another name then; files of other vendors have the history under the name of today already.
WITH spans AS (
  SELECT symbol, new_symbol, date(time) AS first_day, CAST(until_day AS date) AS until_day, figi
  FROM $actions
  WHERE kind = 'symbol_change'
)
SELECT symbol, new_symbol AS name, first_day - INTERVAL '7' DAY AS from_day,
  coalesce(until_day + INTERVAL '7' DAY, DATE '9999-12-31') AS until_day, figi, false AS is_before
FROM spans
UNION ALL
SELECT symbol, symbol || ' before ' || CAST(min(first_day) AS varchar), DATE '0001-01-01', min(first_day) - INTERVAL '7' DAY,
  CAST(NULL AS varchar), true
FROM spans
GROUP BY symbol
