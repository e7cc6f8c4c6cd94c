// What adds up to a number, stacked: what is above zero upwards from it, what is below zero downwards.

import { h, show } from "./shell/dom.js";
import { aligned } from "./align.js";
import { Chart } from "./chart.js";
import { number } from "./format.js";
import { about } from "./normal.js";

const PART = /^reward\/(.+)\/weighted$/u;
const CLOSE = 1e-3;

/** The parts of the reward that a run logs: metric, and name of the part. */
export const partsOf = (metrics) => metrics.map((metric) => [metric, PART.exec(metric)?.[1]]).filter(([, name]) => name).map(([metric, label]) => ({ metric, label }));

/**
 * Stacks series on the steps that all of them reach.
 * @param {Array<{label: string, steps: number[], values: Array}>} series
 * @returns {{steps: number[], parts: Array<{label: string, values: number[], above: {low: number[], high: number[]}, below: {low: number[], high: number[]}}>, sums: number[]}|null}
 *   a part that changes its sign has an area on both sides, of which one is flat
 */
export function stacked(series) {
  const all = aligned(series);
  if (!all) return null;
  const { steps, rows } = all;
  const parts = series.map(({ label }) => ({ label, values: [], above: { low: [], high: [] }, below: { low: [], high: [] } }));
  for (const row of rows) {
    let [above, below] = [0, 0];
    row.forEach((value, n) => {
      const part = parts[n];
      part.values.push(value);
      part.above.low.push(above);
      part.below.high.push(below);
      above += Math.max(value, 0);
      below += Math.min(value, 0);
      part.above.high.push(above);
      part.below.low.push(below);
    });
  }
  return { steps, parts, sums: rows.map((row) => row.reduce((sum, value) => sum + value, 0)) };
}

/** What the score is made of: each part as it was weighted, and the score as a line over them. */
export class Stack {
  /** @param {object} options those of a `Chart`, and `store`, `parts` and `meanings` */
  constructor({ store, parts, meanings, ...options }) {
    Object.assign(this, { store, parts });
    this.words = h("p", { class: "hint" });
    this.chart = new Chart({
      title: "Parts of the score", unit: "reward, as weighted", height: 220, ...options,
      about: [about(parts.map(({ metric }) => metric), meanings), this.words],
      spread: () => this.areas(), lines: () => [{ label: "Score", ...store.get("score"), ink: "ink" }], tabled: () => this.lines(),
    });
    const key = parts.map(({ label }, n) => h("li", {}, h("span", { class: `line ink-series-${n % 8}`, data: { dash: n % 4 }, "aria-hidden": "true" }), h("bdi", {}, label)));
    this.element = h("section", { class: "card", "aria-label": "Parts of the score" }, h("h2", {}, "What the score is made of"),
      h("p", { class: "hint" }, "Each part as it adds to the score: above zero it raises it, below zero it lowers it. The plain line is the score, their sum."),
      h("ul", { class: "key" }, h("li", {}, h("span", { class: "line ink-ink", "aria-hidden": "true" }), "Score"), key), this.chart.element);
  }

  series() {
    return this.parts.map(({ metric, label }) => ({ label, ...this.store.get(metric) }));
  }

  areas() {
    const all = stacked(this.series());
    this.say(all);
    if (!all) return null;
    const area = (n, outer, { low, high }) => ({ steps: all.steps, low, high, ink: `series-${n % 8}`, fill: 0.45, edge: n, outer });
    return all.parts.flatMap(({ values, above, below }, n) => [
      values.some((value) => value > 0) && area(n, "high", above), values.some((value) => value < 0) && area(n, "low", below)].filter(Boolean));
  }

  lines() {
    const ink = (n) => `series-${n % 8}`;
    return [...this.series().map((one, n) => ({ ...one, ink: ink(n), dash: n })), { label: "Score", ...this.store.get("score"), ink: "ink" }];
  }

  /** Whether the parts are all of it. */
  say(all) {
    if (!all) return void (this.words.textContent = "No step has a number for every part yet.");
    const last = all.steps.length - 1;
    const score = this.store.at("score", all.steps[last])?.value;
    const rest = typeof score === "number" ? score - all.sums[last] : 0;
    const shares = all.parts.map(({ label, values }) => `${label} ${number(values[last])}`).join(", ");
    const left = Math.abs(rest) > CLOSE * Math.max(1, Math.abs(score ?? 0)) ? `, which leaves ${number(rest)} of the score to something else` : "";
    this.words.textContent = `At step ${all.steps[last]} the parts add up to ${number(all.sums[last])}: ${shares}${left}.`;
  }
}
