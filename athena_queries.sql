-- Queries of the views bars, ticks and news, for Athena engine version 3. Each block is one statement: paste it into the console as
-- it is, or run it with `python -m pipeline.athena NAME`. Change the literals in the first lines of a block as you like.
-- Whatever compares prices of different days reads adjusted_bars, whose prices and volumes are on the shares of today: a split makes no
-- jump there. For prices as traded run a block with `python -m pipeline.athena NAME --as-traded`; bars has them as they were stored.
-- bars has one row per symbol, interval and time: the latest one. Give a condition on month ('YYYY-MM', a column of bars), so Athena
-- skips the other months. Always give raw tables a condition on dt: without one Athena lists every day.

-- name: monthly_performance
-- How did each ticker do, month by month? Average, first and last close of every month, for a heatmap.
WITH daily AS (
  SELECT symbol, time, "close"
  FROM adjusted_bars
  WHERE "interval" = '1d' AND month >= '1970-01'
)
SELECT
  symbol,
  date(date_trunc('month', time)) AS month,
  avg("close") AS average_close,
  min_by("close", time) AS first_close,
  max_by("close", time) AS last_close,
  count(*) AS days
FROM daily
GROUP BY symbol, date_trunc('month', time)
ORDER BY symbol, month;

-- name: closing_trend
-- How did the closing prices move?
SELECT symbol, date(time) AS day, "close"
FROM adjusted_bars
WHERE "interval" = '1d' AND month >= '1970-01'
ORDER BY symbol, day;

-- name: daily_bars
-- The daily bars themselves, for candles, files and other programs.
SELECT symbol, date(time) AS day, "open", high, low, "close", volume
FROM adjusted_bars
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
FROM adjusted_bars
WHERE "interval" = '1d' AND month >= '1970-01'
GROUP BY symbol
ORDER BY total_volume DESC, symbol;

-- name: volume_by_month
-- When is each ticker traded most? Volume of every month, and its share of all tickers' volume in that month.
WITH monthly AS (
  SELECT symbol, date(date_trunc('month', time)) AS month, sum(volume) AS total_volume, count(*) AS days
  FROM adjusted_bars
  WHERE "interval" = '1d' AND month >= '1970-01'
  GROUP BY symbol, date_trunc('month', time)
)
SELECT symbol, month, total_volume, days, total_volume / nullif(sum(total_volume) OVER (PARTITION BY month), 0) AS share_of_month
FROM monthly
ORDER BY symbol, month;

-- name: daily_average_price
-- What did a share cost on average, day by day? The mean of open, high, low and close over the day's bars of one interval.
SELECT
  symbol,
  date(time) AS day,
  avg(("open" + high + low + "close") / 4) AS average_price,
  min(low) AS lowest_price,
  max(high) AS highest_price,
  count(*) AS bars
FROM adjusted_bars
WHERE "interval" = '1d' AND month >= '1970-01'
GROUP BY symbol, date(time)
ORDER BY symbol, day;

-- name: moving_averages
-- Is the price above its own past? Averages of the last 10, 30 and 50 closes, empty until there are that many.
WITH daily AS (
  SELECT symbol, date(time) AS day, "close", row_number() OVER (PARTITION BY symbol ORDER BY time) AS days
  FROM adjusted_bars
  WHERE "interval" = '1d' AND month >= '1970-01'
)
SELECT
  symbol,
  day,
  "close",
  IF(days >= 10, avg("close") OVER (PARTITION BY symbol ORDER BY day ROWS BETWEEN 9 PRECEDING AND CURRENT ROW)) AS average_10_days,
  IF(days >= 30, avg("close") OVER (PARTITION BY symbol ORDER BY day ROWS BETWEEN 29 PRECEDING AND CURRENT ROW)) AS average_30_days,
  IF(days >= 50, avg("close") OVER (PARTITION BY symbol ORDER BY day ROWS BETWEEN 49 PRECEDING AND CURRENT ROW)) AS average_50_days
FROM daily
ORDER BY symbol, day;

