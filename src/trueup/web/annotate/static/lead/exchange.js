// Task templates, import with a dry run first, export with its manifest.

import { get, patch, post, seg, upload, words } from "../shell/api.js";
import { ask } from "../shell/dialog.js";
import { button, field, h, show } from "../shell/dom.js";
import { announce, attempt } from "../shell/page.js";
import { shown, table, title } from "../shell/table.js";
import { annotatorReport } from "./annotators.js";

const KINDS = ["pairwise", "ranking", "binary", "rating", "critique", "edit", "redteam", "review"];
const IMPORTS = ["jsonl", "csv", "trl", "preference", "kto", "hh", "ranking", "ultrafeedback", "argilla", "label-studio", "parquet", "judgments"];
const EXPORTS = ["preference", "kto", "ranking", "sft"];
const METHODS = ["ability", "dawid_skene", "majority", "bradley_terry"];

const choice = (values) => h("select", {}, values.map((value) => h("option", { value: value.id ?? value }, value.name ? `${value.name} (${value.kind})` : value)));

function parsed(field) {
  try {
    return [JSON.parse(field.value || "{}"), null];
  } catch (error) {
    return [null, `The settings are not JSON: ${error.message}`];
  }
}

/** Asks for new settings of a template until the server takes them or the lead gives up. */
async function change(project, row, reload) {
  const config = h("textarea", { rows: 10, class: "code", spellcheck: "false", value: JSON.stringify(row.config, null, 2) });
  let problem = row.problem ?? "";
  for (;;) {
    const done = await ask(`Settings of ${row.name}`, [problem && h("p", { class: "missing", role: "alert" }, problem), field("Settings (JSON)", config)],
      { confirm: "Save", initial: config, check: () => parsed(config)[1] });
    if (!done) return undefined;
    try {
      await patch(`/projects/${seg(project)}/templates/${seg(row.id)}`, { config: parsed(config)[0] });
      announce("Settings saved");
      return reload();
    } catch (error) {
      problem = words(error);
    }
  }
}

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
    const [settings, broken] = parsed(config);
    if (broken) {
      wrong.textContent = broken;
      return config.focus();
    }
    return post(`/projects/${seg(project)}/templates`, { name: name.value.trim(), kind: kind.value, config: settings })
      .then(reload, (error) => (wrong.textContent = words(error)));
  });
  return h("section", { class: "card" }, h("h2", {}, "Task templates"),
    list.length ? table("Task templates", list, { hide: ["id"], actions: (row) => button("Change settings", () => attempt(() => change(project, row, reload)), { class: "small", "aria-label": `Change settings of ${row.name}` }) }) : h("p", { class: "muted" }, "None yet: create one, then import items for it."), form);
}

function imported(reply, dry) {
  return [
    h("p", {}, h("strong", {}, dry ? "Dry run: " : "Imported: "), `${reply.rows} rows read, ${reply.items} items ${dry ? "would be" : "were"} stored, ${reply.rejected.length} refused.`),
    Object.keys(reply.unused).length > 0 && h("p", {}, `Not used: ${Object.entries(reply.unused).map(([name, count]) => `${name} (${count} rows)`).join(", ")}.`),
    reply.notes.map((note) => h("p", {}, note)),
    reply.rejected.length > 0 && table("Refused rows", reply.rejected),
  ];
}

function importer(project, list) {
  const file = h("input", { type: "file", required: true });
  const [format, template] = [choice(IMPORTS), choice(list)];
  const encoding = h("input", { maxlength: 40, placeholder: "UTF-8", autocapitalize: "none", spellcheck: "false" });
  const result = h("div", { role: "status", "aria-live": "polite" });
  const run = (dry) => attempt(async () => {
    if (!file.files.length) return show(result, h("p", { class: "missing" }, "Choose a file first."));
    const query = new URLSearchParams({ format: format.value, template: template.value, encoding: encoding.value.trim(), dry_run: dry ? "1" : "0" });
    show(result, h("p", {}, "Reading…"));
    return show(result, imported(await upload(`/projects/${seg(project)}/import?${query}`, file.files[0]), dry));
  });
  return h("section", { class: "card" }, h("h2", {}, "Import items"),
    list.length === 0 ? h("p", { class: "muted" }, "Create a template first.") : [
      h("div", { class: "inline" }, field("File", file), field("Format", format), field("Template", template), field("Encoding", encoding, "Only for a text file that is not UTF-8, for example cp1252")),
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
    const report = await annotatorReport(project);
    const rows = report.rows.map((row) => {
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
    const finished = await post(`/projects/${seg(project)}/exports`, { format: format.value, ...settings.get() });
    const dropped = Object.entries(finished.dropped ?? {});
    show(result, h("dl", { class: "facts" },
      h("div", {}, h("dt", {}, "Rows"), h("dd", {}, shown(finished.rows))),
      h("div", {}, h("dt", {}, "SHA-256"), h("dd", {}, h("code", {}, finished.sha256))),
      dropped.map(([why, count]) => h("div", {}, h("dt", {}, `Left out: ${title(why)}`), h("dd", {}, shown(count))))),
    h("a", { class: "button primary", href: `/api/v1/exports/${seg(finished.id)}/download`, download: true }, "Download"));
    announce("The export is ready");
  });
  return h("section", { class: "card" }, h("h2", {}, "Export"),
    h("p", { class: "muted" }, "Gold, attention and repeat items never go into training files. What is left out is counted."),
    h("div", { class: "inline" }, field("Format", format), button("Export", run, { class: "primary" })), settings.element, result);
}

/** Templates, import and export. */
export async function exchangePanel(panel, project) {
  const list = await get(`/projects/${seg(project)}/templates`);
  const reload = () => exchange(panel, project);
  show(panel, importer(project, list), exporter(project), templates(project, list, reload));
}
