// The explorer: the list of runs, one of them or several compared, and the stream that keeps both up to date.

import { get, me, seg, words } from "./shell/api.js";
import { button, h, show } from "./shell/dom.js";
import { announce, attempt, badge, main, notify, saveState, themeSwitch } from "./shell/page.js";
import { reveal } from "./shell/text.js";
import { refreshCharts } from "./chart.js";
import { Comparison } from "./compare.js";
import { Control, ended } from "./control.js";
import { Curves } from "./curves.js";
import { number, plural, setting, status } from "./format.js";
import { follow } from "./live.js";
import { answered, question } from "./people.js";
import { address, go, here } from "./place.js";
import { Book } from "./samples.js";
import { door, enter } from "./session.js";
import { Store } from "./store.js";
import { Tour } from "./tour.js";

const VIEWS = [["", "Curves"], ["samples", "Samples"], ["settings", "Settings"]];
const TONES = { good: "Healthy", watch: "Worth a look", bad: "Trouble", wait: "Waiting" };
const MOST = 10;
const ALERTS = 5;

const state = { runs: [], open: null, stream: null, turn: 0, busy: false, filter: "", told: null, tour: null, asks: false, controls: false };
const list = h("ul", { class: "run-list" });
const view = h("div", { class: "view" });
const guide = h("div", { class: "guide" });

function runLine(run) {
  const place = here();
  const [said, tone] = status(run.status);
  const box = h("input", { type: "checkbox", "aria-label": `Compare ${run.name}` });
  box.checked = place.runs.includes(run.name);
  box.disabled = run.status === "unreadable";
  box.addEventListener("change", () => compareWith(run.name, box));
  const current = place.run === run.name && place.view !== "compare";
  return h("li", { class: "run" }, box, h("a", { href: address({ run: run.name, view: place.view === "compare" ? "" : place.view, runs: place.runs, normal: place.normal }), "aria-current": current ? "page" : null },
    h("span", { class: "run-name", dir: "auto" }, reveal(run.name)),
    h("small", { class: "run-facts" }, h("span", { class: "dot", data: { tone } }), said, run.kind && ` · ${run.kind}`)));
}

function drawList() {
  const wanted = state.filter.toLowerCase();
  const shown = state.runs.filter((run) => run.name.toLowerCase().includes(wanted));
  const held = document.activeElement?.getAttribute("aria-label");
  show(list, shown.map(runLine));
  if (held?.startsWith("Compare ")) list.querySelector(`[aria-label="${CSS.escape(held)}"]`)?.focus();
  const picked = here().runs.length;
  compare.hidden = picked < 2;
  compare.href = address({ ...here(), view: "compare" });
  compare.textContent = `Compare ${picked} runs`;
}

function compareWith(name, box) {
  const place = here();
  const runs = box.checked ? [...place.runs, name] : place.runs.filter((other) => other !== name);
  if (runs.length > MOST) {
    box.checked = false;
    announce(`At most ${MOST} runs can be compared`);
    return;
  }
  go({ ...place, runs }, { quiet: place.view !== "compare" });
  if (place.view !== "compare") drawList();
}

const compare = h("a", { class: "button primary", hidden: true });

function frame() {
  const filter = h("input", { type: "search", "aria-label": "Filter runs by name", placeholder: "Filter", class: "small" });
  filter.addEventListener("input", () => {
    state.filter = filter.value;
    drawList();
  });
  const wide = matchMedia("(min-width: 62rem)");
  const runs = h("details", { class: "card runs", open: wide.matches }, h("summary", {}, h("h2", {}, "Runs")), filter, list, compare);
  wide.addEventListener("change", () => (runs.open = wide.matches));
  show(document.getElementById("account"), themeSwitch());
  document.getElementById("account").addEventListener("change", recolour);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
  show(main(), h("div", { class: "explorer" }, h("div", { class: "side" }, h("nav", { "aria-label": "Runs" }, runs), guide), view));
}