-- name: volatility
-- How much does each ticker swing? Standard deviation of the last 20 daily log returns, times the root of 252 trading days.
WITH daily AS (
  SELECT symbol, date(time) AS day, ln("close" / nullif(lag("close") OVER (PARTITION BY symbol ORDER BY time), 0)) AS daily_return
  FROM adjusted_bars
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

-- name: returns
-- What did a holder gain over a day, a week and a month? Over 1, 5 and 21 trading days; 0.01 is one percent.
WITH daily AS (
  SELECT
    symbol,
    date(time) AS day,
    "close",
    lag("close", 1) OVER (PARTITION BY symbol ORDER BY time) AS close_1_day_before,
    lag("close", 5) OVER (PARTITION BY symbol ORDER BY time) AS close_5_days_before,
    lag("close", 21) OVER (PARTITION BY symbol ORDER BY time) AS close_21_days_before
  FROM adjusted_bars
  WHERE "interval" = '1d' AND month >= '1970-01'
)
SELECT
  symbol,
  day,
  "close" / nullif(close_1_day_before, 0) - 1 AS daily_return,
  "close" / nullif(close_5_days_before, 0) - 1 AS weekly_return,
  "close" / nullif(close_21_days_before, 0) - 1 AS monthly_return
FROM daily
WHERE close_1_day_before IS NOT NULL
ORDER BY symbol, day;

-- name: best_and_worst_days
-- Which were the five best and the five worst days of each ticker?
WITH daily AS (
  SELECT symbol, date(time) AS day, "close" / nullif(lag("close") OVER (PARTITION BY symbol ORDER BY time), 0) - 1 AS daily_return
  FROM adjusted_bars
  WHERE "interval" = '1d' AND month >= '1970-01'
),
ranked AS (
  SELECT
    symbol,
    day,
    daily_return,
    row_number() OVER (PARTITION BY symbol ORDER BY daily_return DESC, day) AS from_best,
    row_number() OVER (PARTITION BY symbol ORDER BY daily_return, day) AS from_worst
  FROM daily
  WHERE daily_return IS NOT NULL
)
SELECT symbol, IF(from_best <= 5, 'best', 'worst') AS kind, IF(from_best <= 5, from_best, from_worst) AS place, day, daily_return
FROM ranked
WHERE from_best <= 5 OR from_worst <= 5
ORDER BY symbol, kind, place;

-- name: correlation_of_returns
-- Which tickers move together? Correlation of the daily returns of every pair, over the days that both have.
WITH daily AS (
  SELECT symbol, date(time) AS day, "close" / nullif(lag("close") OVER (PARTITION BY symbol ORDER BY time), 0) - 1 AS daily_return
  FROM adjusted_bars
  WHERE "interval" = '1d' AND month >= '1970-01'
)
SELECT
  first.symbol AS first_symbol,
  second.symbol AS second_symbol,
  corr(first.daily_return, second.daily_return) AS correlation,
  count(*) AS days
FROM (
  SELECT day, array_agg(ROW(symbol, daily_return)) AS of_day
  FROM daily
  WHERE daily_return IS NOT NULL
  GROUP BY day
)
-- Every pair of a day, from one reading of the bars.
CROSS JOIN UNNEST(of_day) AS first (symbol, daily_return)
CROSS JOIN UNNEST(of_day) AS second (symbol, daily_return)
WHERE second.symbol > first.symbol
GROUP BY first.symbol, second.symbol
ORDER BY first_symbol, second_symbol;

-- name: correlation
-- How are open, high, low, close and volume of one ticker related? Correlation of every pair.
WITH daily AS (
  SELECT symbol, "open" AS o, high AS h, low AS l, "close" AS c, volume AS v
  FROM adjusted_bars
  WHERE "interval" = '1d' AND month >= '1970-01'
),
correlated AS (
  SELECT
    symbol,
    corr(o, h) AS oh, corr(o, l) AS ol, corr(o, c) AS oc, corr(o, v) AS ov, corr(h, l) AS hl,
    corr(h, c) AS hc, corr(h, v) AS hv, corr(l, c) AS lc, corr(l, v) AS lv, corr(c, v) AS cv
  FROM daily
  GROUP BY symbol
)
SELECT symbol, first_column, second_column, correlation
FROM correlated
CROSS JOIN UNNEST(ARRAY[
  ROW('open', 'high', oh), ROW('open', 'low', ol), ROW('open', 'close', oc), ROW('open', 'volume', ov), ROW('high', 'low', hl),
  ROW('high', 'close', hc), ROW('high', 'volume', hv), ROW('low', 'close', lc), ROW('low', 'volume', lv), ROW('close', 'volume', cv)
]) AS pairs (first_column, second_column, correlation)
ORDER BY symbol, first_column, second_column;

-- name: drawdown
-- How far is each ticker below its highest close so far? 0 is a new high, -0.2 is a fifth below it.
WITH daily AS (
  SELECT symbol, date(time) AS day, "close", max("close") OVER (PARTITION BY symbol ORDER BY time) AS highest_close
  FROM adjusted_bars
  WHERE "interval" = '1d' AND month >= '1970-01'
)
SELECT symbol, day, "close", highest_close, "close" / nullif(highest_close, 0) - 1 AS drawdown
FROM daily
ORDER BY symbol, day;

-- name: rsi
-- Is a ticker overbought (above 70) or oversold (below 30)? Relative strength index of 14 days, gains and losses averaged plainly
-- (Cutler's form; Wilder's smoothing has no end in SQL). Empty until there are 14 changes.
WITH daily AS (
  SELECT symbol, date(time) AS day, "close", "close" - lag("close") OVER (PARTITION BY symbol ORDER BY time) AS change
  FROM adjusted_bars
  WHERE "interval" = '1d' AND month >= '1970-01'
),
windowed AS (
  SELECT
    symbol,
    day,
    "close",
    count(change) OVER last_14_days AS changes,
    sum(greatest(change, 0)) OVER last_14_days AS gains,
    sum(greatest(-change, 0)) OVER last_14_days AS losses
  FROM daily
  WINDOW last_14_days AS (PARTITION BY symbol ORDER BY day ROWS BETWEEN 13 PRECEDING AND CURRENT ROW)
)
SELECT symbol, day, "close", IF(changes = 14, 100 * gains / nullif(gains + losses, 0)) AS rsi
FROM windowed
ORDER BY symbol, day;

-- name: bollinger_bands
-- Is the price outside its usual range? The average of 20 closes, and two standard deviations above and below it.
WITH daily AS (
  SELECT symbol, date(time) AS day, "close"
  FROM adjusted_bars
  WHERE "interval" = '1d' AND month >= '1970-01'
),
windowed AS (
  SELECT
    symbol,
    day,
    "close",
    count(*) OVER last_20_days AS days,
    avg("close") OVER last_20_days AS middle,
    stddev_pop("close") OVER last_20_days AS deviation
  FROM daily
  WINDOW last_20_days AS (PARTITION BY symbol ORDER BY day ROWS BETWEEN 19 PRECEDING AND CURRENT ROW)
)
SELECT
  symbol,
  day,
  "close",
  IF(days = 20, middle) AS middle_band,
  IF(days = 20, middle + 2 * deviation) AS upper_band,
  IF(days = 20, middle - 2 * deviation) AS lower_band
FROM windowed
ORDER BY symbol, day;

-- name: vwap
-- At what price was a share traded on average? Volume-weighted by month; from the source's own VWAP where it gives one, else from
-- the typical price (high + low + close) / 3 of each bar.
WITH daily AS (
  SELECT symbol, time, coalesce(vwap, (high + low + "close") / 3) AS price, volume, "close"
  FROM adjusted_bars
  WHERE "interval" = '1d' AND month >= '1970-01'
)
SELECT
  symbol,
  date(date_trunc('month', time)) AS month,
  sum(price * volume) / nullif(sum(volume), 0) AS vwap,
  avg("close") AS average_close,
  sum(volume) AS total_volume
FROM daily
GROUP BY symbol, date_trunc('month', time)
ORDER BY symbol, month;

-- name: spread_of_prices
-- Between which prices does a ticker move? The figures of a box plot of its closes, quartiles interpolated.
WITH daily AS (
  SELECT
    symbol,
    "close",
    row_number() OVER (PARTITION BY symbol ORDER BY "close") - 1 AS place,
    count(*) OVER (PARTITION BY symbol) - 1 AS last_place
  FROM adjusted_bars
  WHERE "interval" = '1d' AND month >= '1970-01'
)
SELECT
  symbol,
  min("close") AS minimum,
  -- Between two places the value is a mixture of theirs, by nearness: each place counts 1 at itself and 0 one place away.
  sum("close" * greatest(0, 1 - abs(place - 0.25e0 * last_place))) AS quartile_1,
  sum("close" * greatest(0, 1 - abs(place - 0.50e0 * last_place))) AS median,
  sum("close" * greatest(0, 1 - abs(place - 0.75e0 * last_place))) AS quartile_3,
  max("close") AS maximum,
  avg("close") AS mean,
  count(*) AS days
FROM daily
GROUP BY symbol
ORDER BY symbol;

-- name: tick_fluctuation
-- How did the live price move, minute by minute?
WITH live AS (
  SELECT symbol, time, price, volume
  FROM ticks
  WHERE dt >= '1970-01-01' AND time >= TIMESTAMP '1970-01-01 00:00:00'
)
SELECT
  symbol,
  date_trunc('minute', time) AS minute,
  min_by(price, time) AS first_price,
  max_by(price, time) AS last_price,
  min(price) AS lowest_price,
  max(price) AS highest_price,
  (max(price) - min(price)) / nullif(min_by(price, time), 0) AS fluctuation,
  sum(volume) AS volume,
  count(*) AS ticks
FROM live
GROUP BY symbol, date_trunc('minute', time)
ORDER BY symbol, minute;

-- name: total_return
-- What is an investment worth, with its dividends put back into the share? Both grow from 1 on each ticker's first day; 1.5 is half as
-- much again. Empty where nobody knows on which shares the prices are (bars_by_basis).
WITH daily AS (
  SELECT symbol, time, "close", total_return_close
  FROM adjusted_bars
  WHERE "interval" = '1d' AND month >= '1970-01'
)
SELECT
  symbol,
  date(time) AS day,
  "close" / nullif(first_value("close") OVER (PARTITION BY symbol ORDER BY time), 0) AS price_growth,
  total_return_close / nullif(first_value(total_return_close) OVER (PARTITION BY symbol ORDER BY time), 0) AS total_growth
FROM daily
ORDER BY symbol, day;

-- name: prices_on_the_shares_of_a_day
-- What were the prices up to a day, on the shares of that day? As a chart of that day would have shown them. Change the day in the
-- first lines; --as-of also leaves out what was not known by then.
WITH chosen AS (
  SELECT DATE '2012-02-14' AS day
)
SELECT
  bars.symbol,
  date(bars.time) AS day,
  bars."close" / coalesce(element_at(a.split_factors, 1 + width_bucket(to_unixtime(CAST(chosen.day AS timestamp)), a.days)), 1e0) AS "close",
  bars.total_return_close / coalesce(
    element_at(a.split_factors, 1 + width_bucket(to_unixtime(CAST(chosen.day AS timestamp)), a.days))
    * element_at(a.spin_off_factors, 1 + width_bucket(to_unixtime(CAST(chosen.day AS timestamp)), a.days))
    * element_at(a.dividend_factors, 1 + width_bucket(to_unixtime(CAST(chosen.day AS timestamp)), a.days)), 1e0) AS total_return_close
FROM adjusted_bars AS bars
CROSS JOIN chosen
LEFT JOIN adjustments AS a ON a.symbol = bars.symbol
WHERE bars."interval" = '1d' AND bars.month >= '1970-01' AND date(bars.time) <= chosen.day
ORDER BY bars.symbol, day;

-- name: dividend_yield
-- What did each share pay in the year up to its last bar, on today's shares, and which part of its last close is that?
WITH daily AS (
  SELECT
    symbol,
    date(time) AS day,
    "close",
    -- A factor steps at each ex-date by 1 - D / close before.
    lag("close") OVER by_day * (1 - lag(dividend_factor) OVER by_day / dividend_factor) AS dividend
  FROM adjusted_bars
  WHERE "interval" = '1d' AND month >= '1970-01'
  WINDOW by_day AS (PARTITION BY symbol ORDER BY time)
),
ended AS (
  SELECT *, max(day) OVER (PARTITION BY symbol) AS last_day
  FROM daily
)
SELECT
  symbol,
  last_day,
  max_by("close", day) AS last_close,
  coalesce(sum(dividend), 0) AS dividends,
  count_if(dividend > 0) AS payments,
  coalesce(sum(dividend), 0) / nullif(max_by("close", day), 0) AS dividend_yield
FROM ended
WHERE day > last_day - INTERVAL '365' DAY
GROUP BY symbol, last_day
ORDER BY dividend_yield DESC, symbol;

-- name: actions
-- Which splits, dividends and changes of a symbol are known? Dividends with the last close before them, once the ETL has looked it up.
SELECT
  symbol,
  date(time) AS day,
  kind,
  split_to / split_from AS ratio,
  amount,
  currency,
  amount / nullif(reference_close, 0) AS share_of_close,
  category,
  new_symbol,
  source
FROM actions
ORDER BY symbol, day, kind, source;

-- name: news_sentiment
-- What is written about each ticker? Articles by month and sentiment.
SELECT
  symbol,
  date(date_trunc('month', time)) AS month,
  count_if(sentiment = 'positive') AS positive,
  count_if(sentiment = 'neutral') AS neutral,
  count_if(sentiment = 'negative') AS negative,
  count_if(sentiment IS NULL) AS unknown
FROM news
WHERE month >= '1970-01'
GROUP BY symbol, date_trunc('month', time)
ORDER BY symbol, month;

-- name: news_and_next_day_return
-- Does the price follow the news? The return of the next session, by the sentiment of the day before. An article of a day without a
-- session counts for the session before it; where the next session has no bar, no return is known.
WITH daily AS (
  SELECT
    symbol,
    date(time) AS day,
    "close",
    lead(date(time)) OVER (PARTITION BY symbol ORDER BY time) AS following_day,
    lead("close") OVER (PARTITION BY symbol ORDER BY time) AS next_close
  FROM adjusted_bars
  WHERE "interval" = '1d' AND month >= '1970-01'
),
traded_at AS (
  SELECT symbol, min_by(exchange, place) AS exchange
  FROM (SELECT DISTINCT symbol FROM news WHERE month >= '1970-01')
  JOIN symbol_exchanges ON symbol LIKE pattern ESCAPE '|'
  GROUP BY symbol
),
sessions AS (
  SELECT exchange, session AS day, lead(session) OVER (PARTITION BY exchange ORDER BY session) AS next_day
  FROM trading_sessions
),
followed AS (
  SELECT daily.symbol, coalesce(news.sentiment, 'unknown') AS sentiment, daily.next_close / nullif(daily."close", 0) - 1 AS next_day_return
  FROM news
  JOIN traded_at ON traded_at.symbol = news.symbol
  JOIN sessions ON sessions.exchange = traded_at.exchange AND date(news.time) >= sessions.day AND date(news.time) < sessions.next_day
  -- An article about FB is one about META.
  LEFT JOIN symbols ON symbols.symbol = news.symbol AND date(news.time) >= symbols.from_day AND date(news.time) < symbols.until_day
    AND NOT symbols.is_before
  JOIN daily ON daily.symbol = coalesce(symbols.name, news.symbol) AND daily.day = sessions.day AND daily.following_day = sessions.next_day
  WHERE news.month >= '1970-01'
)
SELECT
  symbol,
  sentiment,
  count(*) AS articles,
  avg(next_day_return) AS average_next_day_return,
  CAST(count_if(next_day_return > 0) AS double) / count(*) AS share_of_rises
FROM followed
GROUP BY symbol, sentiment
ORDER BY symbol, sentiment;

-- name: data_quality
-- What has landed? Rows, symbols and times of every table; dead letters of the last 30 days.
SELECT
  'bars' AS table_name, count(*) AS row_count, count(DISTINCT symbol) AS symbols,
  min(time) AS first_time, max(time) AS last_time, max(ingested_at) AS last_ingested_at
FROM bars
UNION ALL
SELECT 'ticks', count(*), count(DISTINCT symbol), min(time), max(time), max(ingested_at)
FROM ticks
UNION ALL
SELECT 'news', count(*), count(DISTINCT symbol), min(time), max(time), max(ingested_at)
FROM news
UNION ALL
SELECT 'actions', count(*), count(DISTINCT symbol), min(time), max(time), max(ingested_at)
FROM actions
UNION ALL
SELECT 'dead_letters', count(*), NULL, CAST(min(time) AS timestamp), CAST(max(time) AS timestamp), NULL
FROM dead_letters
WHERE dt >= date_format(current_date - INTERVAL '30' DAY, '%Y-%m-%d')
ORDER BY table_name;

-- name: missing_sessions
-- Which sessions is a ticker missing? Those of its exchange from its first daily bar to its last that have none. What is behind the last,
-- and what was asked for in vain, says `python -m pipeline.coverage`.
WITH daily AS (
  SELECT symbol, date(time) AS day
  FROM bars
  WHERE "interval" = '1d' AND month >= '1970-01'
),
spans AS (
  SELECT symbol, min(day) AS first_day, max(day) AS last_day
  FROM daily
  GROUP BY symbol
),
traded_at AS (
  SELECT symbol, min_by(exchange, place) AS exchange
  FROM spans
  JOIN symbol_exchanges ON symbol LIKE pattern ESCAPE '|'
  GROUP BY symbol
)
SELECT spans.symbol, sessions.exchange, sessions.session AS day, sessions.is_early_close
FROM spans
JOIN traded_at ON traded_at.symbol = spans.symbol
JOIN trading_sessions AS sessions ON sessions.exchange = traded_at.exchange
  AND sessions.session BETWEEN spans.first_day AND spans.last_day
LEFT JOIN daily ON daily.symbol = spans.symbol AND daily.day = sessions.session
WHERE daily.symbol IS NULL
ORDER BY symbol, day;

-- name: coverage_by_month
-- How complete is each month? The sessions of the exchange and those with a daily bar, from each ticker's first bar to its last.
WITH daily AS (
  SELECT symbol, date(time) AS day
  FROM bars
  WHERE "interval" = '1d' AND month >= '1970-01'
),
spans AS (
  SELECT symbol, min(day) AS first_day, max(day) AS last_day
  FROM daily
  GROUP BY symbol
),
traded_at AS (
  SELECT symbol, min_by(exchange, place) AS exchange
  FROM spans
  JOIN symbol_exchanges ON symbol LIKE pattern ESCAPE '|'
  GROUP BY symbol
)
SELECT
  spans.symbol,
  date(date_trunc('month', sessions.session)) AS month,
  count(*) AS sessions,
  count(daily.symbol) AS bars,
  count(*) - count(daily.symbol) AS missing
FROM spans
JOIN traded_at ON traded_at.symbol = spans.symbol
JOIN trading_sessions AS sessions ON sessions.exchange = traded_at.exchange
  AND sessions.session BETWEEN spans.first_day AND spans.last_day
LEFT JOIN daily ON daily.symbol = spans.symbol AND daily.day = sessions.session
GROUP BY spans.symbol, date_trunc('month', sessions.session)
ORDER BY symbol, month;

-- name: coverage_calendar
-- Which sessions have a daily bar? One row a session, from each ticker's first bar to its last; bars is 1 or 0.
WITH daily AS (
  SELECT symbol, date(time) AS day
  FROM bars
  WHERE "interval" = '1d' AND month >= '1970-01'
),
spans AS (
  SELECT symbol, min(day) AS first_day, max(day) AS last_day
  FROM daily
  GROUP BY symbol
),
traded_at AS (
  SELECT symbol, min_by(exchange, place) AS exchange
  FROM spans
  JOIN symbol_exchanges ON symbol LIKE pattern ESCAPE '|'
  GROUP BY symbol
)
SELECT spans.symbol, sessions.session AS day, IF(daily.symbol IS NULL, 0, 1) AS bars
FROM spans
JOIN traded_at ON traded_at.symbol = spans.symbol
JOIN trading_sessions AS sessions ON sessions.exchange = traded_at.exchange
  AND sessions.session BETWEEN spans.first_day AND spans.last_day
LEFT JOIN daily ON daily.symbol = spans.symbol AND daily.day = sessions.session
ORDER BY symbol, day;

-- name: minutes_by_session
-- How many minutes of each session have a bar? Without a trade a minute has none; a session far below its neighbours has a gap. From the
-- session of each ticker's first minute bar to that of its last; bars before the opening and after the close are not counted.
WITH minutes AS (
  SELECT symbol, time
  FROM bars
  WHERE "interval" = '1m' AND month >= '1970-01'
),
spans AS (
  SELECT symbol, min(time) AS first_time, max(time) AS last_time
  FROM minutes
  GROUP BY symbol
),
traded_at AS (
  SELECT symbol, min_by(exchange, place) AS exchange
  FROM spans
  JOIN symbol_exchanges ON symbol LIKE pattern ESCAPE '|'
  GROUP BY symbol
),
-- A session may have minutes of two days in UTC.
days AS (
  SELECT exchange, session, opens_at, closes_at, break_from, break_until, day
  FROM trading_sessions
  CROSS JOIN UNNEST(array_distinct(ARRAY[date(opens_at), date(closes_at)])) AS of_session (day)
),
counted AS (
  SELECT minutes.symbol, days.exchange, days.session, count(*) AS bars, min(minutes.time) AS first_time, max(minutes.time) AS last_time
  FROM minutes
  JOIN traded_at ON traded_at.symbol = minutes.symbol
  JOIN days ON days.exchange = traded_at.exchange AND days.day = date(minutes.time)
    AND minutes.time >= days.opens_at AND minutes.time < days.closes_at
    AND (days.break_from IS NULL OR minutes.time < days.break_from OR minutes.time >= days.break_until)
  GROUP BY minutes.symbol, days.exchange, days.session
)
SELECT
  spans.symbol,
  sessions.session AS day,
  date_diff('minute', sessions.opens_at, sessions.closes_at)
    - coalesce(date_diff('minute', sessions.break_from, sessions.break_until), 0) AS minutes,
  coalesce(counted.bars, 0) AS bars,
  counted.first_time,
  counted.last_time,
  sessions.is_early_close
FROM spans
JOIN traded_at ON traded_at.symbol = spans.symbol
JOIN trading_sessions AS sessions ON sessions.exchange = traded_at.exchange
  AND sessions.closes_at > spans.first_time AND sessions.opens_at <= spans.last_time
LEFT JOIN counted ON counted.symbol = spans.symbol AND counted.session = sessions.session
ORDER BY symbol, day;

-- name: stale_symbols
-- Which tickers no longer arrive? Those whose last bar is more than 3 sessions behind the newest bar of the same interval.
WITH latest AS (
  SELECT symbol, "interval", max(time) AS last_time, max(ingested_at) AS last_ingested_at
  FROM bars
  WHERE month >= '1970-01'
  GROUP BY symbol, "interval"
),
compared AS (
  SELECT symbol, "interval", last_time, last_ingested_at, max(last_time) OVER (PARTITION BY "interval") AS newest_time,
    "interval" IN ('1d', '5d', '1w', '1mo', '3mo', '1y') AS is_by_day
  FROM latest
),
traded_at AS (
  SELECT symbol, min_by(exchange, place) AS exchange
  FROM (SELECT DISTINCT symbol FROM latest)
  JOIN symbol_exchanges ON symbol LIKE pattern ESCAPE '|'
  GROUP BY symbol
)
SELECT compared.symbol, compared."interval", compared.last_time, count(*) AS sessions_behind, compared.last_ingested_at
FROM compared
JOIN traded_at ON traded_at.symbol = compared.symbol
JOIN trading_sessions AS sessions ON sessions.exchange = traded_at.exchange AND sessions.opens_at > compared.last_time
  AND NOT (compared.is_by_day AND sessions.session = date(compared.last_time))
  AND IF(compared.is_by_day, sessions.session <= date(compared.newest_time), sessions.opens_at <= compared.newest_time)
GROUP BY compared.symbol, compared."interval", compared.last_time, compared.last_ingested_at
HAVING count(*) > 3
ORDER BY sessions_behind DESC, symbol, "interval";

-- name: duplicates_and_revisions
-- How often did the same bar arrive more than once, and how often with other prices? Of what landed in the last 7 days.
WITH landed AS (
  SELECT symbol, "interval", time, count(*) AS records, count(DISTINCT ROW("open", high, low, "close", volume)) AS versions
  FROM raw_bars
  WHERE dt >= date_format(current_date - INTERVAL '7' DAY, '%Y-%m-%d')
  GROUP BY symbol, "interval", time
)
SELECT
  symbol,
  "interval",
  count(*) AS bars,
  sum(records) AS records,
  sum(records - versions) AS duplicates,
  sum(versions - 1) AS revisions
FROM landed
GROUP BY symbol, "interval"
ORDER BY symbol, "interval";

-- name: dead_letters_by_reason
-- Which records were refused in the last 30 days, and why? Numbers and quoted values are cut out of the reasons, to group them.
SELECT
  topic,
  regexp_replace(reason, '''[^'']*''|-?\d+(\.\d+)?(e[+-]?\d+)?', '…') AS kind,
  count(*) AS dead_letters,
  min(reason) AS example,
  CAST(min(time) AS timestamp) AS first_time,
  CAST(max(time) AS timestamp) AS last_time
FROM dead_letters
WHERE dt >= date_format(current_date - INTERVAL '30' DAY, '%Y-%m-%d')
GROUP BY topic, regexp_replace(reason, '''[^'']*''|-?\d+(\.\d+)?(e[+-]?\d+)?', '…')
ORDER BY dead_letters DESC, topic, kind;

-- name: landing_freshness
-- Is the pipeline alive? Per table, what landed in the last 7 days, and how long ago the newest record was read from its source.
WITH landed AS (
  SELECT 'bars' AS table_name, dt, CAST(time AS timestamp) AS time, CAST(ingested_at AS timestamp) AS ingested_at
  FROM raw_bars
  WHERE dt >= date_format(current_date - INTERVAL '7' DAY, '%Y-%m-%d')
  UNION ALL
  SELECT 'ticks', dt, CAST(time AS timestamp), CAST(ingested_at AS timestamp)
  FROM raw_ticks
  WHERE dt >= date_format(current_date - INTERVAL '7' DAY, '%Y-%m-%d')
  UNION ALL
  SELECT 'news', dt, CAST(time AS timestamp), CAST(ingested_at AS timestamp)
  FROM raw_news
  WHERE dt >= date_format(current_date - INTERVAL '7' DAY, '%Y-%m-%d')
  UNION ALL
  SELECT 'actions', dt, CAST(time AS timestamp), CAST(ingested_at AS timestamp)
  FROM raw_actions
  WHERE dt >= date_format(current_date - INTERVAL '7' DAY, '%Y-%m-%d')
)
SELECT
  table_name,
  count(*) AS records,
  max(dt) AS last_day,
  max(time) AS last_time,
  max(ingested_at) AS last_ingested_at,
  date_diff('second', max(ingested_at), CAST(current_timestamp AT TIME ZONE 'UTC' AS timestamp)) / 60e0 AS minutes_since
FROM landed
GROUP BY table_name
ORDER BY table_name;

-- name: bars_by_basis
-- On which shares are the stored prices? as traded; adjusted up to a day; or unknown, which adjusted_bars leaves as they are. A ticker
-- whose bars are partly unknown makes one chart of two bases.
SELECT
  symbol,
  "interval",
  IF(basis IN ('as traded', 'unknown'), basis, 'adjusted') AS basis,
  count(*) AS bars,
  date(min(time)) AS first_day,
  date(max(time)) AS last_day,
  min(IF(basis NOT IN ('as traded', 'unknown'), basis)) AS first_adjusted_to,
  max(IF(basis NOT IN ('as traded', 'unknown'), basis)) AS last_adjusted_to
FROM adjusted_bars
WHERE month >= '1970-01'
GROUP BY symbol, "interval", IF(basis IN ('as traded', 'unknown'), basis, 'adjusted')
ORDER BY symbol, "interval", basis;

-- name: suspicious_actions
-- Which splits and dividends look wrong? Flags, not repairs; those that are never applied say so. What is left out of prices silently
-- would be worse than a long list: tiny payments and real special dividends are among them.
WITH listed AS (
  SELECT symbol, kind, date(time) AS day, source, amount, currency, split_to / split_from AS ratio,
    amount / nullif(reference_close, 0) AS share_of_close,
    lead(date(time)) OVER (PARTITION BY symbol, kind, source, split_to / split_from ORDER BY time) AS same_again,
    approx_percentile(amount, 0.5) OVER (PARTITION BY symbol, kind, source) AS usual_amount,
    count(*) OVER (PARTITION BY symbol, kind, source) AS payments,
    date_diff('day', lag(date(time)) OVER (PARTITION BY symbol, kind, source ORDER BY time), date(time)) AS days_since,
    amount / lag(amount) OVER (PARTITION BY symbol, kind, source ORDER BY time) AS to_last
  FROM actions
  WHERE kind IN ('split', 'dividend')
    AND symbol IN (
      SELECT symbol
      FROM bars
      WHERE month >= '1970-01'
    )
),
flagged AS (
  SELECT symbol, day, kind, coalesce(ratio, amount) AS value, source,
    CASE
      WHEN kind = 'split' AND same_again > day AND same_again <= day + INTERVAL '30' DAY THEN 'listed twice: the later one counts'
      WHEN ratio BETWEEN 0.8e0 AND 1.25e0 AND none_match(sequence(1, 50), n -> abs(ratio * n - round(ratio * n)) / n < 5e-5)
        THEN 'near 1 and no n:m: taken for a spin-off'
      WHEN kind = 'split' THEN NULL
      WHEN coalesce(currency, 'USD') <> 'USD' THEN 'not in dollars: not applied'
      WHEN share_of_close >= 1 THEN 'more than the share was worth'
      WHEN payments >= 3 AND (amount / usual_amount < 0.02 OR amount / usual_amount > 50) THEN 'unit of the amount (x 100)'
      WHEN days_since <= 10 AND to_last BETWEEN 0.8 AND 1.25 THEN 'twice'
      WHEN days_since <= 10 AND (to_last BETWEEN 80 AND 125 OR to_last BETWEEN 0.008 AND 0.0125) THEN 'twice, in two units'
      WHEN share_of_close > 0.2 THEN 'more than a fifth of the price'
    END AS suspicion
  FROM listed
)
SELECT symbol, day, kind, value, source, suspicion
FROM flagged
WHERE suspicion IS NOT NULL
ORDER BY symbol, day, kind, source;

-- name: unexplained_jumps
-- Which jumps between two days look like a split, a change of unit or a bad bar that no action explains? A gap of more than 35 % and six
-- usual days, near a usual ratio or near a known split of the 30 days around. Falls on high volume are left out.
WITH daily AS (
  SELECT symbol, date(time) AS day, dividend_factor / lag(dividend_factor) OVER by_day AS ex_dividend,
    "open" / lag("close") OVER by_day AS opened, "close" / lag("close") OVER by_day AS closed,
    lead("close") OVER by_day / lag("close") OVER by_day AS closed_after,
    ln("close" / lag("close") OVER by_day) AS daily_return,
    -- Geometric means of the volumes of five days from the day on and of twenty before.
    avg(ln(nullif(volume, 0))) OVER (PARTITION BY symbol ORDER BY time ROWS BETWEEN CURRENT ROW AND 4 FOLLOWING)
      - avg(ln(nullif(volume, 0))) OVER (PARTITION BY symbol ORDER BY time ROWS BETWEEN 20 PRECEDING AND 1 PRECEDING) AS more_volume
  FROM adjusted_bars
  WHERE "interval" = '1d' AND month >= '1970-01' AND "close" > 0 AND "open" > 0
  WINDOW by_day AS (PARTITION BY symbol ORDER BY time)
),
moves AS (
  -- A dividend that explains the fall is taken out of it.
  SELECT *, -ln(opened * ex_dividend) AS gap, -ln(closed * ex_dividend) AS fall, -ln(opened) AS price_gap,
    stddev_samp(daily_return) OVER (PARTITION BY symbol ORDER BY day ROWS BETWEEN 60 PRECEDING AND 1 PRECEDING) AS usual
  FROM daily
),
splits AS (
  SELECT symbol, array_agg(CAST(ROW(abs(ln(split_to / split_from)), date(time)) AS ROW(size double, day date))) AS known
  FROM actions
  WHERE kind = 'split'
  GROUP BY symbol
),
candidates AS (
  SELECT m.*, sign(m.gap) * candidate.size AS size, candidate.known_day
  FROM moves AS m
  LEFT JOIN splits ON splits.symbol = m.symbol
  CROSS JOIN UNNEST(
    transform(
      filter(
        transform(ARRAY[1.5e0, 2, 2.5, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 100], ratio -> ln(ratio)),
        s -> abs(abs(m.gap) - s) < IF(s < 0.6, 0.03, IF(s < 1, 0.06, 0.1))
          AND abs(m.fall - sign(m.gap) * s) < IF(s < 1, 0.16, 0.25)
      ),
      s -> CAST(ROW(s, NULL) AS ROW(size double, day date))
    )
    || filter(
      coalesce(splits.known, ARRAY[]),
      k -> k.day BETWEEN m.day - INTERVAL '30' DAY AND m.day + INTERVAL '30' DAY AND abs(abs(m.gap) - k.size) < 0.1
    )
  ) AS candidate (size, known_day)
),
found AS (
  SELECT *, row_number() OVER (PARTITION BY symbol, day ORDER BY known_day NULLS LAST, abs(gap - size)) AS place
  FROM candidates
  WHERE abs(gap) > 0.35 AND abs(gap) > 6 * coalesce(usual, 0)
),
judged AS (
  SELECT symbol, day, exp(size) AS ratio, exp(gap) AS gap, exp(more_volume) AS volume_ratio, known_day,
    CASE
      WHEN abs(price_gap) < abs(gap) / 2 THEN 'dividend too large'
      WHEN abs(ln(closed_after)) < abs(gap) / 3 THEN 'bad bar'
      WHEN known_day IS NOT NULL THEN 'known split on part of the bars'
      WHEN abs(abs(size) - ln(100)) < 0.01 AND coalesce(abs(more_volume) < 2, true) THEN 'unit of the price changed'
      WHEN size BETWEEN 0 AND 1.3 AND more_volume - size > 0.4 THEN 'a fall'
      WHEN more_volume IS NULL THEN 'like a split, no volume'
      ELSE 'like a split'
    END AS verdict
  FROM found
  WHERE place = 1
)
SELECT symbol, day, ratio, gap, volume_ratio, known_day, verdict
FROM judged
WHERE verdict <> 'a fall'
ORDER BY symbol, day;
