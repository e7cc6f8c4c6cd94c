// The guideline: the newest version, and a new one. Versions are never changed.

import { post, seg } from "../shell/api.js";
import { field, h, show } from "../shell/dom.js";
import { newest, trusted } from "../guideline.js";
import { announce, attempt } from "../shell/page.js";

/** The guideline editor. */
export async function guidelinePanel(panel, project) {
  const newestVersion = await newest(project);
  const text = h("textarea", { rows: 16, required: true, dir: "auto", value: newestVersion?.markdown ?? "" });
  const form = h("form", { class: "card" }, h("h2", {}, "New version"),
    field("Text (Markdown)", text, "Every annotator reads and accepts a new version before the next item."),
    h("button", { type: "submit", class: "primary" }, "Publish as a new version"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(async () => {
      await post(`/projects/${seg(project)}/guideline`, { markdown: text.value });
      announce("Published");
      await guidelines(panel, project);
    });
  });
  const present = newestVersion
    ? h("section", { class: "card" }, h("p", { class: "muted" }, `Version ${newestVersion.number} · sha256 ${newestVersion.sha256.slice(0, 12)}`), trusted(newestVersion.html))
    : h("p", { class: "card centre muted" }, "There is no guideline yet.");
  show(panel, h("div", { class: "beside even task" }, present, form));
}
