// Samples over time: the fixed prompts at every probe step, what changed since the step before, search, permalinks.

import { get, seg } from "./shell/api.js";
import { diff } from "./shell/diff.js";
import { button, h, show } from "./shell/dom.js";
import { announce, attempt, notify } from "./shell/page.js";
import { reveal } from "./shell/text.js";
import { Chart } from "./chart.js";
import { number, plural, signed } from "./format.js";
import { Newest } from "./newest.js";
import { address, go, here } from "./place.js";
import { LAYERS, OF_TRAINING, SAYS, strip } from "./strip.js";

const SORTS = [["probe", "As asked"], ["reward", "Best first"], ["reward-low", "Worst first"], ["typical", "Typical first"],
  ["kl", "Furthest from the reference first"], ["kl-low", "Nearest to the reference first"], ["length", "Longest first"], ["length-short", "Shortest first"]];
const NEEDS = { reward: "mean", "reward-low": "mean", kl: "log_ratio", "kl-low": "log_ratio" };
const LINES = { mean: ["Score of the fixed prompts", "Mean"], log_ratio: ["Log-ratio of the answers to the reference, in nats", "Mean"], words: ["Words of the answers", "Mean"] };
const ASKED = [["", "to the fixed prompts"], ["training", "that it learned from"]];
const AGAINST = [["", "the probe before"], ["start", "the first probe"], ["none", "nothing"]];
const PAGE = 20;
const LEAST = 5e-4;
const STOPS = { eos: "ended by itself", length: "cut at the limit" };

/** The text of an answer, with what is new and what is gone against an earlier one. */
function body(row, before) {
  if (!before) return h("p", { class: "answer", dir: "auto" }, reveal(row.text));
  return h("p", { class: "answer", dir: "auto" }, diff(before.text, row.text).map(({ how, text }) =>
    (how === "same" ? reveal(text) : h(how === "new" ? "ins" : "del", {}, reveal(text)))));
}

function facts(row, before) {
  const change = typeof row.score === "number" && typeof before?.score === "number" ? row.score - before.score : null;
  return h("p", { class: "facts-line" },
    row.label && h("span", { class: "score" }, h("bdi", {}, reveal(row.label))),
    row.score !== null && h("span", { class: "score" }, `${row.label ? "Reward" : "Score"} ${number(row.score)}`),
    change !== null && (Math.abs(change) < LEAST ? h("span", { class: "muted" }, `as at step ${before.step}`)
      : h("span", { class: change > 0 ? "ink-good" : "ink-bad" }, `${signed(change)} since step ${before.step}`)),
    row.log_ratio !== null && h("span", { class: "muted" }, `log-ratio ${signed(row.log_ratio)} nats`),
    h("span", { class: "muted" }, plural(row.words, "word")),
    row.stop && h("span", { class: "muted" }, STOPS[row.stop] ?? row.stop),
    Object.entries(row.parts).map(([name, value]) => h("span", { class: "muted" }, h("bdi", {}, name), ` ${signed(value)}`)));
}

/** Neighbours with the same prompt, together. */
function grouped(rows) {
  const groups = [];
  for (const row of rows) {
    if (groups.at(-1)?.[0].prompt === row.prompt) groups.at(-1).push(row);
    else groups.push([row]);
  }
  return groups;
}

/** The answer that changes are marked against. */
const earlier = (row, place) => (place.of ? undefined : { "": row.before, start: row.start }[place.against]);

/** A choice in an address that there is not is none. */
const offered = (list, value) => (list.some(([known]) => known === value) ? value : "");

/** A place with choices that there are for a run. */
function checked(place, run) {
  return { ...place, against: offered(AGAINST, place.against), layer: offered(LAYERS, place.layer), of: run.trained ? offered(ASKED, place.of) : "" };
}

const options = (list) => list.map(([value, label]) => h("option", { value }, label));

