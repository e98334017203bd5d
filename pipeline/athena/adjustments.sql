-- One row per symbol: from which day or instant on which factors hold. days and instants rise; the factors have one element more, of the
-- time behind the last of them, and element 1 + width_bucket(time, days) is the one that holds. Two kinds of actions are not applied:
-- those that the query suspicious_actions shows as errors, and those of days to come. The actions are read once, and all that follows is
-- done with arrays: each further part of a query costs an engine as much time as thousands of actions. pipeline/athena/price_views.py says
-- what the names with $ stand for, and turns Athena's words into Spark's.
WITH listed AS (
  SELECT coalesce(named.name, a.symbol) AS symbol, a.kind, date(a.time) AS day, a.amount, a.reference_close,
    CASE WHEN a.split_to > 0 AND a.split_from > 0 THEN a.split_to / a.split_from END AS ratio,
    -- An amount as declared is of a share held before the day, thus before a split of the same day.
    to_unixtime(CAST(coalesce(CAST(a.adjusted_to AS date), date(a.time) - INTERVAL '1' DAY) AS timestamp)) AS amount_time,
    to_unixtime(CAST(CAST(a.reference_adjusted_to AS date) AS timestamp)) AS reference_time,
    a.source, a.ingested_at, IF(a.source LIKE 'csv:%', 'csv', a.source) AS vendor
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
by_day AS (
  SELECT symbol, day,
    reduce(array_sort(array_agg(coalesce(IF(is_spin_off, 1e0, ratio), 1e0))), 1e0, (s, x) -> s * x, s -> s) AS ratio,
    reduce(array_sort(array_agg(IF(is_spin_off, ratio, 1e0))), 1e0, (s, x) -> s * x, s -> s) AS spin_off,
    array_sort(array_agg($payment) FILTER (WHERE is_paid)) AS paid,
    max(reference_close) FILTER (WHERE is_paid) AS reference_close,
    max_by(reference_time, reference_close) FILTER (WHERE is_paid) AS reference_time
  FROM (
    -- A ratio near 1 that is no n:m is a spin-off: it belongs to the total return, and moves no volume.
    SELECT *,
      ratio BETWEEN 0.8e0 AND 1.25e0
        AND NOT any_match(sequence(1, 50), n -> abs(ratio * n - round(ratio * n)) / n < 5e-5) AS is_spin_off,
      kind = 'dividend' AND amount > 0 AND reference_close > 0 AS is_paid,
      lead(day) OVER (PARTITION BY symbol, kind, ratio ORDER BY day) AS same_again
    FROM chosen
  )
  -- A split that was moved may be listed twice: of equal ones within 30 days the last counts.
  WHERE kind = 'dividend' OR same_again IS NULL OR same_again = day OR same_again > day + INTERVAL '30' DAY
  GROUP BY symbol, day
),
by_symbol AS (
  SELECT symbol, array_sort(array_agg($day_of_actions)) AS each_day
  FROM (
    SELECT *, to_unixtime(CAST(day AS timestamp)) AS day_time,
      to_unixtime(with_timezone(CAST(day AS timestamp), 'America/New_York')) AS instant
    FROM by_day
  )
  GROUP BY symbol
),
of_shares AS (
  -- The products of what is still to come, from the last day backwards.
  SELECT symbol, each_day, transform(each_day, d -> d.day_time) AS days,
    reduce(reverse(each_day), ARRAY[1e0], (later, d) -> concat(ARRAY[d.ratio * element_at(later, 1)], later), later -> later) AS ratios,
    reduce(reverse(each_day), ARRAY[1e0], (later, d) -> concat(ARRAY[d.spin_off * element_at(later, 1)], later), later -> later) AS spin_offs
  FROM by_symbol
),
of_dividends AS (
  -- What is kept of a close, from amount and close on today's shares.
  SELECT *,
    transform(
      each_day,
      d -> 1 - reduce(d.paid, 0e0, (s, p) -> s + p.amount / element_at(shares, 1 + width_bucket(p.amount_time, days)), s -> s)
        / (d.reference_close / element_at(shares, 1 + width_bucket(d.reference_time, days)))
    ) AS kept
  FROM (SELECT *, zip_with(ratios, spin_offs, (r, s) -> r * s) AS shares FROM of_shares)
)
SELECT symbol, days,
  transform(each_day, d -> d.instant) AS instants,
  transform(ratios, r -> 1 / r) AS split_factors,
  transform(spin_offs, r -> 1 / r) AS spin_off_factors,
  -- What pays out more than the share was worth is an error of unit, of basis or of currency.
  reduce(
    reverse(kept), ARRAY[1e0], (later, k) -> concat(ARRAY[IF(k > 0, k, 1e0) * element_at(later, 1)], later), later -> later
  ) AS dividend_factors
FROM of_dividends
