// A better version of a response, with the changes shown while it is written.

import { diff } from "../shell/diff.js";
import { button, cap, field, h, show } from "../shell/dom.js";
import { responsePanel, scrolling } from "../panels.js";
import { hiddenIn, reveal } from "../shell/text.js";

const DRAW_AFTER_MS = 120;

function changes(before, after) {
  return diff(before, after).map((step) => {
    if (step.how === "same") return reveal(step.text);
    return h(step.how === "gone" ? "del" : "ins", {}, reveal(step.text));
  });
}

function warning(text) {
  const hidden = [...hiddenIn(text)].map(([name, count]) => `${count} × ${name}`);
  return hidden.length ? `Hidden characters in this text: ${hidden.join(", ")}.` : "";
}

export function edit(assignment, { changed, say }) {
  const response = assignment.responses[0];
  const original = response.text.replace(/\r\n?/g, "\n"); // a text field knows only line feeds
  const panel = responsePanel("Response, with your changes", response);
  const text = h("textarea", { rows: 14, maxlength: 100000, dir: "auto", spellcheck: "true" });
  text.value = original;
  const same = h("input", { type: "checkbox" });
  const hidden = h("p", { class: "missing" });
  let [live, timer] = [true, null];
  const draw = () => {
    show(panel.body.firstChild, live ? changes(original, text.value) : reveal(original));
    hidden.textContent = warning(text.value);
  };
  const edited = () => {
    clearTimeout(timer);
    timer = setTimeout(draw, DRAW_AFTER_MS);
    changed();
  };
  text.addEventListener("input", edited);
  same.addEventListener("change", changed);
  const reset = button("Start again from the original", () => {
    text.value = original;
    edited();
    text.focus();
  }, { class: "small quiet" });
  draw();
  return {
    element: h("div", { class: "task beside even" }, panel.element, h("section", { class: "card writing" },
      field(h("span", {}, "Your version ", cap("write")), text), hidden,
      h("div", { class: "row" }, h("label", { class: "check" }, same, "The response needs no change"), reset))),
    usesNote: true,
    actions: {
      ...scrolling([panel], say),
      write: () => text.focus(),
      diff: () => {
        live = !live;
        draw();
        say(live ? "Changes are marked" : "The original is shown");
      },
    },
    read(note) {
      if (!text.value.trim()) return { missing: "Write your version." };
      if (text.value === original && !same.checked) {
        return { missing: "Change the text, or tick that it needs no change." };
      }
      return { answer: { kind: "edit", response: response.id, text: text.value === original ? response.text : text.value, note } };
    },
    state: () => ({ text: text.value, same: same.checked }),
    restore(draft) {
      text.value = draft?.text ?? original;
      same.checked = Boolean(draft?.same);
      draw();
    },
  };
}
