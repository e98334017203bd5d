"use strict";
// Draws the charts from the rows in the page, and lets the controls, the pointer and the arrow keys work on them.
const contents = JSON.parse(document.getElementById("contents").textContent);
const tables = {};
for (const [name, columns] of Object.entries(contents.tables)) tables[name] = rowsOf(columns);
const charts = new Map();
window.report = { tables, charts };

// A column of numbers is a list; any other one names each distinct value once: {of: [values], at: [positions]}.
function rowsOf(columns) {
  const names = Object.keys(columns);
  const lists = names.map((name) => Array.isArray(columns[name]) ? columns[name] : columns[name].at.map((at) => columns[name].of[at]));
  return Array.from({ length: lists.length ? lists[0].length : 0 }, (_, row) =>
    Object.fromEntries(names.map((name, column) => [name, lists[column][row]])));
}

async function draw(element) {
  const spec = contents.charts[element.dataset.chart];
  spec.datasets = { [spec.usermeta.table]: tables[spec.usermeta.table] };
  // A chart of nothing has no scales: where the browser remembers such a choice, it is drawn whole and hidden afterwards.
  const something = hasRows(element, spec);
  for (const { name } of spec.params ?? []) {
    const value = something ? wanted(name, element) : { tickers: Object.keys(contents.colours), since: 0, ticker: tickerOf(element) }[name];
    if (value !== undefined) spec.params.find((param) => param.name === name).value = value;
  }
  const { view } = await vegaEmbed(element, spec, { renderer: "svg", actions: false, ast: false });
  charts.set(element.dataset.chart, { view, element, spec });
}

const shownTickers = () => [...document.querySelectorAll("input[name=ticker]:checked")].map((box) => box.value);

// The last N trading days, counted over the days that there are, as a moving average counts them.
function since(days) {
  const all = contents.days;
  return days && all.length ? Date.parse(all[Math.max(0, all.length - days)]) : 0;
}

const tickerOf = (element) => document.querySelector(`select[data-for="${element.dataset.chart}"]`)?.value;

// What the controls say about one of a chart's signals; undefined for the chart's own.
function wanted(signal, element) {
  if (signal === "tickers") return shownTickers();
  if (signal === "since") return since(Number(document.querySelector("input[name=range]:checked")?.value));
  return signal === "ticker" ? tickerOf(element) : undefined;
}

// Whether the chosen tickers have a row in the chosen days.
function hasRows(element, spec) {
  const names = (spec.params ?? []).map((param) => param.name);
  const tickers = names.includes("tickers") ? shownTickers() : names.includes("ticker") ? [tickerOf(element)] : null;
  const first = names.includes("since") ? wanted("since") : -Infinity;
  return tables[spec.usermeta.table].some((row) => (!tickers || tickers.includes(row.symbol)) && !(Date.parse(row.day) < first));
}

// What each line's colour means; also on paper, where the controls are not.
function writeKeys() {
  for (const key of document.querySelectorAll(".key.lines")) {
    key.replaceChildren(...shownTickers().map((symbol) => {
      const entry = document.createElement("li");
      const line = document.createElement("i");
      line.style.background = contents.colours[symbol];
      entry.append(line, symbol);
      return entry;
    }));
  }
}

function followControls() {
  writeKeys();
  for (const { view, element, spec } of charts.values()) {
    const something = hasRows(element, spec);
    element.closest("figure").classList.toggle("nothing", !something);
    if (!something) continue;
    for (const { name } of spec.params ?? []) {
      const value = wanted(name, element);
      if (value !== undefined) view.signal(name, value);
    }
    view.runAsync();
  }
}

