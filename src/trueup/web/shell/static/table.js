// Rows from the server as tables and small charts. Whatever columns come are shown; the known ones get their names.

import { h, svg } from "./dom.js";
import { reveal } from "./text.js";

const NAMES = {
  name: "Measure", value: "Value", share: "Share", low: "95 % from", high: "to", p: "p", units: "Items", pairable: "Judgments",
  estimate: "Estimate", error: "Std. error", annotator: "Annotator", judgments: "Judgments", suggestion: "Suggestion",
  reasons: "Why", verdict: "Verdict", answered: "Gold answered", correct: "Gold right", evidence: "Evidence", count: "Left chosen", total: "Of",
  stream: "Stream", items: "Items", satisfied: "Complete", retired_at: "Retired", stands_out: "Stands out",
  raw: "Raw", alpha: "Krippendorff’s alpha", ac1: "Gwet’s AC1", kappa: "Fleiss’ kappa", side: "Side bias", left_wins: "Left chosen",
  rest: "The rest", others: "The others", overlap: "Judgments of a pair", predicts: "Predict another’s verdict", inside: "Agree inside", exposures: "Shown", ability: "Ability", side_bias: "Side bias", seconds: "Seconds (median)", item: "Item", reason: "Note", day: "Day",
};

/** A column's title. */
export const title = (name) => NAMES[name] ?? (name[0].toUpperCase() + name.slice(1)).replaceAll("_", " ");

function short(value) {
  if (Number.isInteger(value)) return value.toLocaleString("en");
  if (value !== 0 && Math.abs(value) < 0.001) return value.toExponential(1);
  return value.toFixed(3).replace(/0+$/, "").replace(/\.$/, "");
}

const two = (value) => (Math.abs(value) >= 0.01 && Math.abs(value) < 100 ? value.toFixed(2) : short(value));
const percent = (value) => `${Math.round(100 * value)}\u00a0%`;
const nothing = (why = "–") => h("span", { class: "muted" }, why);

function within(value, write) {
  if (!has(value, "low") || !has(value, "high")) return "";
  return h("span", { class: "muted" }, ` (${write(value.low)} to ${write(value.high)})`);
}

/** A small record as one phrase: a number with its interval, a share of so many, or what it holds by name. */
function composite(value) {
  if ("answered" in value) return value.answered ? `${value.correct} of ${value.answered} right: ${value.verdict}` : nothing("none answered");
  if ("median_seconds" in value) return value.timed ? `${value.median_seconds.toFixed(0)} s, ${value.median_words_per_second.toFixed(1)} words/s` : nothing();
  if ("repeated" in value) return value.repeated ? `${value.same} of ${value.repeated} the same` : nothing("none repeated");
  if ("found" in value) return value.found ? `from ${percent(value.before)} to ${percent(value.after)}` : nothing("none seen");
  if (has(value, "share")) return [percent(value.share), within(value, percent), has(value, "total") ? nothing(` of ${value.total}`) : ""];
  if (has(value, "value")) return [two(value.value), within(value, two)];
  if (value.reason) return nothing(value.reason);
  const parts = Object.entries(value).filter(([, part]) => part !== null && part !== "");
  return parts.length ? parts.map(([name, part], n) => [n ? "; " : "", `${title(name)} `, shown(part)]) : nothing();
}

/** Any JSON value as text or nodes; text from outside stays text. */
export function shown(value) {
  if (value === null || value === undefined) return h("span", { class: "muted" }, "–");
  if (typeof value === "number") return Number.isFinite(value) ? short(value) : "undefined";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (value instanceof Node) return value;
  if (Array.isArray(value)) return value.length ? value.map((part, n) => [n ? ", " : "", shown(part)]) : h("span", { class: "muted" }, "–");
  if (typeof value === "object") return composite(value);
  return h("bdi", {}, reveal(String(value)));
}

/** The middle of an interval under whichever name it comes. */
function centre(row) {
  return ["value", "share", "estimate", "ability"].map((name) => row[name]).find((part) => typeof part === "number");
}

const has = (row, name) => typeof row?.[name] === "number";

/** A bar for an interval; the same numbers stand in the row's cells, so it is hidden from screen readers. */
function interval(row, [from, to]) {
  if (!has(row, "low") || !has(row, "high")) return null;
  const x = (value) => 4 + (112 * (value - from)) / (to - from || 1);
  const zero = from < 0 && to > 0 ? 0 : from <= 0.5 && to >= 0.5 && from >= 0 ? 0.5 : null;
  const middle = centre(row);
  return svg("svg", { class: "interval", viewBox: "0 0 120 16", width: 120, height: 16, "aria-hidden": "true" },
    zero === null ? null : svg("line", { class: "zero", x1: x(zero), x2: x(zero), y1: 0, y2: 16 }),
    svg("line", { class: "range", x1: x(row.low), x2: x(row.high), y1: 8, y2: 8 }),
    middle === undefined ? null : svg("circle", { class: "middle", cx: x(middle), cy: 8, r: 4 }));
}

