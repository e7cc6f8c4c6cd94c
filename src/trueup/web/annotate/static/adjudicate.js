// Settling disputed items: own answer first, blind; then everybody's answers; then a verdict with its cause.

import { get, post, seg, words } from "./shell/api.js";
import { button, cap, field, h, radios, show } from "./shell/dom.js";
import { inWords } from "./feedback.js";
import { consult } from "./guideline.js";
import { help } from "./help.js";
import { Keys } from "./keys.js";
import { contextCard, promptCard } from "./panels.js";
import { open } from "./room.js";
import { announce, attempt, idInPath, main } from "./shell/page.js";
import { table } from "./shell/table.js";
import { makeTask } from "./tasks/index.js";

const CAUSES = [
  ["ambiguous", "Ambiguous", "Both answers can be defended"],
  ["guideline_gap", "Guideline gap", "The guideline does not say"],
  ["annotator_error", "Annotator error", "Somebody overlooked something"],
  ["value_difference", "Value difference", "People want different things"],
];

class Bench {
  constructor(project) {
    Object.assign(this, { project, keys: new Keys(), busy: false });
    this.missing = h("p", { class: "missing", role: "alert" });
  }

  async next() {
    this.keys.bind({});
    const reply = await get(`/adjudication/${seg(this.project)}/next`);
    const disputed = "seat" in reply ? reply.seat : reply;
    if (!disputed) {
      return show(main(), h("section", { class: "card centre", role: "status" }, h("h1", {}, "Nothing to settle"),
        h("p", {}, reply.message ?? ""), h("p", { class: "row middle" }, button("Look again", () => attempt(() => this.next()), { class: "primary" }), h("a", { class: "button", href: "/" }, "All projects"))));
    }
    this.disputed = disputed;
    this.task = makeTask(disputed, { changed: () => (this.missing.textContent = ""), say: (text, warn) => this.say(text, warn) });
    return this.draw("Your own answer first", "The others’ answers are shown once you have given yours.", "Show all answers", () => this.blind());
  }

  say(text, warn) {
    if (warn) this.missing.textContent = text;
    else announce(text);
  }

  draw(title, hint, label, go, ...below) {
    const { disputed } = this;
    const act = () => attempt(go);
    const submit = button(h("span", {}, label, " ", cap("submit")), act, { class: "primary", data: { shortcut: "submit" } });
    const guide = () => attempt(() => consult(this.project));
    const keyHelp = () => help(this.keys, disputed.kind, () => this.keys.paint(document));
    show(main(), h("div", { class: `work kind-${disputed.kind}` },
      h("div", { class: "strip" }, h("div", {}, h("h1", {}, title), h("p", { class: "muted" }, hint)),
        h("div", { class: "row" }, button("Guideline", guide, { class: "small quiet" }), button("Keys", keyHelp, { class: "small quiet" }))),
      promptCard(disputed.prompt), contextCard(disputed.context), below.length ? below[0] : null, this.task.element, below.slice(1),
      h("div", { class: "bar" }, this.missing, submit)));
    this.missing.textContent = "";
    this.keys.bind({ ...this.task.actions, submit: act, guide, help: keyHelp, why: () => main().querySelector("textarea.note")?.focus() }, disputed.kind);
    this.keys.paint(main());
    window.scrollTo(0, 0);
    main().focus({ preventScroll: true });
    return undefined;
  }

  answer(note = "") {
    const read = this.task.read(note);
    if (read.missing) this.say(read.missing, true);
    return read.answer;
  }

  async once(work) {
    if (this.busy) return;
    this.busy = true;
    try {
      await work();
    } catch (error) {
      this.say(words(error), true);
    } finally {
      this.busy = false;
    }
  }

  blind() {
    const answer = this.answer();
    if (!answer) return undefined;
    return this.once(async () => {
      const { answers } = await post(`/adjudication/${seg(this.disputed.item)}/blind`, { answer });
      this.settle(answers, answer);
    });
  }

  settle(answers, blindAnswer) {
    const { disputed } = this;
    const rows = [{ annotator: "You, blind", answer: inWords(blindAnswer, disputed), rationale: null, reliability: null },
      ...answers.map((peer) => ({ annotator: peer.annotator, answer: inWords(peer.answer, disputed), rationale: peer.rationale || null, reliability: peer.reliability }))];
    let cause = null;
    const causes = radios("Why did they differ?", CAUSES.map(([value, label, hint]) => ({ value, label, hint })), (value) => {
      cause = value;
      this.missing.textContent = "";
    });
    const note = h("textarea", { rows: 2, class: "note", maxlength: 2000, dir: "auto" });
    this.draw("Settle", "Keep your answer or change it; then say why they differed.", "Settle", () => {
      const answer = this.answer(note.value.trim());
      if (!answer) return undefined;
      if (!cause) return this.say("Choose why they differed.", true);
      return this.once(async () => {
        await post(`/adjudication/${seg(disputed.item)}/settle`, { answer, cause, note: note.value.trim() });
        announce("Settled");
        await this.next();
      });
    },
    h("section", { class: "card" }, h("h2", {}, "All answers"), table("All answers", rows)),
    h("section", { class: "card" }, causes.element, field(h("span", {}, "Note (optional) ", cap("why")), note)));
    causes.focus();
  }
}

await open("Adjudicate");
await attempt(() => new Bench(idInPath()).next());
