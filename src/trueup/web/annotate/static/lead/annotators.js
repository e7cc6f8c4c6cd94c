// Annotators: whose work may need a look, and each one's measures.

import { get, seg } from "../shell/api.js";
import { h, show } from "../shell/dom.js";
import { table } from "../shell/table.js";
import { surplus } from "./surplus.js";

const MEASURES = ["annotator", "judgments", "surplus", "gold", "ability", "reliability", "side", "left_wins", "speed", "consistency", "drift"];

/** Those whose work may need a look, with why and what might be done. */
function suspects(rows) {
  return h("section", { class: "card" }, h("h2", {}, "Worth a look"), rows.length === 0 && h("p", {}, "Nobody shows a sign."),
    rows.map((row) => h("article", {}, h("h3", {}, row.annotator), h("ul", {}, row.signs.map((sign) => h("li", {}, sign))),
      row.suggestion && h("p", {}, h("strong", {}, "Suggestion: "), row.suggestion, "."))));
}

/** The annotators as the quality report tells of them, those with most signs first; and its note. */
export async function annotatorReport(project) {
  const report = await get(`/projects/${seg(project)}/quality/annotators`);
  return { note: report.note, surplus: report.surplus, rows: report.annotators.sort((first, other) => other.signs.length - first.signs.length) };
}

/** Who may need a look, then each annotator on a row, those with signs first. */
export async function annotatorPanel(panel, project) {
  const report = await annotatorReport(project);
  const rows = report.rows.map((row) => Object.fromEntries(MEASURES.map((name) => [name, row[name]])));
  show(panel, h("p", { class: "lead" }, report.note), surplus(report), rows.length === 0 ? h("p", { class: "card centre muted" }, "Not enough judgments yet.") : [
    suspects(report.rows.filter((row) => row.signs.length)),
    h("section", { class: "card" }, h("h2", {}, "Annotators"), table("Annotators", rows)),
  ]);
}