/** The samples of one run. */
export class Book {
  constructor(run) {
    this.run = run;
    this.probes = [];
    this.moved = {}; // what the address does not say yet
    this.writing = new Newest(() => this.write());
    this.drawing = new Newest(() => this.redraw());
    this.status = h("p", { class: "muted step-name" });
    this.slider = h("input", { type: "range", min: 0, max: 0, step: 1, class: "steps", "aria-label": "Probe step" });
    this.slider.addEventListener("input", () => this.to(Number(this.slider.value)));
    this.list = h("div", { class: "answers" });
    this.chart = new Chart({
      title: "Score of the fixed prompts", unit: "mean", shade: "10 % to 90 % of the scores", level: "h3", height: 130, span: () => this.span(),
      pick: (step) => this.to(this.probes.findLastIndex((row) => row.step <= step)),
      lines: () => this.lines(),
      spread: () => this.spread(),
    });
    this.sort = h("select", {}, options(SORTS));
    this.sort.addEventListener("change", () => this.move({ sort: this.sort.value === "probe" ? "" : this.sort.value }));
    this.against = h("select", {}, options(AGAINST));
    this.against.addEventListener("change", () => this.move({ against: this.against.value }));
    this.legend = h("p", { class: "hint" });
    this.layer = h("select", {}, options(LAYERS));
    this.layer.addEventListener("change", () => this.move({ layer: this.layer.value }));
    this.asked = h("select", {}, options(ASKED));
    this.asked.addEventListener("change", () => this.move({ of: this.asked.value, step: "", prompt: "", text: "", layer: "" }));
    this.of = ""; // whose steps ``probes`` are
    this.element = h("section", { class: "card", "aria-labelledby": "samples" }, this.head(), this.list);
  }

  head() {
    const choice = (label, select) => h("label", { class: "row" }, h("span", { class: "hint" }, label), select);
    this.text = h("input", { type: "search", maxlength: 200, class: "small", "aria-label": "Text to search in all steps", placeholder: "Search all steps" });
    const form = h("form", { class: "row", role: "search" }, this.text, h("button", { type: "submit", class: "small" }, "Search"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.move({ text: this.text.value.trim(), prompt: "" });
    });
    this.scrub = h("div", { class: "scrub" }, button("◀", () => this.by(-1), { "aria-label": "Probe before", class: "small" }), this.slider,
      button("▶", () => this.by(1), { "aria-label": "Next probe", class: "small" }), this.status);
    return [h("div", { class: "head" }, h("h2", { id: "samples" }, "Samples over time"), form), this.chart.element, this.scrub,
      h("div", { class: "row tools" }, this.run.trained > 0 && choice("Answers", this.asked), choice("Order", this.sort), choice("Mark changes since", this.against), choice("Show as", this.layer),
        h("span", { class: "hint keys" }, h("kbd", {}, "j"), " ", h("kbd", {}, "k"), " next and previous prompt")), this.legend];
  }

  /** What is drawn over the probes: scores where there are any, else how far the answers are from the reference. */
  lines() {
    const name = this.drawn();
    const lines = [{ label: LINES[name][1], ...this.column(name), ink: "left" }];
    if (this.has("margin")) lines.push({ label: "Best over worst answer", ...this.column("margin"), ink: "right" });
    return lines;
  }

  drawn() {
    return ["mean", "log_ratio"].find((name) => this.has(name)) ?? "words";
  }

  has(name) {
    return this.probes.some((row) => row[name] !== null);
  }

  /** Orders that this run has no numbers for cannot be chosen. */
  offer() {
    const title = this.has("margin") ? "Reward of the fixed answers" : LINES[this.drawn()][0];
    this.chart.rename(this.of ? title.replace("the fixed prompts", "answers that it learned from") : title);
    for (const option of this.layer.options) option.disabled = !this.of && OF_TRAINING.includes(option.value);
    for (const option of this.sort.options) option.disabled = NEEDS[option.value] !== undefined && !this.has(NEEDS[option.value]);
  }

  column(name) {
    const rows = this.probes.filter((row) => row[name] !== null);
    return { steps: rows.map((row) => row.step), values: rows.map((row) => row[name]) };
  }

  spread() {
    const rows = this.probes.filter((row) => row.p10 !== null);
    return rows.length > 1 ? { steps: rows.map((row) => row.step), low: rows.map((row) => row.p10), high: rows.map((row) => row.p90) } : null;
  }

  span() {
    return this.probes.length ? [this.probes[0].step, this.probes.at(-1).step] : [0, 1];
  }

