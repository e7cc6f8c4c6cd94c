// Pairs on which annotators differ most: the texts, how they voted, and why.

import { get, seg } from "../shell/api.js";
import { h, show } from "../shell/dom.js";
import { promptCard, responsePanel } from "../panels.js";
import { table } from "../shell/table.js";
import { brief, reveal } from "../shell/text.js";
import { surplus } from "./surplus.js";

const SIDES = [["first", "First"], ["second", "Second"], ["tie", "Tie"]];

function rationales(row) {
  const rows = SIDES.flatMap(([side, label]) => (row.rationales[side] ?? []).map((verdict) => ({
    annotator: verdict.annotator, answer: side === "tie" ? "a tie" : `${label} is better`, strength: verdict.strength || null, why: verdict.rationale || null,
  })));
  return rows.length ? table("Answers", rows) : null;
}

function entry(row) {
  const prompt = typeof row.prompt === "string" ? [{ role: "user", content: row.prompt }] : row.prompt;
  const votes = SIDES.map(([side, label]) => `${label} ${row.votes[side]}`).join(", ");
  return h("li", { class: "card" }, h("details", {},
    h("summary", {}, h("span", { dir: "auto" }, reveal(brief(prompt.at(-1)?.content ?? "", 90))),
      h("span", { class: "muted" }, ` · ${votes} · first is better with ${Math.round(100 * row.p_first)} %`)),
    promptCard(prompt),
    h("div", { class: "pair" }, responsePanel("First", row.first).element, responsePanel("Second", row.second).element), rationales(row)));
}

/** The disagreement explorer. */
export async function disagreementPanel(panel, project) {
  const report = await get(`/projects/${seg(project)}/quality/disagreement`);
  show(panel, h("p", { class: "lead" }, "Most disputed first. Disagreement is often a fact about the question, not a fault of an annotator."), surplus(report),
    report.pairs ? h("p", {}, `Of ${report.pairs} pairs with several answers, ${report.unanimous} are unanimous.`) : null,
    report.rows.length ? h("ul", { class: "plain" }, report.rows.map(entry)) : h("p", { class: "card centre muted" }, "Nothing is disputed."));
}
