// One answer token by token: how surprising each was to the reference, or how open the choice was before it.

import { h } from "./shell/dom.js";
import { reveal } from "./shell/text.js";

export const LAYERS = [["", "Words"], ["log_ratio", "Log-ratio to the reference"], ["entropy", "Entropy"], ["advantage", "Advantage"], ["clipped", "Clipped"]];
/** Layers that only answers have which were learned from. */
export const OF_TRAINING = ["advantage", "clipped"];
const STEPS = { log_ratio: [0.1, 0.5, 1, 2], entropy: [0.25, 0.75, 1.5, 3], advantage: [0.1, 0.5, 1, 2], clipped: [0.01, 0.25, 0.5, 0.75] };
const UNITS = { log_ratio: " nats", entropy: " nats", advantage: "", clipped: " of the updates" };
const SIDED = ["log_ratio", "advantage"];

/** What the colours mean. */
export const SAYS = {
  log_ratio: "Blue: more likely than to the reference. Orange: less likely. Darker from 0.1, 0.5, 1 and 2 nats on.",
  entropy: "The darker, the more open the choice was: from 0.25, 0.75, 1.5 and 3 nats on.",
  advantage: "Blue: made more likely. Orange: made less likely. Darker from 0.1, 0.5, 1 and 2 on, as the loss takes it.",
  clipped: "The darker, the more of the step's updates left the token alone, because clipping stopped them: from 1, 25, 50 and 75 % on.",
};

/** Which step of the scale a value reaches, 0 to 4. */
function level(layer, value) {
  return typeof value === "number" ? STEPS[layer].filter((bound) => Math.abs(value) >= bound).length : 4;
}

const SHORT = { log_ratio: "Log-ratio", entropy: "Entropy", advantage: "Advantage", clipped: "Clipped" };
const written = (layer, value) => (typeof value !== "number" ? String(value) : `${SIDED.includes(layer) && value > 0 ? "+" : ""}${value.toFixed(3).replace("-", "−")}`);

/** A token that has no text of its own is part of a character that ends later. */
const shown = (text) => (text === "" ? "·" : text);

/** The tokens in colours, and the same as a table. */
export function strip(tokens, layer) {
  const values = tokens[layer];
  const spans = tokens.text.map((text, n) => h("span", {
    class: "token", title: `${written(layer, values[n])}${UNITS[layer]}`,
    data: { level: level(layer, values[n]), side: SIDED.includes(layer) && values[n] < 0 ? "less" : "more" },
  }, reveal(shown(text))));
  const names = Object.keys(SHORT).filter((name) => tokens[name]);
  const rows = tokens.text.map((text, n) => h("tr", {}, h("td", { class: "number" }, n + 1), h("th", { scope: "row" }, h("bdi", {}, reveal(shown(text)))),
    names.map((name) => h("td", { class: "number" }, written(name, tokens[name][n])))));
  return [h("p", { class: "answer strip", dir: "auto", data: { layer } }, spans),
    h("details", { class: "twin" }, h("summary", {}, "Tokens as a table"), h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Tokens" },
      h("table", {}, h("thead", {}, h("tr", {}, ["No.", "Token", ...names.map((name) => SHORT[name])].map((text) => h("th", { scope: "col" }, text)))), h("tbody", {}, rows))))];
}