  /** Reads which steps there are; at the newest one it goes along with the run. */
  async refresh() {
    const atEnd = this.index() === this.probes.length - 1 && !this.place().step;
    await this.steps();
    if (atEnd || !this.list.childElementCount) await this.renew();
    else this.label();
  }

  async steps() {
    const { of } = this.place();
    const reply = await get(`/probes?${this.which(of)}`);
    Object.assign(this, { of, probes: reply.probes });
    this.offer();
    this.slider.max = String(Math.max(this.probes.length - 1, 0));
    this.chart.touch();
  }

  /** Of which run, and which of its answers, as the calls name it. */
  which(of = this.of) {
    return `run=${seg(this.run.name)}${of && `&of=${of}`}`;
  }

  /** Where somebody is in this book. */
  place() {
    return checked({ ...here(), ...this.moved }, this.run);
  }

  index() {
    const { step } = this.place();
    if (step === "") return this.probes.length - 1;
    return Math.max(this.probes.findLastIndex((row) => row.step <= Number(step)), 0); // a step between probes: the one before
  }

  by(change) {
    this.to(Math.min(Math.max(this.index() + change, 0), this.probes.length - 1));
  }

  to(place) {
    const row = this.probes[place];
    if (row) this.move({ step: String(row.step), text: "", prompt: "" });
  }

  /** Another place in this book, without drawing the page anew, so that the focus stays. */
  move(change) {
    this.moved = { ...this.moved, ...change };
    if (this.probes.length) this.label();
    this.writing.ask();
    if (this.drawing.running) this.drawing.ask();
    else attempt(() => this.renew());
  }

  /** Puts the place into the address, unless that names another view by now. */
  write() {
    const place = here();
    if (place.run === this.run.name && place.view === "samples" && this.element.isConnected) go({ ...place, ...this.moved }, { quiet: true });
    this.moved = {};
  }

  label() {
    const place = this.index();
    const row = this.probes[place];
    this.slider.value = String(place);
    const text = row ? `Step ${row.step}, ${this.of ? "rollouts" : "probe"} ${place + 1} of ${this.probes.length}` : "";
    this.slider.setAttribute("aria-valuetext", text);
    this.status.textContent = text;
    this.chart.point(row ? row.step : null);
    return row;
  }

  /** Draws the place that the address names by now. */
  draw() {
    this.moved = {};
    return this.renew();
  }

  /** Draws the place where somebody is by now. What is shown until then is marked as that of another place. */
  async renew() {
    this.list.setAttribute("aria-busy", "true");
    try {
      await this.drawing.ask();
    } catch (error) {
      show(this.list, h("p", { class: "row" }, h("span", { class: "ink-bad" }, "These answers could not be read."), button("Try again", () => attempt(() => this.renew()), { class: "small" })));
      throw error;
    } finally {
      this.list.setAttribute("aria-busy", "false");
    }
  }

  async redraw() {
    const place = this.place();
    if (place.of !== this.of) await this.steps();
    this.asked.value = place.of;
    this.sort.value = place.sort || "probe";
    this.against.value = place.against;
    this.layer.value = place.layer;
    this.against.disabled = place.layer !== "" || place.of !== ""; // the colours have another meaning then
    this.legend.textContent = SAYS[place.layer] ?? "";
    if (!this.probes.length) {
      show(this.list, h("p", { class: "muted" }, "This run has written no samples: its method or settings log none (", h("code", {}, "probes"), "), or no probe was due yet."));
      this.scrub.hidden = this.chart.element.hidden = true;
      return;
    }
    this.scrub.hidden = this.chart.element.hidden = false;
    const row = this.label();
    show(this.list, place.text ? await this.hits(place) : place.prompt && !place.step ? await this.life(place) : await this.step(row.step, place));
    if (place.prompt) this.list.querySelector(`#prompt-${CSS.escape(place.prompt)}`)?.scrollIntoView({ block: "center" });
  }

