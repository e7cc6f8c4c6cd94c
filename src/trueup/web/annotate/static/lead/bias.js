// What moves judgments besides quality: what stands out first, then each measure with what it means.

import { get, seg } from "../shell/api.js";
import { h, show } from "../shell/dom.js";
import { table } from "../shell/table.js";
import { surplus } from "./surplus.js";

const FEATURES = { "shown first": "shown first", "log length": "longer, by a factor e", markup: "more markup, by a factor e" };

const section = (heading, hint, ...children) => h("section", { class: "card" }, h("h2", {}, heading), h("p", { class: "muted" }, hint), children);
const missing = (reason) => h("p", {}, reason);
const named = (column) => ({ name, ...row }) => ({ [column]: name, ...row });

function verdicts(sentences) {
  return h("section", { class: "card" }, h("h2", {}, "What stands out"),
    sentences.length ? h("ul", {}, sentences.map((sentence) => h("li", {}, sentence))) : h("p", {}, "Nothing does."));
}

function side({ overall, by_annotator: people }) {
  const rows = [{ ...overall, name: "everybody" }, ...people].map(named("annotator"));
  return section("Side", "How often the response shown first wins: one half where nobody leans to a side. Ties are left out.", table("Side", rows));
}

function style(report) {
  const rows = report.coefficients.map(({ name, ...row }) => ({ feature: FEATURES[name] ?? name, ...row }));
  const odds = report.twice_as_long;
  return section("Length and markup", "What the response shown first gains, in log-odds, from being first, longer or more marked up than the other.",
    rows.length ? table("Length and markup", rows) : missing(report.reason),
    typeof odds === "number" && h("p", {}, `Being twice as long multiplies the odds of winning by ${odds.toFixed(2)}. The longer one may also be better.`));
}

function lengths(rows) {
  return section("Each annotator and length", "Log-odds for a response longer by a factor e, beside the median of the others: a taste of one’s own stands out.",
    rows.length ? table("Each annotator and length", rows.map(named("annotator"))) : missing("Nobody has enough verdicts yet."));
}

function slices(report) {
  const rows = report.rows.map(named("slice"));
  return section("Slices", `Where people agree less: ${report.measure}, in each slice and in the rest.`,
    rows.length ? table("Slices", rows) : missing("There are no two slices to compare."));
}

function tired({ coefficient, reason }) {
  const rows = coefficient ? [coefficient].map(named("change")) : [];
  return section("Fatigue", "Log-odds of agreeing with the others, gained for each 100 judgments of a sitting; below zero, people tire.",
    rows.length ? table("Fatigue", rows) : missing(reason));
}

function opinionGroups(report) {
  return section("Groups of values", "Whether annotators fall into groups that agree inside and differ from each other, beyond what skill explains.",
    report.groups.length ? table("Groups of values", report.groups) : missing(`None found: ${report.reason}.`));
}

/** Side, length, markup, slices, fatigue and groups. */
export async function biasPanel(panel, project) {
  const report = await get(`/projects/${seg(project)}/quality/bias`);
  show(panel, h("p", { class: "lead" }, "Whether side, length or style decides where content should."), surplus(report), verdicts(report.verdicts), side(report.left_wins),
    style(report.style), lengths(report.lengths), slices(report.slices), tired(report.fatigue), opinionGroups(report.camps));
}
