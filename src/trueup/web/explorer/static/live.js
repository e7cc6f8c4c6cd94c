// The stream of news. The browser itself connects again and says up to where it has read; here it is only told apart.

const PATIENCE_MS = 3000;

/**
 * Follows runs from a cursor on.
 * @param {string[]} runs
 * @param {string} after the cursors, joined as the server joins them
 * @param {{rows: Function, reset: Function, state: Function, runs: Function, gone: Function, line: Function}} on `line` gets "live" or "lost"
 * @returns {{close: () => void}}
 */
export function follow(runs, after, on) {
  let source = null;
  let last = after;
  let again = 0;
  let closed = false;
  function open() {
    const query = new URLSearchParams();
    runs.forEach((run) => query.append("run", run));
    if (last) query.set("after", last);
    source = new EventSource(`/api/v1/events?${query}`);
    source.addEventListener("open", () => on.line("live"));
    source.addEventListener("error", () => {
      if (closed) return;
      on.line("lost");
      // A refused answer (a proxy's 502, a limit) ends an EventSource for good: then it is opened anew.
      if (source.readyState === EventSource.CLOSED) {
        on.refused?.();
        again = setTimeout(open, PATIENCE_MS);
      }
    });
    for (const kind of ["rows", "reset", "state", "runs", "gone"]) {
      source.addEventListener(kind, (event) => {
        if (closed) return;
        if (kind === "rows" || kind === "reset") last = event.lastEventId;
        on[kind]?.(JSON.parse(event.data));
      });
    }
  }
  open();
  return {
    close() {
      closed = true;
      clearTimeout(again);
      source.close();
    },
  };
}
