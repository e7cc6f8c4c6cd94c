// Finished work on its way to the server. It is written to this browser first, and leaves only when the server has it.
// A retry carries the same idempotency key, so a judgment that did arrive is not stored twice. Work that the server
// refuses is set aside with what the server said, and stays until its person decides; the rest goes on in its order.

import { Offline, Problem, call, words } from "./shell/api.js";
import { forget, keep, names, onChange, recall } from "./shell/storage.js";

const SHORTEST_MS = 2_000;
const LONGEST_MS = 60_000;
const EVERYTHING_WAITS = new Set([401, 429, 503]); // these say something of the server or the person, not of the answer

const pause = (tries) => Math.min(SHORTEST_MS * 2 ** Math.min(tries, 10), LONGEST_MS);

/** Runs something while no other tab of this browser does (where the browser can tell; the keys make doubles harmless). */
const alone = (name, work) => (navigator.locks ? navigator.locks.request(`trueup.${name}`, work) : work());

export class Outbox {
  /** @param {string} person whose work this is: one person's work is never sent in another's name */
  constructor(person) {
    this.name = `outbox.${person}`;
    this.waiting = new Map();
    this.unkept = new Map();
    this.listeners = new Set();
    this.failures = 0;
    this.timer = null;
    this.running = null;
    this.adopt();
    window.addEventListener("online", () => this.flush());
    window.addEventListener("beforeunload", (event) => this.unkept.size && event.preventDefault());
    onChange(`${this.name}.`, () => this.tell("changed"));
  }

  /** Takes over what an older version of this page kept in one list. */
  adopt() {
    const kept = recall(this.name, []);
    if (Array.isArray(kept) && kept.every((entry) => keep(`${this.name}.${entry.key}`, entry))) forget(this.name);
  }

  /** All that the server does not have, oldest first; each entry has a place of its own, so that two tabs lose nothing. */
  get entries() {
    const stored = names(`${this.name}.`).map((name) => recall(name)).filter(Boolean);
    const all = new Map([...this.unkept, ...stored.map((entry) => [entry.key, entry])]);
    return [...all.values()].sort((first, second) => (first.at + first.key < second.at + second.key ? -1 : 1));
  }

  /** What will be sent. */
  get pending() {
    return this.entries.filter((entry) => !entry.aside);
  }

  /** What the server has said something about, and does not have. */
  get troubled() {
    return this.entries.filter((entry) => entry.said);
  }

  /** Called with `{pending, state, problem}` whenever something changes. */
  watch(listener) {
    this.listeners.add(listener);
  }

  tell(state, problem = null) {
    for (const listener of this.listeners) listener({ pending: this.pending.length, state, problem });
  }

  store(entry) {
    if (keep(`${this.name}.${entry.key}`, entry)) this.unkept.delete(entry.key);
    else this.unkept.set(entry.key, entry);
  }

  drop(entry) {
    forget(`${this.name}.${entry.key}`);
    this.unkept.delete(entry.key);
  }

  /**
   * Keeps an entry and sends it, now or whenever there is a connection.
   * @param {{key: string, path: string, body: object, draft?: string}} entry `draft` names a stored draft that is
   *   forgotten once the server has the work
   * @returns {Promise<object>} the server's reply; rejects with the Problem if the server refuses the entry for good
   */
  send(entry) {
    const kept = { ...entry, at: new Date().toISOString() };
    this.store(kept);
    const reply = new Promise((resolve, reject) => this.waiting.set(entry.key, { resolve, reject, entry: kept }));
    this.flush();
    return reply;
  }

  /** Sends all that is due, oldest first. Never throws. */
  flush() {
    clearTimeout(this.timer);
    this.running ??= alone(this.name, () => this.drain()).catch(() => null).finally(() => (this.running = null));
    return this.running;
  }

  async drain() {
    const tried = new Set();
    for (const entry of [...this.unkept.values()]) this.store(entry); // there may be room by now
    for (let entry = this.next(tried); entry; entry = this.next(tried)) {
      tried.add(entry.key);
      this.tell("sending");
      try {
        const reply = await call("POST", entry.path, { body: entry.body, headers: { "Idempotency-Key": entry.key } });
        this.arrived(entry, reply);
      } catch (error) {
        if (error instanceof Offline || EVERYTHING_WAITS.has(error.status)) return this.wait(error);
        if (error instanceof Problem && error.passing) this.postpone(entry, error);
        else this.setAside(entry, error);
      }
    }
    return this.plan();
  }

  /** The oldest entry that is due. What another tab has sent meanwhile is asked for again, because this page needs the reply. */
  next(tried) {
    const due = (entry) => !tried.has(entry.key) && (entry.due ?? 0) <= Date.now();
    const stored = this.entries;
    const elsewhere = [...this.waiting.values()].map((waiter) => waiter.entry).filter((entry) => !stored.some(({ key }) => key === entry.key));
    for (const entry of stored.filter(({ aside }) => aside)) this.settle(entry, "reject", new Problem(entry.said.status, { detail: entry.said.words }));
    return [...stored.filter((entry) => !entry.aside), ...elsewhere].find(due);
  }

  arrived(entry, reply) {
    this.failures = 0;
    // An answer that was refused before and has now been given otherwise is of no use any more.
    for (const other of this.entries) if (other.key === entry.key || (other.aside && other.path === entry.path)) this.drop(other);
    if (entry.draft) forget(entry.draft);
    this.settle(entry, "resolve", reply);
    this.tell("sent");
  }

  settle(entry, how, value) {
    const waiter = this.waiting.get(entry.key);
    this.waiting.delete(entry.key);
    waiter?.[how](value);
  }

  /** Nothing can be sent now: all of it waits. */
  wait(error) {
    this.failures += 1;
    this.tell("waiting", error);
    this.timer = setTimeout(() => this.flush(), Math.max(pause(this.failures - 1), (error.retryAfter ?? 0) * 1000));
  }

  /** The server failed at this entry: it waits, the others go on. */
  postpone(entry, error) {
    const tries = (entry.tries ?? 0) + 1;
    const due = Date.now() + Math.max(pause(tries), (error.retryAfter ?? 0) * 1000);
    this.store({ ...entry, tries, due, said: { status: error.status, words: words(error) } });
    this.tell("waiting", error);
  }

  /** The server refused this entry: it stays here until its person decides. */
  setAside(entry, error) {
    this.store({ ...entry, aside: true, said: { status: error.status ?? 0, words: words(error) } });
    this.settle(entry, "reject", error);
    this.tell("refused", error);
  }

  /** Comes back when the first of the entries that wait is due. */
  plan() {
    const due = this.pending.map((entry) => entry.due ?? Date.now() + SHORTEST_MS);
    if (due.length) this.timer = setTimeout(() => this.flush(), Math.max(Math.min(...due) - Date.now(), SHORTEST_MS));
  }

  /** Sends an entry again that was set aside or waits. */
  again(entry) {
    const { aside, due, ...rest } = entry;
    this.store(rest);
    return this.flush();
  }

  /** Leaves an entry where it is, unsent, until its person decides. */
  hold(entry) {
    this.store({ ...entry, aside: true });
    this.tell("changed");
  }

  /** Removes an entry for good. */
  discard(entry) {
    this.drop(entry);
    this.waiting.delete(entry.key);
    this.tell("changed");
  }
}
