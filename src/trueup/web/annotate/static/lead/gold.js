// Gold items: how often each was shown and answered right, and retiring those that are burned.

import { get, post, seg } from "../shell/api.js";
import { ask } from "../shell/dialog.js";
import { button, h, show } from "../shell/dom.js";
import { announce, atLeast, attempt } from "../shell/page.js";
import { table } from "../shell/table.js";
import { brief, reveal } from "../shell/text.js";
import { surplus } from "./surplus.js";

function state(row, measured) {
  if (row.retired_at) return "retired";
  if (measured?.doubtful) return "key doubtful: most answer otherwise";
  return measured?.burned ? "burned: seen by too many" : "in use";
}

/** The gold manager. */
export async function goldPanel(panel, project, person) {
  const [items, quality] = await Promise.all([get(`/projects/${seg(project)}/gold`), get(`/projects/${seg(project)}/quality/gold`)]);
  const measured = new Map(quality.rows.map((row) => [row.item, row]));
  const rows = items.map((row) => {
    const figures = measured.get(row.item);
    const right = figures?.answered ? { share: figures.accuracy, low: figures.low, high: figures.high, total: figures.answered } : null;
    const prompt = h("span", { class: "words", dir: "auto" }, reveal(brief(row.prompt, 120)));
    return { prompt, stream: row.stream, kind: row.kind, exposures: row.exposures, right, state: state(row, figures), explanation: row.explanation, item: row.item, retired_at: row.retired_at };
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
  show(panel, h("p", { class: "lead" }, `A gold item that many people have seen tells little: after ${quality.limit} it counts as burned. Retire it and add a new one.`), surplus(quality),
    rows.length ? h("section", { class: "card" }, h("h2", {}, "Gold items"), table("Gold items", rows, { actions: retire, hide: rows.some((row) => row.explanation) ? ["item", "retired_at"] : ["item", "retired_at", "explanation"] }))
      : h("p", { class: "card centre muted" }, "There are no gold items. Import some with the stream “gold”."));
}
