// Runs that differ in nothing but the seed, as one: their mean with the lowest and the highest, and intervals of ends.

import { aligned } from "./align.js";
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

/**
 * Mean, lowest and highest of some series, on the steps that all of them reach.
 * @param {Array<{steps: number[], values: Array}>} series
 * @returns {{steps: number[], mean: number[], low: number[], high: number[]}|null} null where they have no step in common
 */
export function together(series) {
  const all = aligned(series);
  if (!all) return null;
  const { steps, rows } = all;
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
