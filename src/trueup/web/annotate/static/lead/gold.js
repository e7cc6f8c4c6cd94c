// Gold items: how often each was shown and answered right, and retiring those that are burned.

import { get, post, seg } from "../api.js";
import { ask } from "../dialog.js";
import { button, h, show } from "../dom.js";
import { announce, atLeast, attempt } from "../shell.js";
import { table } from "../table.js";
import { brief, reveal } from "../text.js";

function state(row, told) {
  if (row.retired_at) return "retired";
  if (told?.doubtful) return "key doubtful: most answer otherwise";
  return told?.burned ? "burned: seen by too many" : "in use";
}

/** The gold manager. */
export async function gold(panel, project, person) {
  const [items, quality] = await Promise.all([get(`/projects/${seg(project)}/gold`), get(`/projects/${seg(project)}/quality/gold`)]);
  const told = new Map(quality.rows.map((row) => [row.item, row]));
  const rows = items.map((row) => {
    const found = told.get(row.item);
    const right = found?.answered ? { share: found.accuracy, low: found.low, high: found.high, total: found.answered } : null;
    const prompt = h("span", { class: "words", dir: "auto" }, reveal(brief(row.prompt, 120)));
    return { prompt, stream: row.stream, kind: row.kind, exposures: row.exposures, right, state: state(row, found), explanation: row.explanation, item: row.item, retired_at: row.retired_at };
  });
  const retire = (row) => {
    if (row.retired_at || !atLeast(person, "lead")) return null;
    return button("Retire", () => attempt(async () => {
      const sure = await ask("Retire this gold item?", [h("p", {}, "It is not shown any more. Answers that were given stay, and count.")], { confirm: "Retire", danger: true });
      if (!sure) return;
      await post(`/items/${seg(row.item)}/gold/retire`);
      announce("Retired");
      await gold(panel, project, person);
    }), { class: "small", "aria-label": `Retire ${row.item}` });
  };
  show(panel, h("p", { class: "lead" }, `A gold item that many people have seen tells little: after ${quality.limit} it counts as burned. Retire it and add a new one.`),
    rows.length ? h("section", { class: "card" }, h("h2", {}, "Gold items"), table("Gold items", rows, { actions: retire, hide: rows.some((row) => row.explanation) ? ["item", "retired_at"] : ["item", "retired_at", "explanation"] }))
      : h("p", { class: "card centre muted" }, "There are no gold items. Import some with the stream “gold”."));
}
