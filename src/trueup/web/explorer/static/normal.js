// What is normal: the ranges of measured clean runs behind curves, and in words how a curve lies to them.

import { h } from "./shell/dom.js";
import { named, number, plural } from "./format.js";

const runs = ({ runs: count }) => `${plural(count, "clean run")} of the sandbox`;
const BETWEEN = { both: (low, high) => `${number(low)} to ${number(high)}`, low: (low) => `${number(low)} or more`, high: (_, high) => `${number(high)} or less` };

/** What a metric is, and what is normal for it: meaning, estimator, unit, and the range of clean runs. */
export function about(names, meanings, normal = {}) {
  return h("dl", { class: "meaning" }, names.map((name) => {
    const told = meanings[name];
    return [h("dt", {}, h("code", {}, name)), h("dd", {}, told
      ? `${told.meaning}. Estimator: ${told.estimator}. Unit: ${told.unit}.` + (told.better === "none" ? "" : ` Better when it goes ${told.better}.`)
      : "This installation has no definition of it."), normal[name] && h("dd", {}, measured(normal[name]))];
  }));
}

function measured(one) {
  const between = BETWEEN[one.odd];
  const of = one.form === "share of start" ? " times the mean of the run's first five values" : "";
  return `Normal in ${runs(one)} (${plural(one.run_steps, "step")} together): ${between(one.low, one.high)}${of}, in the last fifth of a run ${between(...one.end)}.` +
    (one.depends ? ` It also depends on ${one.depends}.` : "");
}

/** "above normal since step 62"; empty where a curve is inside, or has too few values to say so. */
const outside = ({ state, since }) => (since === null ? "" : `${state} normal since step ${since}`);

/** How some curves lie to what clean runs showed, in sentences. */
export function standing(names, normal) {
  const known = names.filter((name) => normal[name]);
  return known.map((name) => {
    const one = normal[name];
    const who = known.length > 1 ? named(name) : "It";
    if (one.state === "early") return `${who} has too few values to be compared with clean runs.`;
    if (one.since !== null) return `${who} is ${one.state} what ${runs(one)} show, since step ${one.since}.`;
    const left = one.left ? `; it was ${one.left.side} from step ${one.left.first} to step ${one.left.last}` : "";
    return `${who} is inside what ${runs(one)} show${left}.`;
  }).join(" ");
}

/** The same in a word or two, for the head of a chart, of curves that are outside now. */
export function remark(names, normal) {
  const said = names.filter((name) => normal[name] && outside(normal[name]));
  return said.map((name) => `${names.length > 1 ? `${named(name)} ` : ""}${outside(normal[name])}`).join(", ");
}

/** The ranges behind some curves, each in the ink of its curve where there are several. */
export function ranges(names, normal) {
  return names.flatMap((name, n) => (normal[name]?.range ? [{ ...normal[name].range, ink: names.length > 1 ? (n ? "right" : "left") : "muted" }] : []));
}

/** Ends of an axis that shows its curves, and of the ranges as much as leaves the curves half of its height. */
export function stretched([from, to], list) {
  if (!list.length) return [from, to];
  const [low, high] = [Math.min(...list.flatMap((one) => one.low)), Math.max(...list.flatMap((one) => one.high))];
  const most = to > from ? (to - from) / 2 : Infinity;
  return [Math.max(Math.min(from, low), from - most), Math.min(Math.max(to, high), to + most)];
}

/** Fills a range behind the curves; `fill` and `edge` are colours of the canvas. */
export function drawRange({ ctx, bbox, valToPos }, { steps, low, high }, fill, edge) {
  const along = (values) => steps.map((step, n) => [valToPos(step, "x", true), valToPos(values[n], "y", true)]);
  const trace = (points) => points.forEach(([x, y], n) => (n ? ctx.lineTo(x, y) : ctx.moveTo(x, y)));
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.fillStyle = fill;
  ctx.beginPath();
  trace([...along(high), ...along(low).reverse()]);
  ctx.fill();
  ctx.strokeStyle = edge;
  ctx.lineWidth = devicePixelRatio;
  for (const values of [high, low]) {
    ctx.beginPath();
    trace(along(values));
    ctx.stroke();
  }
  ctx.restore();
}