function span(rows) {
  const ends = rows.flatMap((row) => [row.low, row.high, centre(row)]).filter((value) => typeof value === "number");
  const [from, to] = [Math.min(0, ...ends), Math.max(1, ...ends)];
  return [from, to];
}

/**
 * A table of rows.
 * @param {string} caption
 * @param {object[]} rows
 * @param {{actions?: (row: object) => Node|null, hide?: string[]}} options
 */
export function table(caption, rows, { actions = null, hide = [] } = {}) {
  const columns = [...new Set(rows.flatMap(Object.keys))].filter((name) => !hide.includes(name));
  const numeric = (name) => rows.some((row) => typeof row[name] === "number") && rows.every((row) => row[name] === null || typeof row[name] !== "string");
  const bars = rows.some((row) => has(row, "low") && has(row, "high"));
  const ends = span(rows);
  const headings = columns.map((name) => h("th", { scope: "col", class: numeric(name) ? "number" : null }, title(name)));
  const cells = (row) => columns.map((name) =>
    h("td", { class: numeric(name) ? "number" : null }, row[name] === null && name === "value" && row.reason ? "undefined" : shown(row[name])));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, h("table", {}, h("caption", { class: "unseen" }, caption),
    h("thead", {}, h("tr", {}, headings, bars && h("th", { scope: "col" }, "Interval"), actions && h("th", { scope: "col" }, "Action"))),
    h("tbody", {}, rows.map((row) => h("tr", {}, cells(row), bars && h("td", {}, interval(row, ends)), actions && h("td", {}, actions(row)))))));
}

/** Whether a record holds lists of rows, which want tables of their own. */
const isNested = (record) => Object.values(record).some((part) => Array.isArray(part) && part.some((row) => row && typeof row === "object"));

/** Whatever a quality call answers: a list of rows, or named parts of lists, rows and single values. */
export function report(caption, data, empty) {
  if (Array.isArray(data)) {
    if (!data.length) return h("p", { class: "card centre muted" }, empty);
    const rows = data.map((row) => (row && typeof row === "object" ? row : { value: row }));
    return h("section", { class: "card" }, h("h2", {}, caption), table(caption, rows));
  }
  const entries = Object.entries(data ?? {}).filter(([name]) => name !== "simulated"); // the page's head says so
  if (!entries.length) return h("p", { class: "card centre muted" }, empty);
  const single = entries.filter(([, value]) => value === null || typeof value !== "object");
  const parts = entries.filter(([, value]) => value !== null && typeof value === "object");
  return [
    single.length > 0 && h("section", { class: "card" }, h("h2", {}, caption), h("dl", { class: "facts" },
      single.map(([name, value]) => h("div", {}, h("dt", {}, title(name)), h("dd", {}, shown(value)))))),
    parts.map(([name, value]) => {
      const named = name === "rows" ? caption : title(name);
      return report(named, Array.isArray(value) || isNested(value) ? value : [value], empty);
    }),
  ];
}

/** Bars by day, with the same numbers as a table for those who do not see the bars. */
export function bars(caption, rows) {
  if (!rows.length) return null;
  const label = Object.keys(rows[0]).find((name) => typeof rows[0][name] === "string");
  const value = Object.keys(rows[0]).find((name) => typeof rows[0][name] === "number");
  if (!label || !value) return report(caption, rows, "");
  const [width, height] = [Math.max(rows.length * 28, 120), 120];
  const most = Math.max(1, ...rows.map((row) => row[value]));
  const chart = svg("svg", { class: "bars", viewBox: `0 0 ${width} ${height + 4}`, width, height: height + 4, "aria-hidden": "true" },
    rows.map((row, n) => {
      const tall = (row[value] / most) * height;
      return svg("rect", { x: n * 28 + 4, y: height - tall, width: 20, height: Math.max(tall, 1), rx: 3 }, svg("title", {}, `${row[label]}: ${row[value]}`));
    }));
  return h("section", { class: "card" }, h("h2", {}, caption), h("div", { class: "scroll" }, chart),
    h("details", {}, h("summary", {}, "As a table"), table(caption, rows)));
}
