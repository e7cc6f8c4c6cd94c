// The lead's desk of one project.

import { get, patch, seg, words } from "./shell/api.js";
import { field, h, show } from "./shell/dom.js";
import { agreementPanel } from "./lead/agreement.js";
import { annotatorPanel } from "./lead/annotators.js";
import { biasPanel } from "./lead/bias.js";
import { disagreementPanel } from "./lead/disagreement.js";
import { goldPanel } from "./lead/gold.js";
import { guidelinePanel } from "./lead/guidelines.js";
import { exchangePanel } from "./lead/exchange.js";
import { open } from "./room.js";
import { announce, atLeast, attempt, badge, idInPath, main } from "./shell/page.js";
import { bars, table } from "./shell/table.js";
import { tabs } from "./shell/tabs.js";

const STATES = ["draft", "live", "paused", "closed"];

function left(progress, done) {
  if (done) return "Everything is judged.";
  if (progress.eta_hours === null) return "No estimate yet: too few judgments.";
  return `About ${progress.eta_hours < 1 ? "an hour or less" : `${Math.round(progress.eta_hours)} hours`} of work left at the present speed.`;
}

async function progressPanel(panel, project) {
  const progress = await get(`/projects/${seg(project)}/progress`);
  const streams = progress.by_stream.map((row) => {
    const share = row.items ? row.satisfied / row.items : 0;
    return { ...row, done: h("span", { class: "meter" }, h("progress", { max: 1, value: share, "aria-label": `${row.stream} done` }), `${Math.floor(100 * share)} %`) };
  });
  const done = streams.length > 0 && progress.by_stream.every((row) => row.satisfied === row.items);
  show(panel, h("section", { class: "card" }, h("h2", {}, "Progress"), streams.length > 0 && h("p", {}, left(progress, done)),
    streams.length ? table("Progress by stream", streams) : h("p", { class: "muted" }, "No items yet. Import some.")),
  bars("Judgments a day", progress.per_day));
}

const TABS = [
  ["progress", "Progress", progressPanel],
  ["agreement", "Agreement", agreementPanel],
  ["annotators", "Annotators", annotatorPanel],
  ["bias", "Bias", biasPanel],
  ["disagreement", "Disagreement", disagreementPanel],
  ["gold", "Gold", goldPanel],
  ["guidelines", "Guidelines", guidelinePanel],
  ["exchange", "Import and export", exchangePanel],
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
  const project = (await get("/projects")).find((candidate) => candidate.id === id);
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