/** Opens the tour, or the button that starts it, where the server has one. */
function offerTour() {
  if (!state.told) return;
  if (here().tour && !state.tour) {
    state.tour = new Tour(state.told, () => {
      state.tour = null;
      offerTour();
    });
    show(guide, state.tour.element);
  }
  if (!state.tour) show(guide, button("Start the tour", () => go({ run: state.told.runs[0], tour: "1" })));
  state.tour?.follow();
}

const redraw = () => state.open?.touch?.();

function recolour() {
  refreshCharts({ recolour: true });
  redraw();
}

/** A link that saves what is shown as a file which needs no server, open at the same place. */
function saveFile(names) {
  const link = h("a", { class: "button small save-file", download: true, href: "" }, "Save as one file");
  link.addEventListener("click", () => {
    const query = new URLSearchParams(names.map((name) => ["run", name]));
    query.set("place", address({ ...here(), tour: "" }));
    link.href = `/api/v1/snapshot?${query}`;
  });
  return link;
}

function verdictCard(verdict) {
  return h("section", { class: "card verdict", data: { tone: verdict.tone }, "aria-label": "Verdict" },
    h("p", { class: "tone" }, TONES[verdict.tone] ?? verdict.tone), h("h2", {}, verdict.headline),
    h("ul", { class: "reasons" }, verdict.reasons.map((reason) => h("li", {}, reason))));
}

/** The open alerts and the newest others; many would push the curves off the screen. */
function alertList(run, done) {
  if (!run.alerts.length) return null;
  const line = (alert) => h("li", {},
    h("a", { href: address({ ...here(), view: "samples", step: String(alert.step), prompt: "", text: "" }) }, `Step ${alert.step}`),
    alert.until === null ? ", still open: " : `, over at step ${alert.until}: `, alert.message, question(run, alert, state.asks, done));
  const newest = new Set(run.alerts.filter(({ until }) => until !== null).slice(-ALERTS));
  const first = run.alerts.filter((alert) => alert.until === null || newest.has(alert));
  const others = run.alerts.filter((alert) => !first.includes(alert));
  const rest = others.length > 0 && h("details", {}, h("summary", {}, `${plural(others.length, "earlier alert")}`));
  if (rest) rest.addEventListener("toggle", () => rest.append(h("ul", { class: "reasons" }, others.map(line))), { once: true });
  return h("section", { class: "card alerts", "aria-label": "Alerts" }, h("h2", {}, plural(run.alerts.length, "alert")),
    run.asked?.problem && h("p", { class: "ink-warn" }, `What people said cannot be read: ${run.asked.problem}`),
    rest, h("ul", { class: "reasons" }, first.map(line)));
}

function settings(run) {
  const row = ({ name, value, changed }) => h("tr", { data: { changed: changed ? "yes" : "no" } }, h("th", { scope: "row" }, h("code", {}, name)),
    h("td", {}, h("bdi", {}, reveal(setting(value)))), h("td", {}, changed ? "set" : "default"));
  const sorted = [...run.settings.filter((one) => one.changed), ...run.settings.filter((one) => !one.changed)];
  const pairs = [...Object.entries(run.inputs).map(([name, value]) => [`input ${name}`, value]), ...Object.entries(run.versions)];
  return h("section", { class: "card", "aria-label": "Settings" }, h("h2", {}, "Settings"),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "All settings" }, h("table", {}, h("thead", {}, h("tr", {}, ["Setting", "Value", ""].map((t) => h("th", { scope: "col" }, t || h("span", { class: "unseen" }, "Where from"))))),
      h("tbody", {}, sorted.map(row)))),
    h("h2", { class: "later" }, "Inputs and versions"), h("dl", { class: "meaning" }, pairs.map(([name, value]) => [h("dt", {}, name), h("dd", {}, h("code", {}, value))])));
}

