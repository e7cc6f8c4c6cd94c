// One chart: a canvas by uPlot, and beside it the same in words and as a table.

import { h, show } from "./shell/dom.js";
import { named, number } from "./format.js";
import { drawRange, ranges, remark, standing, stretched } from "./normal.js";
import { summary } from "./store.js";
import uPlot from "./vendor/uplot/uPlot.esm.js";

const ROWS = 200;
const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3]];
const probe = () => document.getElementById("announce");

/** A colour of the style sheet as the canvas wants it, in the theme that holds now. */
export function colour(name) {
  const element = h("span", { class: `ink-${name}` });
  probe().parentElement.append(element);
  const value = getComputedStyle(element).color;
  element.remove();
  return value;
}

const faded = (value, share) => value.replace(/^rgb\(([^)]*)\)$/u, (_, parts) => `rgba(${parts}, ${share})`);

function axis(ink, line, extra = {}) {
  return { stroke: ink, font: "12px system-ui, sans-serif", grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1, size: 4 }, ...extra };
}

const integers = (chart, found) => found.map((value) => (Number.isInteger(value) ? value.toLocaleString("en") : ""));
const values = (chart, found) => found.map((value) => (value === null ? "" : shortened(value)));

function shortened(value) {
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e5 || size < 1e-3)) return value.toExponential(0);
  return String(Number(value.toPrecision(4)));
}

/** Exponential moving average with a weight for what came before; gaps stay gaps. */
export function smoothed(list, weight) {
  let mean = null;
  let norm = 0;
  return list.map((value) => {
    if (typeof value !== "number") return null;
    mean = (mean ?? 0) * weight + (1 - weight) * value;
    norm = norm * weight + (1 - weight);
    return mean / norm;
  });
}

/**
 * A chart of lines over one axis.
 * @param {object} options
 * @param {string} options.title
 * @param {() => Array<{label: string, steps: number[], values: Array, ink: string, dash?: number, smooth?: number, span?: boolean}>} options.lines what to draw now
 * @param {() => {low: number, high: number, target: number}|null} [options.band] drawn behind the lines
 * @param {() => {steps: number[], low: number[], high: number[]}|Array|null} [options.spread] a filled range behind the
 *   lines, or several, each with its `ink`, and where wanted `fill` (opacity), `edge` (dash of a line) and `outer`
 *   (whether that line is at its "high" or its "low")
 * @param {() => Array} [options.tabled] what words and table tell, where that is more than the lines
 * @param {string} [options.shade] what that range is
 * @param {() => {names: string[], of: object}|null} [options.normal] metrics, and what clean runs showed of them
 * @param {() => number[]} [options.marks] steps of alerts
 * @param {() => Array<{step: number, text: string}>} [options.flags] words beside a step
 * @param {() => Array<{step: number, low: number, high: number}>} [options.whiskers] intervals of points
 * @param {[number, number]} [options.ends] of the values, where they are known beforehand
 * @param {() => [number, number]} options.span ends of the axis of steps
 * @param {(step: number|null) => void} [options.hover]
 * @param {(step: number) => void} [options.pick]
 * @param {(first: number, last: number) => void} [options.zoom]
 */
export class Chart {
  constructor(options) {
    this.options = { height: 170, level: "h3", unit: "", about: null, across: "step", ...options };
    this.plot = null;
    this.dirty = true;
    this.visible = false;
    this.mark = null;
    this.paper = null;
    const o = this.options;
    this.place = h("div", { class: "plot", role: "img", "aria-label": o.title });
    this.latest = h("span", { class: "latest" });
    this.words = h("p", { class: "hint" });
    this.table = h("div", {});
    this.more = h("details", { class: "twin" }, h("summary", {}, "Definition, words and table"), o.about, this.words, this.table);
    this.more.addEventListener("toggle", () => this.more.open && this.tabulate());
    this.title = h("bdi", {}, o.title);
    this.element = h("figure", { class: "chart" },
      h("figcaption", {}, h(o.level, {}, this.title, o.unit && h("small", {}, ` ${o.unit}`)), this.latest),
      this.place, this.more);
    watch(this);
  }

  /** Something changed; it is drawn once it can be seen. */
  touch() {
    this.dirty = true;
    if (this.visible) soon(this);
  }

  /** Another title, where what is drawn is known only once it was read. */
  rename(title) {
    this.options.title = this.title.textContent = title;
  }

