// The annotator's way through a project: consent, guideline, then one assignment after the other.

import { call, newKey, post, seg, words } from "./shell/api.js";
import { button, h, show } from "./shell/dom.js";
import { feedbackCard } from "./feedback.js";
import { acknowledge, consult, newest, trusted } from "./guideline.js";
import { help } from "./help.js";
import { Keys } from "./keys.js";
import { askSkip, report } from "./questions.js";
import { Clock, Draft, Lease } from "./assignment.js";
import { consented, open } from "./room.js";
import { announce, attempt, idInPath, main, notify, saveState } from "./shell/page.js";
import { keep } from "./shell/storage.js";
import { Work } from "./work.js";

const UNDO_MS = 10 * 60_000;
const BREAK_MS = 45 * 60_000;
const LOOK_AGAIN_MS = 20_000;
const SOON_MS = 700;

const EMPTY = {
  done: "All done here", not_qualified: "Practice first", paused: "The project is paused", all_leased: "Others have the last items",
  guideline_not_acknowledged: "There is a new guideline", unusable_settings: "A setting of this task has to be mended",
};

class Queue {
  constructor(project, person, outbox) {
    Object.assign(this, { project, person, outbox, keys: new Keys(), work: null, last: null, worked: 0, reminded: 0 });
    outbox.watch(({ state, problem }) => state === "waiting" && this.waiting?.(problem));
  }

  async start() {
    if (!consented(this.person, this.project)) await this.consent();
    await this.advance();
  }

  consent() {
    return new Promise((agreed) => {
      const go = button("I agree, go on", () => {
        keep(`consent.${this.person.id}.${this.project}`, new Date().toISOString());
        agreed();
      }, { class: "primary" });
      this.page(h("section", { class: "card reading" }, h("h1", {}, "Before you start"),
        h("p", {}, "Your answers help to judge and train language models. This is what is kept:"),
        h("ul", {}, ["your answers, reasons and reports, under a pseudonym",
          "how long an item was in front of you, and how often you left it",
          "the order in which the texts were shown to you"].map((line) => h("li", {}, line))),
        h("p", {}, "Some texts may be wrong, rude or upsetting. You may skip any item, and stop at any time."), go));
      go.focus();
    });
  }

  /** Shows a page of its own in place of the work. */
  page(...content) {
    this.keys.bind({});
    show(main(), content);
    this.keys.paint(main());
    window.scrollTo(0, 0);
  }

  /** Asks for the next assignment, and shows it or the reason why there is none. */
  async advance() {
    this.leave();
    clearTimeout(this.again);
    await this.outbox.flush();
    let reply;
    try {
      reply = await post(`/projects/${seg(this.project)}/next`);
    } catch (error) {
      return this.stuck("No item could be fetched", words(error));
    }
    if (reply.seat) return this.mount(reply.seat);
    if (reply.reason === "guideline_not_acknowledged") return attempt(() => this.read());
    this.stuck(EMPTY[reply.reason] ?? "Nothing to do now", reply.message);
    if (reply.reason !== "done") this.again = setTimeout(() => this.advance(), LOOK_AGAIN_MS);
    return undefined;
  }

  stuck(title, text) {
    this.page(h("section", { class: "card centre", role: "status" }, h("h1", {}, title), h("p", {}, text),
      h("p", { class: "row middle" }, button("Look again", () => this.advance(), { class: "primary" }),
        this.last && button("Correct last answer", () => this.undo(), {}),
        h("a", { class: "button", href: "/" }, "All projects"))));
    this.keys.bind({ undo: () => this.undo() });
  }

  async read() {
    const guideline = await newest(this.project);
    if (!guideline) return this.stuck("The guideline is missing", "The server asks for a guideline that it does not have.");
    const go = button("I have read it", () => attempt(async () => {
      await acknowledge(guideline.id);
      await this.advance();
    }), { class: "primary" });
    this.page(h("section", { class: "card reading" }, h("p", { class: "muted" }, `Guideline, version ${guideline.number}`),
      trusted(guideline.html), h("p", {}, go)));
    main().focus();
    return undefined;
  }

  mount(assignment, previous = null) {
    const correcting = previous !== null;
    const draft = correcting ? null : new Draft(this.person.id, assignment, saveState);
    this.clock = new Clock();
    this.lease = correcting ? null : new Lease(assignment, this.clock, () => this.lost());
    this.work = new Work(assignment, {
      keys: this.keys, draft, correcting,
      submit: (body) => this.send(body),
      skip: () => attempt(() => this.skip()),
      flag: () => attempt(() => this.flag()),
      undo: () => this.undo(),
      cancel: () => this.advance(),
      guide: () => attempt(() => consult(this.project)),
      help: () => help(this.keys, assignment.kind, () => this.keys.paint(document)),
      stop: () => this.stop(),
    });
    const content = previous ?? draft.read();
    if (content) this.work.restore(content);
    if (content && !correcting) saveState("Draft restored", "good");
    this.display();
  }