/** One run on the page. */
class OpenRun {
  constructor(run) {
    this.run = run;
    this.store = new Store(run.name);
    this.head = h("header", { class: "run-head" });
    this.control = new Control(state.controls);
    this.verdict = h("div", { "aria-live": "off" });
    this.body = h("div", {});
    this.curves = null;
    this.book = null;
  }

  async load() {
    await this.store.load();
    this.heading(this.run);
    this.draw();
    await this.probes();
  }

  heading(run) {
    const [said, tone] = status(run.status);
    const steps = run.last_step === null ? "no step yet" : `${number(run.last_step + 1)}${run.steps ? ` of ${number(run.steps)}` : ""} steps`;
    const nav = VIEWS.map(([id, label]) => h("a", { href: address({ ...here(), view: id, step: "", prompt: "", text: "" }), "aria-current": here().view === id ? "page" : null }, label));
    show(this.head, h("h1", { dir: "auto" }, reveal(this.run.name)), h("p", { class: "row" }, badge(this.run.kind), h("span", { class: "dot", data: { tone } }), h("span", {}, said), h("span", { class: "muted" }, steps),
      run.stopped && h("span", { class: "ink-warn" }, ended(run.stopped)),
      run.left_out > 0 && h("span", { class: "ink-warn" }, `${plural(run.left_out, "damaged line")} left out`), saveFile([this.run.name])), h("nav", { class: "views", "aria-label": "Views of this run" }, nav));
    this.control.draw(this.run);
    show(this.verdict, verdictCard(run.verdict), alertList(this.run, (asked) => this.asked(asked)));
  }

  /** People were asked about an alert. */
  asked({ new: _, ...asked }) {
    const others = this.run.asked.alerts.filter((one) => one.rule !== asked.rule || one.step !== asked.step);
    this.run = { ...this.run, asked: { ...this.run.asked, alerts: [...others, asked] } };
    this.heading(this.run);
  }

  draw() {
    const place = here();
    this.curves = this.book = null;
    if (place.view === "samples") {
      this.book = new Book(this.run);
      show(this.body, this.book.element);
    } else if (place.view === "settings") show(this.body, settings(this.run));
    else {
      this.curves = new Curves(this.store, this.run, () => ({ run: this.run.name, runs: here().runs, normal: here().normal }));
      show(this.body, this.curves.element);
    }
    show(view, this.head, this.control.element, this.verdict, this.body);
    refreshCharts();
  }

  async probes() {
    await this.book?.refresh();
    if (!this.curves || !this.run.probes) return;
    this.curves.probes = (await get(`/probes?run=${seg(this.run.name)}`)).probes;
    this.curves.touch();
  }

  touch() {
    this.curves?.touch();
    this.book?.chart.touch();
  }

  async rows(rows) {
    if (this.store.append(rows) || this.store.full) return reopen();
    this.touch();
    return undefined;
  }

  async state(news) {
    const more = news.probes !== this.run.probes;
    const first = (more && !this.run.probes) || answered(news).length > answered(this.run).length;
    this.run = { ...this.run, ...news };
    if (this.book) this.book.run = this.run;
    this.heading(this.run);
    if (this.curves) this.curves.run = this.run;
    this.curves?.touch();
    if (first && this.curves) this.draw();
    if (more) await attempt(() => this.probes());
  }
}

function listen(names, cursor, on) {
  state.stream?.close();
  state.stream = follow(names, cursor, {
    refused: () => me().catch(() => null), // says so where this browser may no longer read
    line: (word) => saveState(word === "live" ? "Live" : "No connection; trying again", word === "live" ? "good" : "warn"),
    runs: ({ runs }) => {
      const one = here();
      state.runs = runs;
      drawList();
      const waited = !one.run || (state.open === null && runs.some((run) => run.name === one.run));
      if (waited && !state.busy && one.view !== "compare" && runs.length) draw();
    },
    ...on,
  });
}

async function openRun(name) {
  const run = await get(`/run?run=${seg(name)}`);
  const open = new OpenRun(run);
  await open.load();
  return [open, [name], open.store.cursor, {
    rows: ({ rows }) => open.rows(rows), reset: () => reopen(), state: (news) => open.state(news),
    gone: ({ gone }) => saveState(gone, "warn"),
  }];
}

