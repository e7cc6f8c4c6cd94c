// Work for the place where somebody is by now: however fast places follow each other, the last one is always worked on.

const PAUSE_MS = 100; // the server takes 20 calls a second of one address, browsers about as many changes of theirs
const TRIES = 5;

const pause = (ms) => (ms > 0 ? new Promise((done) => setTimeout(done, ms)) : null);

/**
 * Work that is asked for more often than it can be done. It is never done twice at once: what is asked for meanwhile is
 * done after it, once, so `work` has to look itself where somebody is.
 */
export class Newest {
  constructor(work) {
    this.work = work;
    this.due = false;
    this.running = null;
    this.began = -PAUSE_MS;
  }

  /** Begins at once where nothing was done just now. The promise ends, or fails, with the newest work alone. */
  ask() {
    this.due = true;
    this.running ??= this.run().finally(() => (this.running = null));
    return this.running;
  }

  async run() {
    for (let refused = 0; this.due;) {
      await pause(this.began + PAUSE_MS - performance.now());
      this.due = false;
      this.began = performance.now();
      try {
        await this.work();
        refused = 0;
      } catch (error) {
        if (error.status === 429 && refused < TRIES) { // another window may have asked for much
          refused += 1;
          await pause(1000 * (error.retryAfter ?? 1));
          this.due = true;
        } else if (!this.due) throw error;
      }
    }
  }
}
