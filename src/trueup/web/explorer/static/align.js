// Series that were measured, or thinned, at different steps, on the steps that all of them reach.

/** Value of a series at a step, between two points on the line that joins them; null where there is none. */
export function between(steps, values, step, from) {
  let at = from;
  while (at < steps.length - 1 && steps[at + 1] <= step) at += 1;
  if (steps[at] === step) return [values[at], at];
  const share = (step - steps[at]) / (steps[at + 1] - steps[at]);
  return [values[at] + share * (values[at + 1] - values[at]), at];
}

/** A series without the values that are no numbers. */
export function finite({ steps, values }) {
  const kept = steps.map((_, n) => n).filter((n) => typeof values[n] === "number");
  return { steps: kept.map((n) => steps[n]), values: kept.map((n) => values[n]) };
}

/**
 * Values of all series at every step that one of them has and all of them reach, between two points on the line that joins them.
 * @param {Array<{steps: number[], values: Array}>} series
 * @returns {{steps: number[], rows: number[][]}|null} for each step a value of each series; null where they have no step in common
 */
export function aligned(series) {
  const known = series.map(finite);
  if (!known.length || known.some(({ steps }) => !steps.length)) return null;
  const [first, last] = [Math.max(...known.map(({ steps }) => steps[0])), Math.min(...known.map(({ steps }) => steps.at(-1)))];
  const steps = [...new Set(known.flatMap((one) => one.steps))].filter((step) => step >= first && step <= last).sort((a, b) => a - b);
  if (!steps.length) return null;
  const places = known.map(() => 0);
  const rows = steps.map((step) => known.map((one, n) => {
    const [value, at] = between(one.steps, one.values, step, places[n]);
    places[n] = at;
    return value;
  }));
  return { steps, rows };
}
