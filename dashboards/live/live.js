"use strict";
const quotes = new Map();
const at = (id) => document.getElementById(id);
const dollars = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 4 });
const percent = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 2, signDisplay: "exceptZero" });
const whole = new Intl.NumberFormat("en");
const QUIET_SECONDS = 10;

// Characters that have no shape, or that turn the direction of the text around, are shown as such.
const readable = (symbol) => symbol.replace(/\p{C}/gu, "\u{FFFD}");

function rowOf(symbol) {
  const row = document.createElement("tr");
  row.dataset.symbol = symbol;
  for (const kind of ["", "number price", "number change", "line", "number wide ticks", "wide time"]) row.append(Object.assign(document.createElement("td"), { className: kind }));
  row.cells[0].textContent = readable(symbol);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "sparkline");
  svg.setAttribute("viewBox", "0 0 100 100");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.append(document.createElementNS("http://www.w3.org/2000/svg", "path"));
  row.cells[3].append(svg);
  // In alphabetical order, whenever a ticker first trades.
  const next = [...at("quotes").rows].find((other) => other.dataset.symbol > symbol);
  at("quotes").insertBefore(row, next ?? null);
  return row;
}

function show(quote) {
  if (!quotes.has(quote.symbol)) quotes.set(quote.symbol, { row: rowOf(quote.symbol) });
  const { row } = quotes.get(quote.symbol);
  quotes.set(quote.symbol, { row, quote });
  const since = quote.previous_close ?? quote.first_price, change = quote.price / since - 1;
  row.cells[1].textContent = dollars.format(quote.price);
  row.cells[2].textContent = `${change > 0 ? "▲" : change < 0 ? "▼" : ""} ${Number.isFinite(change) ? percent.format(change) : "–"}`;
  row.cells[2].className = `number change ${change > 0 ? "up" : change < 0 ? "down" : ""}`;
  row.cells[2].title = `${dollars.format(since)} at ${quote.previous_close ? "the close before today, on today's shares" : quote.first_time}`;
  row.cells[4].textContent = whole.format(quote.ticks);
  row.cells[5].textContent = quote.time;
  const low = Math.min(...quote.points), high = Math.max(...quote.points), last = Math.max(quote.points.length - 1, 1);
  const path = quote.points.map((price, index) => `${(100 * index / last).toFixed(2)},${(95 - 90 * (high > low ? (price - low) / (high - low) : 0.5)).toFixed(2)}`);
  row.cells[3].firstChild.firstChild.setAttribute("d", path.length > 1 ? `M${path.join("L")}` : "");
  row.cells[3].firstChild.setAttribute("aria-label", `from ${dollars.format(low)} to ${dollars.format(high)} in the last ${quote.points.length} seconds with ticks`);
}

// The server drops the least traded of too many tickers, and knows none of its past when it was started again.
function forgetAllBut(symbols) {
  for (const [symbol, { row }] of quotes) {
    if (symbols.has(symbol)) continue;
    row.remove();
    quotes.delete(symbol);
  }
}

function say(text, warning) {
  if (at("state").textContent !== text) at("state").textContent = text;
  at("state").className = warning ? "missing" : "";
  document.documentElement.dataset.connected = !warning;
}

const events = new EventSource("/events");
events.onmessage = (event) => {
  const market = JSON.parse(event.data);
  if (market.is_whole) forgetAllBut(new Set(market.quotes.map((quote) => quote.symbol)));
  market.quotes.forEach(show);
  at("rate").textContent = whole.format(market.rate);
  at("messages").textContent = whole.format(market.messages);
  at("bad").textContent = market.bad ? `${whole.format(market.bad)} of them no tick` : "";
  at("tickers").textContent = whole.format(quotes.size);
  if (market.problem) say(market.problem, true);
  else if (market.quiet_seconds === null) say("Connected; no tick yet", false);
  else if (market.quiet_seconds > QUIET_SECONDS) say("Connected; no tick for more than 10 seconds", false);
  else say("Connected", false);
};
// The browser tries again by itself, every second.
events.onerror = () => say("Connection lost; trying again …", true);
