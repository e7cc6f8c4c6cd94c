// What a calibration item answers: right or not, what was expected, and why.

import { button, cap, h } from "./shell/dom.js";
import { nameOf } from "./panels.js";
import { reveal } from "./shell/text.js";

const STRENGTHS = ["", "slightly ", "", "much "];

/** An answer in words. */
export function inWords(answer, assignment) {
  if (!answer || typeof answer !== "object") return "";
  if (answer.both_bad) return "both are bad";
  if (answer.tiers) return answer.tiers.map((tier) => tier.map((id) => nameOf(assignment, id)).join(" = ")).join(" > ");
  if (typeof answer.acceptable === "boolean") return answer.acceptable ? "acceptable" : "not acceptable";
  if (answer.scores) return Object.entries(answer.scores).map(([axis, point]) => `${axis}: ${point}`).join(", ");
  const principle = typeof answer.follows_principle === "boolean" ? `, the principle is ${answer.follows_principle ? "" : "not "}followed` : "";
  if (answer.preferred) return `${nameOf(assignment, answer.preferred)} is ${STRENGTHS[answer.strength ?? 2] ?? ""}better${principle}`;
  if ("preferred" in answer) return `a tie${principle}`;
  return answer.text ?? answer.prompt ?? "";
}

/** The card shown after a calibration item; `next` goes on. */
export function feedbackCard(feedback, assignment, next) {
  const go = button(h("span", {}, "Next ", cap("submit")), next, { class: "primary", data: { shortcut: "submit" } });
  const expected = inWords(feedback.expected, assignment);
  const element = h("section", { class: "card feedback centre", data: { right: String(feedback.right) }, role: "status" },
    h("h1", {}, feedback.right ? "✓ That matches the expected answer" : "✗ The expected answer is another one"),
    expected && h("p", {}, h("strong", {}, "Expected: "), h("span", { dir: "auto" }, reveal(expected))),
    feedback.explanation && h("p", { class: "prose", dir: "auto" }, reveal(feedback.explanation)),
    h("p", { class: "muted" }, "This was a practice item."), go);
  return { element, focus: () => go.focus() };
}
