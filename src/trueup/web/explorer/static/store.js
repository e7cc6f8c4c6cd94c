// The numbers of one run in this page: as the server gave them, and what the stream brings after that.

import { get, seg } from "./shell/api.js";

const POINTS = 1000;
const MOST = 4 * POINTS;

const query = (run, rest = {}) => {
  const text = new URLSearchParams(Object.entries(rest).filter(([, value]) => value !== "" && value !== null && value !== undefined));
  return `/series?run=${seg(run)}&points=${POINTS}${String(text) && `&${text}`}`;
};

/** A run's series by metric: `{steps, values}`, where a value that is no number is a text. */
export class Store {
  constructor(run) {
    this.run = run;
    this.series = new Map();
    this.zoomed = null;
    this.asked = this.range = null;
    this.cursor = "";
  }

  /** Reads everything anew. */
  async load() {
    const reply = await get(query(this.run));
    this.series = new Map(Object.entries(reply.series));
    this.cursor = reply.cursor;
    if (this.range) await this.zoom(...this.range);
  }

  /** Only the steps from `first` to `last`, in as many points as all of them had; without arguments all again. */
  async zoom(first, last) {
    if (first === undefined) {
      this.asked = this.range = null;
      this.zoomed = null;
      return;
    }
    const range = [Math.max(0, Math.floor(first)), Math.ceil(last)];
    this.asked = range;
    const reply = await get(query(this.run, { first: range[0], last: range[1] }));
    if (this.asked !== range) return; // another one was asked for meanwhile
    this.range = range;
    this.zoomed = new Map(Object.entries(reply.series));
  }

  /** Adds rows of the stream. Returns whether there is a metric that nobody knew. */
  append(rows) {
    let unknown = false;
    for (const { step, ...values } of rows) {
      for (const [name, value] of Object.entries(values)) {
        let series = this.series.get(name);
        if (!series) {
          series = { steps: [], values: [] };
          this.series.set(name, series);
          unknown = true;
        }
        series.steps.push(step);
        series.values.push(value);
      }
    }
    return unknown;
  }

  /** Whether so much was added that a decimated reading is due. */
  get full() {
    return [...this.series.values()].some((series) => series.steps.length > MOST);
  }

  /** What is to be drawn of a metric. */
  get(name) {
    return (this.zoomed ?? this.series).get(name) ?? { steps: [], values: [] };
  }

  /** First and last step of what is to be drawn. */
  get span() {
    if (this.range) return this.range;
    const steps = [...this.series.values()].flatMap(({ steps: s }) => (s.length ? [s[0], s.at(-1)] : []));
    return steps.length ? [Math.min(...steps), Math.max(...steps)] : [0, 1];
  }

  /** The value of a metric at a step, or the last one before it. */
  at(name, step) {
    const { steps, values } = this.get(name);
    let [low, high] = [0, steps.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (steps[middle] <= step) low = middle + 1;
      else high = middle;
    }
    return low ? { step: steps[low - 1], value: values[low - 1] } : null;
  }
}

/** One sentence that says what a curve does. */
export function summary(name, { steps, values }, write) {
  const finite = values.map((value, n) => [value, steps[n]]).filter(([value]) => typeof value === "number");
  if (!finite.length) return `${name}: no values.`;
  const low = finite.reduce((a, b) => (b[0] < a[0] ? b : a));
  const high = finite.reduce((a, b) => (b[0] > a[0] ? b : a));
  const odd = values.length - finite.length;
  return `${name}: ${write(finite[0][0])} at step ${finite[0][1]}, ${write(finite.at(-1)[0])} at step ${finite.at(-1)[1]}; ` +
    `lowest ${write(low[0])} at step ${low[1]}, highest ${write(high[0])} at step ${high[1]}` +
    `${odd ? `; ${odd} that are no numbers` : ""}.`;
}
