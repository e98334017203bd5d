-- One row per symbol: from which day or instant on which factors hold. days and instants rise; the factors have one element more, of the
-- time behind the last of them, and element 1 + width_bucket(time, days) is the one that holds. Two kinds of actions are not applied:
-- those that the query suspicious_actions shows as errors, and those of days to come.
WITH listed AS (
  SELECT coalesce(named.name, a.symbol) AS symbol, a.kind, date(a.time) AS day, a.split_from, a.split_to, a.amount, a.adjusted_to,
    a.reference_close, a.reference_adjusted_to, a.source, a.ingested_at, IF(a.source LIKE 'csv:%', 'csv', a.source) AS vendor
  FROM $actions AS a
  LEFT JOIN $symbols AS named ON named.symbol = a.symbol AND date(a.time) >= named.from_day AND date(a.time) < named.until_day
    AND (NOT named.is_before OR a.source = 'polygon')
  WHERE a.kind IN ('split', 'dividend') AND date(a.time) <= $today
    -- The bars of the APIs are in dollars.
    AND coalesce(a.currency, 'USD') = 'USD'
),
chosen AS (
  -- One source per symbol and kind: Polygon/Massive, else Alpha Vantage, else another API, else CSV files, of which the one that was
  -- read last counts for each day.
  SELECT *
  FROM (
    SELECT *,
      rank() OVER (
        PARTITION BY symbol, kind
        ORDER BY CASE vendor WHEN 'polygon' THEN 1 WHEN 'alpha_vantage' THEN 2 WHEN 'csv' THEN 9 ELSE 5 END, vendor
      ) AS vendor_rank,
      max_by(source, ingested_at) OVER (PARTITION BY symbol, kind, vendor, day) AS last_source
    FROM listed
  )
  WHERE vendor_rank = 1 AND source = last_source
),
ratios AS (
  -- A split that was moved may be listed twice: of equal ones within 30 days the last counts.
  SELECT symbol, day, ratio
  FROM (
    SELECT symbol, day, split_to / split_from AS ratio,
      lead(day) OVER (PARTITION BY symbol, split_to / split_from ORDER BY day) AS same_again
    FROM chosen
    WHERE kind = 'split' AND split_to > 0 AND split_from > 0
  )
  WHERE same_again IS NULL OR same_again = day OR same_again > day + INTERVAL '30' DAY
),
splits AS (
  -- A ratio near 1 that is no n:m is a spin-off: it belongs to the total return, and moves no volume.
  SELECT symbol, day,
    reduce(array_agg(IF(is_spin_off, 1e0, ratio)), 1e0, (s, x) -> s * x, s -> s) AS ratio,
    reduce(array_agg(IF(is_spin_off, ratio, 1e0)), 1e0, (s, x) -> s * x, s -> s) AS spin_off
  FROM (
    SELECT symbol, day, ratio,
      ratio BETWEEN 0.8e0 AND 1.25e0
        AND none_match(sequence(1, 50), n -> abs(ratio * n - round(ratio * n)) / n < 5e-5) AS is_spin_off
    FROM ratios
  )
  GROUP BY symbol, day
),
share_basis AS (
  SELECT symbol, array_agg(to_unixtime(CAST(day AS timestamp)) ORDER BY day) AS days, array_agg(later ORDER BY day) || 1e0 AS later
  FROM (
    SELECT symbol, day, reduce(array_agg(ratio * spin_off) OVER (
      PARTITION BY symbol ORDER BY day ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING), 1e0, (s, x) -> s * x, s -> s) AS later
    FROM splits
  )
  GROUP BY symbol
),
dividends AS (
  -- Amount and close on today's shares. An amount as declared is of a share held before the day, thus before a split of the same day.
  SELECT a.symbol, a.day,
    1 - sum(a.amount / coalesce(element_at(s.later, width_bucket(
      to_unixtime(CAST(coalesce(CAST(a.adjusted_to AS date), a.day - INTERVAL '1' DAY) AS timestamp)), s.days) + 1), 1e0))
      / arbitrary(a.reference_close / coalesce(element_at(s.later, width_bucket(
        to_unixtime(CAST(CAST(a.reference_adjusted_to AS date) AS timestamp)), s.days) + 1), 1e0)) AS kept
  FROM chosen AS a
  LEFT JOIN share_basis AS s ON s.symbol = a.symbol
  WHERE a.kind = 'dividend' AND a.amount > 0 AND a.reference_close > 0
  GROUP BY a.symbol, a.day
),
per_day AS (
  -- What pays out more than the share was worth is an error of unit, of basis or of currency.
  SELECT coalesce(s.symbol, d.symbol) AS symbol, coalesce(s.day, d.day) AS day, coalesce(s.ratio, 1e0) AS ratio,
    coalesce(s.spin_off, 1e0) AS spin_off, IF(d.kept > 0, d.kept, 1e0) AS kept
  FROM splits AS s
  FULL JOIN dividends AS d ON d.symbol = s.symbol AND d.day = s.day
),
cumulated AS (
  SELECT symbol, day,
    1 / reduce(array_agg(ratio) OVER later, 1e0, (s, x) -> s * x, s -> s) AS split_factor,
    1 / reduce(array_agg(spin_off) OVER later, 1e0, (s, x) -> s * x, s -> s) AS spin_off_factor,
    reduce(array_agg(kept) OVER later, 1e0, (s, x) -> s * x, s -> s) AS dividend_factor
  FROM per_day
  WINDOW later AS (PARTITION BY symbol ORDER BY day ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)
)
SELECT symbol,
  array_agg(to_unixtime(CAST(day AS timestamp)) ORDER BY day) AS days,
  array_agg(to_unixtime(with_timezone(CAST(day AS timestamp), 'America/New_York')) ORDER BY day) AS instants,
  array_agg(split_factor ORDER BY day) || 1e0 AS split_factors,
  array_agg(spin_off_factor ORDER BY day) || 1e0 AS spin_off_factors,
  array_agg(dividend_factor ORDER BY day) || 1e0 AS dividend_factors
FROM cumulated
GROUP BY symbol
