// One assignment on the screen: the item, the answer, the reason, and the bar with what can be done.

import { button, cap, field, h, show } from "./shell/dom.js";
import { contextCard, promptCard } from "./panels.js";
import { announce, saveState } from "./shell/page.js";
import { makeTask } from "./tasks/index.js";

const TICK_MS = 500;
const RATIONALE_MOST = 5000;
const NOTE_MOST = 2000;

function progressBar({ done, of } = {}) {
  if (done === undefined) return null;
  const text = of === null || of === undefined ? `${done} done` : `${done} of ${of} done`;
  return h("div", { class: "meter" }, of ? h("progress", { max: of, value: done, "aria-label": "Your progress" }) : null, h("span", {}, text));
}

/**
 * The screen of one assignment.
 * @param {object} assignment
 * @param {{keys: object, draft: object|null, correcting: boolean, submit: Function, skip: Function, flag: Function,
 *   cancel: Function, undo: Function, guide: Function, help: Function, stop: Function}} does what the queue does for it;
 *   `draft` is null where nothing is to be saved
 */
export class Work {
  constructor(assignment, does) {
    Object.assign(this, { assignment, does, opened: performance.now(), busy: false });
    this.task = makeTask(assignment, { changed: () => this.changed(), say: (text, warn) => this.say(text, warn) });
    this.missing = h("p", { class: "missing", role: "alert" });
    this.reason = h("textarea", { rows: 2, dir: "auto", maxlength: this.task.usesNote ? NOTE_MOST : RATIONALE_MOST });
    this.reason.addEventListener("input", () => this.changed());
    this.submitter = button("", () => this.submit(), { class: "primary", data: { shortcut: "submit" } });
    this.element = this.build();
    this.element.addEventListener("trueup:drawn", () => does.keys.paint(this.element));
    this.ticker = setInterval(() => this.tick(), TICK_MS);
    this.tick();
  }

  build() {
    const { assignment, does } = this;
    const needed = assignment.config.require_rationale ? "required" : "optional";
    const label = `${this.task.usesNote ? "Note" : "Why?"} (${needed}) `;
    const tool = (text, action, run, props = {}) =>
      button(h("span", {}, text, " ", cap(action)), run, { class: "small quiet", data: { shortcut: action }, ...props });
    return h("div", { class: `work kind-${assignment.kind}` },
      h("h1", { class: "unseen" }, does.correcting ? "Correct your last answer" : "Annotate"),
      h("div", { class: "strip" }, progressBar(assignment.progress),
        does.correcting && h("p", { class: "correcting" }, "You are correcting your last answer."),
        h("div", { class: "row" }, assignment.guideline?.id && tool(`Guideline ${assignment.guideline.number ?? ""}`, "guide", does.guide),
          tool("Keys", "help", does.help), !does.correcting && button("Stop for now", does.stop, { class: "small quiet" }))),
      assignment.config.instruction && h("p", { class: "card instruction", dir: "auto" }, assignment.config.instruction),
      promptCard(assignment.prompt), contextCard(assignment.context), this.task.element,
      h("section", { class: "card reason" }, field(h("span", {}, label, cap("why")), this.reason)),
      h("div", { class: "bar", role: "group", "aria-label": "Actions" }, this.missing,
        does.correcting
          ? button("Leave it as it was", does.cancel, { class: "quiet" })
          : [tool("Skip", "skip", does.skip), tool("Report", "flag", does.flag), tool("Correct last", "undo", does.undo)],
        this.submitter));
  }

  /** Actions by id, for the keys. */
  actions() {
    const { does } = this;
    const own = { submit: () => this.submit(), why: () => this.reason.focus(), guide: does.guide, help: does.help };
    const more = does.correcting ? {} : { skip: does.skip, flag: does.flag, undo: does.undo };
    return { ...this.task.actions, ...own, ...more };
  }

  say(text, warn = false) {
    if (warn) this.missing.textContent = text;
    else announce(text);
  }

  changed() {
    this.missing.textContent = "";
    this.does.draft?.save(this.content());
  }

  content() {
    return { state: this.task.state(), rationale: this.reason.value };
  }

  restore(content) {
    this.task.restore(content.state ?? {});
    this.reason.value = content.rationale ?? "";
  }

  /** Whole seconds that the guideline of the task asks to read on. */
  get secondsLeft() {
    const least = this.does.correcting ? 0 : this.assignment.config.min_seconds ?? 0;
    return Math.max(0, Math.ceil(least - (performance.now() - this.opened) / 1000));
  }

  tick() {
    const left = this.secondsLeft;
    this.submitter.setAttribute("aria-disabled", String(left > 0 || this.busy));
    const text = this.busy ? "Sending…" : left > 0 ? `Submit in ${left} s` : this.does.correcting ? "Submit correction" : "Submit";
    if (this.submitter.dataset.text === text) return;
    this.submitter.dataset.text = text;
    show(this.submitter, text, " ", cap("submit"));
    this.does.keys.paint(this.submitter);
  }

  /** While an answer is on its way the page takes no input: a key or click would belong to no item. */
  hold(busy) {
    this.busy = busy;
    this.element.inert = busy;
    this.tick();
  }

  submit() {
    if (this.busy) return;
    if (this.secondsLeft > 0) {
      this.say(`Please read a little longer: ${this.secondsLeft} s are left.`, true);
      return;
    }
    const words = this.reason.value.trim();
    const read = this.task.read(words);
    const lack = read.missing ?? (this.assignment.config.require_rationale && !words ? "Say why: a reason is required here." : null);
    if (lack) {
      this.say(lack, true);
      return;
    }
    // A note is part of the answer; it is the rationale too only where one is required.
    const rationale = this.task.usesNote && !this.assignment.config.require_rationale ? "" : words;
    saveState("Sending…", "busy");
    this.does.submit({ answer: read.answer, skip_reason: null, rationale });
  }

  close() {
    clearInterval(this.ticker);
  }
}
