-- The bars on the shares of today, whatever the basis that each was stored on. basis says which that was; a bar of an unknown basis keeps
-- its prices, and has no total_return_close. symbol is the company's name of today. price_views.py says what the names with $ stand for.
SELECT symbol, company, time, "interval",
  "open" * split_factor AS "open", high * split_factor AS high, low * split_factor AS low, "close" * split_factor AS "close",
  volume / split_factor AS volume, vwap * split_factor AS vwap, trades, adjusted, source, ingested_at, adjusted_to, month,
  CASE WHEN basis <> 'unknown' THEN "close" * split_factor * spin_off_factor * dividend_factor END AS total_return_close,
  "close" * split_factor / own_split_factor AS close_as_traded, 1 / own_split_factor AS as_traded_factor,
  split_factor, dividend_factor, basis
FROM (
  SELECT *,
    coalesce(element_at(split_factors, basis_place), 1e0) AS split_factor,
    IF(basis = 'unknown', 1e0, coalesce(element_at(split_factors, own_place), 1e0)) AS own_split_factor,
    coalesce(element_at(spin_off_factors, basis_place), 1e0) AS spin_off_factor,
    coalesce(element_at(dividend_factors, own_place), 1e0) AS dividend_factor
  FROM (
    SELECT *,
      1 + width_bucket(bar_time, own_steps) AS own_place,
      CASE
        WHEN basis = 'as traded' THEN 1 + width_bucket(bar_time, own_steps)
        WHEN basis <> 'unknown' THEN 1 + width_bucket(basis_time, days)
      END AS basis_place
    FROM (
      SELECT b.*, a.days, a.split_factors, a.spin_off_factors, a.dividend_factors, to_unixtime(b.time) AS bar_time,
        to_unixtime(CAST(try_cast(b.basis AS date) AS timestamp)) AS basis_time,
        IF(b."interval" IN ('1d', '5d', '1w', '1mo', '3mo', '1y'), a.days, a.instants) AS own_steps
      FROM (
        SELECT *,
          CASE
            WHEN adjusted_to IS NOT NULL THEN adjusted_to
            WHEN adjusted THEN substr(CAST(ingested_at - INTERVAL '5' HOUR AS varchar(23)), 1, 10)
            WHEN adjusted IS NULL AND source LIKE 'csv:%' THEN 'unknown'
            ELSE 'as traded'
          END AS basis
        FROM (
          SELECT symbol, $columns
          FROM $bars
          WHERE symbol NOT IN (SELECT symbol FROM $symbols)
          UNION ALL
          -- Only tickers that changed hands or names pass through the window.
          SELECT name AS symbol, $columns
          FROM (
            SELECT *, row_number() OVER (
              PARTITION BY name, "interval", time, month
              ORDER BY ingested_at DESC, source DESC, symbol DESC
            ) AS recency
            FROM (
              SELECT b.*,
                coalesce(
                  element_at(filter(named.spans, s -> date(b.time) >= s.from_day AND date(b.time) < s.until_day
                    AND (NOT s.is_before OR b.source = 'polygon')), 1).name,
                  b.symbol
                ) AS name
              FROM $bars AS b
              JOIN (SELECT symbol, array_sort(array_agg($span)) AS spans FROM $symbols GROUP BY symbol) AS named
                ON named.symbol = b.symbol
            )
          )
          WHERE recency = 1
        )
      ) AS b
      LEFT JOIN $adjustments AS a ON a.symbol = b.symbol
    )
  )
)
