// Finished work on its way to the server. It is written to this browser first, and leaves only when the server has it.
// A retry carries the same idempotency key, so a judgment that did arrive is not stored twice.

import { Offline, Problem, call } from "./api.js";
import { forget, keep, recall } from "./storage.js";

const SHORTEST_MS = 2_000;
const LONGEST_MS = 60_000;

export class Outbox {
  /** @param {string} person whose work this is: one person's work is never sent in another's name */
  constructor(person) {
    this.name = `outbox.${person}`;
    this.waiting = new Map();
    this.listeners = new Set();
    this.delay = SHORTEST_MS;
    this.timer = null;
    this.running = null;
    window.addEventListener("online", () => this.flush());
  }

  get entries() {
    return recall(this.name, []);
  }

  /** Called with `{pending, state, problem}` whenever something changes. */
  watch(listener) {
    this.listeners.add(listener);
  }

  tell(state, problem = null) {
    for (const listener of this.listeners) listener({ pending: this.entries.length, state, problem });
  }

  /**
   * Keeps an entry and sends it, now or whenever there is a connection.
   * @param {{key: string, path: string, body: object, draft?: string}} entry `draft` names a stored draft that is
   *   forgotten once the server has the work
   * @returns {Promise<object>} the server's reply; rejects with the Problem if the server refuses the entry for good
   */
  send(entry) {
    keep(this.name, [...this.entries, { ...entry, at: new Date().toISOString() }]);
    const reply = new Promise((resolve, reject) => this.waiting.set(entry.key, { resolve, reject, entry }));
    this.flush();
    return reply;
  }

  /** Sends all there is, oldest first. Never throws. */
  flush() {
    clearTimeout(this.timer);
    this.running ??= this.drain().finally(() => (this.running = null));
    return this.running;
  }

  async drain() {
    for (let entry = this.oldest(); entry; entry = this.oldest()) {
      this.tell("sending");
      try {
        const reply = await call("POST", entry.path, { body: entry.body, headers: { "Idempotency-Key": entry.key } });
        this.settle(entry, "resolve", reply);
        if (entry.draft) forget(entry.draft);
        this.delay = SHORTEST_MS;
        this.tell("sent");
      } catch (error) {
        const later = error instanceof Offline || (error instanceof Problem && error.passing);
        if (later) return this.wait(error);
        this.settle(entry, "reject", error);
        this.tell("refused", error);
      }
    }
  }

  /** The oldest unsent entry; what storage could not keep is still sent from memory. */
  oldest() {
    return this.entries[0] ?? [...this.waiting.values()][0]?.entry;
  }

  settle(entry, how, value) {
    keep(this.name, this.entries.filter((other) => other.key !== entry.key));
    const waiter = this.waiting.get(entry.key);
    this.waiting.delete(entry.key);
    waiter?.[how](value);
  }

  wait(error) {
    this.tell("waiting", error);
    const pause = Math.max(this.delay, (error.retryAfter ?? 0) * 1000);
    this.delay = Math.min(this.delay * 2, LONGEST_MS);
    this.timer = setTimeout(() => this.flush(), pause);
  }
}
