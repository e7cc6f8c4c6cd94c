// Gold items: how often each was shown, and retiring those that are burned.

import { get, post, seg } from "../api.js";
import { ask } from "../dialog.js";
import { button, h, show } from "../dom.js";
import { announce, atLeast, attempt } from "../shell.js";
import { report, table } from "../table.js";

/** The gold manager. */
export async function gold(panel, project, person) {
  const [rows, quality] = await Promise.all([get(`/projects/${seg(project)}/gold`), get(`/projects/${seg(project)}/quality/gold`)]);
  const retire = (row) => {
    if (row.retired_at || !atLeast(person, "lead")) return h("span", { class: "muted" }, row.retired_at ? "retired" : "");
    return button("Retire", () => attempt(async () => {
      const sure = await ask("Retire this gold item?", [h("p", {}, "It is not shown any more. Answers that were given stay, and count.")], { confirm: "Retire", danger: true });
      if (!sure) return;
      await post(`/items/${seg(row.item)}/gold/retire`);
      announce("Retired");
      await gold(panel, project, person);
    }), { class: "small", "aria-label": `Retire ${row.item}` });
  };
  show(panel, h("p", { class: "lead" }, "A gold item that many people have seen tells little: retire it and add a new one."),
    rows.length ? h("section", { class: "card" }, h("h2", {}, "Gold items"), table("Gold items", rows, { actions: retire }))
      : h("p", { class: "card centre muted" }, "There are no gold items. Import some with the stream “gold”."),
    report("Answers to gold", quality, "Nobody has answered a gold item yet."));
}
