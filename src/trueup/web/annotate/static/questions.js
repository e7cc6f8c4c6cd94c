// The small dialogs of the annotation screen: skip with a reason, report a problem.

import { post, seg } from "./api.js";
import { ask } from "./dialog.js";
import { field, h, radios } from "./dom.js";

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

/** Reports a problem; returns whether it was reported. */
export async function report(item) {
  const given = await reasons("Report a problem", "What is wrong?", FLAGS, "Report", "Note for the lead (optional)");
  if (given) await post(`/items/${seg(item)}/flag`, given);
  return Boolean(given);
}
