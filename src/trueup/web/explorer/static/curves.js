// The curves of one run: reward and KL together, their phase plane, and a panel for every metric.

import { button, field, h, show } from "./shell/dom.js";
import { announce, attempt } from "./shell/page.js";
import { Chart, linesOf } from "./chart.js";
import { named, number, plain } from "./format.js";
import { about } from "./normal.js";
import { pathOf } from "./path.js";
import { Phase } from "./phase.js";
import { references, told } from "./reference.js";
import { answered, label } from "./people.js";
import { address, go, here } from "./place.js";
import { partsOf, Stack } from "./stack.js";

const SMOOTH = [["0", "As logged"], ["0.6", "A little"], ["0.9", "Much"]];

/** Draws the curves of a run and keeps them up to date. */
export class Curves {
  constructor(store, run, place) {
    Object.assign(this, { store, run, place, smooth: 0, probes: [] });
    this.charts = [];
    this.phase = null;
    this.step = null;
    this.reading = h("dl", { class: "reading" });
    this.slider = h("input", { type: "range", min: 0, max: 1, step: 1, class: "steps" });
    this.slider.addEventListener("input", () => this.point(Number(this.slider.value), true));
    this.samplesHere = h("a", { class: "button small" }, "Samples at this step");
    this.element = h("div", {});
    this.layout();
  }

  /** What all charts over steps share. */
  common() {
    return { span: () => this.store.span, hover: (step) => this.hover(step), zoom: (a, b) => this.zoom(a, b), pick: this.run.probes ? (step) => this.open(step) : undefined };
  }

  chart(options) {
    const chart = new Chart({ ...this.common(), ...options });
    this.charts.push(chart);
    return chart.element;
  }

  metricChart(names, options = {}) {
    const { meanings } = this.run;
    const figure = this.chart({
      title: names.map(named).join(" and "), unit: [...new Set(names.map((name) => meanings[name]?.unit).filter(Boolean))].join(", "),
      about: about(names, meanings, this.run.normal), normal: () => this.normal(names), marks: () => this.run.alerts.filter((alert) => names.includes(alert.metric)).map((alert) => alert.step), lines: () => linesOf(this.store, names, this.smooth),
      flags: () => this.said().filter((one) => names.includes(one.metric)).map((one) => ({ step: one.step, text: label(one) })), ...options,
    });
    figure.dataset.metrics = names.join(" ");
    return figure;
  }

  /** What clean runs showed of some metrics, unless it is switched off. */
  normal(names) {
    return here().normal === "off" || !names.some((name) => this.run.normal[name]) ? null : { names, of: this.run.normal };
  }

  layout() {
    const { hero, groups } = this.run;
    const online = hero.some((names) => names.includes("kl"));
    show(this.element,
      hero.length > 0 && h("section", { class: "card hero", "aria-labelledby": "hero" },
        h("div", { class: "head" }, h("h2", { id: "hero" }, online ? "Reward and KL" : "At a glance"), this.tools()),
        hero.map((names) => this.heroChart(names)), this.said().length > 0 && this.peopleChart(), this.cursorRow()),
      online && this.phaseCard(hero[0][0]), this.partsCard(),
      groups.map((group) => h("section", { class: "card", "aria-label": group.title }, h("h2", {}, group.title),
        h("div", { class: "panels" }, group.panels.map((names) => this.metricChart(names, { height: 150 }))))));
    this.touch();
  }

  /** What people said about alerts, each with the metric on whose curve its alert is shown. */
  said() {
    const metric = ({ rule, step }) => this.run.alerts.find((alert) => alert.rule === rule && alert.step === step)?.metric;
    return answered(this.run).map((one) => ({ ...one, metric: metric(one) }));
  }

  /** The same, each question once: several alerts may be about the answers of one probe. */
  questions() {
    return this.said().filter((one, n, all) => all.findIndex((other) => other.probe === one.probe) === n);
  }

  /** On the axis of steps that all charts have: how often people preferred the answers there to those at the start. */
  peopleChart() {
    return this.chart({
      title: "People", unit: "win-rate against the start, blind, 95 % interval; dashed: no difference", height: 110, ends: [0, 1],
      band: () => ({ low: 0.5, high: 0.5, target: 0.5 }), whiskers: () => this.questions().map(({ step, win_rate: rate }) => ({ step, low: rate.low, high: rate.high })),
      about: h("ul", { class: "reasons" }, this.questions().map((one) => h("li", {}, `Step ${one.step}: ${label(one)}.`))),
      lines: () => [{ label: "People prefer the later answer", steps: this.questions().map((one) => one.step), values: this.questions().map((one) => one.win_rate.estimate), ink: "left" }],
    });
  }

  heroChart(names) {
    if (names.includes("kl")) {
      const { band, penalty } = this.run;
      const told = band ? `${penalty.where}; band ${plain(band.low)} to ${plain(band.high)}, target ${plain(band.target)}` : penalty.where;
      return this.metricChart(names, { title: "KL to the reference", unit: `nats, ${told}`, band: () => band, height: 190 });
    }
    const spread = names.includes("score") ? () => this.spread() : undefined;
    return this.metricChart(names, { height: ["beta", "gold"].includes(names[0]) ? 110 : 190, spread, shade: "10 % to 90 % of the fixed prompts" });
  }

