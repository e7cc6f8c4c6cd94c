// The annotator's way through a project: consent, guideline, then one seat after the other.

import { call, newKey, post, seg, words } from "./api.js";
import { button, h, show } from "./dom.js";
import { feedbackCard } from "./feedback.js";
import { acknowledge, consult, newest, trusted } from "./guideline.js";
import { help } from "./help.js";
import { Keys } from "./keys.js";
import { askSkip, report } from "./questions.js";
import { Clock, Draft, Lease } from "./seat.js";
import { announce, attempt, consented, idInPath, main, notify, open, saveState } from "./shell.js";
import { keep } from "./storage.js";
import { Work } from "./work.js";

const UNDO_MS = 10 * 60_000;
const BREAK_MS = 45 * 60_000;
const LOOK_AGAIN_MS = 20_000;
const SOON_MS = 700;

const EMPTY = {
  done: "All done here", not_qualified: "Practice first", paused: "The project is paused", all_leased: "Others have the last items",
  guideline_not_acknowledged: "There is a new guideline",
};

class Queue {
  constructor(project, person, outbox) {
    Object.assign(this, { project, person, outbox, keys: new Keys(), work: null, last: null, worked: 0, reminded: 0 });
    outbox.watch(({ state }) => state === "waiting" && this.waiting?.());
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

  /** Asks for the next seat, and shows it or the reason why there is none. */
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
    const found = await newest(this.project);
    if (!found) return this.stuck("The guideline is missing", "The server asks for a guideline that it does not have.");
    const go = button("I have read it", () => attempt(async () => {
      await acknowledge(found.id);
      await this.advance();
    }), { class: "primary" });
    this.page(h("section", { class: "card reading" }, h("p", { class: "muted" }, `Guideline, version ${found.number}`),
      trusted(found.html), h("p", {}, go)));
    main().focus();
    return undefined;
  }

  mount(seat, held = null) {
    const correcting = held !== null;
    const draft = correcting ? null : new Draft(this.person.id, seat, saveState);
    this.clock = new Clock();
    this.lease = correcting ? null : new Lease(seat, this.clock, () => this.lost());
    this.work = new Work(seat, {
      keys: this.keys, draft, correcting,
      submit: (body) => this.send(body),
      skip: () => attempt(() => this.skip()),
      flag: () => attempt(() => this.flag()),
      undo: () => this.undo(),
      cancel: () => this.advance(),
      guide: () => attempt(() => consult(this.project)),
      help: () => help(this.keys, seat.kind, () => this.keys.paint(document)),
      stop: () => this.stop(),
    });
    const content = held ?? draft.read();
    if (content) this.work.restore(content);
    if (content && !correcting) saveState("Draft restored", "good");
    this.display();
  }

  display() {
    show(main(), this.work.element);
    this.keys.bind(this.work.actions(), this.work.seat.kind);
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
    const given = await askSkip();
    if (given) this.send({ answer: null, skip_reason: given.reason, rationale: given.note });
  }

  async flag() {
    if (await report(this.work.seat.item)) notify("Reported. A lead will look at it; please judge or skip the item.");
  }

  /** Hands a finished answer to the outbox and goes on once the server has it. */
  async send(body) {
    const { work, correcting } = { work: this.work, correcting: this.work.does.correcting };
    const { seat } = work;
    work.hold(true);
    const path = correcting ? `/judgments/${seg(this.last.judgment)}/supersede` : `/items/${seg(seat.item)}/judgments`;
    const entry = {
      key: newKey(),
      path,
      draft: correcting ? undefined : work.does.draft.name,
      body: { ...body, active_ms: this.clock.activeMs, focus_lost: this.clock.lost, shown: seat.responses.map((one) => one.id) },
    };
    work.does.draft?.close();
    const content = work.content();
    this.waiting = () => this.showWaiting();
    const soon = setTimeout(() => saveState("Still sending…", "busy"), SOON_MS);
    try {
      const reply = await this.outbox.send(entry);
      this.last = { judgment: reply.judgment, seat, content: body.answer ? content : { rationale: body.rationale }, at: Date.now() };
      this.waiting = null;
      this.worked += entry.body.active_ms;
      await this.answered(reply, seat);
    } catch (error) {
      this.waiting = null;
      this.refused(work, error);
    } finally {
      clearTimeout(soon);
    }
  }

  async answered(reply, seat) {
    if (reply.surplus) notify("Your answer came after the hold on the item had ended. It is kept and counts as an extra one.");
    if (!reply.feedback) {
      announce("Submitted");
      return this.advance();
    }
    this.leave();
    const card = feedbackCard(reply.feedback, seat, () => this.advance());
    this.page(card.element);
    this.keys.bind({ submit: () => this.advance(), undo: () => this.undo() });
    return card.focus();
  }

  refused(work, error) {
    if (this.work !== work) return;
    work.hold(false);
    this.display();
    work.missing.textContent = words(error);
    saveState("Not saved", "warn");
    if (!work.does.correcting) {
      work.does.draft.save(work.content());
      work.missing.append(" ", button("Next item", () => this.advance(), { class: "small" }));
    }
  }

  showWaiting() {
    if (!this.work?.busy || main().querySelector(".waiting")) return;
    this.page(h("section", { class: "card centre waiting", role: "status" }, h("h1", {}, "Your answer is safe on this device"),
      h("p", {}, "There is no connection to the server. It will be sent as soon as there is one; you need not wait here."),
      button("Try now", () => this.outbox.flush(), { class: "primary" })));
  }

  undo() {
    if (!this.last) return this.sayNo("There is no answer of this visit to correct.");
    if (Date.now() - this.last.at > UNDO_MS) return this.sayNo("The time to correct the last answer is over. Report the item instead.");
    const { seat, content } = this.last;
    this.leave();
    this.mount({ ...seat, progress: undefined }, content);
    announce("Correct your last answer");
    return undefined;
  }

  sayNo(text) {
    if (this.work) this.work.say(text, true);
    else notify(text);
  }

  async stop() {
    const { seat } = this.work;
    this.leave();
    // The seat goes to others at once; if that fails its lease simply runs out.
    await call("POST", `/seats/${seg(seat.id)}/release`, { body: {}, headers: { "X-Seat-Token": seat.token } }).catch(() => null);
    location.assign("/");
  }

  /** Ends what runs for the present seat. */
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
