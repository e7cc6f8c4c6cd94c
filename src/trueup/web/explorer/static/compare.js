// Several runs beside each other: one metric in one chart, where they ended, and only the settings that differ.

import { get, seg } from "./shell/api.js";
import { h, show } from "./shell/dom.js";
import { Chart } from "./chart.js";
import { named, number, plural, setting } from "./format.js";
import { pathOf } from "./path.js";
import { Phase } from "./phase.js";
import { go, here } from "./place.js";
import { configurations, interval, together } from "./seeds.js";
import { Store } from "./store.js";

const LAST = ["score", "reward", "kl", "beta", "loss", "heldout_nll", "heldout_loss", "heldout_accuracy", "margin", "completion_length"];

/** Runs that differ in nothing but their seed share a colour and differ in their dashes. */
function inks(groups) {
  const looks = [];
  groups.forEach(({ places }, group) => places.forEach((n, dash) => (looks[n] = { ink: `series-${group % 8}`, dash })));
  return looks;
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
    this.groups = configurations(this.runs, this.settings);
    this.looks = inks(this.groups);
    this.seeds = this.groups.some(({ places }) => places.length > 1);
    this.banded = this.seeds;
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
    const bands = h("input", { type: "checkbox", checked: this.banded });
    bands.addEventListener("change", () => {
      this.banded = bands.checked;
      show(this.place, this.chart(this.metric));
      this.keys.hidden = this.banded || this.runs.length < 4;
    });
    this.keys = this.key();
    this.keys.hidden = this.banded || this.runs.length < 4;
    const online = this.stores.filter((store) => store.series.has("kl")).length > 1;
    show(this.element,
      h("section", { class: "card", "aria-label": "Curves" }, h("div", { class: "head" }, h("h2", {}, plural(this.runs.length, "run")), this.seeds && h("label", { class: "row" }, bands, "Seeds as a band"),
        h("label", { class: "row" }, h("span", { class: "hint" }, "Metric"), choice)), this.keys, this.place),
      online && this.phases(), this.seeds && this.configured(), this.ends(), this.differing());
  }

  chart(metric) {
    const chart = new Chart({
      title: named(metric), height: 300, about: h("p", { class: "hint" }, h("code", {}, metric)),
      span: () => [Math.min(...this.stores.map((s) => s.span[0])), Math.max(...this.stores.map((s) => s.span[1]))],
      shade: this.banded ? "lowest to highest of the seeds" : "", spread: this.banded ? () => this.bands(metric) : undefined,
      lines: () => (this.banded ? this.means(metric) : this.stores.map((store, n) => ({ label: this.runs[n], ...store.get(metric), ...this.looks[n] }))),
    });
    this.drawn = chart;
    return chart.element;
  }

  /** By configuration: what its seeds are together, and how it is drawn. */
  joined(metric) {
    return this.groups.map((group, n) => ({ ...group, ink: `series-${n % 8}`, all: together(group.places.map((place) => this.stores[place].get(metric))) }))
      .filter(({ all }) => all);
  }

  bands(metric) {
    return this.joined(metric).filter(({ places }) => places.length > 1).map(({ ink, all }) => ({ ink, steps: all.steps, low: all.low, high: all.high }));
  }

  means(metric) {
    return this.joined(metric).map(({ label, ink, all, places }) => ({ label: places.length > 1 ? `mean of ${label}` : label, ink, dash: 0, steps: all.steps, values: all.mean }));
  }

  /** Where the configurations ended, with what the seeds alone leave open. */
  configured() {
    const names = LAST.filter((name) => this.stores.some((store) => store.series.has(name)));
    const cell = (places, name) => {
      const told = interval(places.map((n) => tail(this.stores[n].get(name).values)));
      if (!told) return "–";
      return told.half === null ? number(told.mean) : `${number(told.mean)} ± ${number(told.half)}`;
    };
    return h("section", { class: "card", "aria-label": "Configurations" }, h("h2", {}, "Configurations"),
      h("p", { class: "hint" }, "Mean over seeds of the last tenth of the steps, ± half of Student's 95 % interval. One seed has none; two say little."),
      h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Configurations with intervals" }, h("table", {},
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Configuration"), h("th", { scope: "col", class: "number" }, "Runs"), names.map((name) => h("th", { scope: "col", class: "number" }, named(name))))),
        h("tbody", {}, this.groups.map(({ label, places }) => h("tr", {}, h("th", { scope: "row" }, h("bdi", {}, label)), h("td", { class: "number" }, String(places.length)),
          names.map((name) => h("td", { class: "number" }, cell(places, name)))))))));
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
