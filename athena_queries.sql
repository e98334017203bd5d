-- Questions to the view bars (and ticks, news), for Athena engine version 3. Each block is one statement: paste it into the console as
-- it stands, or run it with `python -m pipeline.athena NAME`. What may be changed are the literals in the first lines of a block.
-- bars has one row per symbol, interval and time, the latest that was landed. A condition on month ('YYYY-MM', as bars has it)
-- spares Athena from reading the other months.

-- name: monthly_performance
-- How did each ticker do, month by month? Average, first and last close of every month, for a heatmap.
WITH daily AS (
  SELECT symbol, time, close
  FROM bars
  WHERE "interval" = '1d' AND month >= '1970-01'
)
SELECT
  symbol,
  date(date_trunc('month', time)) AS month,
  avg(close) AS average_close,
  min_by(close, time) AS first_close,
  max_by(close, time) AS last_close,
  count(*) AS days
FROM daily
GROUP BY symbol, date_trunc('month', time)
ORDER BY symbol, month;

-- name: closing_trend
-- How did the closing prices move?
SELECT symbol, date(time) AS day, close
FROM bars
WHERE "interval" = '1d' AND month >= '1970-01'
ORDER BY symbol, day;

-- name: volume_by_ticker
-- Which tickers are traded most?
SELECT
  symbol,
  sum(volume) AS total_volume,
  avg(volume) AS average_volume,
  max(volume) AS highest_volume,
  count(*) AS days
FROM bars
WHERE "interval" = '1d' AND month >= '1970-01'
GROUP BY symbol
ORDER BY total_volume DESC;

-- name: daily_average_price
-- What did a share cost on average, day by day? The mean of open, high, low and close over the day's bars of one interval.
SELECT
  symbol,
  date(time) AS day,
  avg((open + high + low + close) / 4) AS average_price,
  min(low) AS lowest_price,
  max(high) AS highest_price,
  count(*) AS bars
FROM bars
WHERE "interval" = '1d' AND month >= '1970-01'
GROUP BY symbol, date(time)
ORDER BY symbol, day;

-- name: volatility
-- How much does each ticker swing? Standard deviation of the last 20 daily log returns, times the root of 252 trading days.
WITH daily AS (
  SELECT symbol, date(time) AS day, ln(close / lag(close) OVER (PARTITION BY symbol ORDER BY time)) AS daily_return
  FROM bars
  WHERE "interval" = '1d' AND month >= '1970-01'
),
windowed AS (
  SELECT
    symbol,
    day,
    stddev_samp(daily_return) OVER last_20_days AS deviation,
    count(daily_return) OVER last_20_days AS returns
  FROM daily
  WINDOW last_20_days AS (PARTITION BY symbol ORDER BY day ROWS BETWEEN 19 PRECEDING AND CURRENT ROW)
)
SELECT symbol, day, IF(returns = 20, deviation * sqrt(252)) AS volatility
FROM windowed
ORDER BY symbol, day;

-- name: moving_averages
-- Is the price above its own past? Averages of the last 10, 30 and 50 closes, empty until there are that many.
WITH daily AS (
  SELECT symbol, date(time) AS day, close, row_number() OVER (PARTITION BY symbol ORDER BY time) AS days
  FROM bars
  WHERE "interval" = '1d' AND month >= '1970-01'
)
SELECT
  symbol,
  day,
  close,
  IF(days >= 10, avg(close) OVER (PARTITION BY symbol ORDER BY day ROWS BETWEEN 9 PRECEDING AND CURRENT ROW)) AS average_10_days,
  IF(days >= 30, avg(close) OVER (PARTITION BY symbol ORDER BY day ROWS BETWEEN 29 PRECEDING AND CURRENT ROW)) AS average_30_days,
  IF(days >= 50, avg(close) OVER (PARTITION BY symbol ORDER BY day ROWS BETWEEN 49 PRECEDING AND CURRENT ROW)) AS average_50_days
FROM daily
ORDER BY symbol, day;