  async step(step, place, offset = 0) {
    const reply = await get(`/samples?${this.which()}&step=${step}&sort=${seg(place.sort || "probe")}&offset=${offset}&limit=${PAGE}`);
    return [grouped(reply.rows).map((rows) => (rows.length === 1 ? this.card(rows[0], earlier(rows[0], place), place)
      : h("div", { class: "group", role: "group", "aria-label": "Answers to one prompt" }, rows.map((row) => this.card(row, earlier(row, place), place))))),
    this.more(reply, () => this.step(step, place, offset + PAGE))];
  }

  /** The button that puts the next page into its own place; null after the last one. */
  more({ total, offset, rows }, next) {
    const rest = total - offset - rows.length;
    if (rest <= 0) return null;
    const node = button(`Show ${Math.min(rest, PAGE)} more of ${rest.toLocaleString("en")}`, async () => {
      const nodes = (await attempt(next))?.flat().filter(Boolean);
      if (!nodes) return;
      node.replaceWith(...nodes);
      (nodes[0].matches(".sample") ? nodes[0] : nodes[0].querySelector(".sample"))?.focus({ preventScroll: true });
    });
    return node;
  }

  card(row, before, place) {
    const link = address({ ...place, step: String(row.step), prompt: row.prompt, text: "" });
    const chosen = place.prompt === row.prompt && Number(place.step) === row.step;
    const copy = button("Copy link", async () => {
      const target = new URL(link, location.href).href;
      try {
        await navigator.clipboard.writeText(target);
        announce("Link copied");
      } catch {
        notify(target);
      }
    }, { class: "small quiet" });
    const file = `/api/v1/sample?${this.which()}&step=${row.step}&prompt=${row.prompt}&turn=${row.turn}`;
    const text = place.layer && row.tokens?.[place.layer] ? strip(row.tokens, place.layer) : body(row, before);
    return h("article", { class: "sample", id: row.turn ? null : `prompt-${row.prompt}`, tabindex: "-1", data: { chosen: chosen ? "yes" : "no" } },
      h("h3", { class: "question", dir: "auto" }, reveal(row.question)), text, facts(row, before),
      h("p", { class: "row links" }, h("a", { href: link }, `Step ${row.step}`),
        h("a", { href: address({ ...place, step: "", prompt: row.prompt, text: "" }) }, "All steps of this prompt"), copy,
        h("a", { href: file, download: `${this.run.name.replaceAll("/", "-")}-step-${row.step}-${row.prompt}.json` }, "Download")));
  }

  /** Moves the focus to the next prompt, or the one before. */
  walk(change) {
    const cards = [...this.list.querySelectorAll(".sample")].filter((card) => !card.previousElementSibling?.matches(".group > .sample"));
    const now = cards.findIndex((card) => card.contains(document.activeElement) || card.parentElement.matches(".group") && card.parentElement.contains(document.activeElement));
    const next = cards[now < 0 ? (change > 0 ? 0 : cards.length - 1) : Math.min(Math.max(now + change, 0), cards.length - 1)];
    next?.focus({ preventScroll: true });
    next?.scrollIntoView({ block: "nearest" });
  }

  /** One prompt through the run, each answer against the one before it. */
  async life(place, offset = 0) {
    const reply = await get(`/history?${this.which()}&prompt=${seg(place.prompt)}&offset=${offset}&limit=${PAGE}`);
    const head = h("p", { class: "row" }, h("strong", {}, plural(reply.total, "answer")), h("span", {}, "to one prompt, oldest first."),
      h("a", { href: address({ ...place, prompt: "" }) }, "Back to the steps"));
    return [offset === 0 && head, reply.rows.map((row) => this.card(row, earlier(row, place), { ...place, prompt: "" })),
      this.more(reply, () => this.life(place, offset + PAGE))];
  }

  async hits(place) {
    this.text.value = place.text;
    const reply = await get(`/search?${this.which()}&text=${seg(place.text)}`);
    announce(`${reply.total} found`);
    return [h("p", { class: "row" }, h("strong", {}, plural(reply.total, "answer")), h("span", {}, "hold ", h("q", {}, place.text), ", newest first",
      reply.total > reply.rows.length ? `; the first ${reply.rows.length} are shown.` : "."), h("a", { href: address({ ...place, text: "" }) }, "Back to the steps")),
    reply.rows.map((row) => this.card(row, null, place))];
  }
}
