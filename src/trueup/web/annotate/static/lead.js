// The lead's desk of one project.

import { get, patch, seg, words } from "./api.js";
import { field, h, show } from "./dom.js";
import { disagreement } from "./lead/disagreement.js";
import { gold } from "./lead/gold.js";
import { guidelines } from "./lead/guidelines.js";
import { exchange } from "./lead/exchange.js";
import { announce, atLeast, attempt, badge, idInPath, main, open } from "./shell.js";
import { report, bars, table } from "./table.js";
import { tabs } from "./tabs.js";

const STATES = ["draft", "live", "paused", "closed"];

async function progress(panel, project) {
  const found = await get(`/projects/${seg(project)}/progress`);
  const eta = found.eta_hours;
  const left = eta === null ? "No estimate yet: too few judgments." : `About ${eta < 1 ? "an hour or less" : `${Math.round(eta)} hours`} of work left at the present speed.`;
  const streams = found.by_stream.map((row) => ({ ...row, share: row.items ? row.satisfied / row.items : null }));
  show(panel, h("section", { class: "card" }, h("h2", {}, "Progress"), h("p", {}, left),
    streams.length ? table("Progress by stream", streams) : h("p", { class: "muted" }, "No items yet. Import some.")),
  bars("Judgments a day", found.per_day));
}

/** A tab that shows what one quality call answers. */
function quality(name, caption, hint, empty) {
  return async (panel, project) => {
    const data = await get(`/projects/${seg(project)}/quality/${name}`);
    show(panel, h("p", { class: "lead" }, hint), report(caption, data, empty));
  };
}

const FIRST = ["annotator", "judgments", "signs", "suggestion", "gold", "ability", "reliability", "side", "left_wins", "speed"];

/** Each annotator on a row, what may need a look before the numbers. */
async function annotators(panel, project) {
  const found = await get(`/projects/${seg(project)}/quality/annotators`);
  const rows = found.annotators.map((row) => ({ ...Object.fromEntries(FIRST.map((name) => [name, row[name]])), consistency: row.consistency, drift: row.drift }));
  rows.sort((one, other) => other.signs.length - one.signs.length);
  show(panel, h("p", { class: "lead" }, found.note),
    rows.length ? h("section", { class: "card" }, h("h2", {}, "Annotators"), table("Annotators", rows)) : h("p", { class: "card centre muted" }, NOT_YET));
}

const NOT_YET = "Not enough judgments yet.";
const TABS = [
  ["progress", "Progress", progress],
  ["agreement", "Agreement", quality("agreement", "Agreement", "How far annotators say the same, corrected for chance, with 95 % intervals over items.", NOT_YET)],
  ["annotators", "Annotators", annotators],
  ["bias", "Bias", quality("bias", "Bias", "Whether side, length or style decides where content should.", NOT_YET)],
  ["disagreement", "Disagreement", disagreement],
  ["gold", "Gold", gold],
  ["guidelines", "Guidelines", guidelines],
  ["exchange", "Import and export", exchange],
];
const WRITES = new Set(["guidelines", "exchange"]);

function stateSwitch(project) {
  const select = h("select", {}, STATES.map((state) => h("option", { value: state }, state)));
  select.value = project.state;
  select.addEventListener("change", () => attempt(async () => {
    await patch(`/projects/${seg(project.id)}`, { state: select.value });
    announce(`The project is ${select.value} now`);
  }));
  return h("div", { class: "inline" }, field("State", select));
}

async function start(person) {
  const id = idInPath();
  const project = (await get("/projects")).find((one) => one.id === id);
  if (!project) return show(main(), h("section", { class: "card centre" }, h("h1", {}, "No such project"), h("a", { href: "/" }, "All projects")));
  const lead = atLeast(person, "lead");
  const list = TABS.filter(([name]) => lead || !WRITES.has(name)).map(([name, label, draw]) => ({
    id: name,
    label,
    draw: async (panel) => {
      try {
        await draw(panel, id, person);
      } catch (error) {
        show(panel, h("p", { class: "card missing", role: "alert" }, words(error)));
        if (!error.status && error.name !== "Error") throw error;
      }
    },
  }));
  const desk = tabs("Desk", list);
  show(main(), h("div", { class: "title" }, h("h1", { dir: "auto" }, project.name), project.simulated && badge("simulated"), lead && stateSwitch(project)), desk.element);
  return desk.open(location.hash.slice(1) || "progress");
}

const { person } = await open("Lead");
await attempt(() => start(person));