  /** Colours changed: everything is made anew. */
  recolour() {
    this.plot?.destroy();
    this.plot = null;
    this.touch();
  }

  /** Draws now, for paper: charts that stand two in a row are half as wide. */
  print(width) {
    this.plot?.destroy();
    this.plot = null;
    this.paper = this.place.closest(".panels") ? Math.floor(width / 2) - 20 : width;
    this.draw();
    this.paper = null;
  }

  /** Puts the line of the cursor to a step, or takes it away. */
  point(step) {
    this.mark = step;
    this.plot?.redraw(false, false);
  }

  draw() {
    this.dirty = false;
    const lines = this.options.lines();
    const spreads = [this.options.spread?.() ?? []].flat();
    const tables = spreads.flatMap((one) => [[one.steps, one.high], [one.steps, one.low]]);
    for (const line of lines) {
      const plain = line.values.map((value) => (typeof value === "number" ? value : null));
      tables.push([line.steps, plain]);
      if (line.smooth) tables.push([line.steps, smoothed(line.values, line.smooth)]);
    }
    const data = tables.length ? uPlot.join(tables) : [[], []];
    const shape = JSON.stringify([lines.map((line) => [line.label, line.ink, line.dash, Boolean(line.smooth)]), spreads.map((one) => [one.ink, one.outer])]);
    if (!this.plot || shape !== this.shape) this.build(lines, spreads, data);
    else this.plot.setData(data, false);
    this.shape = shape;
    const [first, last] = this.options.span();
    this.plot.setScale("x", { min: first, max: Math.max(last, first + 1e-9) });
    this.describe(lines);
    this.latestOf(lines);
    if (this.more.open) this.tabulate();
  }

  build(lines, spreads, data) {
    this.plot?.destroy();
    const [ink, line] = [colour("muted"), colour("line")];
    const series = [{}];
    const hidden = { stroke: "transparent", points: { show: false }, spanGaps: true };
    spreads.forEach(({ ink: name, edge, outer }) => {
      const drawn = edge === undefined ? {} : { stroke: colour(name), width: 1.5, dash: DASHES[edge % DASHES.length] };
      series.push({ ...hidden, ...(outer === "high" ? drawn : {}) }, { ...hidden, ...(outer === "low" ? drawn : {}) });
    });
    for (const { ink: name, dash, smooth, steps } of lines) {
      const stroke = colour(name);
      const few = steps.length < 40;
      const one = { stroke, width: 2, dash: DASHES[(dash ?? 0) % DASHES.length], spanGaps: true, points: { show: few, size: 5, fill: stroke } };
      if (smooth) series.push({ ...one, stroke: faded(stroke, 0.28), width: 1, points: { show: false } }, { ...one, points: { show: false } });
      else series.push(one);
    }
    this.plot = new uPlot({
      width: this.width(), height: this.options.height, series,
      bands: spreads.map((one, n) => ({ series: [2 * n + 1, 2 * n + 2], fill: faded(colour(one.ink ?? "left"), one.fill ?? 0.16) })),
      legend: { show: false },
      cursor: { y: false, points: { size: 7 }, drag: { x: Boolean(this.options.zoom), y: false, setScale: false } },
      scales: { x: { time: false, auto: false }, y: { range: (plot, low, high) => this.range(low, high) } },
      axes: [axis(ink, line, { values: this.options.across === "step" ? integers : values, size: 30 }), axis(ink, line, { values, size: 58 })],
      hooks: {
        drawAxes: [(plot) => this.background(plot)],
        draw: [(plot) => this.foreground(plot)],
        setCursor: [(plot) => this.options.hover && plot.cursor.event && this.options.hover(plot.cursor.left < 0 ? null : plot.posToVal(plot.cursor.left, "x"))],
        setSelect: [(plot) => this.select(plot)],
      },
    }, data.length > series.length ? data.slice(0, series.length) : data, this.place);
    this.plot.over.addEventListener("mouseleave", () => this.options.hover?.(null));
    this.plot.over.addEventListener("click", () => this.click());
    if (this.options.pick) this.plot.over.classList.add("picks");
  }

  click() {
    if (!this.options.pick || this.plot.select.width > 2 || this.plot.cursor.left < 0) return;
    this.options.pick(Math.round(this.plot.posToVal(this.plot.cursor.left, "x")));
  }

