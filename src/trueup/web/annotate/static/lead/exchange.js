// Task templates, import with a dry run first, export with its manifest.

import { get, post, seg, upload, words } from "../api.js";
import { button, field, h, show } from "../dom.js";
import { announce, attempt } from "../shell.js";
import { shown, table, title } from "../table.js";
import { people } from "./annotators.js";

const KINDS = ["pairwise", "ranking", "binary", "rating", "critique", "edit", "redteam", "review"];
const IMPORTS = ["jsonl", "csv", "trl", "preference", "kto", "hh", "ranking", "ultrafeedback", "argilla", "label-studio", "parquet", "judgments"];
const EXPORTS = ["preference", "kto", "ranking", "sft"];
const METHODS = ["ability", "dawid_skene", "majority", "bradley_terry"];

const choice = (values) => h("select", {}, values.map((value) => h("option", { value: value.id ?? value }, value.name ? `${value.name} (${value.kind})` : value)));

function templates(project, list, reload) {
  const [name, kind] = [h("input", { required: true, maxlength: 200 }), choice(KINDS)];
  const config = h("textarea", { rows: 4, class: "code", spellcheck: "false", value: "{}" });
  const wrong = h("p", { class: "missing", role: "alert" });
  const form = h("form", {}, h("h3", {}, "New template"), h("div", { class: "inline" }, field("Name", name), field("Task kind", kind)),
    field("Settings (JSON)", config, 'For example {"min_seconds": 5, "require_rationale": true} or, for ratings, {"axes": [{"name": "helpful", "low": 1, "high": 5}]}'),
    wrong, h("button", { type: "submit" }, "Create"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    wrong.textContent = "";
    let settings;
    try {
      settings = JSON.parse(config.value || "{}");
    } catch (error) {
      wrong.textContent = `The settings are not JSON: ${error.message}`;
      return config.focus();
    }
    return post(`/projects/${seg(project)}/templates`, { name: name.value.trim(), kind: kind.value, config: settings })
      .then(reload, (error) => (wrong.textContent = words(error)));
  });
  return h("section", { class: "card" }, h("h2", {}, "Task templates"),
    list.length ? table("Task templates", list, { hide: ["id"] }) : h("p", { class: "muted" }, "None yet: create one, then import items for it."), form);
}

function imported(reply, dry) {
  return [
    h("p", {}, h("strong", {}, dry ? "Dry run: " : "Imported: "), `${reply.rows} rows read, ${reply.items} items ${dry ? "would be" : "were"} stored, ${reply.rejected.length} refused.`),
    reply.rejected.length > 0 && table("Refused rows", reply.rejected),
  ];
}

function importer(project, list) {
  const file = h("input", { type: "file", required: true });
  const [format, template] = [choice(IMPORTS), choice(list)];
  const result = h("div", { role: "status", "aria-live": "polite" });
  const run = (dry) => attempt(async () => {
    if (!file.files.length) return show(result, h("p", { class: "missing" }, "Choose a file first."));
    const query = new URLSearchParams({ format: format.value, template: template.value, dry_run: dry ? "1" : "0" });
    show(result, h("p", {}, "Reading…"));
    return show(result, imported(await upload(`/projects/${seg(project)}/import?${query}`, file.files[0]), dry));
  });
  return h("section", { class: "card" }, h("h2", {}, "Import items"),
    list.length === 0 ? h("p", { class: "muted" }, "Create a template first.") : [
      h("div", { class: "inline" }, field("File", file), field("Format", format), field("Template", template)),
      h("p", { class: "row" }, button("Dry run", () => run(true)), button("Import", () => run(false), { class: "primary" })), result,
    ]);
}

/** How judgments become rows: the curator's settings, and whose work is left out. */
function curation(project) {
  const method = choice(METHODS);
  const votes = h("input", { type: "number", min: 1, step: 1, value: 1, required: true });
  const strength = h("input", { type: "number", min: 0.5, max: 0.99, step: 0.01, value: 0.5, required: true });
  const leftOut = h("fieldset", {}, h("legend", {}, "Leave out annotators"), h("p", { class: "muted" }, "Reading…"));
  const boxes = new Map();
  const element = h("details", {}, h("summary", {}, "Settings"), h("div", { class: "inline" },
    field("Labels by", method), field("Fewest votes of a pair", votes), field("Least probability of the better side", strength)), leftOut);
  element.addEventListener("toggle", () => attempt(async () => {
    if (!element.open || boxes.size) return;
    const found = await people(project);
    const rows = found.rows.map((row) => {
      const box = h("input", { type: "checkbox" });
      boxes.set(row.annotator, box);
      return h("p", {}, h("label", { class: "check" }, box, h("span", {}, `${row.annotator}, ${row.judgments} judgments`), row.signs.length > 0 && h("small", {}, row.signs.join("; "))));
    });
    show(leftOut, h("legend", {}, "Leave out annotators"), rows.length ? rows : h("p", { class: "muted" }, "Nobody has judged yet."));
  }));
  return {
    element,
    valid: () => [votes, strength].every((input) => input.reportValidity()),
    get: () => ({
      method: method.value,
      min_votes: Number(votes.value),
      min_strength: Number(strength.value),
      drop_annotators: [...boxes].filter(([, box]) => box.checked).map(([name]) => name),
    }),
  };
}

function exporter(project) {
  const format = choice(EXPORTS);
  const settings = curation(project);
  const result = h("div", { role: "status", "aria-live": "polite" });
  const run = () => attempt(async () => {
    if (!settings.valid()) return;
    show(result, h("p", {}, "Working…"));
    const made = await post(`/projects/${seg(project)}/exports`, { format: format.value, ...settings.get() });
    const dropped = Object.entries(made.dropped ?? {});
    show(result, h("dl", { class: "facts" },
      h("div", {}, h("dt", {}, "Rows"), h("dd", {}, shown(made.rows))),
      h("div", {}, h("dt", {}, "SHA-256"), h("dd", {}, h("code", {}, made.sha256))),
      dropped.map(([why, count]) => h("div", {}, h("dt", {}, `Left out: ${title(why)}`), h("dd", {}, shown(count))))),
    h("a", { class: "button primary", href: `/api/v1/exports/${seg(made.id)}/download`, download: true }, "Download"));
    announce("The export is ready");
  });
  return h("section", { class: "card" }, h("h2", {}, "Export"),
    h("p", { class: "muted" }, "Gold, attention and repeat items never go into training files. What is left out is counted."),
    h("div", { class: "inline" }, field("Format", format), button("Export", run, { class: "primary" })), settings.element, result);
}

/** Templates, import and export. */
export async function exchange(panel, project) {
  const list = await get(`/projects/${seg(project)}/templates`);
  const reload = () => exchange(panel, project);
  show(panel, importer(project, list), exporter(project), templates(project, list, reload));
}
