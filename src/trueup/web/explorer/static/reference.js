// What a run's path in the phase plane is compared with: gold, evaluations, and best-of-n of its reference.

import { h, svg } from "./shell/dom.js";
import { colour } from "./chart.js";
import { number } from "./format.js";
import { pathOf } from "./path.js";

const root = (kl) => Math.sqrt(Math.max(kl, 0));
const known = (values) => values.filter((value) => typeof value === "number");
const GOLD = "series-4";
const BEST = "series-3";
const NO_GOLD = "Gold: none. The true quality is known in the sandbox alone; trueup frontier RUN --gold sandbox, with its page in this folder, measures it along training.";
const NO_BEST = "Best of n: none. It takes an evaluation in this folder that holds this run and its reference, with several answers to each prompt: trueup evaluate --reward ... --samples 16.";

/**
 * Everything beside the run's own path, as lines to draw.
 * @param {object} store
 * @param {object} run as the server describes it
 * @returns {Array<{name: string, axis: "reward"|"gold", ink: string, mark: string, dash?: boolean, joined: boolean, points: Array<{x: number, y: number, kl: number, at: string}>}>}
 */
export function references(store, run) {
  const plane = run.plane ?? { gold: [], evaluated: [], best_of_n: null };
  const along = run.metrics.includes("gold") ? pathOf(store, "gold") : plane.gold.map(({ step, kl, gold }) => ({ step, kl, x: root(kl), y: gold }));
  const best = plane.best_of_n?.points ?? [];
  const of = (field, list, at) => list.filter((one) => typeof one[field] === "number").map((one) => ({ x: root(one.kl), y: one[field], kl: one.kl, at: at(one) }));
  return [
    { name: "gold", axis: "gold", ink: GOLD, mark: "diamond", joined: true, points: along.map((one) => ({ ...one, at: `step ${one.step}` })) },
    { name: "best of n", axis: "reward", ink: BEST, mark: "square", dash: true, joined: true, points: of("reward", best, ({ n }) => `n = ${n}`) },
    { name: "best of n, gold", axis: "gold", ink: GOLD, mark: "square", dash: true, joined: true, points: of("gold", best, ({ n }) => `n = ${n}`) },
    { name: "evaluated", axis: "reward", ink: "ink", mark: "triangle", joined: false, points: of("reward", plane.evaluated, ({ source }) => source) },
    { name: "evaluated, gold", axis: "gold", ink: GOLD, mark: "triangle", joined: false, points: of("gold", plane.evaluated, ({ source }) => source) },
  ].filter(({ points }) => points.length);
}

/** Sentences on what is there and what is not. */
export function told(lines, run) {
  const by = (name) => lines.find((line) => line.name === name);
  const ends = ({ name, points }) => `${name.charAt(0).toUpperCase()}${name.slice(1)}: ${number(points[0].y)} at KL ${number(points[0].kl)} (${points[0].at})` +
    (points.length > 1 ? `, ${number(points.at(-1).y)} at KL ${number(points.at(-1).kl)} (${points.at(-1).at})` : "") + peak(points) + ".";
  const curve = by("best of n") ?? by("best of n, gold");
  return [
    ...lines.map(ends),
    !lines.some(({ axis }) => axis === "gold") && NO_GOLD,
    curve ? `Best of n is what ${run.plane.best_of_n.source} recorded of the reference's own answers, by the reward of that evaluation; its KL is the bound log n − (n − 1) / n, which that of training cannot be compared with exactly.` : NO_BEST,
    ...(run.plane?.problems ?? []),
  ].filter(Boolean);
}

function peak(points) {
  if (points.length < 3) return "";
  const high = points.reduce((a, b) => (b.y > a.y ? b : a));
  return `; highest ${number(high.y)} (${high.at})`;
}

/** Ends of the values on one axis; null where there are none. */
export function extent(lines, axis) {
  const ys = known(lines.filter((line) => line.axis === axis).flatMap(({ points }) => points.map(({ y }) => y)));
  return ys.length ? [Math.min(...ys), Math.max(...ys)] : null;
}

const MARKS = {
  diamond: (x, y, r) => `M${x},${y - r}L${x + r},${y}L${x},${y + r}L${x - r},${y}Z`,
  square: (x, y, r) => `M${x - r},${y - r}H${x + r}V${y + r}H${x - r}Z`,
  triangle: (x, y, r) => `M${x},${y - r}L${x + r},${y + r}H${x - r}Z`,
};

/** One line and its marks; those on the axis of gold are hollow. */
export function drawn(line, x, y) {
  const ink = colour(line.ink);
  const at = (point) => [Number(x(point.x).toFixed(1)), Number(y(point.y).toFixed(1))];
  const path = line.joined && svg("polyline", { points: line.points.map((point) => at(point).join(",")).join(" "), fill: "none", stroke: ink, "stroke-width": 1.5, ...(line.dash ? { "stroke-dasharray": "5 4" } : {}) });
  const size = line.points.length > 60 ? 2.5 : line.mark === "triangle" ? 6 : 4;
  return [path, line.points.map((point) => svg("path", { d: MARKS[line.mark](...at(point), size), fill: line.axis === "gold" ? colour("surface") : ink, stroke: ink, "stroke-width": 1.5 },
    svg("title", {}, `${line.name}, ${point.at}: ${number(point.y)}, KL ${number(point.kl)}`)))];
}

/** What the marks mean. */
export function key(lines) {
  return h("ul", { class: "key plane-key" }, lines.map((line) => {
    const ink = colour(line.ink);
    const sample = svg("svg", { viewBox: "0 0 30 14", width: 30, height: 14, "aria-hidden": "true" },
      line.joined && svg("line", { x1: 0, x2: 30, y1: 7, y2: 7, stroke: ink, "stroke-width": 1.5, ...(line.dash ? { "stroke-dasharray": "5 4" } : {}) }),
      svg("path", { d: MARKS[line.mark](15, 7, 5), fill: line.axis === "gold" ? colour("surface") : ink, stroke: ink, "stroke-width": 1.5 }));
    return h("li", {}, sample, `${line.name}${line.axis === "gold" ? ", axis at the right" : ""}`);
  }));
}
