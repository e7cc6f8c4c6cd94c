// Is a response acceptable?

import { h, radios } from "../shell/dom.js";
import { responsePanel, scrolling } from "../panels.js";

export function binary(assignment, { changed, say }) {
  const response = assignment.responses[0];
  const panel = responsePanel("Response", response);
  const verdict = radios("Is this response acceptable?", [
    { value: "yes", label: "Acceptable", action: "yes" },
    { value: "no", label: "Not acceptable", action: "no" },
  ], changed);
  const choose = (value, label) => () => {
    verdict.set(value);
    say(label);
    changed();
  };
  return {
    element: h("div", { class: "task" }, panel.element, verdict.element),
    actions: { ...scrolling([panel], say), yes: choose("yes", "Acceptable"), no: choose("no", "Not acceptable") },
    read() {
      if (verdict.get() === null) return { missing: "Choose whether the response is acceptable." };
      return { answer: { kind: "binary", response: response.id, acceptable: verdict.get() === "yes" } };
    },
    state: () => (verdict.get() === null ? {} : { acceptable: verdict.get() === "yes" }),
    restore: (draft) => verdict.set(typeof draft?.acceptable === "boolean" ? (draft.acceptable ? "yes" : "no") : null),
  };
}