  select(plot) {
    const { left, width } = plot.select;
    if (width < 5 || !this.options.zoom) return;
    this.options.zoom(plot.posToVal(left, "x"), plot.posToVal(left + width, "x"));
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  }

  range(low, high) {
    if (this.options.ends) return this.options.ends;
    const band = this.options.band?.();
    let [from, to] = [low ?? 0, high ?? 1];
    if (band) [from, to] = [Math.min(from, band.low), Math.max(to, band.high)];
    [from, to] = stretched([from, to], this.ranges());
    const room = (to - from || Math.abs(to) || 1) * 0.08;
    return [from - room, to + room];
  }

  ranges() {
    const normal = this.options.normal?.();
    return normal ? ranges(normal.names, normal.of) : [];
  }

  background(plot) {
    for (const one of this.ranges()) drawRange(plot, one, faded(colour(one.ink), 0.13), faded(colour(one.ink), 0.3));
    const band = this.options.band?.();
    if (!band) return;
    const { ctx, bbox } = plot;
    const [top, bottom, middle] = [band.high, band.low, band.target].map((value) => plot.valToPos(value, "y", true));
    ctx.save();
    ctx.fillStyle = faded(colour("good"), 0.14);
    ctx.fillRect(bbox.left, top, bbox.width, bottom - top);
    ctx.strokeStyle = colour("good");
    ctx.setLineDash([6, 5]);
    ctx.beginPath();
    ctx.moveTo(bbox.left, middle);
    ctx.lineTo(bbox.left + bbox.width, middle);
    ctx.stroke();
    ctx.restore();
  }

  foreground(plot) {
    for (const step of this.options.marks?.() ?? []) this.upright(plot, step, colour("bad"), []);
    this.options.whiskers?.().forEach((one) => this.whisker(plot, one));
    this.options.flags?.().forEach((one) => this.flag(plot, one));
    if (this.mark !== null) this.upright(plot, this.mark, colour("ink"), [3, 3]);
  }

  upright(plot, step, ink, dash) {
    const { ctx, bbox } = plot;
    const x = plot.valToPos(step, "x", true);
    if (x < bbox.left - 1 || x > bbox.left + bbox.width + 1) return;
    ctx.save();
    ctx.strokeStyle = ink;
    ctx.lineWidth = (dash.length ? 1 : 2) * devicePixelRatio;
    ctx.setLineDash(dash);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    ctx.restore();
  }

  /** An interval as an upright line with ends. */
  whisker({ ctx, bbox, valToPos }, { step, low, high }) {
    const x = valToPos(step, "x", true);
    if (x < bbox.left - 1 || x > bbox.left + bbox.width + 1) return;
    const [top, bottom, half] = [valToPos(high, "y", true), valToPos(low, "y", true), 5 * devicePixelRatio];
    ctx.save();
    ctx.strokeStyle = colour("left");
    ctx.lineWidth = 2 * devicePixelRatio;
    ctx.beginPath();
    for (const y of [top, bottom]) {
      ctx.moveTo(x - half, y);
      ctx.lineTo(x + half, y);
    }
    ctx.moveTo(x, top);
    ctx.lineTo(x, bottom);
    ctx.stroke();
    ctx.restore();
  }

  /** Words beside a step, on the side where they have room. */
  flag({ ctx, bbox, valToPos }, { step, text }) {
    const [x, size] = [valToPos(step, "x", true), devicePixelRatio];
    if (x < bbox.left - 1 || x > bbox.left + bbox.width + 1) return;
    ctx.save();
    ctx.font = `${12 * size}px system-ui, sans-serif`;
    const wide = ctx.measureText(text).width;
    const left = x + 6 * size + wide < bbox.left + bbox.width ? x + 6 * size : Math.max(bbox.left, x - 6 * size - wide);
    ctx.fillStyle = colour("surface");
    ctx.globalAlpha = 0.85;
    ctx.fillRect(left - 2 * size, bbox.top, wide + 4 * size, 16 * size);
    ctx.globalAlpha = 1;
    ctx.fillStyle = colour("ink");
    ctx.textBaseline = "top";
    ctx.textAlign = "left";
    ctx.fillText(text, left, bbox.top + 2 * size);
    ctx.restore();
  }

  width() {
    return this.paper ?? Math.max(160, Math.floor(this.place.clientWidth));
  }