  /** Where 80 % of the scores of the fixed prompts lie. */
  spread() {
    const rows = this.probes.filter((row) => row.p10 !== null);
    if (rows.length < 2) return null;
    return { steps: rows.map((row) => row.step), low: rows.map((row) => row.p10), high: rows.map((row) => row.p90) };
  }

  phaseCard(reward) {
    this.phase = new Phase({
      title: `${named(reward)} over √KL`, pick: this.run.probes ? (_, step) => this.open(step) : null,
      runs: () => [{ label: this.run.name, points: pathOf(this.store, reward) }],
      beside: () => references(this.store, this.run), told: (lines) => told(lines, this.run),
    });
    return h("section", { class: "card narrow-card", "aria-label": "Phase plane" }, h("h2", {}, "Phase plane"), this.phase.element);
  }

  /** What the score is made of, where it has parts. */
  partsCard() {
    const parts = partsOf(this.run.metrics);
    if (!parts.length || !this.run.metrics.includes("score")) return null;
    const stack = new Stack({ store: this.store, parts, meanings: this.run.meanings, ...this.common() });
    this.charts.push(stack.chart);
    return stack.element;
  }

  /** Whether the ranges of clean runs are shown; where there are none there is nothing to switch. */
  normalBox() {
    if (!Object.keys(this.run.normal).length) return null;
    const box = h("input", { type: "checkbox", checked: here().normal !== "off" });
    box.addEventListener("change", () => {
      go({ ...here(), normal: box.checked ? "" : "off" }, { quiet: true });
      this.touch();
    });
    return h("label", { class: "row", title: "Grey: the range of clean runs of the sandbox; what each rests on is under its chart" }, box, "What is normal");
  }

  tools() {
    const smooth = h("select", { class: "small" }, SMOOTH.map(([value, label]) => h("option", { value }, label)));
    smooth.addEventListener("change", () => {
      this.smooth = Number(smooth.value);
      this.touch();
    });
    this.all = button("Show all steps", () => this.zoom(), { class: "small", hidden: true });
    const [first, last] = [h("input", { type: "number", min: 0, class: "small" }), h("input", { type: "number", min: 0, class: "small" })];
    const form = h("form", { class: "inline zoom" }, field("From step", first), field("To step", last), h("button", { class: "small", type: "submit" }, "Zoom"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const [from, to] = [Number(first.value || 0), Number(last.value || this.store.span[1])];
      if (to > from) this.zoom(from, to);
    });
    return h("div", { class: "row tools" }, this.all, h("label", { class: "row" }, h("span", { class: "hint" }, "Smoothing"), smooth), this.normalBox(),
      h("details", { class: "pop" }, h("summary", {}, "Zoom"), form, h("p", { class: "hint" }, "Or drag across a chart.")));
  }

  cursorRow() {
    return h("div", { class: "cursor-row" }, h("label", { class: "row grow" }, h("span", {}, "Step"), this.slider), this.reading,
      this.run.probes > 0 && this.samplesHere);
  }

  async zoom(first, last) {
    await attempt(async () => {
      await this.store.zoom(first, last);
      this.all.hidden = !this.store.range;
      announce(this.store.range ? `Steps ${this.store.range[0]} to ${this.store.range[1]}` : "All steps");
      this.touch();
    });
  }

  open(step) {
    go({ ...this.place(), view: "samples", step: String(this.nearest(step)) });
  }

  /** The last probe at or before a step. */
  nearest(step) {
    const steps = this.probes.map((row) => row.step);
    return steps.filter((other) => other <= step).at(-1) ?? steps[0] ?? step;
  }

  hover(step) {
    if (step === null) this.point(null);
    else this.point(Math.round(step));
  }

  /** Moves the cursor of all charts to a step; null puts it to the newest one. */
  point(step, byHand = false) {
    this.step = step;
    const span = this.store.span;
    const at = step === null ? span[1] : Math.min(Math.max(step, span[0]), span[1]);
    if (!byHand) this.slider.value = String(at);
    this.charts.forEach((chart) => chart.point(step === null ? null : at));
    const names = this.run.hero.flat();
    const shown = names.map((name) => [name, this.store.at(name, at)]);
    this.slider.setAttribute("aria-valuetext", `Step ${at}: ${shown.map(([name, found]) => `${named(name)} ${number(found?.value)}`).join(", ")}`);
    show(this.reading, h("div", {}, h("dt", {}, "Step"), h("dd", {}, number(at))),
      shown.map(([name, found]) => h("div", {}, h("dt", {}, named(name)), h("dd", {}, number(found?.value)))));
    this.samplesHere.href = address({ ...this.place(), view: "samples", step: String(this.nearest(at)) });
  }

  /** The store has other numbers. */
  touch() {
    const [first, last] = this.store.span;
    this.slider.min = String(first);
    this.slider.max = String(last);
    this.charts.forEach((chart) => chart.touch());
    this.phase?.draw();
    this.point(this.step);
  }
}