// Values of the day under the pointer, or of the day that the arrow keys chose.
function followPointer({ view, element, spec }) {
  const { hover, table } = spec.usermeta;
  if (!hover) return;
  const line = Object.assign(document.createElement("div"), { className: "under", hidden: true });
  const box = Object.assign(document.createElement("div"), { className: "values", hidden: true });
  box.setAttribute("role", "status");
  element.append(line, box);
  const rows = tables[table];
  const days = [...new Set(rows.map((row) => row.day))].sort();
  const times = days.map((day) => Date.parse(day));
  const number = new Intl.NumberFormat("en", hover.format);
  let at = days.length - 1;

  function show(index) {
    const first = times.findIndex((time) => time >= wanted("since"));
    at = Math.min(Math.max(index, first), days.length - 1);
    const choice = tickerOf(element);
    const tickers = choice ? [choice] : shownTickers();
    const entries = [];
    for (const row of rows) {
      if (row.day !== days[at] || !tickers.includes(row.symbol)) continue;
      for (const [field, title] of Object.entries(hover.values)) {
        if (row[field] === null || row[field] === undefined) continue;
        const series = choice ? title : row.symbol;
        entries.push({ series, value: row[field], colour: view.scale("color")(series) });
      }
    }
    if (!choice) entries.sort((one, other) => other.value - one.value);
    box.replaceChildren(document.createTextNode(days[at]), ...entries.map((entry) => {
      const item = document.createElement("span");
      const key = document.createElement("i");
      key.style.background = entry.colour;
      const name = document.createElement("b");
      name.append(key, entry.series);
      item.append(name, number.format(entry.value));
      return item;
    }));
    const x = view.origin()[0] + view.scale("x")(times[at]);
    line.hidden = box.hidden = false;
    line.style.left = `${x}px`;
    line.style.top = `${view.origin()[1]}px`;
    line.style.height = `${view.height()}px`;
    const left = x + 12 + box.offsetWidth <= element.clientWidth ? x + 12 : x - 12 - box.offsetWidth;
    box.style.left = `${Math.max(0, left)}px`;
    box.style.top = `${view.origin()[1] + 4}px`;
  }

  const nearest = (time) => times.reduce((best, one, index) =>
    Math.abs(one - time) < Math.abs(times[best] - time) ? index : best, 0);
  const hide = () => { line.hidden = box.hidden = true; };
  element.addEventListener("pointermove", (event) => {
    const x = event.clientX - element.getBoundingClientRect().left - view.origin()[0];
    if (x < 0 || x > view.width() || !days.length) return hide();
    show(nearest(view.scale("x").invert(x).valueOf()));
  });
  element.addEventListener("pointerleave", hide);
  element.addEventListener("blur", hide);
  element.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20, Home: -Infinity, End: Infinity }[event.key];
    if (!step) return;
    event.preventDefault();
    show(box.hidden && Number.isFinite(step) ? at : at + step);
  });
}

function download(button) {
  const rows = tables[button.dataset.from];
  // A spreadsheet shows a text with an apostrophe in front, where it would run one that begins like a formula.
  const harmless = (value) => typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  const quoted = (value) => /[",\r\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : value;
  const cell = (value) => value === null ? "" : quoted(harmless(value));
  const lines = rows.length ? [Object.keys(rows[0]).join(","), ...rows.map((row) => Object.values(row).map(cell).join(","))] : [];
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
  link.download = `${button.dataset.from}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// How long ago, at the moment the page is opened: it may have been made long before.
function tellAges() {
  for (const value of document.querySelectorAll("dd[data-since]")) {
    const seconds = (Date.now() - Date.parse(value.dataset.since)) / 1000;
    const [unit, length] = [["day", 86400], ["hour", 3600], ["minute", 60]].find(([, length]) => seconds >= length) ?? ["", 0];
    const count = length && Math.floor(seconds / length);
    value.textContent = unit ? `${count.toLocaleString("en")} ${unit}${count === 1 ? "" : "s"} ago` : "just now";
    value.parentElement.classList.toggle("warning", seconds >= 86400 * Number(value.dataset.staleDays));
  }
}

(async () => {
  tellAges();
  await Promise.all([...document.querySelectorAll(".chart")].map(draw));
  followControls();
  for (const chart of charts.values()) followPointer(chart);
  document.querySelectorAll("form.controls, figure select").forEach((control) => control.addEventListener("change", followControls));
  document.querySelectorAll("button[data-check]").forEach((button) => button.addEventListener("click", () => {
    document.querySelectorAll("input[name=ticker]").forEach((box) => { box.checked = Boolean(button.dataset.check); });
    followControls();
  }));
  document.querySelectorAll(".download").forEach((button) => button.addEventListener("click", () => download(button)));
  document.documentElement.dataset.drawnMs = Math.round(performance.now());
})();
