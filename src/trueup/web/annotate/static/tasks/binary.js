// Is a response acceptable?

import { h, radios } from "../dom.js";
import { responsePanel, scrolling } from "../panels.js";

export function binary(seat, { changed, say }) {
  const response = seat.responses[0];
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
    restore: (held) => verdict.set(typeof held?.acceptable === "boolean" ? (held.acceptable ? "yes" : "no") : null),
  };
}
