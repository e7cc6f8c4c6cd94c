// The small dialogs of the annotation screen: skip with a reason, report a problem.

import { newKey, post, seg } from "./shell/api.js";
import { ask } from "./shell/dialog.js";
import { field, h, radios } from "./shell/dom.js";

const SKIP = [
  ["not_understood", "I do not understand it"], ["not_my_field", "Not my field"], ["harmful_to_me", "It upsets or harms me"],
  ["broken_item", "The item is broken"], ["identical", "The responses say the same"], ["other", "Another reason"],
];

const FLAGS = [
  ["names_model", "A text says which model wrote it"], ["private_data", "It holds somebody’s private data"],
  ["illegal", "It may be illegal"], ["broken_item", "The item is broken"],
  ["guideline_gap", "The guideline does not cover it"], ["other", "Something else"],
];

async function reasons(title, legend, list, confirm, noteLabel) {
  let reason = null;
  const choice = radios(legend, list.map(([value, label]) => ({ value, label })), (value) => (reason = value), { className: "choices column" });
  const note = h("textarea", { rows: 2, maxlength: 2000, dir: "auto" });
  const done = await ask(title, [choice.element, field(noteLabel, note)], {
    confirm, initial: [...choice.inputs.values()][0], check: () => (reason ? null : "Choose a reason."),
  });
  return done ? { reason, note: note.value.trim() } : null;
}

/** Why this item is skipped, or null. */
export const askSkip = () => reasons("Skip this item", "Why?", SKIP, "Skip", "In your words (optional)");

// A report that did not arrive keeps its key: trying again is the same report.
const unsent = new Map();

/** Reports a problem; returns whether it was reported. */
export async function report(item) {
  const reason = await reasons("Report a problem", "What is wrong?", FLAGS, "Report", "Note for the lead (optional)");
  if (reason) {
    const same = JSON.stringify([item, reason]);
    if (!unsent.has(same)) unsent.set(same, newKey());
    await post(`/items/${seg(item)}/flag`, reason, { "Idempotency-Key": unsent.get(same) });
    unsent.delete(same);
  }
  return Boolean(reason);
}
