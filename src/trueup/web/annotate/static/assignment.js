// What goes on while an assignment is held: signs of life, the time spent, drafts.

import { call, put, seg } from "./shell/api.js";
import { forget, keep, recall } from "./shell/storage.js";

const BEAT_AT_LEAST_MS = 5_000;
const BEAT_AT_MOST_MS = 120_000;
const IDLE_MS = 5 * 60_000;
const DRAFT_MS = 1_200;

/** Time in front of the page: visible, focused, and touched within the last minutes. */
export class Clock {
  constructor() {
    this.total = 0;
    this.lost = 0;
    this.since = null;
    this.touched = performance.now();
    this.stop = new AbortController();
    const { signal } = this.stop;
    for (const name of ["keydown", "pointerdown", "scroll", "input"]) {
      document.addEventListener(name, () => this.touch(), { signal, capture: true, passive: true });
    }
    window.addEventListener("blur", () => this.pause(true), { signal });
    window.addEventListener("focus", () => this.resume(), { signal });
    document.addEventListener("visibilitychange", () => (document.hidden ? this.pause(true) : this.resume()), { signal });
    if (!document.hidden) this.resume();
  }

  touch() {
    const now = performance.now();
    if (this.since !== null && now - this.touched > IDLE_MS) {
      this.total += Math.max(0, this.touched + IDLE_MS - this.since);
      this.since = now;
    }
    this.touched = now;
    if (document.hasFocus()) this.resume();
  }

  resume() {
    if (this.since === null) this.since = performance.now();
  }

  pause(lost) {
    if (this.since === null) return;
    this.total += Math.max(0, Math.min(performance.now(), this.touched + IDLE_MS) - this.since);
    this.since = null;
    if (lost) this.lost += 1;
  }

  /** Whether the annotator did something lately. */
  get present() {
    return performance.now() - this.touched < IDLE_MS;
  }

  get activeMs() {
    const running = this.since === null ? 0 : Math.min(performance.now(), this.touched + IDLE_MS) - this.since;
    return Math.round(this.total + Math.max(0, running));
  }

  close() {
    this.pause(false);
    this.stop.abort();
  }
}

/** Keeps a lease alive while somebody works: a third of what is left, again and again. */
export class Lease {
  /** @param {(error: Error) => void} lost told when the item is somebody else's now */
  constructor(assignment, clock, lost) {
    Object.assign(this, { assignment, clock, lost, timer: null, closed: false });
    this.plan(assignment.lease_until);
  }

  plan(until) {
    if (this.closed) return;
    const left = (Date.parse(until) - Date.now()) / 3;
    const pause = Math.min(Math.max(Number.isFinite(left) ? left : 0, BEAT_AT_LEAST_MS), BEAT_AT_MOST_MS);
    this.timer = setTimeout(() => this.beat(), pause);
  }

  async beat() {
    // Somebody who left for long holds nobody up: the lease runs out, and the answer is taken all the same.
    if (!this.clock.present) return this.plan(this.assignment.lease_until);
    try {
      const { lease_until: until } = await call("POST", `/seats/${seg(this.assignment.id)}/heartbeat`, {
        body: {}, headers: { "X-Seat-Token": this.assignment.token },
      });
      this.assignment.lease_until = until;
      this.plan(until);
    } catch (error) {
      if (error.status && !error.passing) return this.lost(error);
      this.plan(this.assignment.lease_until);
    }
    return undefined;
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
  }
}

/** An unfinished answer, kept in this browser at once and on the server soon after. */
export class Draft {
  constructor(person, assignment, notify) {
    this.name = `draft.${person}.${assignment.item}`;
    Object.assign(this, { assignment, notify, timer: null, unsent: null });
    this.leave = () => this.send(true);
    window.addEventListener("pagehide", this.leave);
  }

  /** The newer of what this browser and the server hold, or null. */
  read() {
    const [local, remote] = [recall(this.name), this.assignment.draft];
    if (!local || !remote) return local ?? remote ?? null;
    return (remote.saved_at ?? "") > local.saved_at ? remote : local;
  }

  save(content) {
    this.unsent = { ...content, saved_at: new Date().toISOString() };
    keep(this.name, this.unsent);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.send(), DRAFT_MS);
  }

  async send(leaving = false) {
    clearTimeout(this.timer);
    const content = this.unsent;
    if (!content) return;
    this.unsent = null;
    try {
      await put(`/seats/${seg(this.assignment.id)}/draft`, content, { "X-Seat-Token": this.assignment.token }, leaving);
      this.notify("Draft saved", "good");
    } catch {
      this.unsent ??= content;
      this.notify("Draft kept on this device", "warn");
    }
  }

  /** Stops saving; what is kept in this browser stays unless it is forgotten. */
  close({ drop = false } = {}) {
    clearTimeout(this.timer);
    window.removeEventListener("pagehide", this.leave);
    this.unsent = null;
    if (drop) forget(this.name);
  }
}
