// Several runs beside each other: one metric in one chart, where they ended, and only the settings that differ.

import { get, seg } from "./shell/api.js";
import { h, show } from "./shell/dom.js";
import { Chart } from "./chart.js";
import { named, number, plural, setting } from "./format.js";
import { pathOf, Phase } from "./phase.js";
import { go, here } from "./place.js";
import { Store } from "./store.js";

const LAST = ["score", "reward", "kl", "beta", "loss", "heldout_nll", "heldout_loss", "heldout_accuracy", "margin", "completion_length"];

/** Runs that differ in nothing but their seed share a colour and differ in their dashes. */
function inks(runs, settings) {
  const keys = runs.map((_, n) => JSON.stringify(settings.filter((row) => row.name !== "seed").map((row) => row.values[n])));
  const distinct = [...new Set(keys)];
  const seen = new Map();
  return keys.map((key) => {
    const dash = seen.get(key) ?? 0;
    seen.set(key, dash + 1);
    return { ink: `series-${distinct.indexOf(key) % 8}`, dash };
  });
}

/** Mean of the last tenth of a series, of three values at least. */
function tail(values) {
  const last = values.filter((value) => typeof value === "number").slice(-Math.max(3, Math.round(values.length / 10)));
  return last.length ? last.reduce((sum, value) => sum + value, 0) / last.length : null;
}

/** The comparison of some runs. */
export class Comparison {
  constructor(runs) {
    this.runs = runs;
    this.stores = runs.map((run) => new Store(run));
    this.charts = [];
    this.element = h("div", {});
  }

  async load() {
    const [reply] = await Promise.all([get(`/differences?${this.runs.map((run) => `run=${seg(run)}`).join("&")}`), ...this.stores.map((store) => store.load())]);
    this.settings = reply.settings;
    this.looks = inks(this.runs, this.settings);
    this.draw();
  }

  get metrics() {
    return [...new Set(this.stores.flatMap((store) => [...store.series.keys()]))].sort();
  }

  get metric() {
    const asked = here().metric;
    return this.metrics.includes(asked) ? asked : ["score", "reward", "loss"].find((name) => this.metrics.includes(name)) ?? this.metrics[0];
  }

  draw() {
    const metric = this.metric;
    const choice = h("select", {}, this.metrics.map((name) => h("option", { value: name }, named(name))));
    choice.value = metric;
    choice.addEventListener("change", () => {
      go({ ...here(), metric: choice.value }, { quiet: true });
      show(this.place, this.chart(choice.value));
    });
    this.place = h("div", {}, this.chart(metric));
    const online = this.stores.filter((store) => store.series.has("kl")).length > 1;
    show(this.element,
      h("section", { class: "card", "aria-label": "Curves" }, h("div", { class: "head" }, h("h2", {}, plural(this.runs.length, "run")),
        h("label", { class: "row" }, h("span", { class: "hint" }, "Metric"), choice)), this.runs.length > 3 && this.key(), this.place),
      online && this.phases(), this.ends(), this.differing());
  }

  chart(metric) {
    const chart = new Chart({
      title: named(metric), height: 300, about: h("p", { class: "hint" }, h("code", {}, metric)),
      span: () => [Math.min(...this.stores.map((s) => s.span[0])), Math.max(...this.stores.map((s) => s.span[1]))],
      lines: () => this.stores.map((store, n) => ({ label: this.runs[n], ...store.get(metric), ...this.looks[n] })),
    });
    this.drawn = chart;
    return chart.element;
  }

  key() {
    return h("ul", { class: "key" }, this.runs.map((run, n) =>
      h("li", {}, h("span", { class: `line ink-${this.looks[n].ink}`, data: { dash: this.looks[n].dash % 4 }, "aria-hidden": "true" }), h("bdi", {}, run))));
  }

  phases() {
    const phase = new Phase({ title: "Reward over √KL", runs: () => this.stores.map((store, n) =>
      ({ label: this.runs[n], ink: this.looks[n].ink, points: store.series.has("kl") ? pathOf(store, store.series.has("score") ? "score" : "reward") : [] })) });
    this.phase = phase;
    const card = h("section", { class: "card narrow-card", "aria-label": "Phase plane" }, h("h2", {}, "What each paid in KL"), phase.element);
    requestAnimationFrame(() => phase.draw());
    return card;
  }

  ends() {
    const names = LAST.filter((name) => this.stores.some((store) => store.series.has(name)));
    return h("section", { class: "card", "aria-label": "Where they ended" }, h("h2", {}, "Where they ended"),
      h("p", { class: "hint" }, "Means of the last tenth of the steps; a single step is mostly noise."),
      h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Last values" }, h("table", {},
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Run"), h("th", { scope: "col", class: "number" }, "Last step"), names.map((name) => h("th", { scope: "col", class: "number" }, named(name))))),
        h("tbody", {}, this.stores.map((store, n) => h("tr", {}, h("th", { scope: "row" }, h("bdi", {}, this.runs[n])), h("td", { class: "number" }, number(store.span[1])),
          names.map((name) => h("td", { class: "number" }, number(tail(store.get(name).values))))))))));
  }

  differing() {
    const rows = this.settings;
    return h("section", { class: "card", "aria-label": "What is set differently" }, h("h2", {}, "What is set differently"),
      rows.length === 0 ? h("p", { class: "muted" }, "Nothing: these runs have the same settings and inputs.")
        : h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Settings that differ" }, h("table", {},
          h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Setting"), this.runs.map((run) => h("th", { scope: "col" }, h("bdi", {}, run))))),
          h("tbody", {}, rows.map((row) => h("tr", {}, h("th", { scope: "row" }, h("code", {}, row.name)), row.values.map((value) => h("td", {}, h("bdi", {}, setting(value))))))))));
  }

  touch() {
    this.drawn?.touch();
    this.phase?.draw();
  }
}
