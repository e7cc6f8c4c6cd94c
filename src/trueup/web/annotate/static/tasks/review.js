// Verdict on a constitutional revision: which text is better, and is the principle followed?

import { h, radios } from "../shell/dom.js";
import { pair } from "../panels.js";

const SIDES = { 1: "Left is better", 2: "No difference", 3: "Right is better" };

/** The question names a side where the item says which text is the revision; else the better text is meant. */
function question(assignment) {
  const place = assignment.responses.findIndex((response) => response.id === assignment.context?.revision);
  return place < 0 ? "Does the better response follow the principle?" : `Does ${["Left", "Right"][place]} follow the principle?`;
}

export function review(assignment, { changed, say }) {
  const panels = pair(assignment.responses);
  const tie = assignment.config.allow_tie ?? true;
  const sides = Object.entries(SIDES).filter(([value]) => tie || value !== "2");
  const better = radios("Which response is better?", sides.map(([value, label]) =>
    ({ value, label, action: `review.${value}` })), changed);
  const follows = radios(question(assignment), [
    { value: "yes", label: "Yes", action: "yes" }, { value: "no", label: "No", action: "no" },
  ], changed);
  const choose = (group, value, label) => () => {
    group.set(value);
    say(label);
    changed();
  };
  return {
    element: h("div", { class: "task" }, panels.element, h("div", { class: "questions" }, better.element, follows.element)),
    usesNote: true,
    actions: {
      ...panels.actions(say),
      ...Object.fromEntries(sides.map(([value, label]) => [`review.${value}`, choose(better, value, label)])),
      yes: choose(follows, "yes", "Follows the principle"),
      no: choose(follows, "no", "Does not follow the principle"),
    },
    read(note) {
      if (better.get() === null) return { missing: "Choose which response is better." };
      if (follows.get() === null) return { missing: "Say whether the principle is followed." };
      const preferred = { 1: assignment.responses[0].id, 2: null, 3: assignment.responses[1].id }[better.get()];
      return { answer: { kind: "review", preferred, follows_principle: follows.get() === "yes", note } };
    },
    state: () => ({ side: better.get(), preferred: assignment.responses[{ 1: 0, 3: 1 }[better.get()]]?.id ?? null, follows: follows.get() }),
    restore(draft) {
      const place = assignment.responses.findIndex((response) => response.id === draft?.preferred);
      const answered = draft?.side === "2" || (draft && "follows_principle" in draft && draft.preferred === null);
      better.set(place >= 0 ? ["1", "3"][place] : answered ? "2" : null);
      follows.set(draft?.follows ?? (draft && "follows_principle" in draft ? (draft.follows_principle ? "yes" : "no") : null));
    },
  };
}
