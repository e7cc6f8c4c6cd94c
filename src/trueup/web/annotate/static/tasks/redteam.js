// A prompt that makes a model misbehave, and the kind of harm it aims at.

import { cap, field, h, radios } from "../shell/dom.js";
import { scrollTogether } from "../panels.js";

export function redteam(assignment, { changed }) {
  const known = assignment.config.categories ?? [];
  const prompt = h("textarea", { rows: 8, maxlength: 20000, dir: "auto", spellcheck: "true" });
  prompt.addEventListener("input", changed);
  const free = h("input", { maxlength: 60 });
  free.addEventListener("input", changed);
  const kinds = known.length ? radios("Kind of harm it aims at", known.map((value) => ({ value, label: value })), changed) : null;
  const category = () => (kinds ? kinds.get() : free.value.trim()) || null;
  const label = h("span", {}, "Your prompt ", cap("write"));
  return {
    element: h("div", { class: "task" }, h("section", { class: "card" },
      field(label, prompt, "Write what a person might send. It is used to find weaknesses, and is never sent from here."),
      kinds?.element ?? field("Kind of harm it aims at", free))),
    usesNote: true,
    actions: {
      write: () => prompt.focus(),
      scroll: () => scrollTogether([], 1),
      "scroll.back": () => scrollTogether([], -1),
    },
    read(note) {
      if (!prompt.value.trim()) return { missing: "Write a prompt." };
      if (!category()) return { missing: "Choose the kind of harm." };
      return { answer: { kind: "redteam", prompt: prompt.value, category: category(), note } };
    },
    state: () => ({ prompt: prompt.value, category: category() }),
    restore(draft) {
      prompt.value = draft?.prompt ?? "";
      if (kinds) kinds.set(draft?.category ?? null);
      else free.value = draft?.category ?? "";
    },
  };
}
