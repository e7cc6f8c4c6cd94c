// Annotators: whose work may need a look, and each one's measures.

import { get, seg } from "../api.js";
import { h, show } from "../dom.js";
import { table } from "../table.js";

const MEASURES = ["annotator", "judgments", "gold", "ability", "reliability", "side", "left_wins", "speed", "consistency", "drift"];

/** Those whose work may need a look, with why and what might be done. */
function suspects(rows) {
  return h("section", { class: "card" }, h("h2", {}, "Worth a look"), rows.length === 0 && h("p", {}, "Nobody shows a sign."),
    rows.map((row) => h("article", {}, h("h3", {}, row.annotator), h("ul", {}, row.signs.map((sign) => h("li", {}, sign))),
      row.suggestion && h("p", {}, h("strong", {}, "Suggestion: "), row.suggestion, "."))));
}

/** The annotators as the quality report tells of them, those with most signs first; and its note. */
export async function people(project) {
  const found = await get(`/projects/${seg(project)}/quality/annotators`);
  return { note: found.note, rows: found.annotators.sort((one, other) => other.signs.length - one.signs.length) };
}

/** Who may need a look, then each annotator on a row, those with signs first. */
export async function annotators(panel, project) {
  const found = await people(project);
  const rows = found.rows.map((row) => Object.fromEntries(MEASURES.map((name) => [name, row[name]])));
  show(panel, h("p", { class: "lead" }, found.note), rows.length === 0 ? h("p", { class: "card centre muted" }, "Not enough judgments yet.") : [
    suspects(found.rows.filter((row) => row.signs.length)),
    h("section", { class: "card" }, h("h2", {}, "Annotators"), table("Annotators", rows)),
  ]);
}
