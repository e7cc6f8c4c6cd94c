// How prompts and responses are shown: as text, in their own direction, with neutral names.

import { diff } from "./shell/diff.js";
import { h, show, uid } from "./shell/dom.js";
import { measure, reveal } from "./shell/text.js";

const SPEAKERS = { system: "System", user: "User", assistant: "Assistant", tool: "Tool" };

/** A block of untrusted text. */
export function prose(text, props = {}) {
  return h("div", { class: "prose", dir: "auto", ...props }, reveal(text));
}

/** The conversation so far. */
export function promptCard(turns) {
  if (!turns?.length) return null;
  const heading = h("h2", { id: uid("prompt") }, turns.length > 1 ? "Conversation" : "Prompt");
  const list = turns.map((turn) => h("li", { class: "turn", data: { role: turn.role } },
    turns.length > 1 && h("p", { class: "speaker" }, SPEAKERS[turn.role] ?? turn.role), prose(turn.content)));
  return h("section", { class: "card prompt", "aria-labelledby": heading.id, tabindex: "0" }, heading, h("ol", { class: "turns" }, list));
}

const CONTEXT = { principle: "Principle", critique: "Critique", goal: "Goal", instruction: "Instruction", note: "Note" };

/** What else the annotator is given, such as a principle; only plain text entries. */
export function contextCard(context) {
  const rows = Object.entries(context ?? {}).filter(([name, value]) => typeof value === "string" && name !== "revision");
  if (!rows.length) return null;
  return h("section", { class: "card context", "aria-label": "Context" }, h("dl", {},
    rows.map(([name, value]) => [h("dt", {}, CONTEXT[name] ?? name.replaceAll("_", " ")), h("dd", {}, prose(value))])));
}

/** One response in a frame that scrolls and can be focused. */
export function responsePanel(name, response, side = "one") {
  const heading = h("h2", { id: uid("response") }, name);
  const body = h("div", { class: "panel-body", tabindex: "0", role: "region", "aria-labelledby": heading.id },
    prose(response.text));
  const element = h("section", { class: "card panel", data: { side }, "aria-labelledby": heading.id },
    h("header", {}, heading, h("span", { class: "muted" }, measure(response.text))), body);
  return { element, body, response, name, focus: () => body.focus() };
}

const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** Scrolls frames by most of their height, all by the same distance, or the page when no frame scrolls. */
export function scrollTogether(bodies, direction) {
  const tall = bodies.filter((body) => body.scrollHeight > body.clientHeight + 1);
  const behavior = calm() ? "auto" : "smooth";
  const step = Math.min(...(tall.length ? tall.map((body) => body.clientHeight) : [innerHeight])) * 0.8;
  for (const target of tall.length ? tall : [window]) target.scrollBy({ top: direction * step, behavior });
}

/** Two responses side by side, of one height, with scrolling, word marks and full view for both. */
export function pair(responses) {
  const [left, right] = [responsePanel("Left", responses[0], "left"), responsePanel("Right", responses[1], "right")];
  const element = h("div", { class: "pair" }, left.element, right.element);
  let marked = false;
  const draw = () => {
    const steps = marked ? diff(left.response.text, right.response.text) : [];
    const part = (own) => steps.filter((step) => step.how === "same" || step.how === own).map((step) =>
      step.how === "same" ? reveal(step.text) : h("mark", { class: "differs" }, reveal(step.text)));
    show(left.body.firstChild, marked ? part("gone") : reveal(left.response.text));
    show(right.body.firstChild, marked ? part("new") : reveal(right.response.text));
  };
  return {
    element,
    actions: (say) => ({
      first: () => left.focus(),
      second: () => right.focus(),
      scroll: () => scrollTogether([left.body, right.body], 1),
      "scroll.back": () => scrollTogether([left.body, right.body], -1),
      expand: () => say(element.classList.toggle("full") ? "Both texts in full" : "Both texts clamped"),
      diff: () => {
        marked = !marked;
        draw();
        say(marked ? "Differing words are marked" : "Marks are off");
      },
    }),
  };
}

/** The scrolling actions of a screen with single frames. */
export function scrolling(panels, say) {
  const bodies = panels.map((panel) => panel.body);
  return {
    scroll: () => scrollTogether(bodies, 1),
    "scroll.back": () => scrollTogether(bodies, -1),
    expand: () => {
      const full = !panels[0].element.classList.contains("full");
      panels.forEach((panel) => panel.element.classList.toggle("full", full));
      say(full ? "Texts in full" : "Texts clamped");
    },
  };
}

/** Name of a response as the annotator sees it. */
export function nameOf(assignment, id) {
  const place = assignment.responses.findIndex((response) => response.id === id);
  if (assignment.responses.length === 2 && assignment.kind !== "ranking") return ["Left", "Right"][place] ?? "?";
  return assignment.responses.length > 1 ? `Response ${place + 1}` : "The response";
}
