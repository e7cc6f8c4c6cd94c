// Free text on a response, with marked stretches.

import { ask } from "../shell/dialog.js";
import { button, cap, field, h, radios, show } from "../shell/dom.js";
import { Marking } from "../marking.js";
import { scrolling } from "../panels.js";
import { brief, measure, reveal } from "../shell/text.js";

/** Asks for the tag and note of a span; null when cancelled. */
async function askSpan(quote, tags, draft = {}) {
  let tag = draft.tag ?? null;
  const choice = tags.length ? radios("Tag", tags.map((value) => ({ value, label: value })), (value) => (tag = value)) : null;
  const free = h("input", { maxlength: 40, value: tag ?? "" });
  const note = h("textarea", { rows: 2, maxlength: 2000, dir: "auto", value: draft.note ?? "" });
  choice?.set(tag);
  const read = () => (choice ? tag : free.value.trim());
  const done = await ask("Mark this text", [
    h("blockquote", { class: "prose", dir: "auto" }, reveal(brief(quote, 200))),
    choice?.element ?? field("Tag", free),
    field("Note (optional)", note),
  ], { confirm: "Mark", check: () => (read() ? null : "Choose a tag."), initial: choice ? [...choice.inputs.values()][0] : free });
  return done ? { tag: read(), note: note.value } : null;
}

function spanRow(marking, span, n, { change, drop }) {
  return h("li", {},
    h("span", { class: "span-number" }, n + 1),
    h("div", {}, h("p", {}, h("strong", {}, span.tag), " ", h("q", { dir: "auto" }, reveal(brief(marking.quote(span), 60)))),
      span.note && h("p", { class: "muted", dir: "auto" }, reveal(span.note))),
    h("div", { class: "row" },
      button("Change", change, { class: "small quiet", "aria-label": `Change mark ${n + 1}` }),
      button("Remove", drop, { class: "small quiet", "aria-label": `Remove mark ${n + 1}` })));
}

export function critique(assignment, { changed, say }) {
  const response = assignment.responses[0];
  const tags = assignment.config.tags ?? [];
  const marking = new Marking(response.text, "Response. Select with Shift and the arrow keys, then mark");
  const body = h("div", { class: "panel-body" }, marking.element);
  const frame = h("section", { class: "card panel", "aria-label": "Response" },
    h("header", {}, h("h2", {}, "Response"), h("span", { class: "muted" }, measure(response.text))), body);
  const text = h("textarea", { rows: 7, maxlength: 20000, dir: "auto", spellcheck: "true" });
  text.addEventListener("input", changed);
  const list = h("ol", { class: "spans" });
  const set = (spans) => {
    marking.setSpans(spans);
    show(list, spans.map((span, n) => spanRow(marking, span, n, {
      change: async () => {
        const details = await askSpan(marking.quote(span), tags, span);
        if (details) update(marking.spans.map((other, m) => (m === n ? { ...span, ...details } : other)));
      },
      drop: () => update(marking.spans.filter((_, m) => m !== n)),
    })));
    list.hidden = spans.length === 0;
  };
  const update = (spans) => {
    set(spans);
    changed();
  };
  const mark = async () => {
    const stretch = marking.selected();
    if (!stretch) return say("Select some of the response first: V goes to it, Shift and arrows select.", true);
    const details = await askSpan(marking.quote(stretch), tags);
    if (details) {
      update([...marking.spans, { ...stretch, ...details }]);
      say(`Marked as ${details.tag}`);
    }
    return marking.focus(stretch.end);
  };
  const marker = button(h("span", {}, "Mark selection ", cap("mark")), mark, { data: { shortcut: "mark" } });
  marker.addEventListener("mousedown", (event) => event.preventDefault()); // keeps the selection
  set([]);
  return {
    element: h("div", { class: "task beside even" }, frame, h("section", { class: "card writing" },
      h("div", { class: "row" }, marker, h("span", { class: "muted" }, cap("text"), " goes to the text")), list,
      field(h("span", {}, "Your critique ", cap("write")), text))),
    actions: {
      ...scrolling([{ body, element: frame }], say),
      mark,
      text: () => marking.focus(),
      write: () => text.focus(),
    },
    read() {
      if (!text.value.trim()) return { missing: "Write your critique." };
      return { answer: { kind: "critique", response: response.id, text: text.value, spans: marking.spans } };
    },
    state: () => ({ text: text.value, spans: marking.spans }),
    restore(draft) {
      text.value = draft?.text ?? "";
      set(draft?.spans ?? []);
    },
  };
}