  resize() {
    if (this.plot && !onPaper && this.plot.width !== this.width()) this.plot.setSize({ width: this.width(), height: this.options.height });
  }

  describe(lines) {
    const normal = this.options.normal?.();
    const told = (this.options.tabled?.() ?? lines).map((line) => summary(line.label, line, number)).join(" ");
    const text = normal ? `${told} ${standing(normal.names, normal.of)}`.trim() : told;
    this.place.setAttribute("aria-label", `${this.options.title}. ${text}`);
    this.words.textContent = text;
  }

  /** The newest values, beside the title. */
  latestOf(lines) {
    const few = lines.length < 4;
    const normal = this.options.normal?.();
    const said = normal && remark(normal.names, normal.of);
    show(this.latest, said && h("span", { class: "left-normal" }, said), this.options.shade && this.options.spread?.() && h("span", { class: "shade" }, this.options.shade),
      few && lines.map((line) => line.values.length > 0 && h("span", { class: `ink-${line.ink}` },
        lines.length > 1 && [h("span", { class: "line", data: { dash: line.dash }, "aria-hidden": "true" }), h("bdi", { class: "label" }, line.label)], number(line.values.at(-1)))));
  }

  tabulate() {
    const lines = this.options.tabled?.() ?? this.options.lines();
    const at = new Map();
    lines.forEach((line, n) => line.steps.forEach((step, k) => at.set(step, Object.assign(at.get(step) ?? {}, { [n]: line.values[k] }))));
    const steps = [...at.keys()].sort((a, b) => b - a);
    const across = this.options.across;
    show(this.table, steps.length > ROWS && h("p", { class: "hint" }, `The newest ${ROWS} of ${steps.length} points that are drawn.`),
      h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": `${this.options.title}, as a table` },
        h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, across === "step" ? "Step" : across),
          lines.map((line) => h("th", { scope: "col", class: "number" }, h("bdi", {}, line.label))))),
        h("tbody", {}, steps.slice(0, ROWS).map((step) => h("tr", {}, h("td", { class: "number" }, number(step)),
          lines.map((_, n) => h("td", { class: "number" }, number(at.get(step)[n])))))))));
  }
}

/** Lines of metrics of one store. */
export function linesOf(store, names, smooth = 0) {
  return names.map((name, n) => ({ label: named(name), ...store.get(name), ink: n ? "right" : "left", dash: n, smooth }));
}

const charts = new Map();
const due = new Set();
let timer = 0;

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const chart = charts.get(entry.target);
    if (!chart) continue;
    chart.visible = entry.isIntersecting;
    if (chart.visible && chart.dirty) soon(chart);
  }
}, { rootMargin: "300px" });

const sized = new ResizeObserver((entries) => entries.forEach((entry) => charts.get(entry.target)?.resize()));

function watch(chart) {
  charts.set(chart.place, chart);
  seen.observe(chart.place);
  sized.observe(chart.place);
}

function soon(chart) {
  due.add(chart);
  if (!timer) timer = requestAnimationFrame(flush);
}

function flush() {
  timer = 0;
  const now = [...due];
  due.clear();
  for (const chart of now) if (chart.place.isConnected) chart.draw();
}

/** Forgets charts that left the page, and draws the others in the colours that hold now. */
export function refreshCharts({ recolour = false } = {}) {
  if (onPaper) return;
  for (const [place, chart] of charts) {
    if (!place.isConnected) {
      seen.unobserve(place);
      sized.unobserve(place);
      chart.plot?.destroy();
      charts.delete(place);
    } else if (recolour) chart.recolour();
  }
}

const PAPER = 660;
let onPaper = false; // printing changes the theme as well: what was drawn for it stays until it is over

/** Draws every chart as it goes on paper: all of them, seen or not, in the light theme and as wide as a page. */
function toPaper() {
  if (onPaper) return;
  onPaper = true;
  const theme = document.documentElement.dataset.theme;
  document.documentElement.dataset.theme = "light";
  for (const chart of charts.values()) chart.print(PAPER);
  dispatchEvent(new Event("trueup:recolour"));
  addEventListener("afterprint", () => {
    onPaper = false;
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
    for (const chart of charts.values()) chart.recolour();
    dispatchEvent(new Event("trueup:recolour"));
  }, { once: true });
}

addEventListener("beforeprint", toPaper);