  display() {
    show(main(), this.work.element);
    this.keys.bind(this.work.actions(), this.work.assignment.kind);
    this.keys.paint(main());
    window.scrollTo(0, 0);
    if (this.work.task.focus) this.work.task.focus();
    else main().focus({ preventScroll: true });
    this.remind();
  }

  lost() {
    notify("Your hold on this item ended. Submit all the same: your answer is kept.", "warn");
  }

  async skip() {
    const reason = await askSkip();
    if (reason) this.send({ answer: null, skip_reason: reason.reason, rationale: reason.note });
  }

  async flag() {
    if (await report(this.work.assignment.item)) notify("Reported. A lead will look at it; please judge or skip the item.");
  }

  /** Hands a finished answer to the outbox and goes on once the server has it. */
  async send(body) {
    const { work, correcting } = { work: this.work, correcting: this.work.does.correcting };
    const { assignment } = work;
    work.hold(true);
    this.keys.bind({});
    const path = correcting ? `/judgments/${seg(this.last.judgment)}/supersede` : `/items/${seg(assignment.item)}/judgments`;
    const entry = {
      key: newKey(),
      path,
      draft: correcting ? undefined : work.does.draft.name,
      body: { ...body, active_ms: this.clock.activeMs, focus_lost: this.clock.lost, shown: assignment.responses.map((response) => response.id) },
    };
    work.does.draft?.close();
    const content = work.content();
    this.waiting = (problem) => this.showWaiting(problem);
    const soon = setTimeout(() => saveState("Still sending…", "busy"), SOON_MS);
    try {
      const reply = await this.outbox.send(entry);
      if (this.work !== work) return announce("An earlier answer has been sent");
      this.last = { judgment: reply.judgment, assignment, content: body.answer ? content : { rationale: body.rationale }, at: Date.now() };
      this.waiting = null;
      this.worked += entry.body.active_ms;
      await this.answered(reply, assignment);
    } catch (error) {
      this.refused(work, error);
    } finally {
      clearTimeout(soon);
    }
    return undefined;
  }

  async answered(reply, assignment) {
    if (reply.surplus) notify("Your answer came after the hold on the item had ended. It is kept and counts as an extra one.");
    if (!reply.feedback) {
      announce("Submitted");
      return this.advance();
    }
    this.leave();
    const card = feedbackCard(reply.feedback, assignment, () => this.advance());
    this.page(card.element);
    this.keys.bind({ submit: () => this.advance(), undo: () => this.undo() });
    return card.focus();
  }

  refused(work, error) {
    if (this.work !== work) return;
    this.waiting = null;
    work.hold(false);
    this.display();
    work.missing.textContent = words(error);
    saveState("Not saved", "warn");
    if (!work.does.correcting) {
      work.does.draft.save(work.content());
      work.missing.append(" ", button("Next item", () => this.goOn(), { class: "small" }));
    }
  }

  showWaiting(problem) {
    if (!this.work?.busy || main().querySelector(".waiting")) return;
    const why = problem.status ? `The server could not take it yet: ${words(problem)} It is tried again by itself` : "There is no connection to the server. It will be sent as soon as there is one";
    this.page(h("section", { class: "card centre waiting", role: "status" }, h("h1", {}, "Your answer is safe on this device"),
      h("p", {}, `${why}; you need not wait here.`),
      h("p", { class: "row middle" }, button("Try now", () => this.outbox.flush(), { class: "primary" }),
        problem.status && button("Go on with another item", () => this.goOn()))));
  }

  /** Gives the present item back and asks for the next one; the answer to it stays in the outbox. */
  async goOn() {
    const { assignment } = this.work;
    this.waiting = null;
    this.leave();
    await this.release(assignment);
    await this.advance();
  }

  /** The item goes to others at once; if that fails its lease simply runs out. */
  release(assignment) {
    return call("POST", `/seats/${seg(assignment.id)}/release`, { body: {}, headers: { "X-Seat-Token": assignment.token } }).catch(() => null);
  }

  undo() {
    if (!this.last) return this.sayNo("There is no answer of this visit to correct.");
    if (Date.now() - this.last.at > UNDO_MS) return this.sayNo("The time to correct the last answer is over. Report the item instead.");
    const { assignment, content } = this.last;
    this.leave();
    this.mount({ ...assignment, progress: undefined }, content);
    announce("Correct your last answer");
    return undefined;
  }

  sayNo(text) {
    if (this.work) this.work.say(text, true);
    else notify(text);
  }

  async stop() {
    const { assignment } = this.work;
    this.leave();
    await this.release(assignment);
    location.assign("/");
  }

  /** Ends what runs for the present assignment. */
  leave() {
    this.work?.does.draft?.send();
    this.work?.does.draft?.close();
    this.work?.close();
    this.lease?.close();
    this.clock?.close();
    Object.assign(this, { work: null, lease: null, clock: null });
  }

  remind() {
    if (this.worked - this.reminded < BREAK_MS) return;
    this.reminded = this.worked;
    notify(`You have worked for ${Math.round(this.worked / 60_000)} minutes. A short break keeps your judgment fair; your place is kept.`, "calm");
  }
}

const { person, outbox } = await open("Annotate");
await new Queue(idInPath(), person, outbox).start();
