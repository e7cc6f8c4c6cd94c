// Items on which annotators differ most: the texts, and who said what.

import { get, seg } from "../api.js";
import { h, show } from "../dom.js";
import { inWords } from "../feedback.js";
import { promptCard, responsePanel } from "../panels.js";
import { table, title, shown } from "../table.js";
import { brief, reveal } from "../text.js";

const LONG = new Set(["prompt", "responses", "answers", "item", "kind"]);

function said(row, seat) {
  const rows = (row.answers ?? []).map((one) => ({
    annotator: one.annotator ?? "", answer: inWords(one.answer, seat) || JSON.stringify(one.answer), reason: one.rationale || null,
  }));
  return rows.length ? table("Answers", rows) : null;
}

function entry(row) {
  const prompt = typeof row.prompt === "string" ? [{ role: "user", content: row.prompt }] : row.prompt ?? [];
  const responses = row.responses ?? [];
  const seat = { kind: row.kind ?? "", responses };
  const facts = Object.entries(row).filter(([name]) => !LONG.has(name));
  const names = responses.length === 2 ? ["Left", "Right"] : responses.map((_, n) => `Response ${n + 1}`);
  return h("li", { class: "card" }, h("details", {},
    h("summary", {}, h("span", { dir: "auto" }, reveal(brief(prompt.at(-1)?.content ?? row.item ?? "", 90))),
      h("span", { class: "muted" }, facts.map(([name, value]) => [" · ", title(name), " ", shown(value)]))),
    promptCard(prompt), h("div", { class: "pair" }, responses.map((response, n) => responsePanel(names[n], response).element)), said(row, seat)));
}

/** The disagreement explorer. */
export async function disagreement(panel, project) {
  const rows = await get(`/projects/${seg(project)}/quality/disagreement`);
  const list = Array.isArray(rows) ? rows : rows.items ?? [];
  show(panel, h("p", { class: "lead" }, "Most disputed first. Disagreement is often a fact about the question, not a fault of an annotator."),
    list.length ? h("ul", { class: "plain" }, list.map(entry)) : h("p", { class: "card centre muted" }, "Nothing is disputed."));
}
