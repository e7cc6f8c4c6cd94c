// Runs that differ in nothing but the seed, as one: their mean with the lowest and the highest, and intervals of ends.

import { setting } from "./format.js";

/** Student's t for two-sided 95 %, by degrees of freedom from 1; at most ten runs are compared. */
const STUDENT = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262];

const others = (settings) => settings.filter((row) => row.name !== "seed");

/**
 * The configurations among some runs, in order: places of their runs, and what they are called.
 * @returns {Array<{places: number[], label: string, key: string}>}
 */
export function configurations(runs, settings) {
  const groups = new Map();
  runs.forEach((_, n) => {
    const key = JSON.stringify(others(settings).map((row) => row.values[n]));
    groups.set(key, [...(groups.get(key) ?? []), n]);
  });
  return [...groups].map(([key, places]) => ({ key, places, label: places.length === 1 ? runs[places[0]] : called(runs, settings, places) }));
}

function called(runs, settings, places) {
  const said = others(settings).map((row) => `${row.name}=${setting(row.values[places[0]])}`).join(", ");
  const seeds = settings.find((row) => row.name === "seed");
  const which = seeds ? `seeds ${places.map((n) => setting(seeds.values[n])).join(", ")}` : `${places.length} runs`;
  return said ? `${said} (${which})` : which;
}

/** Value of a series at a step, between two points on the line that joins them; null where there is none. */
function between(steps, values, step, from) {
  let at = from;
  while (at < steps.length - 1 && steps[at + 1] <= step) at += 1;
  if (steps[at] === step) return [values[at], at];
  const share = (step - steps[at]) / (steps[at + 1] - steps[at]);
  return [values[at] + share * (values[at + 1] - values[at]), at];
}

/**
 * Mean, lowest and highest of some series, on the steps that all of them reach.
 * @param {Array<{steps: number[], values: Array}>} series
 * @returns {{steps: number[], mean: number[], low: number[], high: number[]}|null} null where they have no step in common
 */
export function together(series) {
  const known = series.map(({ steps, values }) => {
    const kept = steps.map((_, n) => n).filter((n) => typeof values[n] === "number");
    return { steps: kept.map((n) => steps[n]), values: kept.map((n) => values[n]) };
  });
  if (known.some(({ steps }) => !steps.length)) return null;
  const [first, last] = [Math.max(...known.map(({ steps }) => steps[0])), Math.min(...known.map(({ steps }) => steps.at(-1)))];
  const steps = [...new Set(known.flatMap((one) => one.steps))].filter((step) => step >= first && step <= last).sort((a, b) => a - b);
  if (!steps.length) return null;
  const places = known.map(() => 0);
  const rows = steps.map((step) => known.map((one, n) => {
    const [value, at] = between(one.steps, one.values, step, places[n]);
    places[n] = at;
    return value;
  }));
  return { steps, mean: rows.map((row) => row.reduce((sum, value) => sum + value, 0) / row.length), low: rows.map((row) => Math.min(...row)), high: rows.map((row) => Math.max(...row)) };
}

/** Mean of one value of each seed with Student's 95 % interval; the interval is null for a single seed. */
export function interval(values) {
  const known = values.filter((value) => value !== null);
  if (!known.length) return null;
  const mean = known.reduce((sum, value) => sum + value, 0) / known.length;
  if (known.length < 2) return { mean, half: null, count: known.length };
  const spread = Math.sqrt(known.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (known.length - 1));
  if (spread === 0) return { mean, half: null, count: known.length }; // what never varied has no interval
  return { mean, half: STUDENT[known.length - 2] * spread / Math.sqrt(known.length), count: known.length };
}
