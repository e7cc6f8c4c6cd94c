// In a snapshot: answers the page's calls from the data in the file. Runs before the modules, and is no module itself.
(() => {
  const data = JSON.parse(document.getElementById("snapshot-data").textContent);
  if (location.hash.length < 2 && data.place) history.replaceState(null, "", data.place);

  class Missing extends Error {}
  const known = (table, name, what) => {
    if (!Object.hasOwn(table, name)) throw new Missing(`This snapshot has no ${what} ${name}.`);
    return table[name];
  };
  const ORDERS = {
    probe: null, reward: (row) => (typeof row.score === "number" ? -row.score : Infinity), "reward-low": (row) => (typeof row.score === "number" ? row.score : Infinity),
    length: (row) => -row.words, "length-short": (row) => row.words,
  };

  function series(run, query) {
    const all = known(data.series, run, "run");
    if (!query.has("first") && !query.has("last")) return all;
    const [first, last] = [Number(query.get("first") ?? 0), Number(query.get("last") ?? Infinity)];
    const cut = ({ steps, values }) => {
      const inside = steps.map((step, n) => n).filter((n) => steps[n] >= first && steps[n] <= last);
      return { steps: inside.map((n) => steps[n]), values: inside.map((n) => values[n]) };
    };
    return { ...all, series: Object.fromEntries(Object.entries(all.series).map(([name, one]) => [name, cut(one)])) };
  }

  function answers(run, query) {
    const steps = known(data.samples, run, "run");
    const step = query.get("step");
    const rows = known(steps, step, "samples of step");
    const order = known(ORDERS, query.get("sort") ?? "probe", "order");
    const before = Object.keys(steps).map(Number).filter((other) => other < Number(step)).sort((a, b) => b - a)[0] ?? null;
    const sorted = order ? [...rows].sort((a, b) => order(a) - order(b)) : rows;
    const [offset, limit] = [Number(query.get("offset") ?? 0), Number(query.get("limit") ?? 20)];
    const old = (row) => (before === null ? undefined : steps[before].find((other) => other.prompt === row.prompt && other.turn === row.turn));
    return { step: Number(step), previous: before, total: rows.length, offset, rows: sorted.slice(offset, offset + limit).map((row) => ({ ...row, before: old(row) })) };
  }

  const inOrder = (run) => Object.entries(known(data.samples, run, "run")).sort(([a], [b]) => a - b).flatMap(([, rows]) => rows);

  function along(run, query) {
    const rows = inOrder(run).filter((row) => row.prompt.startsWith(query.get("prompt")));
    const [offset, limit] = [Number(query.get("offset") ?? 0), Number(query.get("limit") ?? 20)];
    const last = new Map();
    const first = new Map();
    const told = rows.slice(0, offset + limit).map((row) => {
      const key = `${row.prompt} ${row.turn}`;
      const beside = { ...row, before: last.get(key), start: first.get(key) };
      last.set(key, row);
      if (!first.has(key)) first.set(key, row);
      return beside;
    });
    return { total: rows.length, offset, rows: told.slice(offset) };
  }

  function search(run, query) {
    const wanted = query.get("text").toLowerCase();
    const rows = inOrder(run).filter((row) => `${row.question}\n${row.text}`.toLowerCase().includes(wanted)).sort((a, b) => b.step - a.step);
    return { total: rows.length, rows: rows.slice(0, 100) };
  }

  function differences(runs) {
    const places = runs.map((run) => {
      const place = data.differences.runs.indexOf(run);
      if (place < 0) throw new Missing(`This snapshot has no run ${run}.`);
      return place;
    });
    const rows = data.differences.settings.map((row) => ({ ...row, values: places.map((place) => row.values[place]) }));
    return { runs, settings: rows.filter((row) => row.values.some((value) => JSON.stringify(value) !== JSON.stringify(row.values[0]))) };
  }

  const CALLS = {
    me: () => ({ role: "viewer", csrf: null }),
    runs: () => ({ runs: data.runs, tour: null, role: "viewer", asks: false, controls: false }),
    run: (run) => known(data.described, run, "run"),
    series,
    probes: (run) => known(data.probes, run, "run"),
    samples: answers,
    history: along,
    search,
    differences: (run, query) => differences(query.getAll("run")),
  };

  globalThis.fetch = async (address) => {
    const [path, text] = String(address).replace(/^\/api\/v1\//u, "").split("?");
    const query = new URLSearchParams(text ?? "");
    try {
      return Response.json(known(CALLS, path, "call")(query.get("run"), query));
    } catch (error) {
      if (!(error instanceof Missing)) throw error;
      return Response.json({ title: "It is not in this file", detail: error.message, fix: "ask for it in the explorer itself: trueup explore" }, { status: 404 });
    }
  };
  // Nothing new comes: a snapshot is what was there when it was made.
  globalThis.EventSource = class extends EventTarget {
    static CLOSED = 2;
    readyState = 1;
    close() {}
  };
})();
