// The path of a run in the plane of a metric over the square root of the KL.

import { between, finite } from "./align.js";

const MOST = 300;

/**
 * Points of a run where a metric and the KL are both numbers; a KL below zero, which an estimate can be, lies at zero. Where
 * a long run was thinned the KL of a step may lie between two that were kept: then it is on the line that joins them.
 */
export function pathOf(store, metric) {
  const kl = store.get("kl");
  const at = new Map(kl.steps.map((step, n) => [step, kl.values[n]]));
  const { steps, values } = finite(kl);
  let place = 0;
  const read = (step) => {
    if (at.has(step)) return at.get(step);
    if (!steps.length || step < steps[0] || step > steps.at(-1)) return null;
    const [value, next] = between(steps, values, step, place);
    place = next;
    return value;
  };
  const { steps: measured, values: ys } = store.get(metric);
  const all = measured.map((step, n) => ({ step, kl: read(step), y: ys[n] })).filter(({ kl: x, y }) => typeof x === "number" && typeof y === "number")
    .map((point) => ({ ...point, x: Math.sqrt(Math.max(point.kl, 0)) }));
  const stride = Math.ceil(all.length / MOST);
  return all.filter((_, n) => n % stride === 0 || n === all.length - 1);
}
