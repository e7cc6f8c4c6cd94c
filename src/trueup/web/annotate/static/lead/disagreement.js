// Pairs on which annotators differ most: the texts, how they voted, and why.

import { get, seg } from "../api.js";
import { h, show } from "../dom.js";
import { promptCard, responsePanel } from "../panels.js";
import { table } from "../table.js";
import { brief, reveal } from "../text.js";

const SIDES = [["first", "First"], ["second", "Second"], ["tie", "Tie"]];

function said(row) {
  const rows = SIDES.flatMap(([side, label]) => (row.rationales[side] ?? []).map((one) => ({
    annotator: one.annotator, answer: side === "tie" ? "a tie" : `${label} is better`, strength: one.strength || null, why: one.rationale || null,
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
    h("div", { class: "pair" }, responsePanel("First", row.first).element, responsePanel("Second", row.second).element), said(row)));
}

/** The disagreement explorer. */
export async function disagreement(panel, project) {
  const found = await get(`/projects/${seg(project)}/quality/disagreement`);
  show(panel, h("p", { class: "lead" }, "Most disputed first. Disagreement is often a fact about the question, not a fault of an annotator."),
    found.pairs ? h("p", {}, `Of ${found.pairs} pairs with several answers, ${found.unanimous} are unanimous.`) : null,
    found.rows.length ? h("ul", { class: "plain" }, found.rows.map(entry)) : h("p", { class: "card centre muted" }, "Nothing is disputed."));
}
