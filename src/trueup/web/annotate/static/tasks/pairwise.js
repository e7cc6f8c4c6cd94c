// Which of two responses is better, and how clearly.

import { h, radios } from "../shell/dom.js";
import { pair } from "../panels.js";

/** Radio value -> (place of the preferred response, strength). */
const SCALE = {
  1: [0, 3], 2: [0, 2], 3: [0, 1], 4: [null, 0], 5: [1, 1], 6: [1, 2], 7: [1, 3],
};

const LABELS = {
  1: "Left much better", 2: "Left better", 3: "Left slightly better", 4: "Tie",
  5: "Right slightly better", 6: "Right better", 7: "Right much better", 0: "Both bad",
};

export function pairwise(assignment, { changed, say }) {
  const panels = pair(assignment.responses);
  const tie = assignment.config.allow_tie ?? true;
  const bothBad = tie && (assignment.config.allow_both_bad ?? true);
  const values = ["1", "2", "3", "4", "5", "6", "7", "0"].filter((v) => (v !== "4" || tie) && (v !== "0" || bothBad));
  const scale = radios("Which response is better?", values.map((value) => ({
    value, label: LABELS[value], action: `pairwise.${value}`, data: { scale: value },
  })), changed, { className: "choices scale" });
  const choose = (value) => () => {
    scale.set(value);
    say(LABELS[value]);
    changed();
  };
  /** Empty while nothing is chosen. */
  const state = () => {
    const value = scale.get();
    if (value === null) return {};
    const [place, strength] = SCALE[value] ?? [null, 0];
    return { preferred: place === null ? null : assignment.responses[place].id, strength, both_bad: value === "0" };
  };
  return {
    element: h("div", { class: "task" }, panels.element, scale.element),
    actions: { ...panels.actions(say), ...Object.fromEntries(values.map((v) => [`pairwise.${v}`, choose(v)])) },
    read() {
      const draft = state();
      if (draft.strength === undefined) return { missing: "Choose which response is better." };
      return { answer: { kind: "pairwise", ...draft } };
    },
    state,
    restore(draft) {
      if (draft?.both_bad) return scale.set("0");
      if (draft?.strength === 0) return scale.set("4");
      const place = assignment.responses.findIndex((response) => response.id === draft?.preferred);
      const point = Object.entries(SCALE).find(([, [side, strength]]) => side === place && strength === draft?.strength);
      return scale.set(point?.[0] ?? null);
    },
  };
}