async function openComparison(names) {
  const open = new Comparison(names);
  await open.load();
  show(view, h("header", { class: "run-head" }, h("h1", {}, "Comparison"), h("p", {}, saveFile(names))), open.element);
  refreshCharts();
  const by = (run) => open.stores[names.indexOf(run)];
  return [open, names, open.stores.map((store) => store.cursor).join("~"), {
    rows: ({ run, rows }) => (by(run).append(rows), open.touch()), reset: () => reopen(), gone: ({ gone }) => saveState(gone, "warn"),
  }];
}

function reopen() {
  state.open = null;
  return draw();
}

function empty() {
  show(view, h("section", { class: "card centre" }, h("h1", {}, "No run here yet"),
    h("p", {}, "A run appears as soon as it starts. For example: ", h("code", {}, "trueup quickstart --out runs/quickstart"), ".")));
}

/** Draws the place that the address names, and points at what the tour speaks of there. */
async function draw() {
  offerTour();
  await drawPlace();
  state.tour?.point();
}

async function drawPlace() {
  state.turn += 1;
  const own = state.turn;
  const place = here();
  drawList();
  if (place.view !== "compare" && !place.run) {
    const first = state.runs.find((run) => run.status === "running") ?? state.runs.find((run) => run.status !== "unreadable");
    if (!first) return empty();
    return go({ ...place, run: first.name }, { quiet: true }), drawPlace();
  }
  if (state.open instanceof OpenRun && state.open.run.name === place.run && place.view !== "compare") {
    state.open.heading(state.open.run);
    if (place.view === "samples" && state.open.book) return attempt(() => state.open.book.draw());
    state.open.draw();
    return attempt(() => state.open.probes());
  }
  try {
    state.busy = true;
    const [open, names, cursor, on] = place.view === "compare" && place.runs.length ? await openComparison(place.runs) : await openRun(place.run);
    if (own !== state.turn) return undefined;
    state.open = open;
    document.title = `${place.view === "compare" ? "Comparison" : place.run} · trueup explorer`;
    listen(names, cursor, on);
  } catch (error) {
    if (own !== state.turn) return undefined;
    state.open = null;
    show(view, h("section", { class: "card centre" }, h("h1", {}, "This cannot be shown"), h("p", {}, words(error)),
      h("p", { class: "muted" }, "It is shown as soon as it is there.")));
    if (error.status === undefined) setTimeout(() => own === state.turn && draw(), 2000);
  } finally {
    if (own === state.turn) state.busy = false;
  }
  return undefined;
}

/** Whoever may not read gets a form; with the right token the page begins anew. */
function shut() {
  state.stream?.close();
  state.open = null;
  saveState("");
  show(view, door(() => location.reload()));
}

async function begin() {
  try {
    await enter();
  } catch (error) {
    if (error.status === 401 && error.where !== "token") return shut();
    notify(words(error), "bad");
  }
  window.addEventListener("trueup:signed-out", shut);
  await attempt(async () => {
    const reply = await get("/runs");
    [state.runs, state.told, state.asks, state.controls] = [reply.runs, reply.tour, reply.asks, reply.controls];
    if (reply.role === "lead") document.getElementById("account").prepend(badge("lead"));
    if (state.told && location.hash.length < 2) go({ run: state.told.runs[0], tour: "1" }, { quiet: true });
  });
  listen([], "", {});
  return draw();
}

window.addEventListener("hashchange", () => {
  if (new URLSearchParams(location.hash.slice(1)).has("token")) location.reload();
  else draw();
});
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input:not([type=range]), select, textarea");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !state.open?.book) return;
  if (event.key === "j" || event.key === "k") state.open.book.walk(event.key === "j" ? 1 : -1);
});
window.addEventListener("trueup:recolour", redraw);
frame();
await begin();
